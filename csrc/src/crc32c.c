/* CRC-32C: three interleaved streams of the CPU's CRC instruction, or slicing by eight.
 *
 * The instruction takes one result per cycle but needs three cycles for each, so three independent
 * streams over neighbouring blocks keep it busy.  The streams are joined by "append n zero bytes",
 * which is a multiplication by x^(8n) in GF(2)[x] / P and therefore linear in the 32 bits of the
 * register: four tables of 256 entries per block size.
 *
 * All tables are filled, and the implementation is chosen, by a constructor when the library is
 * loaded: no lock and no branch on "ready" at run time.
 *
 * Source: RFC 3720 appendix B.4 (polynomial, check value); the interleaving is folklore.
 */
#include "fastmq/crc32c.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#define POLYNOMIAL 0x82f63b78U /* reflected: bit 31 is x^0 */
#define X_TO_0 0x80000000U
#define X_TO_1 0x40000000U

static uint32_t slices[8][256];

static void fill_slices(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 1) ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        }
        slices[0][byte] = crc;
    }
    for (int slice = 1; slice < 8; slice++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = slices[slice - 1][byte];
            slices[slice][byte] = (crc >> 8) ^ slices[0][crc & 0xff];
        }
    }
}

uint32_t fmq_crc32c_software(uint32_t crc, const void *data, size_t size) {
    const uint8_t *at = data;
    crc = ~crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        word ^= crc;
        crc = slices[7][word & 0xff] ^ slices[6][(word >> 8) & 0xff] ^
              slices[5][(word >> 16) & 0xff] ^ slices[4][(word >> 24) & 0xff] ^
              slices[3][(word >> 32) & 0xff] ^ slices[2][(word >> 40) & 0xff] ^
              slices[1][(word >> 48) & 0xff] ^ slices[0][word >> 56];
        at += 8;
        size -= 8;
    }
    while (size > 0) {
        crc = (crc >> 8) ^ slices[0][(crc ^ *at) & 0xff];
        at++;
        size--;
    }
    return ~crc;
}

static uint32_t (*implementation)(uint32_t, const void *, size_t) = fmq_crc32c_software;

#if defined(__x86_64__)
#define HARDWARE 1
#ifdef __clang__
#define HARDWARE_TARGET __attribute__((target("sse4.2,crc32"))) /* a feature of its own there */
#else
#define HARDWARE_TARGET __attribute__((target("sse4.2")))
#endif

HARDWARE_TARGET static inline uint64_t step_word(uint64_t crc, uint64_t word) {
    return __builtin_ia32_crc32di(crc, word);
}

HARDWARE_TARGET static inline uint64_t step_byte(uint64_t crc, uint8_t byte) {
    return __builtin_ia32_crc32qi((uint32_t)crc, byte);
}

static bool hardware_usable(void) {
    /* Asked of the CPU itself: __builtin_cpu_supports needs a run-time library that not every
     * compiler brings. */
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_SSE4_2) != 0;
}

#elif defined(__aarch64__)
#define HARDWARE 1
#define HARDWARE_TARGET __attribute__((target("+crc")))

HARDWARE_TARGET static inline uint64_t step_word(uint64_t crc, uint64_t word) {
    uint32_t narrow = (uint32_t)crc;
    __asm__("crc32cx %w0, %w0, %x1" : "+r"(narrow) : "r"(word));
    return narrow;
}

HARDWARE_TARGET static inline uint64_t step_byte(uint64_t crc, uint8_t byte) {
    uint32_t narrow = (uint32_t)crc;
    __asm__("crc32cb %w0, %w0, %w1" : "+r"(narrow) : "r"((uint32_t)byte));
    return narrow;
}

static bool hardware_usable(void) {
#if defined(__linux__)
    const unsigned long hwcap_crc32 = 1UL << 7; /* HWCAP_CRC32 of <asm/hwcap.h> */
    return (getauxval(AT_HWCAP) & hwcap_crc32) != 0;
#elif defined(__APPLE__)
    return true; /* every Apple CPU with 64 bits for a Mac has it */
#else
    return false;
#endif
}
#endif

#ifdef HARDWARE

/* Block sizes in bytes: large ones amortise the joins, small ones serve batches of one record. */
#define LARGE_BLOCK 4096
#define SMALL_BLOCK 128

static uint32_t large_zeros[4][256];
static uint32_t small_zeros[4][256];

static uint32_t gf_multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = X_TO_0; bit != 0; bit >>= 1) {
        if (a & bit) {
            product ^= b;
        }
        b = (b & 1) ? (b >> 1) ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

static uint32_t gf_power_of_x(uint32_t exponent) {
    uint32_t result = X_TO_0;
    uint32_t square = X_TO_1;
    for (; exponent != 0; exponent >>= 1) {
        if (exponent & 1) {
            result = gf_multiply(result, square);
        }
        square = gf_multiply(square, square);
    }
    return result;
}

static void fill_zeros(uint32_t table[4][256], uint32_t size) {
    const uint32_t factor = gf_power_of_x(8 * size);
    for (uint32_t lane = 0; lane < 4; lane++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            table[lane][byte] = gf_multiply(factor, byte << (8 * lane));
        }
    }
}

static inline uint64_t append_zeros(const uint32_t table[4][256], uint64_t crc) {
    return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^
           table[3][(crc >> 24) & 0xff];
}

static inline uint64_t load_word(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Take 3 * `block` bytes at `at` into `crc`. */
HARDWARE_TARGET static inline uint64_t take_three(uint64_t crc, const uint8_t *at, size_t block,
                                                  const uint32_t zeros[4][256]) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < block; i += 8) {
        crc = step_word(crc, load_word(at + i));
        second = step_word(second, load_word(at + block + i));
        third = step_word(third, load_word(at + 2 * block + i));
    }
    crc = append_zeros(zeros, crc) ^ second;
    return append_zeros(zeros, crc) ^ third;
}

HARDWARE_TARGET static uint32_t crc32c_hardware(uint32_t start, const void *data, size_t size) {
    const uint8_t *at = data;
    uint64_t crc = (uint32_t)~start;
    while (size >= (size_t)3 * LARGE_BLOCK) {
        crc = take_three(crc, at, LARGE_BLOCK, large_zeros);
        at += (size_t)3 * LARGE_BLOCK;
        size -= (size_t)3 * LARGE_BLOCK;
    }
    while (size >= (size_t)3 * SMALL_BLOCK) {
        crc = take_three(crc, at, SMALL_BLOCK, small_zeros);
        at += (size_t)3 * SMALL_BLOCK;
        size -= (size_t)3 * SMALL_BLOCK;
    }
    for (; size >= 8; size -= 8) {
        crc = step_word(crc, load_word(at));
        at += 8;
    }
    for (; size > 0; size--) {
        crc = step_byte(crc, *at);
        at++;
    }
    return ~(uint32_t)crc;
}
#endif

__attribute__((constructor)) static void choose_implementation(void) {
    fill_slices();
#ifdef HARDWARE
    if (hardware_usable()) {
        fill_zeros(large_zeros, LARGE_BLOCK);
        fill_zeros(small_zeros, SMALL_BLOCK);
        implementation = crc32c_hardware;
    }
#endif
}

uint32_t fmq_crc32c(uint32_t crc, const void *data, size_t size) {
    return implementation(crc, data, size);
}
