/* perf/limits/memory.c - what a byte costs that is only looked at: memcpy and CRC-32C.
 *
 *   memory --bytes 65536 --seconds 1
 *
 * Walks 64 MiB in pieces of `--bytes`, so that the data comes from memory and not from the caches.
 */
#include "bench.h"
#include "fastmq/crc32c.h"

#include <stdio.h>
#include <string.h>

#define AREA_BYTES (64u << 20)

typedef uint32_t (*piece_fn)(uint8_t *to, const uint8_t *from, size_t size);

static uint32_t copy(uint8_t *to, const uint8_t *from, size_t size) {
    memcpy(to, from, size);
    return to[size / 2];
}

static uint32_t check(uint8_t *to, const uint8_t *from, size_t size) {
    (void)to;
    return fmq_crc32c(0, from, size);
}

/* Bytes per second of CPU time. */
static double rate(piece_fn piece, uint8_t *to, const uint8_t *from, size_t size, double seconds) {
    uint64_t bytes = 0;
    volatile uint32_t sum = 0;
    double began = bench_cpu_seconds(), now = began;
    while (now - began < seconds) {
        for (size_t at = 0; at + size <= AREA_BYTES; at += size) {
            sum ^= piece(to + at, from + at, size);
        }
        bytes += AREA_BYTES / size * size;
        now = bench_cpu_seconds();
    }
    return (double)bytes / (now - began);
}

int main(int argc, char **argv) {
    bench_option options[] = {{"bytes", "65536"}, {"seconds", "1"}, {"cpu", "-1"}};
    size_t count = sizeof options / sizeof *options;
    bench_options(argc, argv, options, count);
    size_t size = (size_t)bench_number(options, count, "bytes");
    if (size == 0 || size > AREA_BYTES) {
        bench_die("--bytes is out of range");
    }
    bench_pin((int)bench_number(options, count, "cpu"));
    double seconds = (double)bench_number(options, count, "seconds");
    uint8_t *from = bench_alloc(AREA_BYTES), *to = bench_alloc(AREA_BYTES);
    bench_fill_random(from, AREA_BYTES, 1);
    memcpy(to, from, AREA_BYTES); /* touched */
    double copied = rate(copy, to, from, size, seconds);
    double checked = rate(check, to, from, size, seconds);
    printf("{\"bytes\": %zu, \"memcpy_gb_per_s\": %.2f, \"crc32c_gb_per_s\": %.2f}\n", size,
           copied * 1e-9, checked * 1e-9);
    return 0;
}
