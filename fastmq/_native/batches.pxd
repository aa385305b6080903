# cython: language_level=3
"""Declarations of batches and deliveries for the producer's queues."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t


cdef class Buffers:
    cdef Py_ssize_t batch_size
    cdef Py_ssize_t memory_limit
    cdef readonly Py_ssize_t memory_used
    cdef readonly int64_t failed_records
    cdef list spare
    cdef Py_ssize_t spare_bytes
    cdef object clock
    cdef object make_result
    cdef public object wait_done
    cdef public object await_done

    cdef int take(self, Batch batch, Py_ssize_t needed, bint force) except -1
    cdef bint reuse(self, Batch batch, Py_ssize_t needed, Py_ssize_t left) except -1
    cdef void give(self, Batch batch) noexcept


cdef class Batch:
    cdef Buffers owner
    cdef readonly str topic
    cdef readonly int32_t partition
    cdef uint8_t *memory
    cdef Py_ssize_t used
    cdef Py_ssize_t room
    cdef Py_ssize_t exports
    cdef readonly int32_t count
    cdef int64_t base_timestamp
    cdef int64_t max_timestamp
    cdef readonly int16_t codec
    cdef readonly bint is_done
    cdef readonly int64_t created_ms
    cdef readonly int64_t base_offset
    cdef readonly int64_t append_time_ms
    cdef readonly object error
    cdef list callbacks  # of [index, callable]
    cdef list waiters
    cdef Batch first
    cdef Batch second
    # For whoever sends it.
    cdef public int64_t producer_id
    cdef public int16_t epoch
    cdef public int32_t sequence
    cdef public int32_t attempts
    cdef public bint is_stamped

    cdef int resize(self, Py_ssize_t room) except -1
    cdef void release(self) noexcept
    cdef Batch holder(self, int32_t *index)


cdef class Delivery:
    cdef Batch batch
    cdef int32_t index


cdef Batch new_batch(Buffers owner, str topic, int32_t partition)
cdef Delivery new_delivery(Batch batch, int32_t index)
cdef int add_callback(Batch batch, int32_t index, fn) except -1
cdef Py_ssize_t record_size(
    Batch batch, int64_t timestamp, bytes key, bytes value, bytes headers, int32_t header_count
) except -1
cdef int append_record(
    Batch batch, int64_t timestamp, bytes key, bytes value, bytes headers, int32_t header_count,
    bint force
) except -1
