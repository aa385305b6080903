/* perf/limits/fsync.c - what one durable append costs on this disk: pwrite and fdatasync in turn.
 *
 *   fsync --file PATH --bytes 1024 --seconds 3
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    bench_option options[] = {{"file", "limit.dat"}, {"bytes", "1024"}, {"seconds", "3"}};
    size_t count = sizeof options / sizeof *options;
    bench_options(argc, argv, options, count);
    size_t size = (size_t)bench_number(options, count, "bytes");
    uint8_t *data = bench_alloc(size);
    int fd = open(bench_text(options, count, "file"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        bench_die("open");
    }
    bench_histogram latencies = {0};
    uint64_t end = bench_now_ns() + (uint64_t)bench_number(options, count, "seconds") * 1000000000u;
    off_t position = 0;
    for (uint64_t began = bench_now_ns(); began < end; position += (off_t)size) {
        if (pwrite(fd, data, size, position) != (ssize_t)size || fdatasync(fd) != 0) {
            bench_die("append");
        }
        uint64_t done = bench_now_ns();
        bench_record(&latencies, done - began);
        began = done;
    }
    printf("{\"syncs\": %llu, \"bytes\": %zu, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n",
           (unsigned long long)latencies.total, size, bench_quantile_ms(&latencies, 0.50),
           bench_quantile_ms(&latencies, 0.99));
    return 0;
}
