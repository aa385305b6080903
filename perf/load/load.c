/* perf/load/load.c - a load generator: many connections, several requests in flight on each.
 *
 *   load --port P --api produce --connections 256 --inflight 1 --records 1 --record-bytes 100
 *   load --port P --api fetch --fetch-bytes 1048576 --partitions 6 --per-request 6
 *
 * One thread, one epoll set.  Connection i talks to partition i (modulo `--partitions`).  It runs
 * for `--seconds` or until `--bytes-max` of records have passed, after `--warmup` ms that do not
 * count; it prints "counting" then, and one JSON line at the end.  An error code in an answer ends
 * it with exit code 1.
 * A consumer that reaches the end starts again at the beginning.
 * `--cycle 1` sends each request of a connection to the next partition.
 * `--blind 1` does not read answers: for the yardstick servers, which do not speak Kafka.
 * `--request FILE` sends what the file holds instead, for brokers whose answers are lines (text.h).
 */
#define _GNU_SOURCE
#include "bench.h"
#include "fastmq/base.h"
#include "text.h"
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define INFLIGHT_MAX 256
#define RECEIVE_BYTES (2u << 20)
#define SEND_BYTES (64u << 10)
#define FETCH_REQUEST_BYTES 4096
#define STALL_MS 10000

#define REQUEST_BYTES_MAX(c) (load.fetch ? FETCH_REQUEST_BYTES : (c)->request.size)

typedef struct connection {
    int fd, partition;
    wire_buffer request;
    uint8_t *out; /* requests that are leaving */
    size_t out_size, out_sent, out_capacity;
    uint8_t *in;
    size_t in_size, in_capacity;
    uint64_t sent_at[INFLIGHT_MAX]; /* by correlation id modulo the size */
    uint32_t sent, answered;
    bool wants_write;
    text_reader lines;
    int64_t offsets[WIRE_PARTITIONS_MAX];
} connection;

static struct {
    const char *topic;
    bool fetch, blind, text, cycle;
    int inflight, records, partitions, per_request, fetch_bytes, wait_ms, epoll, acks;
    uint64_t batch_bytes;
    bool counting, stopping;
    uint64_t answered, requests, records_done, bytes; /* all; the rest while counting */
    bench_histogram latencies;
} load;

static bool may_start(const connection *c) {
    return !load.stopping && c->sent - c->answered < (uint32_t)load.inflight;
}

/* Appends one request to what leaves next. */
static void stage_request(connection *c) {
    if (load.fetch) {
        wire_fetch(&c->request, load.topic, c->partition, load.per_request, c->offsets,
                   load.fetch_bytes, load.wait_ms);
    }
    if (load.cycle) {
        c->partition = (c->partition + 1) % load.partitions;
        wire_set_partition(&c->request, c->partition);
    }
    if (!load.text) {
        fmq_store_be32(c->request.data + WIRE_CORRELATION_AT, c->sent);
    }
    memcpy(c->out + c->out_size, c->request.data, c->request.size);
    c->out_size += c->request.size;
    c->sent_at[c->sent % INFLIGHT_MAX] = bench_now_ns();
    c->sent++;
}

/* As many requests as may be in flight, so that small ones leave in one send. */
static void stage_requests(connection *c) {
    c->out_size = c->out_sent = 0;
    while (may_start(c) && c->out_size + REQUEST_BYTES_MAX(c) <= c->out_capacity) {
        stage_request(c);
    }
}

static void watch(connection *c, bool write) {
    if (write == c->wants_write) {
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(load.epoll, EPOLL_CTL_MOD, c->fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
    c->wants_write = write;
}

static void send_requests(connection *c) {
    for (;;) {
        if (c->out_sent == c->out_size) {
            stage_requests(c);
        }
        if (c->out_size == 0) {
            watch(c, false);
            return;
        }
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_size - c->out_sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            watch(c, true);
            return;
        }
        if (n < 0) {
            bench_die("send");
        }
        c->out_sent += (size_t)n;
    }
}

static _Noreturn void refuse(int error) {
    errno = 0;
    fprintf(stderr, "error code %d in an answer; ", error);
    bench_die("giving up");
}

static void read_fetched(connection *c, const uint8_t *answer, size_t size) {
    if (load.blind) {
        load.bytes += load.counting ? size : 0;
        return;
    }
    wire_fetched found =
        wire_fetch_answer(answer, size, c->partition, load.per_request, c->offsets);
    if (found.error) {
        refuse(found.error);
    }
    if (found.record_bytes == 0) { /* the end: once more from the beginning */
        memset(c->offsets, 0, sizeof c->offsets);
    }
    if (load.counting) {
        load.bytes += found.record_bytes;
        load.records_done += found.records;
    }
}

static void read_produced(const uint8_t *answer, size_t size) {
    int error = load.blind ? 0 : wire_produce_error(answer, size, load.topic);
    if (error) {
        refuse(error);
    }
    if (load.counting) {
        load.bytes += load.batch_bytes;
        load.records_done += (uint64_t)load.records;
    }
}

static void count_answer(connection *c) {
    if (load.counting) {
        bench_record(&load.latencies, bench_now_ns() - c->sent_at[c->answered % INFLIGHT_MAX]);
        load.requests++;
    }
    c->answered++;
    load.answered++;
}

static void on_answer(connection *c, const uint8_t *answer, size_t size) {
    if (fmq_load_be32(answer) != c->answered) {
        errno = 0;
        bench_die("an answer out of order");
    }
    count_answer(c);
    if (load.fetch) {
        read_fetched(c, answer, size);
    } else {
        read_produced(answer, size);
    }
}

/* Serves the whole answers in the buffer; returns their bytes. */
static size_t take_frames(connection *c) {
    size_t at = 0;
    while (c->in_size - at >= 4) {
        size_t size = fmq_load_be32(c->in + at);
        if (c->in_size - at - 4 < size) {
            if (size + 4 > c->in_capacity) {
                c->in_capacity = size + 4 + RECEIVE_BYTES;
                c->in = realloc(c->in, c->in_capacity);
            }
            break;
        }
        on_answer(c, c->in + at + 4, size);
        at += 4 + size;
    }
    return at;
}

static size_t take_lines(connection *c) {
    for (size_t left = text_answers(&c->lines, c->in, c->in_size); left > 0; left--) {
        count_answer(c);
        if (load.counting) {
            load.bytes += load.batch_bytes;
            load.records_done += (uint64_t)load.records;
        }
    }
    return c->in_size;
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
    size_t at = load.text ? take_lines(c) : take_frames(c);
    if (c->in == NULL) {
        bench_die("out of memory");
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
}

static void open_text(connection *c, int index, const text_script *script) {
    text_request(script, index, &c->request);
    text_hello(script, index, c->fd);
    c->lines = (text_reader){.skip = script->hello_lines, .per_answer = script->answer_lines};
    load.batch_bytes = (uint64_t)load.records * script->record_bytes;
}

static connection *open_connections(int count, uint16_t port, const wire_batch *batch,
                                    const text_script *script) {
    connection *all = bench_alloc((size_t)count * sizeof *all);
    size_t capacity = load.fetch ? (size_t)load.fetch_bytes + RECEIVE_BYTES : 4096;
    for (int i = 0; i < count; i++) {
        connection *c = &all[i];
        c->fd = bench_connect(port);
        c->partition = i % load.partitions;
        if (load.cycle) { /* not all at the same one */
            c->partition = (int)((int64_t)i * load.partitions / count);
        }
        c->in_capacity = capacity;
        c->in = bench_alloc(capacity);
        if (load.text) {
            open_text(c, i, script);
        } else if (!load.fetch) {
            wire_produce(&c->request, load.topic, c->partition, load.acks, batch);
            load.batch_bytes = c->request.size;
        }
        c->out_capacity = REQUEST_BYTES_MAX(c) > SEND_BYTES ? REQUEST_BYTES_MAX(c) : SEND_BYTES;
        c->out = bench_alloc(c->out_capacity);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
            bench_die("epoll_ctl");
        }
    }
    return all;
}

/* Serves events until `deadline` and so many requests or, while counting, so many bytes. */
static void run_until(uint64_t deadline, uint64_t requests_min, uint64_t bytes_max) {
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(load.epoll, events, EVENTS, STALL_MS);
        if (ready == 0) {
            errno = 0;
            bench_die("no answer for 10 s");
        }
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                receive(c);
            }
            send_requests(c);
        }
        bool enough = bytes_max && load.bytes >= bytes_max;
        if (enough || (load.answered >= requests_min && bench_now_ns() >= deadline)) {
            return;
        }
    }
}

static void wait_for_the_rest(const connection *all, int count) {
    load.stopping = true;
    for (int i = 0; i < count; i++) {
        while (all[i].answered != all[i].sent) {
            run_until(0, 0, 0);
        }
    }
}

static void print_result(int connections, double elapsed_s, double cpu_s) {
    printf("{\"api\": \"%s\", \"connections\": %d, \"inflight\": %d, \"requests\": %llu, "
           "\"records\": %llu, \"bytes\": %llu, \"seconds\": %.3f, \"requests_per_s\": %.0f, "
           "\"records_per_s\": %.0f, \"mb_per_s\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
           "\"p999_ms\": %.4f, \"load_cpu_s\": %.3f}\n",
           load.fetch ? "fetch" : "produce", connections, load.inflight,
           (unsigned long long)load.requests, (unsigned long long)load.records_done,
           (unsigned long long)load.bytes, elapsed_s, (double)load.requests / elapsed_s,
           (double)load.records_done / elapsed_s, (double)load.bytes / elapsed_s / 1e6,
           bench_quantile_ms(&load.latencies, 0.50), bench_quantile_ms(&load.latencies, 0.99),
           bench_quantile_ms(&load.latencies, 0.999), cpu_s);
}

int main(int argc, char **argv) {
    bench_option options[] = {{"port", "9092"},         {"api", "produce"},
                              {"topic", "perf"},        {"connections", "16"},
                              {"inflight", "1"},        {"records", "1"},
                              {"record-bytes", "100"},  {"fetch-bytes", "1048576"},
                              {"partitions", "1"},      {"per-request", "1"},
                              {"acks", "-1"},           {"seconds", "5"},
                              {"warmup", "500"},        {"bytes-max", "0"},
                              {"blind", "0"},           {"cpu", "-1"},
                              {"warmup-requests", "0"}, {"wait-ms", "0"},
                              {"cycle", "0"},           {"key-bytes", "0"},
                              {"request", ""},          {"hello", ""},
                              {"hello-lines", "0"},     {"answer-lines", "1"}};
    size_t n = sizeof options / sizeof *options;
    bench_options(argc, argv, options, n);
    load.topic = bench_text(options, n, "topic");
    load.fetch = strcmp(bench_text(options, n, "api"), "fetch") == 0;
    load.blind = bench_number(options, n, "blind") != 0;
    load.cycle = bench_number(options, n, "cycle") != 0;
    load.text = *bench_text(options, n, "request") != 0;
    load.inflight = (int)bench_number(options, n, "inflight");
    load.records = (int)bench_number(options, n, "records");
    load.partitions = (int)bench_number(options, n, "partitions");
    load.per_request = (int)bench_number(options, n, "per-request");
    load.fetch_bytes = (int)bench_number(options, n, "fetch-bytes");
    load.wait_ms = (int)bench_number(options, n, "wait-ms");
    load.acks = (int)bench_number(options, n, "acks");
    errno = 0;
    if (load.inflight < 1 || load.inflight > INFLIGHT_MAX || load.records < 1 ||
        load.partitions < 1 || load.per_request < 1 || load.per_request > WIRE_PARTITIONS_MAX ||
        load.acks == 0) {
        bench_die("a count is out of range (and acks=0 has no answers to wait for)");
    }
    load.partitions = load.partitions - load.per_request + 1; /* first ones of a request */
    bench_pin((int)bench_number(options, n, "cpu"));
    load.epoll = epoll_create1(EPOLL_CLOEXEC);

    int count = (int)bench_number(options, n, "connections");
    const wire_batch batch = {load.records, (size_t)bench_number(options, n, "record-bytes"),
                              (size_t)bench_number(options, n, "key-bytes")};
    const text_script script = {.request_path = bench_text(options, n, "request"),
                                .hello_path = bench_text(options, n, "hello"),
                                .hello_lines = (int)bench_number(options, n, "hello-lines"),
                                .answer_lines = (int)bench_number(options, n, "answer-lines"),
                                .record_bytes = batch.record_bytes};
    connection *all =
        open_connections(count, (uint16_t)bench_number(options, n, "port"), &batch, &script);
    for (int i = 0; i < count; i++) {
        send_requests(&all[i]);
    }
    uint64_t warmup_ns = (uint64_t)bench_number(options, n, "warmup") * 1000000u;
    uint64_t seconds_ns = (uint64_t)bench_number(options, n, "seconds") * 1000000000u;
    run_until(bench_now_ns() + warmup_ns, (uint64_t)bench_number(options, n, "warmup-requests"), 0);
    puts("counting"); /* for whoever samples the broker's CPU time */
    fflush(stdout);
    load.counting = true;
    uint64_t began = bench_now_ns();
    double cpu_before = bench_cpu_seconds();
    run_until(began + seconds_ns, 0, (uint64_t)bench_number(options, n, "bytes-max"));
    double elapsed_s = (double)(bench_now_ns() - began) * 1e-9;
    load.counting = false;
    double cpu_s = bench_cpu_seconds() - cpu_before;
    print_result(count, elapsed_s, cpu_s);
    fflush(stdout);
    wait_for_the_rest(all, count);
    return 0;
}
