/* perf/load/latency.c - how long a record is under way at a given rate, from producer to consumer.
 *
 *   latency --port P --topic T --partitions 6 --rate 50000 --records 10 --record-bytes 1000
 *
 * An open loop: batches are due at fixed times, whether earlier ones are answered or not, and every
 * latency counts from the time the batch was due, so that a broker that pauses is charged for all
 * that it held up.  `--rate` is in records/s; each request has one batch of `--records`.  Producers
 * take the partitions in turn; consumers long-poll a share of them each and read the time from the
 * first value of each batch.  `--consumers 0` measures acknowledgements only.  The topic must be
 * empty.  Prints "counting" after the warm-up and one JSON line at the end.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "fastmq/base.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define EVENTS 64
#define PENDING_MAX 65536 /* unanswered requests of one connection; a power of two */
#define BUFFER_BYTES (4u << 20)
#define FETCH_BYTES (1 << 20)
#define FETCH_WAIT_MS 500
#define STALL_MS 10000
#define NS_PER_S 1000000000u
#define DRAIN_NS (2ull * NS_PER_S)

typedef struct connection {
    int fd, first, count; /* partitions of a consumer; count is 0 for a producer */
    uint8_t *in, *out;
    size_t in_size, in_capacity, out_size, out_capacity;
    uint64_t *due_at; /* of requests that are not answered, a ring */
    uint32_t sent, answered;
    wire_buffer request;
    int64_t offsets[WIRE_PARTITIONS_MAX];
} connection;

static struct {
    const char *topic;
    int epoll, partitions, records, producers;
    wire_buffer request;
    bool counting;
    uint64_t count_from; /* only what was due later counts */
    uint64_t due, seen, acked;
    uint64_t seen_in_all, sent_in_all, worst_ns;
    bench_histogram acks, ends;
} test;

static void grow(uint8_t **data, size_t *capacity, size_t wanted) {
    if (wanted > *capacity) {
        *capacity = wanted * 2;
        *data = realloc(*data, *capacity);
        if (*data == NULL) {
            bench_die("out of memory");
        }
    }
}

static void watch(connection *c, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (c->out_size ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(test.epoll, operation, c->fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
}

static void flush(connection *c) {
    size_t sent = 0;
    bool was_waiting = c->out_size > 0;
    while (sent < c->out_size) {
        ssize_t n = send(c->fd, c->out + sent, c->out_size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0) {
            bench_die("send");
        }
        sent += (size_t)n;
    }
    memmove(c->out, c->out + sent, c->out_size - sent);
    c->out_size -= sent;
    if (was_waiting || c->out_size > 0) {
        watch(c, EPOLL_CTL_MOD);
    }
}

static void put(connection *c, const wire_buffer *request) {
    grow(&c->out, &c->out_capacity, c->out_size + request->size);
    memcpy(c->out + c->out_size, request->data, request->size);
    fmq_store_be32(c->out + c->out_size + WIRE_CORRELATION_AT, c->sent++);
    c->out_size += request->size;
}

static void produce(connection *c, uint64_t number, uint64_t due) {
    if (c->sent - c->answered == PENDING_MAX) {
        errno = 0;
        bench_die("the broker does not keep up with the rate");
    }
    wire_set_partition(&test.request, (int)(number % (uint64_t)test.partitions));
    wire_set_stamp(&test.request, due);
    c->due_at[c->sent % PENDING_MAX] = due;
    put(c, &test.request);
    test.sent_in_all++;
    if (test.counting) {
        test.due++;
    }
    flush(c);
}

static void fetch(connection *c) {
    wire_fetch(&c->request, test.topic, c->first, c->count, c->offsets, FETCH_BYTES, FETCH_WAIT_MS);
    put(c, &c->request);
    flush(c);
}

static void record(bench_histogram *histogram, uint64_t due, uint64_t *count) {
    if (test.counting && due >= test.count_from) {
        uint64_t took = bench_now_ns() - due;
        bench_record(histogram, took);
        test.worst_ns = took > test.worst_ns ? took : test.worst_ns;
        ++*count;
    }
}

static void on_batch(const uint8_t *batch, size_t size) {
    (void)size;
    test.seen_in_all++;
    record(&test.ends, fmq_load_be64(batch + test.request.value_at), &test.seen);
}

static void refuse(int error) {
    fprintf(stderr, "error code %d in an answer; ", error);
    errno = 0;
    bench_die("giving up");
}

static void on_answer(connection *c, const uint8_t *answer, size_t size) {
    uint32_t number = c->answered++;
    if (c->count == 0) {
        int error = wire_produce_error(answer, size, test.topic);
        if (error) {
            refuse(error);
        }
        record(&test.acks, c->due_at[number % PENDING_MAX], &test.acked);
        return;
    }
    wire_fetched found = wire_fetch_answer(answer, size, c->first, c->count, c->offsets);
    if (found.error) {
        refuse(found.error);
    }
    fetch(c);
}

static void receive(connection *c) {
    ssize_t n = recv(c->fd, c->in + c->in_size, c->in_capacity - c->in_size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        errno = n < 0 ? errno : 0;
        bench_die("the broker closed a connection");
    }
    c->in_size += (size_t)n;
    size_t at = 0;
    while (c->in_size - at >= 4) {
        size_t size = fmq_load_be32(c->in + at);
        if (c->in_size - at - 4 < size) {
            grow(&c->in, &c->in_capacity, size + 4);
            break;
        }
        on_answer(c, c->in + at + 4, size);
        at += 4 + size;
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
}

static connection *open_connection(connection *c, uint16_t port, int first, int count) {
    c->fd = bench_connect(port);
    c->first = first;
    c->count = count;
    c->in_capacity = c->out_capacity = BUFFER_BYTES;
    c->in = bench_alloc(BUFFER_BYTES);
    c->out = bench_alloc(BUFFER_BYTES);
    c->due_at = bench_alloc(PENDING_MAX * sizeof *c->due_at);
    watch(c, EPOLL_CTL_ADD);
    return c;
}

static void arm(int timer, uint64_t at) {
    struct itimerspec when = {.it_value = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
        bench_die("timerfd_settime");
    }
}

static void serve(int timeout_ms) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(test.epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < ready; i++) {
        connection *c = events[i].data.ptr;
        if (c == NULL) { /* the timer: whoever waits looks at the clock */
            continue;
        }
        if (events[i].events & EPOLLOUT) {
            flush(c);
        }
        if (events[i].events & ~(uint32_t)EPOLLOUT) {
            receive(c);
        }
    }
}

/* Sends batches from `*next` on, `step` apart, until `end`. */
static void run(connection *producers, int timer, double *next, double step, uint64_t end) {
    static uint64_t number;
    while ((uint64_t)*next < end) {
        while ((uint64_t)*next <= bench_now_ns() && (uint64_t)*next < end) {
            produce(&producers[number % (uint64_t)test.producers], number, (uint64_t)*next);
            number++;
            *next += step;
        }
        arm(timer, (uint64_t)*next);
        serve(STALL_MS);
    }
}

static void drain(const connection *producers, bool consuming) {
    uint64_t until = bench_now_ns() + DRAIN_NS;
    for (;;) {
        bool done = !consuming || test.seen_in_all >= test.sent_in_all;
        for (int i = 0; i < test.producers; i++) {
            done = done && producers[i].answered == producers[i].sent;
        }
        if (done || bench_now_ns() > until) {
            return;
        }
        serve(100);
    }
}

static void print_result(double rate, double elapsed_s) {
    const bench_histogram *a = &test.acks, *e = &test.ends;
    printf("{\"rate\": %.0f, \"records\": %llu, \"seconds\": %.3f, \"batches_due\": %llu, "
           "\"batches_acked\": %llu, \"batches_seen\": %llu, \"ack_p50_ms\": %.4f, "
           "\"ack_p99_ms\": %.4f, \"ack_p999_ms\": %.4f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
           "\"p999_ms\": %.4f, \"max_ms\": %.4f}\n",
           rate, (unsigned long long)test.due * (unsigned)test.records, elapsed_s,
           (unsigned long long)test.due, (unsigned long long)test.acked,
           (unsigned long long)test.seen, bench_quantile_ms(a, 0.50), bench_quantile_ms(a, 0.99),
           bench_quantile_ms(a, 0.999), bench_quantile_ms(e, 0.50), bench_quantile_ms(e, 0.99),
           bench_quantile_ms(e, 0.999), (double)test.worst_ns * 1e-6);
}

int main(int argc, char **argv) {
    bench_option options[] = {{"port", "9092"},   {"topic", "perf"},        {"partitions", "1"},
                              {"producers", "4"}, {"consumers", "2"},       {"rate", "1000"},
                              {"records", "1"},   {"record-bytes", "1000"}, {"acks", "-1"},
                              {"seconds", "5"},   {"warmup", "1000"},       {"cpu", "-1"},
                              {"key-bytes", "0"}};
    size_t n = sizeof options / sizeof *options;
    bench_options(argc, argv, options, n);
    test.topic = bench_text(options, n, "topic");
    test.partitions = (int)bench_number(options, n, "partitions");
    test.producers = (int)bench_number(options, n, "producers");
    test.records = (int)bench_number(options, n, "records");
    int consumers = (int)bench_number(options, n, "consumers");
    double rate = (double)bench_number(options, n, "rate");
    const wire_batch batch = {test.records, (size_t)bench_number(options, n, "record-bytes"),
                              (size_t)bench_number(options, n, "key-bytes")};
    errno = 0;
    if (consumers > test.partitions) {
        consumers = test.partitions;
    }
    if (test.partitions < 1 || test.producers < 1 || test.records < 1 || consumers < 0 ||
        rate < 1 || batch.record_bytes < sizeof(uint64_t) ||
        (consumers && (test.partitions + consumers - 1) / consumers > WIRE_PARTITIONS_MAX)) {
        bench_die("a count is out of range");
    }
    bench_pin((int)bench_number(options, n, "cpu"));
    test.epoll = epoll_create1(EPOLL_CLOEXEC);
    wire_produce(&test.request, test.topic, 0, (int)bench_number(options, n, "acks"), &batch);
    wire_on_batch = on_batch;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (epoll_ctl(test.epoll, EPOLL_CTL_ADD, timer, &event) != 0) {
        bench_die("epoll_ctl");
    }
    uint16_t port = (uint16_t)bench_number(options, n, "port");
    connection *all = bench_alloc((size_t)(test.producers + consumers) * sizeof *all);
    for (int i = 0; i < test.producers; i++) {
        open_connection(&all[i], port, 0, 0);
    }
    for (int i = 0; i < consumers; i++) {
        int first = test.partitions * i / consumers;
        int count = test.partitions * (i + 1) / consumers - first;
        fetch(open_connection(&all[test.producers + i], port, first, count));
    }

    double step = (double)test.records / rate * 1e9;
    double next = (double)bench_now_ns();
    uint64_t warm = (uint64_t)next + (uint64_t)bench_number(options, n, "warmup") * 1000000u;
    run(all, timer, &next, step, warm);
    puts("counting");
    fflush(stdout);
    test.counting = true;
    test.count_from = (uint64_t)next;
    uint64_t end = (uint64_t)next + (uint64_t)bench_number(options, n, "seconds") * NS_PER_S;
    run(all, timer, &next, step, end);
    double elapsed_s = (double)(bench_now_ns() - test.count_from) * 1e-9;
    drain(all, consumers > 0);
    if (test.acked == 0 || (consumers > 0 && test.seen == 0)) {
        errno = 0;
        bench_die("nothing came through in time");
    }
    print_result(rate, elapsed_s);
    return 0;
}
