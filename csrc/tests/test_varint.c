/* Varints: edges, round trips, every cut, encodings that are too long. */
#include "check.h"
#include "fastmq/varint.h"

static const int64_t edges[] = {
    0,         -1,        1,         63,           64,         -64,        -65,
    8191,      8192,      INT32_MAX, INT32_MIN,    INT64_MAX,  INT64_MIN,  1LL << 34,
    1LL << 35, 1LL << 55, 1LL << 56, -(1LL << 55), 1000000007, 0x7fffffff,
};
#define EDGE_COUNT (sizeof edges / sizeof edges[0])

static void round_trip64(int64_t value) {
    uint8_t bytes[10];
    const int size = fmq_varint64_write(bytes, value);
    REQUIRE(size >= 1 && size <= 10);
    CHECK_EQ(fmq_varint_size(value), size);
    int64_t back = 0;
    CHECK_EQ(fmq_varint64_read(bytes, bytes + size, &back), size);
    CHECK_EQ(back, value);
    for (int cut = 0; cut < size; cut++) {
        uint8_t *copy = check_copy(bytes, (size_t)cut);
        CHECK_EQ(fmq_varint64_read(copy, copy + cut, &back), 0);
        free(copy);
    }
}

static void round_trip32(int32_t value) {
    uint8_t bytes[10];
    const int size = fmq_varint32_write(bytes, value);
    REQUIRE(size >= 1 && size <= 5);
    int32_t back = 0;
    CHECK_EQ(fmq_varint32_read(bytes, bytes + size, &back), size);
    CHECK_EQ(back, value);
    for (int cut = 0; cut < size; cut++) {
        CHECK_EQ(fmq_varint32_read(bytes, bytes + cut, &back), 0);
    }
}

static void edges_survive(void) {
    for (size_t i = 0; i < EDGE_COUNT; i++) {
        round_trip64(edges[i]);
        round_trip32((int32_t)edges[i]);
    }
}

static void random_values_survive(void) {
    uint64_t seed = 2;
    for (int i = 0; i < 20000; i++) {
        const uint64_t value = check_random(&seed) >> (check_random(&seed) % 64);
        round_trip64((int64_t)value);
        round_trip32((int32_t)value);
        uint8_t bytes[10];
        uint64_t back = 0;
        const int size = fmq_uvarint64_write(bytes, value);
        CHECK_EQ(fmq_uvarint_size(value), size);
        CHECK_EQ(fmq_uvarint64_read(bytes, bytes + size, &back), size);
        CHECK(back == value);
    }
}

static void has_the_documented_encoding(void) {
    uint8_t bytes[10];
    CHECK_EQ(fmq_uvarint32_write(bytes, 300), 2);
    CHECK(bytes[0] == 0xac && bytes[1] == 0x02);
    CHECK_EQ(fmq_varint32_write(bytes, -1), 1);
    CHECK_EQ(bytes[0], 1);
    CHECK_EQ(fmq_varint32_write(bytes, 1), 1);
    CHECK_EQ(bytes[0], 2);
}

static void too_long_encodings_are_refused(void) {
    uint8_t bytes[11];
    uint32_t u32;
    uint64_t u64;
    memset(bytes, 0xff, sizeof bytes);
    CHECK_EQ(fmq_uvarint32_read(bytes, bytes + 11, &u32), -1);
    CHECK_EQ(fmq_uvarint64_read(bytes, bytes + 11, &u64), -1);
    memset(bytes, 0x80, sizeof bytes);
    CHECK_EQ(fmq_uvarint32_read(bytes, bytes + 11, &u32), -1);
    CHECK_EQ(fmq_uvarint64_read(bytes, bytes + 11, &u64), -1);
    bytes[4] = 0x10; /* a bit beyond 32 */
    CHECK_EQ(fmq_uvarint32_read(bytes, bytes + 5, &u32), -1);
    bytes[4] = 0x0f;
    CHECK_EQ(fmq_uvarint32_read(bytes, bytes + 5, &u32), 5);
    CHECK_EQ(u32, 0xf0000000);
    memset(bytes, 0x80, sizeof bytes);
    bytes[9] = 0x02; /* a bit beyond 64 */
    CHECK_EQ(fmq_uvarint64_read(bytes, bytes + 10, &u64), -1);
}

int main(void) {
    RUN(edges_survive);
    RUN(random_values_survive);
    RUN(has_the_documented_encoding);
    RUN(too_long_encodings_are_refused);
    return check_report();
}
