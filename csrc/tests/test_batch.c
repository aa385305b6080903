/* Batch headers: one test per check of fmq_batch_parse and fmq_batch_validate, and mutations. */
#include "check.h"
#include "fastmq/crc32c.h"
#include "fixture_batch.h"

#define NOW FIXTURE_NOW_MS

static const fmq_batch_limits limits = {
    .max_message_bytes = 1000,
    .create_time = true,
    .timestamp_before_max_ms = INT64_MAX,
    .timestamp_after_max_ms = 3600000,
};
static uint8_t batch[1024];
static const char *reason;

/* Write a batch with this header and validate it. */
static int validate_with(fmq_batch_header header, const fmq_batch_limits *with) {
    const size_t size = fixture_batch(batch, &header);
    fmq_batch_header parsed;
    const int result = fmq_batch_parse(batch, size, &parsed);
    if (result != FMQ_OK) {
        return result;
    }
    return fmq_batch_validate(batch, size, &parsed, with, NOW, &reason);
}

static int validate_header(fmq_batch_header header) {
    return validate_with(header, &limits);
}

static void parse_reads_every_field(void) {
    fmq_batch_header header = fixture_header(3);
    header.base_offset = 0x0102030405060708;
    header.leader_epoch = 0x11121314;
    header.attributes = FMQ_ATTR_TRANSACTIONAL;
    header.base_timestamp = NOW - 5;
    header.max_timestamp = NOW + 5;
    header.producer_id = 0x2122232425262728;
    header.producer_epoch = 0x3132;
    header.base_sequence = 0x41424344;
    const size_t size = fixture_batch(batch, &header);
    fmq_batch_header parsed;
    REQUIRE(fmq_batch_parse(batch, size, &parsed) == FMQ_OK);
    CHECK_EQ(parsed.base_offset, 0x0102030405060708);
    CHECK_EQ(parsed.batch_length, size - 12);
    CHECK_EQ(parsed.size, size);
    CHECK_EQ(parsed.leader_epoch, 0x11121314);
    CHECK_EQ(parsed.magic, 2);
    CHECK_EQ(parsed.crc, header.crc);
    CHECK_EQ(parsed.attributes, FMQ_ATTR_TRANSACTIONAL);
    CHECK_EQ(parsed.last_offset_delta, 2);
    CHECK_EQ(parsed.base_timestamp, NOW - 5);
    CHECK_EQ(parsed.max_timestamp, NOW + 5);
    CHECK_EQ(parsed.producer_id, 0x2122232425262728);
    CHECK_EQ(parsed.producer_epoch, 0x3132);
    CHECK_EQ(parsed.base_sequence, 0x41424344);
    CHECK_EQ(parsed.record_count, 3);
    CHECK_EQ(fmq_batch_last_offset(&parsed), 0x010203040506070a);
    CHECK(batch[0] == 1 && batch[7] == 8 && batch[43] == 0x21 && batch[57] == 0 && batch[60] == 3);
}

static void parse_wants_the_whole_header(void) {
    fmq_batch_header header = fixture_header(1);
    fixture_batch(batch, &header);
    fmq_batch_header parsed;
    for (size_t size = 0; size < FMQ_BATCH_HEADER_SIZE; size++) {
        uint8_t *copy = check_copy(batch, size);
        CHECK_EQ(fmq_batch_parse(copy, size, &parsed), -EAGAIN);
        free(copy);
    }
    uint8_t *copy = check_copy(batch, FMQ_BATCH_HEADER_SIZE);
    CHECK_EQ(fmq_batch_parse(copy, FMQ_BATCH_HEADER_SIZE, &parsed), FMQ_OK);
    CHECK(parsed.size > FMQ_BATCH_HEADER_SIZE);
    free(copy);
}

static void parse_refuses_other_magics(void) {
    fmq_batch_header header = fixture_header(1);
    const size_t size = fixture_batch(batch, &header);
    fmq_batch_header parsed;
    for (int magic = 0; magic < 256; magic++) {
        batch[16] = (uint8_t)magic;
        CHECK_EQ(fmq_batch_parse(batch, size, &parsed),
                 magic == 2 ? FMQ_OK : FMQ_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
}

static void parse_refuses_impossible_numbers(void) {
    fmq_batch_header parsed;
    fmq_batch_header header = fixture_header(1);
    size_t size = fixture_batch(batch, &header);
    static const int32_t lengths[] = {48, 0, -1, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        fmq_store_be32(batch + 8, (uint32_t)lengths[i]);
        CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_ERR_CORRUPT_MESSAGE);
    }
    fmq_store_be32(batch + 8, 49);
    CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_OK);
    fmq_store_be32(batch + 8, INT32_MAX);
    CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_OK);
    CHECK_EQ(parsed.size, (long long)INT32_MAX + 12);

    size = fixture_batch(batch, &header);
    fmq_store_be32(batch + 23, (uint32_t)-1);
    CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_ERR_CORRUPT_MESSAGE);
    size = fixture_batch(batch, &header);
    fmq_store_be32(batch + 57, (uint32_t)-1);
    CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_ERR_CORRUPT_MESSAGE);
    header.base_offset = INT64_MAX;
    size = fixture_batch(batch, &header);
    CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_ERR_CORRUPT_MESSAGE);
    header.base_offset = INT64_MAX - 1;
    size = fixture_batch(batch, &header);
    CHECK_EQ(fmq_batch_parse(batch, size, &parsed), FMQ_OK);
}

static void validate_accepts_good_batches(void) {
    fmq_batch_header header = fixture_header(5);
    CHECK_EQ(validate_header(header), FMQ_OK);
    CHECK(reason == NULL);
    header.producer_id = 0;
    header.producer_epoch = 0;
    header.base_sequence = 0;
    CHECK_EQ(validate_header(header), FMQ_OK);
    header.attributes = FMQ_ATTR_TRANSACTIONAL | 4;
    CHECK_EQ(validate_header(header), FMQ_OK);
}

static void validate_refuses_a_wrong_size(void) {
    fmq_batch_header header = fixture_header(2);
    const size_t size = fixture_batch(batch, &header);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = check_copy(batch, cut);
        CHECK_EQ(fmq_batch_validate(copy, cut, &header, &limits, NOW, &reason),
                 FMQ_ERR_CORRUPT_MESSAGE);
        free(copy);
    }
    CHECK_EQ(fmq_batch_validate(batch, size + 1, &header, &limits, NOW, &reason),
             FMQ_ERR_INVALID_RECORD);
    CHECK(reason != NULL);
}

static void validate_refuses_large_batches(void) {
    fmq_batch_header header = fixture_header(5);
    fmq_batch_limits tight = limits;
    tight.max_message_bytes = 61 + 5 * 17;
    const size_t size = fixture_batch(batch, &header);
    CHECK_EQ(size, tight.max_message_bytes);
    CHECK_EQ(validate_with(header, &tight), FMQ_OK);
    tight.max_message_bytes--;
    CHECK_EQ(validate_with(header, &tight), FMQ_ERR_MESSAGE_TOO_LARGE);
}

static void validate_refuses_attributes(void) {
    fmq_batch_header header = fixture_header(1);
    for (int16_t codec = 0; codec < 8; codec++) {
        header.attributes = codec;
        CHECK_EQ(validate_header(header),
                 codec <= 4 ? FMQ_OK : FMQ_ERR_UNSUPPORTED_COMPRESSION_TYPE);
    }
    header.attributes = FMQ_ATTR_CONTROL;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
    header.attributes = FMQ_ATTR_DELETE_HORIZON;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
    header.attributes = FMQ_ATTR_LOG_APPEND_TIME;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_TIMESTAMP);
    header.attributes = FMQ_ATTR_TRANSACTIONAL;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
}

static void validate_refuses_wrong_counts(void) {
    fmq_batch_header header = fixture_header(3);
    header.last_offset_delta = 1;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
    header.last_offset_delta = 3;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
    header.last_offset_delta = INT32_MAX;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
    header.record_count = 0;
    header.last_offset_delta = 0;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
}

static int validate_claim(int32_t count, int32_t record_bytes, int16_t codec) {
    fmq_batch_header header = fixture_header(count);
    header.attributes = codec;
    const size_t size = FMQ_BATCH_HEADER_SIZE + (size_t)record_bytes;
    memset(batch + FMQ_BATCH_HEADER_SIZE, 0, (size_t)record_bytes);
    fmq_batch_write_header(batch, size, &header);
    return fmq_batch_validate(batch, size, &header, &limits, NOW, &reason);
}

static void validate_refuses_more_records_than_fit(void) {
    CHECK_EQ(validate_claim(3, 21, 0), FMQ_OK);
    CHECK_EQ(validate_claim(3, 20, 0), FMQ_ERR_INVALID_RECORD);
    CHECK_EQ(validate_claim(INT32_MAX, 20, 0), FMQ_ERR_INVALID_RECORD);
    CHECK_EQ(validate_claim(3, 20, 4), FMQ_OK);
}

static void validate_refuses_half_set_producers(void) {
    fmq_batch_header header = fixture_header(1);
    header.producer_id = 7;
    header.producer_epoch = 0;
    header.base_sequence = -1;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
    header.producer_epoch = -1;
    header.base_sequence = 0;
    CHECK_EQ(validate_header(header), FMQ_ERR_INVALID_RECORD);
}

static int validate_time(int64_t max_timestamp, int64_t before, int64_t after) {
    fmq_batch_header header = fixture_header(1);
    header.max_timestamp = max_timestamp;
    fmq_batch_limits with = limits;
    with.timestamp_before_max_ms = before;
    with.timestamp_after_max_ms = after;
    return validate_with(header, &with);
}

static void validate_refuses_timestamps_outside_limits(void) {
    CHECK_EQ(validate_time(NOW + 1000, INT64_MAX, 1000), FMQ_OK);
    CHECK_EQ(validate_time(NOW + 1001, INT64_MAX, 1000), FMQ_ERR_INVALID_TIMESTAMP);
    CHECK_EQ(validate_time(NOW - 1000, 1000, 1000), FMQ_OK);
    CHECK_EQ(validate_time(NOW - 1001, 1000, 1000), FMQ_ERR_INVALID_TIMESTAMP);
    CHECK_EQ(validate_time(0, INT64_MAX, 1000), FMQ_OK);
    CHECK_EQ(validate_time(INT64_MAX, INT64_MAX, INT64_MAX), FMQ_OK);
    CHECK_EQ(validate_time(-1, 1000, 1000), FMQ_OK); /* no timestamp */
    CHECK_EQ(validate_time(-2, INT64_MAX, 1000), FMQ_ERR_INVALID_TIMESTAMP);
    fmq_batch_header header = fixture_header(1);
    header.max_timestamp = INT64_MAX;
    fmq_batch_limits append_time = limits;
    append_time.create_time = false;
    CHECK_EQ(validate_with(header, &append_time), FMQ_OK);
}

static void every_flipped_bit_is_found(void) {
    fmq_batch_header header = fixture_header(3);
    header.base_offset = 1000;
    const size_t size = fixture_batch(batch, &header);
    for (size_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            batch[i] ^= (uint8_t)(1 << bit);
            fmq_batch_header parsed;
            int result = fmq_batch_parse(batch, size, &parsed);
            if (result == FMQ_OK) {
                result = fmq_batch_validate(batch, size, &parsed, &limits, NOW, &reason);
            }
            const bool covered = !(i < 8 || (i >= 12 && i < 16));
            CHECK(covered ? result != FMQ_OK : result == FMQ_OK || i == 0);
            batch[i] ^= (uint8_t)(1 << bit);
        }
    }
}

static void patches_stay_outside_the_crc(void) {
    fmq_batch_header header = fixture_header(2);
    const size_t size = fixture_batch(batch, &header);
    fmq_batch_set_base_offset(batch, 123456789012);
    fmq_batch_set_leader_epoch(batch, 17);
    fmq_batch_header parsed;
    REQUIRE(fmq_batch_parse(batch, size, &parsed) == FMQ_OK);
    CHECK_EQ(parsed.base_offset, 123456789012);
    CHECK_EQ(parsed.leader_epoch, 17);
    CHECK(fmq_batch_crc_ok(batch, &parsed));
}

static void log_append_time_is_set_and_covered(void) {
    fmq_batch_header header = fixture_header(2);
    header.attributes = 3;
    const size_t size = fixture_batch(batch, &header);
    fmq_batch_set_log_append_time(batch, size, NOW + 99);
    fmq_batch_header parsed;
    REQUIRE(fmq_batch_parse(batch, size, &parsed) == FMQ_OK);
    CHECK_EQ(parsed.attributes, 3 | FMQ_ATTR_LOG_APPEND_TIME);
    CHECK_EQ(parsed.max_timestamp, NOW + 99);
    CHECK_EQ(parsed.base_timestamp, NOW);
    CHECK(parsed.crc != header.crc);
    CHECK(fmq_batch_crc_ok(batch, &parsed));
}

int main(void) {
    RUN(parse_reads_every_field);
    RUN(parse_wants_the_whole_header);
    RUN(parse_refuses_other_magics);
    RUN(parse_refuses_impossible_numbers);
    RUN(validate_accepts_good_batches);
    RUN(validate_refuses_a_wrong_size);
    RUN(validate_refuses_large_batches);
    RUN(validate_refuses_attributes);
    RUN(validate_refuses_wrong_counts);
    RUN(validate_refuses_more_records_than_fit);
    RUN(validate_refuses_half_set_producers);
    RUN(validate_refuses_timestamps_outside_limits);
    RUN(every_flipped_bit_is_found);
    RUN(patches_stay_outside_the_crc);
    RUN(log_append_time_is_set_and_covered);
    return check_report();
}
