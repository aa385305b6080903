/* CRC-32C: published values, and every implementation against a bit-by-bit one. */
#include "check.h"
#include "fastmq/crc32c.h"

static uint8_t noise[64 * 1024];

static uint32_t bitwise(uint32_t crc, const uint8_t *data, size_t size) {
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0x82f63b78U & (0U - (crc & 1)));
        }
    }
    return ~crc;
}

static void has_the_published_values(void) {
    uint8_t block[32];
    CHECK_EQ(fmq_crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_EQ(fmq_crc32c_software(0, "123456789", 9), 0xe3069283);
    memset(block, 0, sizeof block);
    CHECK_EQ(fmq_crc32c(0, block, sizeof block), 0x8a9136aa);
    memset(block, 0xff, sizeof block);
    CHECK_EQ(fmq_crc32c(0, block, sizeof block), 0x62a8ab43);
    for (uint8_t i = 0; i < sizeof block; i++) {
        block[i] = i;
    }
    CHECK_EQ(fmq_crc32c(0, block, sizeof block), 0x46dd794e);
    CHECK_EQ(fmq_crc32c(0, block, 0), 0);
}

static void software_agrees_with_bitwise(void) {
    for (size_t size = 0; size < 300; size++) {
        CHECK_EQ(fmq_crc32c_software(7, noise + size % 8, size),
                 bitwise(7, noise + size % 8, size));
    }
}

static void fast_agrees_at_every_alignment_and_size(void) {
    for (size_t size = 0; size < 1300; size++) {
        for (size_t shift = 0; shift < 8; shift++) {
            REQUIRE(fmq_crc32c(0, noise + shift, size) ==
                    fmq_crc32c_software(0, noise + shift, size));
        }
    }
}

static void fast_agrees_around_block_borders(void) {
    for (size_t blocks = 1; blocks <= 5; blocks++) {
        for (size_t size = blocks * 12288 - 17; size < blocks * 12288 + 17; size++) {
            if (size < sizeof noise) {
                REQUIRE(fmq_crc32c(1, noise, size) == fmq_crc32c_software(1, noise, size));
            }
        }
    }
}

static void fast_reads_nothing_beyond_the_end(void) {
    for (size_t size = 0; size < 900; size += 13) {
        uint8_t *copy = check_copy(noise, size);
        CHECK_EQ(fmq_crc32c(0, copy, size), fmq_crc32c_software(0, noise, size));
        free(copy);
    }
}

static void continues_from_a_former_piece(void) {
    const uint32_t whole = fmq_crc32c(0, noise, 20000);
    for (size_t cut = 0; cut <= 20000; cut += 397) {
        CHECK_EQ(fmq_crc32c(fmq_crc32c(0, noise, cut), noise + cut, 20000 - cut), whole);
    }
}

int main(void) {
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)check_random(&seed);
    }
    RUN(has_the_published_values);
    RUN(software_agrees_with_bitwise);
    RUN(fast_agrees_at_every_alignment_and_size);
    RUN(fast_agrees_around_block_borders);
    RUN(fast_reads_nothing_beyond_the_end);
    RUN(continues_from_a_former_piece);
    return check_report();
}
