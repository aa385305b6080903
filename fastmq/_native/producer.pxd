# cython: language_level=3
"""Declarations of the producer's queues."""

from libc.stdint cimport int32_t, int64_t

from fastmq._native.batches cimport Batch, Buffers, Delivery


cdef class PartitionQueue:
    cdef readonly str topic
    cdef readonly int32_t partition
    cdef Batch open
    cdef object full  # deque of closed batches
    cdef bint is_dirty
    cdef Py_ssize_t last_size
    cdef public object state  # of whoever sends


cdef class TopicQueues:
    cdef readonly str name
    cdef list queues
    cdef list available
    cdef Py_ssize_t known
    cdef int32_t sticky
    cdef list pending
    cdef Batch waiting
    cdef Py_ssize_t pending_bytes


cdef class Accumulator(Buffers):
    cdef dict topics
    cdef list dirty
    cdef Py_ssize_t record_size_max
    cdef readonly bint is_starved
    cdef object refusal
    cdef object wake
    cdef object on_topic
    cdef object wall_clock
    cdef object choose
    cdef object partitioner
    cdef object key_serializer
    cdef object value_serializer
    cdef public object wait_room

    cdef TopicQueues add_topic(self, topic)
    cdef Delivery place(
        self, TopicQueues topic, bytes key, bytes value, bytes headers, int32_t header_count,
        int64_t timestamp, int32_t partition, on_delivery, bint force
    )
    cdef int32_t choose_partition(self, TopicQueues topic, bytes key, int32_t partition) except -1
    cdef int32_t next_sticky(self, TopicQueues topic) except -1
    cdef int mark(self, PartitionQueue queue) except -1
