/* perf/c/bench.h - what the yardsticks and the load generators share.
 *
 * Everything is for Linux, loopback and trusted input; every failure ends the program with a
 * message.  Nothing here is part of the product.
 */
#ifndef FASTMQ_PERF_BENCH_H
#define FASTMQ_PERF_BENCH_H

#include <stddef.h>
#include <stdint.h>

/* Ends the program with exit code 1 and a message (with errno's text when `errno` is not 0). */
_Noreturn void bench_die(const char *what);

uint64_t bench_now_ns(void);    /* monotonic */
double bench_cpu_seconds(void); /* of this process, user and system */
void bench_pin(int cpu);        /* to one core; < 0 does nothing */
void *bench_alloc(size_t size); /* zeroed */
void bench_fill_random(uint8_t *data, size_t size, uint64_t seed); /* incompressible */

/* A listening socket on 127.0.0.1; `port` 0 is replaced by the one chosen. */
int bench_listen(uint16_t *port);
/* A connected non-blocking socket without Nagle's delay. */
int bench_connect(uint16_t port);
void bench_nonblocking(int fd);

/* Options as `--name value`.  Unknown names end the program. */
typedef struct {
    const char *name;  /* without the dashes */
    const char *value; /* default; replaced by what was given */
} bench_option;

void bench_options(int argc, char **argv, bench_option *options, size_t count);
const char *bench_text(const bench_option *options, size_t count, const char *name);
int64_t bench_number(const bench_option *options, size_t count, const char *name);

/* Latencies in ns, in buckets 1/16 of a power of two wide (an error below 6 %). */
#define BENCH_BUCKETS 1024
typedef struct {
    uint64_t counts[BENCH_BUCKETS];
    uint64_t total;
} bench_histogram;

void bench_record(bench_histogram *histogram, uint64_t ns);
double bench_quantile_ms(const bench_histogram *histogram, double quantile);

#endif
