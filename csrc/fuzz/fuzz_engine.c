/* Any bytes as what a client sends: the engine with a memory transport and one real partition.
 *
 * The first byte chooses how the stream is cut into reads.  Frames for Python are answered with a
 * few bytes.  The engine and its log live on from input to input, so a state that one input left
 * behind is met by the next. */
#include "expect.h"
#include "fastmq/engine.h"

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define TURNS_MAX 200
#define PARTITIONS 2

static struct {
    const uint8_t *data;
    size_t size;
    size_t chunk;
    uint64_t sent;
} wire;

static int64_t memory_recv(int fd, void *buf, size_t size) {
    (void)fd;
    if (wire.size == 0) {
        return 0; /* end of the stream */
    }
    size_t part = wire.size < wire.chunk ? wire.size : wire.chunk;
    part = part < size ? part : size;
    memcpy(buf, wire.data, part);
    wire.data += part;
    wire.size -= part;
    return (int64_t)part;
}

static int64_t memory_sendv(int fd, const struct iovec *parts, int count, bool more) {
    (void)fd;
    (void)more;
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        const uint8_t *bytes = parts[i].iov_base;
        for (size_t at = 0; at < parts[i].iov_len; at++) {
            wire.sent += bytes[at]; /* the sanitizer sees each one */
        }
        sum += (int64_t)parts[i].iov_len;
    }
    return sum;
}

static int64_t memory_sendfile(int fd, int file_fd, int64_t position, size_t size, bool more) {
    (void)fd;
    (void)file_fd;
    (void)position;
    (void)more;
    return (int64_t)size;
}

static const fmq_transport transport = {memory_recv, memory_sendv, memory_sendfile};
static fmq_engine *engine;

static fmq_partition_config *make_config(void) {
    fmq_partition_config *config = fmq_partition_config_new(fmq_env_system());
    EXPECT(config != NULL);
    config->log = (fmq_log_config){
        .segment_bytes = 1 << 20,
        .segment_ms = INT64_MAX,
        .retention_ms = -1,
        .retention_bytes = 4 << 20,
        .producer_id_expiration_ms = 1000,
        .index_interval_bytes = 4096,
        .segment_index_bytes = 10 << 20,
        .max_message_bytes = 1 << 20,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = INT64_MAX,
        .cleanup_delete = true,
    };
    config->flush = FMQ_FLUSH_NEVER;
    return config;
}

static void start(void) {
    fmq_engine_options options;
    fmq_engine_options_default(&options);
    options.sync_threads = 0;
    options.max_request_bytes = 1 << 20;
    options.max_buffered_bytes = 4 << 20;
    EXPECT(fmq_engine_create(fmq_env_system(), &transport, &options, &engine) == FMQ_OK);
    static char root[] = "/tmp/fastmq-fuzz-XXXXXX";
    EXPECT(mkdtemp(root) != NULL);
    uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    fmq_partition_config *config = make_config();
    for (int i = 0; i < PARTITIONS; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "%s/t-%d", root, i);
        EXPECT(mkdir(path, 0700) == 0);
        fmq_partition_options partition = {
            .topic = "t",
            .topic_id = id,
            .index = i,
            .path = path,
            .config = config,
            .clean = true,
        };
        fmq_partition *out;
        EXPECT(fmq_engine_add_partition(engine, &partition, &out) == FMQ_OK);
        fmq_partition_lead(out, 0);
        fmq_partition_unref(out);
    }
    fmq_partition_config_unref(fmq_env_system(), config);
}

/* Answer what is with Python; true once the connection is gone. */
static bool answer_events(void) {
    bool closed = false;
    fmq_event *events = fmq_engine_take(engine, 64);
    for (const fmq_event *event = events; event != NULL; event = event->next) {
        if (event->kind == FMQ_EVENT_FRAME) {
            const uint8_t payload[8] = {0};
            EXPECT(event->frame_size >= 8);
            EXPECT(fmq_engine_reply(engine, event->conn_id, payload, sizeof payload, false) == 0);
        }
        closed = closed || event->kind == FMQ_EVENT_CLOSED;
    }
    fmq_events_free(engine, events);
    return closed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (engine == NULL) {
        start();
    }
    if (size == 0) {
        return 0;
    }
    wire.data = data + 1;
    wire.size = size - 1;
    wire.chunk = (size_t)data[0] * data[0] + 1;
    int fd = eventfd(1, EFD_CLOEXEC); /* readable once: that is the edge */
    EXPECT(fd >= 0);
    uint64_t conn_id;
    EXPECT(fmq_engine_add_connection(engine, fd, 0, &conn_id) == FMQ_OK);
    bool closed = false;
    for (int turn = 0; turn < TURNS_MAX && !closed; turn++) {
        EXPECT(fmq_engine_run_once(engine, 0) == FMQ_OK);
        closed = answer_events();
    }
    fmq_engine_close_connection(engine, conn_id); /* a fetch may still wait */
    EXPECT(fmq_engine_run_once(engine, 0) == FMQ_OK);
    (void)answer_events();
    fmq_counters counters;
    fmq_engine_counters(engine, &counters);
    EXPECT(counters.connections == 0 && counters.parked_fetches == 0);
    EXPECT(counters.buffered_bytes == 0 && counters.pending_acks == 0);
    return 0;
}
