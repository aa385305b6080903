# cython: language_level=3
"""Declarations of the batch reader and builder for other Cython modules."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t


cdef extern from "fastmq/record.h" nogil:
    ctypedef struct fmq_record:
        int64_t timestamp_delta
        int32_t offset_delta
        const uint8_t *key
        int32_t key_size
        const uint8_t *value
        int32_t value_size
        const uint8_t *headers
        size_t headers_size
        int32_t header_count

    ctypedef struct fmq_record_iter:
        const uint8_t *at

    void fmq_record_iter_init(
        fmq_record_iter *it, const uint8_t *records, size_t size, int32_t record_count
    )
    int fmq_record_iter_next(fmq_record_iter *it, fmq_record *out)
    int fmq_record_header_next(
        const uint8_t **at, const uint8_t *end, const uint8_t **key, int32_t *key_size,
        const uint8_t **value, int32_t *value_size
    )
    size_t fmq_record_size(
        int64_t timestamp_delta, int32_t offset_delta, int32_t key_size, int32_t value_size,
        size_t headers_size, int32_t header_count
    )
    size_t fmq_record_write(uint8_t *out, const fmq_record *record)
    int fmq_batch_validate_records(
        const uint8_t *records, size_t size, int32_t record_count, bint need_key,
        const char **reason
    )
    size_t fmq_varint_size(int64_t value)
    int fmq_varint32_write(uint8_t *out, int32_t value)


cdef extern from "fastmq/batch.h" nogil:
    const int FMQ_BATCH_HEADER_SIZE
    const int FMQ_BATCH_LOG_OVERHEAD
    const int FMQ_BATCH_CRC_START
    const int FMQ_BATCH_OFFSET_CRC
    const int FMQ_ATTR_CODEC_MASK
    const int FMQ_ATTR_LOG_APPEND_TIME
    const int FMQ_ATTR_TRANSACTIONAL
    const int FMQ_ATTR_CONTROL
    const int FMQ_ATTR_DELETE_HORIZON

    ctypedef struct fmq_batch_header:
        int64_t base_offset
        int32_t batch_length
        int32_t leader_epoch
        int8_t magic
        uint32_t crc
        int16_t attributes
        int32_t last_offset_delta
        int64_t base_timestamp
        int64_t max_timestamp
        int64_t producer_id
        int16_t producer_epoch
        int32_t base_sequence
        int32_t record_count
        uint32_t size

    int fmq_batch_parse(const uint8_t *data, size_t size, fmq_batch_header *out)
    void fmq_batch_store_header(uint8_t *data, const fmq_batch_header *h)
    void fmq_store_be32(uint8_t *p, uint32_t v)


cdef class BatchHeader:
    cdef fmq_batch_header h


cdef class Record:
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly object key
    cdef readonly object value
    cdef readonly tuple headers


cdef class RecordsBuilder:
    cdef uint8_t *memory
    cdef size_t used
    cdef size_t room
    cdef int32_t _count
    cdef int32_t _last_offset_delta
    cdef int64_t _base_timestamp
    cdef int64_t _max_timestamp

    cdef int reserve(self, size_t extra) except -1


cdef bytes encode_headers(tuple headers)
