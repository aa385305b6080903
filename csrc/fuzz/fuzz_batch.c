/* Any bytes as a record batch.  Each input is tried as it is, and again with its size and CRC put
 * right, so that mutations get past the checksum and at what lies behind it. */
#include "expect.h"
#include "fastmq/batch.h"
#include "fastmq/crc32c.h"

static const fmq_batch_limits limits = {
    .max_message_bytes = 1 << 20,
    .create_time = true,
    .timestamp_before_max_ms = INT64_MAX,
    .timestamp_after_max_ms = 3600000,
};

static void check_accepted(const uint8_t *data, size_t size, const fmq_batch_header *h) {
    EXPECT(h->size == size && h->record_count > 0 && fmq_batch_crc_ok(data, h));
    EXPECT(fmq_batch_last_offset(h) == h->base_offset + h->record_count - 1);
    if ((h->attributes & FMQ_ATTR_CODEC_MASK) == 0) {
        const char *reason;
        const int result =
            fmq_batch_validate_records(data + FMQ_BATCH_HEADER_SIZE, size - FMQ_BATCH_HEADER_SIZE,
                                       h->record_count, true, &reason);
        EXPECT((result == FMQ_OK) == (reason == NULL));
    }
}

static void check(const uint8_t *data, size_t size) {
    fmq_batch_header h;
    const int parsed = fmq_batch_parse(data, size, &h);
    EXPECT((parsed == -EAGAIN) == (size < FMQ_BATCH_HEADER_SIZE));
    if (parsed != FMQ_OK) {
        return;
    }
    EXPECT(h.size >= FMQ_BATCH_HEADER_SIZE && fmq_batch_last_offset(&h) < INT64_MAX);
    const char *reason;
    const int result = fmq_batch_validate(data, size, &h, &limits, 1700000000000, &reason);
    EXPECT((result == FMQ_OK) == (reason == NULL));
    if (result == FMQ_OK) {
        check_accepted(data, size, &h);
    }
}

static void check_rewritten(const uint8_t *data, const fmq_batch_header *parsed, size_t size) {
    uint8_t *copy = malloc(size);
    EXPECT(copy != NULL);
    memcpy(copy, data, size);
    fmq_batch_header header = *parsed;
    fmq_batch_write_header(copy, size, &header);
    EXPECT(fmq_batch_crc_ok(copy, &header));
    check(copy, size);
    fmq_batch_set_log_append_time(copy, size, 5);
    fmq_batch_header again;
    EXPECT(fmq_batch_parse(copy, size, &again) == FMQ_OK);
    EXPECT(fmq_batch_crc_ok(copy, &again) && again.max_timestamp == 5);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check(data, size);
    fmq_batch_header h;
    if (fmq_batch_parse(data, size, &h) == FMQ_OK) {
        check_rewritten(data, &h, size);
    }
    return 0;
}
