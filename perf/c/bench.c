#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096

_Noreturn void bench_die(const char *what) {
    fprintf(stderr, "%s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

uint64_t bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double bench_cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

void bench_pin(int cpu) {
    if (cpu < 0) {
        return;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        bench_die("sched_setaffinity");
    }
}

void *bench_alloc(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) {
        bench_die("out of memory");
    }
    return memory;
}

void bench_fill_random(uint8_t *data, size_t size, uint64_t seed) {
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        data[i] = (uint8_t)(state >> 56);
    }
}

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int bench_listen(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = loopback(*port);
    socklen_t size = sizeof address;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        bench_die("listen");
    }
    *port = ntohs(address.sin_port);
    return fd;
}

int bench_connect(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = loopback(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        bench_die("connect");
    }
    bench_nonblocking(fd);
    return fd;
}

void bench_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        bench_die("fcntl");
    }
}

static bench_option *find(bench_option *options, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    errno = 0;
    fprintf(stderr, "options:");
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, " --%s (%s)", options[i].name, options[i].value);
    }
    fprintf(stderr, "\n");
    bench_die(name);
}

void bench_options(int argc, char **argv, bench_option *options, size_t count) {
    for (int i = 1; i < argc; i += 2) {
        if (strncmp(argv[i], "--", 2) != 0 || i + 1 == argc) {
            bench_die("options come as --name value");
        }
        find(options, count, argv[i] + 2)->value = argv[i + 1];
    }
}

const char *bench_text(const bench_option *options, size_t count, const char *name) {
    return find((bench_option *)(uintptr_t)options, count, name)->value;
}

int64_t bench_number(const bench_option *options, size_t count, const char *name) {
    return strtoll(bench_text(options, count, name), NULL, 10);
}

void bench_record(bench_histogram *histogram, uint64_t ns) {
    unsigned bucket = (unsigned)ns;
    if (ns >= 16) {
        unsigned exponent = 63u - (unsigned)__builtin_clzll(ns);
        bucket = (exponent - 3) * 16 + (unsigned)((ns >> (exponent - 4)) & 15);
    }
    histogram->counts[bucket < BENCH_BUCKETS ? bucket : BENCH_BUCKETS - 1]++;
    histogram->total++;
}

double bench_quantile_ms(const bench_histogram *histogram, double quantile) {
    uint64_t wanted = (uint64_t)((double)histogram->total * quantile);
    uint64_t seen = 0;
    unsigned bucket = 0;
    while (bucket < BENCH_BUCKETS - 1 && (seen += histogram->counts[bucket]) <= wanted) {
        bucket++;
    }
    if (bucket < 16) {
        return (double)bucket * 1e-6;
    }
    unsigned exponent = bucket / 16 + 3;
    return (double)((uint64_t)(16 + bucket % 16) << (exponent - 4)) * 1e-6;
}
