# cython: language_level=3
"""Declarations of what consumers get."""

from libc.stdint cimport int32_t, int64_t

from fastmq._native.records cimport fmq_batch_header, fmq_record_iter


cdef class ConsumerRecord:
    cdef readonly str topic
    cdef readonly int32_t partition
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp_ms
    cdef readonly int32_t leader_epoch
    cdef readonly object key
    cdef readonly object value
    cdef readonly tuple headers
    cdef bint is_append_time


cdef class Chunk:
    cdef object block
    cdef readonly str topic
    cdef readonly int32_t partition
    cdef readonly int64_t offset
    cdef readonly int64_t version
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t at
    cdef object inflate
    cdef bint check_crc
    cdef Py_ssize_t inflated_max
    cdef object key_deserializer
    cdef object value_deserializer
    cdef list aborted
    cdef set aborting

    cdef bint parse(self, fmq_batch_header *h) except -1
    cdef bint is_wanted(self, fmq_batch_header *h, Py_ssize_t begin) except -1
    cdef object payload(self, fmq_batch_header *h, Py_ssize_t begin)
    cdef int deserialize(self, list records) except -1


cdef class Lent:
    cdef Py_buffer view


cdef class Run:
    # Records that exist already, or None: they are read from what is lent.
    cdef list records
    cdef Py_ssize_t at
    cdef Lent lent
    cdef fmq_record_iter it
    cdef str topic
    cdef int32_t partition
    cdef int32_t leader_epoch
    cdef int64_t base_offset
    # Records below are left out.
    cdef int64_t from_offset
    cdef int64_t timestamp
    cdef bint append_time
    # Behind the last one that was handed out, once `is_begun`.
    cdef int64_t end
    cdef readonly bint is_begun
    cdef readonly Py_ssize_t left

    cdef int open(self, Chunk chunk, const fmq_batch_header *h, payload) except -1
    cdef ConsumerRecord next(self)


cdef class RecordStream:
    cdef object refill
    cdef object refill_later
    cdef Run run
