/* Record batch headers: parse, check, patch, write.  The records inside are in record.c. */
#include "fastmq/batch.h"

#include "fastmq/crc32c.h"

#define OFFSET_BATCH_LENGTH 8
#define OFFSET_LEADER_EPOCH 12
#define OFFSET_MAGIC 16
#define OFFSET_CRC 17
#define OFFSET_ATTRIBUTES 21
#define OFFSET_LAST_OFFSET_DELTA 23
#define OFFSET_BASE_TIMESTAMP 27
#define OFFSET_MAX_TIMESTAMP 35
#define OFFSET_PRODUCER_ID 43
#define OFFSET_PRODUCER_EPOCH 51
#define OFFSET_BASE_SEQUENCE 53
#define OFFSET_RECORD_COUNT 57

#define MAGIC 2
#define CODEC_MAX 4       /* zstd */
#define RECORD_SIZE_MIN 7 /* length, attributes, two deltas, null key, null value, no headers */

int fmq_batch_parse(const uint8_t *data, size_t size, fmq_batch_header *out) {
    if (size < FMQ_BATCH_HEADER_SIZE) {
        return -EAGAIN;
    }
    out->magic = (int8_t)data[OFFSET_MAGIC];
    if (out->magic != MAGIC) {
        return FMQ_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT;
    }
    out->base_offset = (int64_t)fmq_load_be64(data);
    out->batch_length = (int32_t)fmq_load_be32(data + OFFSET_BATCH_LENGTH);
    out->leader_epoch = (int32_t)fmq_load_be32(data + OFFSET_LEADER_EPOCH);
    out->crc = fmq_load_be32(data + OFFSET_CRC);
    out->attributes = (int16_t)fmq_load_be16(data + OFFSET_ATTRIBUTES);
    out->last_offset_delta = (int32_t)fmq_load_be32(data + OFFSET_LAST_OFFSET_DELTA);
    out->base_timestamp = (int64_t)fmq_load_be64(data + OFFSET_BASE_TIMESTAMP);
    out->max_timestamp = (int64_t)fmq_load_be64(data + OFFSET_MAX_TIMESTAMP);
    out->producer_id = (int64_t)fmq_load_be64(data + OFFSET_PRODUCER_ID);
    out->producer_epoch = (int16_t)fmq_load_be16(data + OFFSET_PRODUCER_EPOCH);
    out->base_sequence = (int32_t)fmq_load_be32(data + OFFSET_BASE_SEQUENCE);
    out->record_count = (int32_t)fmq_load_be32(data + OFFSET_RECORD_COUNT);
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

static uint32_t batch_crc(const uint8_t *data, size_t size) {
    return fmq_crc32c(0, data + FMQ_BATCH_CRC_START, size - FMQ_BATCH_CRC_START);
}

bool fmq_batch_crc_ok(const uint8_t *data, const fmq_batch_header *h) {
    return batch_crc(data, h->size) == h->crc;
}

static int refuse(int code, const char *text, const char **reason) {
    *reason = text;
    return code;
}

static int validate_attributes(const fmq_batch_header *h, const char **reason) {
    if ((h->attributes & FMQ_ATTR_CODEC_MASK) > CODEC_MAX) {
        return refuse(FMQ_ERR_UNSUPPORTED_COMPRESSION_TYPE, "unknown compression codec", reason);
    }
    if (h->attributes & FMQ_ATTR_CONTROL) {
        return refuse(FMQ_ERR_INVALID_RECORD, "clients may not write control records", reason);
    }
    if (h->attributes & FMQ_ATTR_DELETE_HORIZON) {
        return refuse(FMQ_ERR_INVALID_RECORD, "clients may not set a delete horizon", reason);
    }
    if (h->attributes & FMQ_ATTR_LOG_APPEND_TIME) {
        return refuse(FMQ_ERR_INVALID_TIMESTAMP, "clients may not set log-append time", reason);
    }
    return FMQ_OK;
}

static int validate_count(const fmq_batch_header *h, const char **reason) {
    if (h->record_count <= 0) {
        return refuse(FMQ_ERR_INVALID_RECORD, "the batch has no records", reason);
    }
    if (h->record_count != (int64_t)h->last_offset_delta + 1) {
        return refuse(FMQ_ERR_INVALID_RECORD, "record count and last offset delta disagree",
                      reason);
    }
    /* Without this one, 61 bytes could claim two thousand million offsets. */
    if ((h->attributes & FMQ_ATTR_CODEC_MASK) == 0 &&
        (int64_t)h->record_count * RECORD_SIZE_MIN > (int64_t)h->size - FMQ_BATCH_HEADER_SIZE) {
        return refuse(FMQ_ERR_INVALID_RECORD, "more records than the batch has room for", reason);
    }
    return FMQ_OK;
}

static int validate_producer(const fmq_batch_header *h, const char **reason) {
    if (h->producer_id < 0) {
        if (h->attributes & FMQ_ATTR_TRANSACTIONAL) {
            return refuse(FMQ_ERR_INVALID_RECORD, "transactional batch without a producer id",
                          reason);
        }
        return FMQ_OK;
    }
    if (h->producer_epoch < 0) {
        return refuse(FMQ_ERR_INVALID_RECORD, "producer id without a producer epoch", reason);
    }
    if (h->base_sequence < 0) {
        return refuse(FMQ_ERR_INVALID_RECORD, "producer id without a sequence number", reason);
    }
    return FMQ_OK;
}

static int validate_timestamp(const fmq_batch_header *h, const fmq_batch_limits *limits,
                              int64_t now_ms, const char **reason) {
    if (!limits->create_time || h->max_timestamp == FMQ_NO_TIMESTAMP) {
        return FMQ_OK;
    }
    if (h->max_timestamp < 0) {
        return refuse(FMQ_ERR_INVALID_TIMESTAMP, "negative timestamp", reason);
    }
    int64_t bound;
    if (!__builtin_sub_overflow(now_ms, limits->timestamp_before_max_ms, &bound) &&
        h->max_timestamp < bound) {
        return refuse(FMQ_ERR_INVALID_TIMESTAMP,
                      "timestamp older than message.timestamp.before.max.ms allows", reason);
    }
    if (!__builtin_add_overflow(now_ms, limits->timestamp_after_max_ms, &bound) &&
        h->max_timestamp > bound) {
        return refuse(FMQ_ERR_INVALID_TIMESTAMP,
                      "timestamp further ahead than message.timestamp.after.max.ms allows", reason);
    }
    return FMQ_OK;
}

int fmq_batch_validate(const uint8_t *data, size_t size, const fmq_batch_header *h,
                       const fmq_batch_limits *limits, int64_t now_ms, const char **reason) {
    *reason = NULL;
    if (size < h->size) {
        return refuse(FMQ_ERR_CORRUPT_MESSAGE, "the batch is cut short", reason);
    }
    if (size > h->size) {
        return refuse(FMQ_ERR_INVALID_RECORD, "more than one batch for a partition", reason);
    }
    if ((int64_t)h->size > limits->max_message_bytes) {
        return refuse(FMQ_ERR_MESSAGE_TOO_LARGE, "the batch is larger than max.message.bytes",
                      reason);
    }
    if (!fmq_batch_crc_ok(data, h)) {
        return refuse(FMQ_ERR_CORRUPT_MESSAGE, "the batch fails its checksum", reason);
    }
    int result = validate_attributes(h, reason);
    if (result == FMQ_OK) {
        result = validate_count(h, reason);
    }
    if (result == FMQ_OK) {
        result = validate_producer(h, reason);
    }
    if (result == FMQ_OK) {
        result = validate_timestamp(h, limits, now_ms, reason);
    }
    return result;
}

void fmq_batch_set_base_offset(uint8_t *data, int64_t base_offset) {
    fmq_store_be64(data, (uint64_t)base_offset);
}

void fmq_batch_set_leader_epoch(uint8_t *data, int32_t leader_epoch) {
    fmq_store_be32(data + OFFSET_LEADER_EPOCH, (uint32_t)leader_epoch);
}

void fmq_batch_set_log_append_time(uint8_t *data, size_t size, int64_t now_ms) {
    assert(size >= FMQ_BATCH_HEADER_SIZE);
    uint16_t attributes = fmq_load_be16(data + OFFSET_ATTRIBUTES);
    fmq_store_be16(data + OFFSET_ATTRIBUTES, (uint16_t)(attributes | FMQ_ATTR_LOG_APPEND_TIME));
    fmq_store_be64(data + OFFSET_MAX_TIMESTAMP, (uint64_t)now_ms);
    fmq_store_be32(data + OFFSET_CRC, batch_crc(data, size));
}

void fmq_batch_write_header(uint8_t *data, size_t size, fmq_batch_header *h) {
    assert(size >= FMQ_BATCH_HEADER_SIZE && size - FMQ_BATCH_LOG_OVERHEAD <= INT32_MAX);
    h->size = (uint32_t)size;
    h->batch_length = (int32_t)(size - FMQ_BATCH_LOG_OVERHEAD);
    h->magic = MAGIC;
    fmq_store_be64(data, (uint64_t)h->base_offset);
    fmq_store_be32(data + OFFSET_BATCH_LENGTH, (uint32_t)h->batch_length);
    fmq_store_be32(data + OFFSET_LEADER_EPOCH, (uint32_t)h->leader_epoch);
    data[OFFSET_MAGIC] = MAGIC;
    fmq_store_be16(data + OFFSET_ATTRIBUTES, (uint16_t)h->attributes);
    fmq_store_be32(data + OFFSET_LAST_OFFSET_DELTA, (uint32_t)h->last_offset_delta);
    fmq_store_be64(data + OFFSET_BASE_TIMESTAMP, (uint64_t)h->base_timestamp);
    fmq_store_be64(data + OFFSET_MAX_TIMESTAMP, (uint64_t)h->max_timestamp);
    fmq_store_be64(data + OFFSET_PRODUCER_ID, (uint64_t)h->producer_id);
    fmq_store_be16(data + OFFSET_PRODUCER_EPOCH, (uint16_t)h->producer_epoch);
    fmq_store_be32(data + OFFSET_BASE_SEQUENCE, (uint32_t)h->base_sequence);
    fmq_store_be32(data + OFFSET_RECORD_COUNT, (uint32_t)h->record_count);
    h->crc = batch_crc(data, size);
    fmq_store_be32(data + OFFSET_CRC, h->crc);
}
