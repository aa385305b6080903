/* fastmq/batch.h - Kafka record batches, magic 2: parse, check, patch, build (records: record.h).
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
#include "fastmq/record.h"

#define FMQ_BATCH_LOG_OVERHEAD 12 /* baseOffset + batchLength */
#define FMQ_BATCH_HEADER_SIZE 61
#define FMQ_BATCH_CRC_START 21

#define FMQ_BATCH_OFFSET_BATCH_LENGTH 8
#define FMQ_BATCH_OFFSET_LEADER_EPOCH 12
#define FMQ_BATCH_OFFSET_MAGIC 16
#define FMQ_BATCH_OFFSET_CRC 17
#define FMQ_BATCH_OFFSET_ATTRIBUTES 21
#define FMQ_BATCH_OFFSET_LAST_OFFSET_DELTA 23
#define FMQ_BATCH_OFFSET_BASE_TIMESTAMP 27
#define FMQ_BATCH_OFFSET_MAX_TIMESTAMP 35
#define FMQ_BATCH_OFFSET_PRODUCER_ID 43
#define FMQ_BATCH_OFFSET_PRODUCER_EPOCH 51
#define FMQ_BATCH_OFFSET_BASE_SEQUENCE 53
#define FMQ_BATCH_OFFSET_RECORD_COUNT 57

#define FMQ_BATCH_MAGIC 2

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
 * when the magic is not 2; FMQ_ERR_CORRUPT_MESSAGE when the length is < 49, the last offset delta
 * or the record count is negative, or the offset after the batch would overflow (so last offset + 1
 * is safe for every caller).  The CRC is not looked at. */
static inline int fmq_batch_parse(const uint8_t *data, size_t size, fmq_batch_header *out) {
    if (size < FMQ_BATCH_HEADER_SIZE) {
        return -EAGAIN;
    }
    out->magic = (int8_t)data[FMQ_BATCH_OFFSET_MAGIC];
    if (out->magic != FMQ_BATCH_MAGIC) {
        return FMQ_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT;
    }
    out->base_offset = (int64_t)fmq_load_be64(data);
    out->batch_length = (int32_t)fmq_load_be32(data + FMQ_BATCH_OFFSET_BATCH_LENGTH);
    out->leader_epoch = (int32_t)fmq_load_be32(data + FMQ_BATCH_OFFSET_LEADER_EPOCH);
    out->crc = fmq_load_be32(data + FMQ_BATCH_OFFSET_CRC);
    out->attributes = (int16_t)fmq_load_be16(data + FMQ_BATCH_OFFSET_ATTRIBUTES);
    out->last_offset_delta = (int32_t)fmq_load_be32(data + FMQ_BATCH_OFFSET_LAST_OFFSET_DELTA);
    out->base_timestamp = (int64_t)fmq_load_be64(data + FMQ_BATCH_OFFSET_BASE_TIMESTAMP);
    out->max_timestamp = (int64_t)fmq_load_be64(data + FMQ_BATCH_OFFSET_MAX_TIMESTAMP);
    out->producer_id = (int64_t)fmq_load_be64(data + FMQ_BATCH_OFFSET_PRODUCER_ID);
    out->producer_epoch = (int16_t)fmq_load_be16(data + FMQ_BATCH_OFFSET_PRODUCER_EPOCH);
    out->base_sequence = (int32_t)fmq_load_be32(data + FMQ_BATCH_OFFSET_BASE_SEQUENCE);
    out->record_count = (int32_t)fmq_load_be32(data + FMQ_BATCH_OFFSET_RECORD_COUNT);
    if (out->batch_length < FMQ_BATCH_HEADER_SIZE - FMQ_BATCH_LOG_OVERHEAD ||
        out->last_offset_delta < 0 || out->record_count < 0) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    /* The offset after the batch must exist, so that nobody who adds has to check. */
    if (out->base_offset >= INT64_MAX - out->last_offset_delta) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    out->size = (uint32_t)out->batch_length + FMQ_BATCH_LOG_OVERHEAD;
    return FMQ_OK;
}

/* Write the header bytes of `h` but the CRC, whose four bytes are left alone. */
static inline void fmq_batch_store_header(uint8_t *data, const fmq_batch_header *h) {
    fmq_store_be64(data, (uint64_t)h->base_offset);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_BATCH_LENGTH, (uint32_t)h->batch_length);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_LEADER_EPOCH, (uint32_t)h->leader_epoch);
    data[FMQ_BATCH_OFFSET_MAGIC] = FMQ_BATCH_MAGIC;
    fmq_store_be16(data + FMQ_BATCH_OFFSET_ATTRIBUTES, (uint16_t)h->attributes);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_LAST_OFFSET_DELTA, (uint32_t)h->last_offset_delta);
    fmq_store_be64(data + FMQ_BATCH_OFFSET_BASE_TIMESTAMP, (uint64_t)h->base_timestamp);
    fmq_store_be64(data + FMQ_BATCH_OFFSET_MAX_TIMESTAMP, (uint64_t)h->max_timestamp);
    fmq_store_be64(data + FMQ_BATCH_OFFSET_PRODUCER_ID, (uint64_t)h->producer_id);
    fmq_store_be16(data + FMQ_BATCH_OFFSET_PRODUCER_EPOCH, (uint16_t)h->producer_epoch);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_BASE_SEQUENCE, (uint32_t)h->base_sequence);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_RECORD_COUNT, (uint32_t)h->record_count);
}

/* Check the CRC of the whole batch (`h->size` bytes at `data`, caller has them all). */
bool fmq_batch_crc_ok(const uint8_t *data, const fmq_batch_header *h);

/* What a topic asks of batches from clients. */
typedef struct fmq_batch_limits {
    int32_t max_message_bytes;       /* whole batch, header included */
    bool create_time;                /* message.timestamp.type=CreateTime: check the time limits */
    int64_t timestamp_before_max_ms; /* accept now - before .. now + after; INT64_MAX is no limit */
    int64_t timestamp_after_max_ms;
} fmq_batch_limits;

/* Every check on a client's batch that needs no decompression.
 * `size` must equal `h->size`: less is FMQ_ERR_CORRUPT_MESSAGE, more is FMQ_ERR_INVALID_RECORD (one
 * batch per partition).  Then, in this order: size limit (MESSAGE_TOO_LARGE), CRC
 * (CORRUPT_MESSAGE), codec known (UNSUPPORTED_COMPRESSION_TYPE), no control bit, no delete horizon
 * (INVALID_RECORD), no log-append-time bit (INVALID_TIMESTAMP), count > 0, equal to
 * last_offset_delta + 1 and possible for the bytes of an uncompressed batch, sequence >= 0 and
 * epoch >= 0 where a producer id is set, no transactional bit without one (INVALID_RECORD),
 * timestamps within limits by the header's max timestamp where it has one (INVALID_TIMESTAMP).
 * `*reason` is set to a static English sentence when the result is not FMQ_OK. */
int fmq_batch_validate(const uint8_t *data, size_t size, const fmq_batch_header *h,
                       const fmq_batch_limits *limits, int64_t now_ms, const char **reason);

/* Patch fields outside the CRC. */
void fmq_batch_set_base_offset(uint8_t *data, int64_t base_offset);
void fmq_batch_set_leader_epoch(uint8_t *data, int32_t leader_epoch);
/* Set the log-append-time bit and max timestamp, then recompute the CRC over the whole batch. */
void fmq_batch_set_log_append_time(uint8_t *data, size_t size, int64_t now_ms);

/* Write the 61 header bytes of `h` for a batch of `size` bytes in `data` and set its CRC. */
void fmq_batch_write_header(uint8_t *data, size_t size, fmq_batch_header *h);

#endif
