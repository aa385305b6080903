/* fastmq/batch.h - Kafka record batches, magic 2: parse, check, patch, iterate, build.
 *
 * Layout (KIP-98), big endian, offsets in bytes from the start of the batch:
 *   0 baseOffset i64 | 8 batchLength i32 (bytes after this field) | 12 partitionLeaderEpoch i32
 *   16 magic i8 | 17 crc u32 | 21 attributes i16 | 23 lastOffsetDelta i32 | 27 baseTimestamp i64
 *   35 maxTimestamp i64 | 43 producerId i64 | 51 producerEpoch i16 | 53 baseSequence i32
 *   57 recordCount i32 | 61 records
 * The CRC-32C covers byte 21 to the end, so base offset and leader epoch are patched for free.
 *
 * No function here allocates, keeps state or reads outside [data, data + size).
 */
#ifndef FASTMQ_BATCH_H
#define FASTMQ_BATCH_H

#include "fastmq/base.h"

#define FMQ_BATCH_LOG_OVERHEAD 12  /* baseOffset + batchLength */
#define FMQ_BATCH_HEADER_SIZE 61
#define FMQ_BATCH_CRC_START 21

#define FMQ_ATTR_CODEC_MASK 0x07
#define FMQ_ATTR_LOG_APPEND_TIME 0x08
#define FMQ_ATTR_TRANSACTIONAL 0x10
#define FMQ_ATTR_CONTROL 0x20
#define FMQ_ATTR_DELETE_HORIZON 0x40

#define FMQ_NO_PRODUCER_ID (-1)
#define FMQ_NO_SEQUENCE (-1)
#define FMQ_NO_TIMESTAMP (-1)

typedef struct fmq_batch_header {
    int64_t base_offset;
    int32_t batch_length; /* as stored: bytes after the field */
    int32_t leader_epoch;
    int8_t magic;
    uint32_t crc;
    int16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp; /* ms */
    int64_t max_timestamp;  /* ms */
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count;
    uint32_t size; /* whole batch in bytes, 12 + batch_length */
} fmq_batch_header;

static inline int64_t fmq_batch_last_offset(const fmq_batch_header *h) {
    return h->base_offset + h->last_offset_delta;
}

/* Read the header of the batch that starts at `data`.
 * Only FMQ_BATCH_HEADER_SIZE bytes are read; the batch itself may reach past `size` (compare
 * `out->size`).  Returns FMQ_OK; -EAGAIN when `size` < 61; FMQ_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT
 * when the magic is not 2; FMQ_ERR_CORRUPT_MESSAGE when the length is < 49, the last offset delta or
 * the record count is negative, or the offset after the batch would overflow (so last offset + 1 is
 * safe for every caller).  The CRC is not looked at. */
int fmq_batch_parse(const uint8_t *data, size_t size, fmq_batch_header *out);

/* Check the CRC of the whole batch (`h->size` bytes at `data`, caller has them all). */
bool fmq_batch_crc_ok(const uint8_t *data, const fmq_batch_header *h);

/* What a topic asks of batches from clients. */
typedef struct fmq_batch_limits {
    int32_t max_message_bytes;      /* whole batch, header included */
    bool create_time;               /* message.timestamp.type=CreateTime: check the time limits */
    int64_t timestamp_before_max_ms; /* accept now - before .. now + after; INT64_MAX is no limit */
    int64_t timestamp_after_max_ms;
} fmq_batch_limits;

/* Every check on a client's batch that needs no decompression (KAFKA-PROTOCOL 3.3).
 * `size` must equal `h->size`: less is FMQ_ERR_CORRUPT_MESSAGE, more is FMQ_ERR_INVALID_RECORD (one
 * batch per partition).  Then, in this order: size limit (MESSAGE_TOO_LARGE), CRC (CORRUPT_MESSAGE),
 * codec known (UNSUPPORTED_COMPRESSION_TYPE), no control bit, no delete horizon (INVALID_RECORD), no
 * log-append-time bit (INVALID_TIMESTAMP), count > 0, equal to last_offset_delta + 1 and possible for
 * the bytes of an uncompressed batch, sequence >= 0 and epoch >= 0 where a producer id is set, no
 * transactional bit without one (INVALID_RECORD), timestamps within limits by the header's max
 * timestamp where it has one (INVALID_TIMESTAMP).
 * `*reason` is set to a static English sentence when the result is not FMQ_OK. */
int fmq_batch_validate(const uint8_t *data, size_t size, const fmq_batch_header *h,
                       const fmq_batch_limits *limits, int64_t now_ms, const char **reason);

/* Full check of the records of an uncompressed batch: lengths fill the batch exactly, offset deltas
 * count up from 0, varints well formed, headers in bounds, keys present where `need_key`.
 * For compressed batches pass the inflated records in `records`.  FMQ_OK or FMQ_ERR_INVALID_RECORD,
 * which is final for the client, with `*reason`. */
int fmq_batch_validate_records(const uint8_t *records, size_t size, int32_t record_count,
                               bool need_key, const char **reason);

/* Patch fields outside the CRC. */
void fmq_batch_set_base_offset(uint8_t *data, int64_t base_offset);
void fmq_batch_set_leader_epoch(uint8_t *data, int32_t leader_epoch);
/* Set the log-append-time bit and max timestamp, then recompute the CRC over the whole batch. */
void fmq_batch_set_log_append_time(uint8_t *data, size_t size, int64_t now_ms);

/* One record, pointing into the records block. */
typedef struct fmq_record {
    int64_t timestamp_delta;
    int32_t offset_delta;
    const uint8_t *key; /* NULL: null key */
    int32_t key_size;
    const uint8_t *value; /* NULL: null value (tombstone) */
    int32_t value_size;
    const uint8_t *headers; /* raw header array after its count */
    size_t headers_size;
    int32_t header_count;
} fmq_record;

typedef struct fmq_record_iter {
    const uint8_t *at;
    const uint8_t *end;
    int32_t left; /* records still to come */
} fmq_record_iter;

/* Iterate over an uncompressed records block.  `next` returns 1 with `*out` filled, 0 at the end,
 * FMQ_ERR_CORRUPT_MESSAGE (2) on malformed bytes, which include bytes after the last record; it never
 * reads past the block.  The headers of a record are bounded, not walked. */
void fmq_record_iter_init(fmq_record_iter *it, const uint8_t *records, size_t size,
                          int32_t record_count);
int fmq_record_iter_next(fmq_record_iter *it, fmq_record *out);

/* Read the next header of a record: `*at` walks from `record.headers`.  1 / 0 / 2 as above. */
int fmq_record_header_next(const uint8_t **at, const uint8_t *end, const uint8_t **key,
                           int32_t *key_size, const uint8_t **value, int32_t *value_size);

/* Bytes one record takes when encoded. */
size_t fmq_record_size(int64_t timestamp_delta, int32_t offset_delta, int32_t key_size,
                       int32_t value_size, size_t headers_size, int32_t header_count);
/* Encode a record at `out` (fmq_record_size bytes); returns the bytes written.  key_size or
 * value_size -1 is null. */
size_t fmq_record_write(uint8_t *out, const fmq_record *record);
/* Write the 61 header bytes of `h` for a batch of `size` bytes in `data` and set its CRC. */
void fmq_batch_write_header(uint8_t *data, size_t size, fmq_batch_header *h);

#endif
