/* Records: encoding, bounded iteration, the full check, every cut point and byte value. */
#include "check.h"
#include "fastmq/varint.h"
#include "fixture_batch.h"

static uint8_t block[4096];
static const char *reason;

static int count_records(const uint8_t *records, size_t size, int32_t count) {
    fmq_record_iter it;
    fmq_record record;
    fmq_record_iter_init(&it, records, size, count);
    int seen = 0;
    int result;
    while ((result = fmq_record_iter_next(&it, &record)) == 1) {
        seen++;
    }
    return result == 0 ? seen : -result;
}

static void written_records_come_back(void) {
    const size_t size = fixture_records(block, 3);
    CHECK_EQ(size, 3 * 17);
    CHECK_EQ(fmq_record_size(0, 1, 1, 5, 4, 1), 17);
    fmq_record_iter it;
    fmq_record record;
    fmq_record_iter_init(&it, block, size, 3);
    for (int i = 0; i < 3; i++) {
        REQUIRE(fmq_record_iter_next(&it, &record) == 1);
        CHECK_EQ(record.offset_delta, i);
        CHECK_EQ(record.timestamp_delta, 0);
        CHECK_EQ(record.key_size, 1);
        CHECK(memcmp(record.key, "k", 1) == 0);
        CHECK_EQ(record.value_size, 5);
        CHECK(memcmp(record.value, "value", 5) == 0);
        CHECK_EQ(record.header_count, 1);
        CHECK_EQ(record.headers_size, 4);
    }
    CHECK_EQ(fmq_record_iter_next(&it, &record), 0);
    CHECK_EQ(fmq_record_iter_next(&it, &record), 0);
}

static void headers_are_walked(void) {
    /* ("ab", null), ("", "") */
    const uint8_t headers[] = {4, 'a', 'b', 1, 0, 0};
    const uint8_t *at = headers;
    const uint8_t *end = headers + sizeof headers;
    const uint8_t *key;
    const uint8_t *value;
    int32_t key_size;
    int32_t value_size;
    REQUIRE(fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size) == 1);
    CHECK(key_size == 2 && memcmp(key, "ab", 2) == 0);
    CHECK(value == NULL && value_size == -1);
    REQUIRE(fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size) == 1);
    CHECK(key != NULL && key_size == 0 && value != NULL && value_size == 0);
    CHECK_EQ(fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size), 0);
}

static void a_null_header_key_is_refused(void) {
    const uint8_t headers[] = {1, 1};
    const uint8_t *at = headers;
    const uint8_t *bytes;
    int32_t size;
    CHECK_EQ(fmq_record_header_next(&at, headers + 2, &bytes, &size, &bytes, &size),
             FMQ_ERR_CORRUPT_MESSAGE);
}

static size_t write_plain(int32_t key_size, int32_t value_size, int32_t offset_delta) {
    const fmq_record record = {
        .timestamp_delta = INT64_MIN,
        .offset_delta = offset_delta,
        .key = (const uint8_t *)"key",
        .key_size = key_size,
        .value = (const uint8_t *)"val",
        .value_size = value_size,
    };
    const size_t size = fmq_record_write(block, &record);
    CHECK_EQ(size, fmq_record_size(INT64_MIN, offset_delta, key_size, value_size, 0, 0));
    return size;
}

static void null_and_empty_are_told_apart(void) {
    fmq_record_iter it;
    fmq_record record;
    fmq_record_iter_init(&it, block, write_plain(-1, -1, INT32_MAX), 1);
    REQUIRE(fmq_record_iter_next(&it, &record) == 1);
    CHECK(record.key == NULL && record.value == NULL);
    CHECK_EQ(record.timestamp_delta, INT64_MIN);
    CHECK_EQ(record.offset_delta, INT32_MAX);
    fmq_record_iter_init(&it, block, write_plain(0, 0, 0), 1);
    REQUIRE(fmq_record_iter_next(&it, &record) == 1);
    CHECK(record.key != NULL && record.key_size == 0);
    CHECK(record.value != NULL && record.value_size == 0);
}

static void the_smallest_record_is_seven_bytes(void) {
    CHECK_EQ(fmq_record_size(0, 0, -1, -1, 0, 0), 7);
}

static void every_cut_is_found(void) {
    const size_t size = fixture_records(block, 3);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = check_copy(block, cut);
        CHECK_EQ(count_records(copy, cut, 3), -FMQ_ERR_CORRUPT_MESSAGE);
        CHECK_EQ(fmq_batch_validate_records(copy, cut, 3, false, &reason), FMQ_ERR_INVALID_RECORD);
        CHECK(reason != NULL);
        free(copy);
    }
}

static void wrong_counts_are_found(void) {
    const size_t size = fixture_records(block, 3);
    CHECK_EQ(count_records(block, size, 2), -FMQ_ERR_CORRUPT_MESSAGE);
    CHECK_EQ(count_records(block, size, 4), -FMQ_ERR_CORRUPT_MESSAGE);
    CHECK_EQ(count_records(block, size, 0), -FMQ_ERR_CORRUPT_MESSAGE);
    CHECK_EQ(count_records(block, 0, 0), 0);
    CHECK_EQ(fmq_batch_validate_records(block, 0, -1, false, &reason), FMQ_ERR_INVALID_RECORD);
    CHECK_EQ(fmq_batch_validate_records(block, size, 2, false, &reason), FMQ_ERR_INVALID_RECORD);
    CHECK_EQ(fmq_batch_validate_records(block, size, 4, false, &reason), FMQ_ERR_INVALID_RECORD);
    CHECK_EQ(fmq_batch_validate_records(block, size, 3, true, &reason), FMQ_OK);
    CHECK(reason == NULL);
}

/* Whatever one byte becomes: no access outside the block (the sanitizer says so), and what the
 * full check accepts, iteration accepts too. */
static void every_byte_value_is_survived(void) {
    const size_t size = fixture_records(block, 2);
    uint8_t *copy = check_copy(block, size);
    int refused = 0;
    for (size_t i = 0; i < size; i++) {
        for (int value = 0; value < 256; value++) {
            copy[i] = (uint8_t)value;
            const int result = fmq_batch_validate_records(copy, size, 2, true, &reason);
            CHECK((result == FMQ_OK) == (reason == NULL));
            CHECK(result != FMQ_OK || count_records(copy, size, 2) == 2);
            refused += result != FMQ_OK;
        }
        copy[i] = block[i];
    }
    CHECK(refused > 3000);
    free(copy);
}

static void validate_wants_offset_deltas_in_order(void) {
    const size_t size = write_plain(1, 1, 1);
    CHECK_EQ(fmq_batch_validate_records(block, size, 1, false, &reason), FMQ_ERR_INVALID_RECORD);
}

static void validate_wants_keys_where_asked(void) {
    const size_t size = write_plain(-1, 1, 0);
    CHECK_EQ(fmq_batch_validate_records(block, size, 1, false, &reason), FMQ_OK);
    CHECK_EQ(fmq_batch_validate_records(block, size, 1, true, &reason), FMQ_ERR_INVALID_RECORD);
    CHECK(strstr(reason, "key") != NULL);
}

static size_t write_headers(const uint8_t *headers, size_t headers_size, int32_t header_count) {
    const fmq_record record = {
        .key_size = -1,
        .value_size = -1,
        .headers = headers,
        .headers_size = headers_size,
        .header_count = header_count,
    };
    return fmq_record_write(block, &record);
}

static void validate_walks_headers(void) {
    static const struct {
        uint8_t bytes[6];
        size_t size;
        int32_t count;
        int expected;
    } cases[] = {
        {{2, 'h', 1}, 3, 1, FMQ_OK},
        {{0, 0, 0, 1}, 4, 2, FMQ_OK},
        {{2, 'h', 1}, 3, 0, FMQ_ERR_INVALID_RECORD},     /* bytes without a header */
        {{2, 'h', 1}, 3, -1, FMQ_ERR_INVALID_RECORD},    /* negative count */
        {{2, 'h', 1}, 3, 2, FMQ_ERR_INVALID_RECORD},     /* one too few */
        {{2, 'h', 1, 0}, 4, 1, FMQ_ERR_INVALID_RECORD},  /* a byte left over */
        {{1, 1}, 2, 1, FMQ_ERR_INVALID_RECORD},          /* null key */
        {{2, 'h', 3}, 3, 1, FMQ_ERR_INVALID_RECORD},     /* value length -2 */
        {{2, 'h', 4, 'x'}, 4, 1, FMQ_ERR_INVALID_RECORD} /* value beyond the record */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t size = write_headers(cases[i].bytes, cases[i].size, cases[i].count);
        CHECK_EQ(fmq_batch_validate_records(block, size, 1, false, &reason), cases[i].expected);
    }
}

static void absurd_lengths_are_refused(void) {
    static const int64_t lengths[] = {-1, -2, INT32_MIN, INT32_MAX, INT32_MAX - 1, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t bytes[16] = {0};
        const int used = fmq_varint32_write(bytes, (int32_t)lengths[i]);
        uint8_t *copy = check_copy(bytes, (size_t)used + 4);
        CHECK_EQ(count_records(copy, (size_t)used + 4, 1), -FMQ_ERR_CORRUPT_MESSAGE);
        free(copy);
    }
}

static void random_records_come_back(void) {
    uint64_t seed = 3;
    static uint8_t value[3000];
    for (int i = 0; i < 2000; i++) {
        const fmq_record record = {
            .timestamp_delta = (int64_t)(check_random(&seed) >> (check_random(&seed) % 64)),
            .offset_delta = (int32_t)(check_random(&seed) >> (33 + check_random(&seed) % 31)),
            .key = value,
            .key_size = (int32_t)(check_random(&seed) % 300) - 1,
            .value = value,
            .value_size = (int32_t)(check_random(&seed) % 3000) - 1,
        };
        const size_t size = fmq_record_write(block, &record);
        CHECK_EQ(size, fmq_record_size(record.timestamp_delta, record.offset_delta, record.key_size,
                                       record.value_size, 0, 0));
        fmq_record_iter it;
        fmq_record back;
        fmq_record_iter_init(&it, block, size, 1);
        REQUIRE(fmq_record_iter_next(&it, &back) == 1);
        CHECK_EQ(back.timestamp_delta, record.timestamp_delta);
        CHECK_EQ(back.offset_delta, record.offset_delta);
        CHECK_EQ(back.key_size, record.key_size);
        CHECK_EQ(back.value_size, record.value_size);
        CHECK_EQ(fmq_record_iter_next(&it, &back), 0);
    }
}

int main(void) {
    RUN(written_records_come_back);
    RUN(headers_are_walked);
    RUN(a_null_header_key_is_refused);
    RUN(null_and_empty_are_told_apart);
    RUN(the_smallest_record_is_seven_bytes);
    RUN(every_cut_is_found);
    RUN(wrong_counts_are_found);
    RUN(every_byte_value_is_survived);
    RUN(validate_wants_offset_deltas_in_order);
    RUN(validate_wants_keys_where_asked);
    RUN(validate_walks_headers);
    RUN(absurd_lengths_are_refused);
    RUN(random_records_come_back);
    return check_report();
}
