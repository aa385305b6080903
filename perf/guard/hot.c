/* perf/guard/hot.c - the hot functions, for counting their instructions.
 *
 *   hot CASE COUNT
 *
 * Runs a case COUNT times.  The difference between two counts is what the operation costs, whatever
 * the start costs.  The engine runs with a memory transport: system calls are not counted anyway,
 * and a partition of its own in a new directory is the only thing outside.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "fastmq/batch.h"
#include "fastmq/crc32c.h"
#include "fastmq/engine.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define TOPIC "t"
#define PARTITIONS 6
#define IDLE_TURNS 3 /* then everything is answered */

/* ---- a client in memory: one frame again and again, then the end of the stream ----------------*/

static struct {
    const uint8_t *frame;
    size_t size, at;
    long left;
    uint64_t sent;
} client;

static int64_t memory_recv(int fd, void *buf, size_t size) {
    (void)fd;
    uint8_t *out = buf;
    size_t done = 0;
    while (done < size && client.left > 0) {
        size_t part = client.size - client.at;
        part = part < size - done ? part : size - done;
        memcpy(out + done, client.frame + client.at, part);
        done += part;
        client.at += part;
        if (client.at == client.size) {
            client.at = 0;
            client.left--;
        }
    }
    return (int64_t)done;
}

static int64_t memory_sendv(int fd, const struct iovec *parts, int count, bool more) {
    (void)fd;
    (void)more;
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (int64_t)parts[i].iov_len;
    }
    client.sent += (uint64_t)sum;
    return sum;
}

static int64_t memory_sendfile(int fd, int file, int64_t position, size_t size, bool more) {
    (void)fd;
    (void)file;
    (void)position;
    (void)more;
    client.sent += size;
    return (int64_t)size;
}

static const fmq_transport transport = {memory_recv, memory_sendv, memory_sendfile};
static fmq_engine *engine;
static char root[] = "/tmp/fastmq-hot-XXXXXX";

static void must(bool ok, const char *what) {
    if (!ok) {
        bench_die(what);
    }
}

static void start_engine(void) {
    fmq_engine_options options;
    fmq_engine_options_default(&options);
    options.sync_threads = 0;
    must(fmq_engine_create(fmq_env_system(), &transport, &options, &engine) == FMQ_OK, "engine");
    fmq_partition_config *config = fmq_partition_config_new(fmq_env_system());
    must(config != NULL && mkdtemp(root) != NULL, "directory");
    config->log = (fmq_log_config){.segment_bytes = 1 << 30,
                                   .segment_ms = INT64_MAX,
                                   .retention_ms = -1,
                                   .retention_bytes = -1,
                                   .producer_id_expiration_ms = 86400000,
                                   .index_interval_bytes = 4096,
                                   .segment_index_bytes = 10 << 20,
                                   .max_message_bytes = 2 << 20,
                                   .timestamp_before_max_ms = INT64_MAX,
                                   .timestamp_after_max_ms = INT64_MAX,
                                   .cleanup_delete = true};
    config->flush = FMQ_FLUSH_NEVER;
    const uint8_t id[16] = {1};
    for (int i = 0; i < PARTITIONS; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/t-%d", root, i);
        must(mkdir(path, 0700) == 0, path);
        fmq_partition_options partition = {.topic = TOPIC,
                                           .topic_id = id,
                                           .index = i,
                                           .path = path,
                                           .config = config,
                                           .clean = true};
        fmq_partition *out;
        must(fmq_engine_add_partition(engine, &partition, &out) == FMQ_OK, "partition");
        fmq_partition_lead(out, 0);
        fmq_partition_unref(out);
    }
    fmq_partition_config_unref(fmq_env_system(), config);
}

static void remove_root(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", root);
    if (system(command) != 0) {
        perror(root);
    }
}

static void turn(void) {
    must(fmq_engine_run_once(engine, 0) == FMQ_OK, "turn");
    fmq_event *events = fmq_engine_take(engine, 64);
    for (const fmq_event *event = events; event != NULL; event = event->next) {
        must(event->kind != FMQ_EVENT_FRAME, "a frame went to Python");
    }
    fmq_events_free(engine, events);
}

/* Lets one connection send the frame so many times; returns the bytes answered. */
static uint64_t serve(const wire_buffer *frame, long count) {
    client.frame = frame->data;
    client.size = frame->size;
    client.at = 0;
    client.left = count;
    client.sent = 0;
    int fd = eventfd(1, EFD_CLOEXEC); /* readable once: that is the edge */
    uint64_t id;
    must(fmq_engine_add_connection(engine, fd, 0, &id) == FMQ_OK, "connection");
    for (int idle = 0; idle < IDLE_TURNS;) {
        uint64_t before = client.sent;
        turn();
        idle = client.left == 0 && client.sent == before ? idle + 1 : 0;
    }
    fmq_engine_close_connection(engine, id);
    turn();
    return client.sent;
}

/* ---- cases ------------------------------------------------------------------------------------*/

static void produce(long count, int records, size_t record_bytes) {
    wire_buffer frame = {0};
    const wire_batch batch = {records, record_bytes, 0};
    wire_produce(&frame, TOPIC, 0, -1, &batch);
    must(serve(&frame, count) >= (uint64_t)count * 32, "not every request was answered");
}

static void produce_small(long count) {
    produce(count, 1, 100);
}

static void produce_4k(long count) {
    produce(count, 4, 1000);
}

static void produce_64k(long count) {
    produce(count, 64, 1000);
}

static void fetch(long count, int partitions) {
    wire_buffer frame = {0};
    const wire_batch batch = {16, 1000, 0};
    for (int i = 0; i < PARTITIONS; i++) {
        wire_produce(&frame, TOPIC, i, -1, &batch);
        serve(&frame, 64);
    }
    int64_t offsets[PARTITIONS] = {0};
    wire_fetch(&frame, TOPIC, 0, partitions, offsets, 1 << 20, 0);
    must(serve(&frame, count) >= (uint64_t)count * 10000, "not every request was answered");
}

static void fetch_one(long count) {
    fetch(count, 1);
}

static void fetch_six(long count) {
    fetch(count, PARTITIONS);
}

static void crc_64k(long count) {
    static uint8_t data[65536];
    bench_fill_random(data, sizeof data, 1);
    volatile uint32_t sum = 0;
    for (long i = 0; i < count; i++) {
        sum = fmq_crc32c(sum, data, sizeof data);
    }
}

static void validate_batch(long count) {
    wire_buffer frame = {0};
    const wire_batch what = {100, 100, 16};
    wire_produce(&frame, TOPIC, 0, -1, &what);
    const uint8_t *batch = frame.data + frame.batch_at;
    for (long i = 0; i < count; i++) {
        fmq_batch_header header;
        must(fmq_batch_parse(batch, frame.batch_size, &header) == FMQ_OK, "parse");
    }
}

static const struct {
    const char *name;
    void (*run)(long count);
    bool with_engine;
} cases[] = {{"crc32c 64 KiB", crc_64k, false},          {"parse a batch", validate_batch, false},
             {"produce 1 x 100 B", produce_small, true}, {"produce 4 x 1 kB", produce_4k, true},
             {"produce 64 x 1 kB", produce_64k, true},   {"fetch 1 partition", fetch_one, true},
             {"fetch 6 partitions", fetch_six, true}};

int main(int argc, char **argv) {
    size_t count = sizeof cases / sizeof *cases;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++) {
            puts(cases[i].name);
        }
        return 0;
    }
    errno = 0;
    for (size_t i = 0; i < count && argc == 3; i++) {
        if (strcmp(cases[i].name, argv[1]) == 0) {
            if (cases[i].with_engine) {
                start_engine();
                atexit(remove_root);
            }
            cases[i].run(strtol(argv[2], NULL, 10));
            return 0;
        }
    }
    bench_die("hot CASE COUNT, or hot --list");
}
