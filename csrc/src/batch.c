/* Record batch headers: check, patch, write.  Parsing is in batch.h, records in record.h. */
#include "fastmq/batch.h"

#include "fastmq/crc32c.h"

#define CODEC_MAX 4       /* zstd */
#define RECORD_SIZE_MIN 7 /* length, attributes, two deltas, null key, null value, no headers */

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
    fmq_store_be32(data + FMQ_BATCH_OFFSET_LEADER_EPOCH, (uint32_t)leader_epoch);
}

void fmq_batch_set_log_append_time(uint8_t *data, size_t size, int64_t now_ms) {
    assert(size >= FMQ_BATCH_HEADER_SIZE);
    uint16_t attributes = fmq_load_be16(data + FMQ_BATCH_OFFSET_ATTRIBUTES);
    fmq_store_be16(data + FMQ_BATCH_OFFSET_ATTRIBUTES,
                   (uint16_t)(attributes | FMQ_ATTR_LOG_APPEND_TIME));
    fmq_store_be64(data + FMQ_BATCH_OFFSET_MAX_TIMESTAMP, (uint64_t)now_ms);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_CRC, batch_crc(data, size));
}

void fmq_batch_write_header(uint8_t *data, size_t size, fmq_batch_header *h) {
    assert(size >= FMQ_BATCH_HEADER_SIZE && size - FMQ_BATCH_LOG_OVERHEAD <= INT32_MAX);
    h->size = (uint32_t)size;
    h->batch_length = (int32_t)(size - FMQ_BATCH_LOG_OVERHEAD);
    h->magic = FMQ_BATCH_MAGIC;
    fmq_batch_store_header(data, h);
    h->crc = batch_crc(data, size);
    fmq_store_be32(data + FMQ_BATCH_OFFSET_CRC, h->crc);
}
