/* fastmq/engine.h - the broker's data plane: connections, partitions, Produce and Fetch.
 *
 * One engine per process.  A reactor (`fmq_engine_run_once`, called in a loop by one thread) owns
 * all sockets through one edge-triggered set (epoll, kqueue, poll): it receives, cuts frames,
 * serves Produce and Fetch, and sends.  All other frames become events (`fmq_engine_take`) and are
 * answered with `fmq_engine_reply`.
 *
 * Threads.  One lock guards everything.  The reactor gives it up while it waits and, when somebody
 * asks for it, between two frames; so a call from another thread runs between frames and never sees
 * one half done.  Functions below take the lock themselves and may be called from any thread,
 * except where noted.  Sync threads hold it only to take and to hand back a job.
 *
 * Order.  A connection's answers leave in the order of its requests.  While a frame is with Python
 * or a Fetch waits, no later frame of that connection is executed; Produce frames that are appended
 * but not yet acknowledged are pipelined, up to `max_unanswered_frames`.
 *
 * Memory.  Nothing is allocated on the strength of an announced length: buffers grow with the bytes
 * that arrive, within `max_buffered_bytes` for all connections together.
 */
#ifndef FASTMQ_ENGINE_H
#define FASTMQ_ENGINE_H

#include "fastmq/env.h"
#include "fastmq/log.h"

typedef struct fmq_engine fmq_engine;
typedef struct fmq_partition fmq_partition;

/* How bytes enter and leave.  Results as recv(2), sendmsg(2), sendfile(2), with -errno for errors.
 */
struct iovec;
typedef struct fmq_transport {
    int64_t (*recv)(int fd, void *buf, size_t size);
    int64_t (*sendv)(int fd, const struct iovec *parts, int count, bool more);
    int64_t (*sendfile)(int fd, int file_fd, int64_t position, size_t size, bool more);
} fmq_transport;

typedef struct fmq_engine_options {
    int32_t node_id;
    uint32_t max_open_files;
    uint32_t max_request_bytes;     /* socket.request.max.bytes: larger frames close */
    uint64_t max_buffered_bytes;    /* received but not executed, all connections */
    uint32_t max_unanswered_frames; /* per connection */
    uint32_t fetch_max_bytes;       /* fetch.max.bytes */
    uint32_t fetch_sessions;        /* max.incremental.fetch.session.cache.slots */
    int64_t idle_timeout_ms;        /* connections.max.idle.ms */
    int64_t frame_timeout_ms;       /* a started frame must be complete by then */
    int32_t sync_threads;           /* per log directory; 0: sync in the reactor (simulator) */
    int64_t flush_interval_ms;      /* bytes nobody waits for are synced after that long */
    bool has_peers;                 /* what is not here may be elsewhere: Python answers for it */
} fmq_engine_options;

void fmq_engine_options_default(fmq_engine_options *options);

/* `env` and `transport` (NULL: plain sockets) outlive the engine.  FMQ_OK or -errno. */
int fmq_engine_create(const fmq_env *env, const fmq_transport *transport,
                      const fmq_engine_options *options, fmq_engine **out);
/* Closes connections and frees everything.  No other thread may still be inside; all partitions
 * must have been closed or are closed without writing. */
void fmq_engine_destroy(fmq_engine *engine);

/* ---- reactor --------------------------------------------------------------------------------*/

/* One turn: wait up to `timeout_ms` (-1: until something happens) and serve what is ready.
 * Only one thread calls this.  FMQ_OK or -errno of the wait. */
int fmq_engine_run_once(fmq_engine *engine, int timeout_ms);
/* For a caller that has a loop of its own: readable when a turn has something to do (-1: this build
 * uses poll, which has no such descriptor), */
int fmq_engine_poll_fd(const fmq_engine *engine);
/* and how long it may be left alone otherwise (ms). */
int fmq_engine_next_timeout_ms(fmq_engine *engine);
/* With sync_threads 0: begin no sync until told otherwise, as if the disk were slow. */
void fmq_engine_hold_syncs(fmq_engine *engine, bool held);
/* Turn until fmq_engine_stop. */
int fmq_engine_run(fmq_engine *engine);
/* What this build waits with: "epoll", "kqueue", "poll". */
const char *fmq_engine_poller(void);
/* Make run return and end the sync threads after their current job (waits for them). */
void fmq_engine_stop(fmq_engine *engine);
/* Graceful end: waiting fetches are answered now, frames not yet begun are not executed. */
void fmq_engine_drain(fmq_engine *engine);
/* Connections that still have something to be sent or acknowledged. */
uint32_t fmq_engine_unsent(fmq_engine *engine);

/* ---- events for Python ----------------------------------------------------------------------*/

typedef enum fmq_event_kind {
    FMQ_EVENT_FRAME = 1,
    FMQ_EVENT_CLOSED = 2,
    FMQ_EVENT_APPENDED = 3,
    FMQ_EVENT_DIR_OFFLINE = 4,
    FMQ_EVENT_REPLICAS = 5, /* a follower has caught up: see fmq_engine_isr_hints */
    FMQ_EVENT_FETCHER = 6,  /* a fetcher that had nothing to ask for has again; `tag` */
    FMQ_EVENT_CORRUPT = 7,  /* damage; `frame`: topic id, index (4 bytes), begin, end offset (8) */
} fmq_event_kind;

typedef struct fmq_event {
    struct fmq_event *next;
    fmq_event_kind kind;
    uint64_t conn_id; /* FRAME, CLOSED */
    uint64_t tag;     /* CLOSED: as given; APPENDED: the token */
    int32_t code;     /* APPENDED: error code; DIR_OFFLINE: errno */
    int32_t dir_id;   /* DIR_OFFLINE */
    int16_t api_key;  /* FRAME */
    int16_t api_version;
    int32_t correlation_id;
    const char *reason; /* CLOSED: static text */
    size_t frame_size;
    uint8_t frame[]; /* FRAME: the request from the api key on */
} fmq_event;

/* A descriptor that is readable while events wait. */
int fmq_engine_event_fd(const fmq_engine *engine);
/* Take the chain of up to `max` events, oldest first; NULL when there are none.  The caller frees
 * it with fmq_events_free. */
fmq_event *fmq_engine_take(fmq_engine *engine, uint32_t max);
void fmq_events_free(fmq_engine *engine, fmq_event *events);

/* ---- connections ----------------------------------------------------------------------------*/

/* Hand over a connected, non-blocking socket; the engine closes it.  Returns the id (> 0) in
 * `*out_id`; FMQ_OK or -errno (the descriptor is closed then, too). */
int fmq_engine_add_connection(fmq_engine *engine, int fd, uint64_t tag, uint64_t *out_id);
void fmq_engine_close_connection(fmq_engine *engine, uint64_t conn_id);
/* Answer the frame that is with Python.  `payload` starts at the correlation id; NULL answers
 * nothing.  Unknown ids are ignored (the connection went away meanwhile). */
int fmq_engine_reply(fmq_engine *engine, uint64_t conn_id, const uint8_t *payload, size_t size,
                     bool close);
uint32_t fmq_engine_connection_count(fmq_engine *engine);

/* ---- partitions -----------------------------------------------------------------------------*/

typedef enum fmq_flush {
    FMQ_FLUSH_ACK = 0,
    FMQ_FLUSH_REPLICATED = 1,
    FMQ_FLUSH_INTERVAL = 2,
    FMQ_FLUSH_NEVER = 3,
} fmq_flush;

#define FMQ_SLOW_PRODUCE 1u
#define FMQ_SLOW_FETCH 2u
#define FMQ_COMPACTED 4u

/* Settings shared by the partitions of a topic; immutable, reference counted. */
typedef struct fmq_partition_config {
    fmq_log_config log;
    int32_t min_insync_replicas;
    fmq_flush flush;
    uint32_t flags;
    int32_t refs; /* atomic */
} fmq_partition_config;

fmq_partition_config *fmq_partition_config_new(const fmq_env *env);
void fmq_partition_config_ref(fmq_partition_config *config);
void fmq_partition_config_unref(const fmq_env *env, fmq_partition_config *config);

typedef struct fmq_partition_options {
    const char *topic;
    const uint8_t *topic_id; /* 16 bytes */
    int32_t index;
    int32_t dir_id;
    const char *path;
    fmq_partition_config *config; /* a reference is taken */
    bool clean;
    int64_t log_start;
    int64_t recovery_point;
} fmq_partition_options;

/* Register; returns a reference in `*out`.  -EEXIST when topic and index are taken. */
int fmq_engine_add_partition(fmq_engine *engine, const fmq_partition_options *options,
                             fmq_partition **out);
/* Take it out of the registry: waiters are answered, later requests find nothing.  An open log is
 * closed without writing (close or delete the partition first to do better). */
void fmq_engine_remove_partition(fmq_engine *engine, fmq_partition *partition);
fmq_partition *fmq_engine_find(fmq_engine *engine, const char *topic, size_t topic_size,
                               int32_t index); /* a reference, or NULL */
void fmq_partition_ref(fmq_partition *partition);
void fmq_partition_unref(fmq_partition *partition);

typedef struct fmq_partition_view {
    int64_t log_start;
    int64_t log_end;
    int64_t high_watermark;
    int64_t last_stable_offset;
    int64_t synced;
    int64_t size_bytes;
    int32_t leader_epoch;
    int32_t segment_count;
    bool open;
    bool leader;
    bool follower;
} fmq_partition_view;

/* Opens the log when it is not.  FMQ_OK, a Kafka error or -errno. */
int fmq_partition_view_get(fmq_partition *partition, fmq_partition_view *out);
/* As much as is known without opening anything. */
void fmq_partition_peek(fmq_partition *partition, fmq_partition_view *out);

/* Open, check and close cleanly after an unclean shutdown; long; takes no lock; before
 * fmq_partition_lead. */
int fmq_partition_recover(fmq_partition *partition, int64_t log_start, int64_t recovery_point,
                          fmq_recovery *recovery);
void fmq_partition_lead(fmq_partition *partition, int32_t leader_epoch);
void fmq_partition_resign(fmq_partition *partition);
void fmq_partition_set_config(fmq_partition *partition, fmq_partition_config *config);

/* Append one batch for Python (`append` as in log.h).  With `token` > 0 and FMQ_OK an APPENDED
 * event follows once the high watermark covers the batch. */
int fmq_partition_append(fmq_partition *partition, fmq_append *append, uint64_t token);

/* Copy whole batches below the high watermark (or `limit_offset` when >= 0) into a buffer from
 * the env's allocator: `*out` is NULL with `*out_size` 0 at the end. */
int fmq_partition_read(fmq_partition *partition, int64_t offset, int64_t limit_offset,
                       uint32_t max_bytes, bool min_one, uint8_t **out, size_t *out_size);
/* The batch that fmq_log_find_timestamp (or _max_timestamp when `max`) finds, copied. */
int fmq_partition_find_time(fmq_partition *partition, int64_t timestamp_ms, bool max, uint8_t **out,
                            size_t *out_size);
int fmq_partition_epoch_end(fmq_partition *partition, int32_t epoch, int32_t *out_epoch,
                            int64_t *out_offset);
int fmq_partition_epoch_of(fmq_partition *partition, int64_t offset, int32_t *out_epoch);
int fmq_partition_producers(fmq_partition *partition, fmq_producer_view **out, int32_t *out_count);

int fmq_partition_delete_records(fmq_partition *partition, int64_t offset, int64_t *out_start);
int fmq_partition_apply_retention(fmq_partition *partition, int64_t now_ms); /* count or -errno */
int fmq_partition_roll_if_due(fmq_partition *partition, int64_t now_ms);
int fmq_partition_expire_producers(fmq_partition *partition, int64_t now_ms);
int fmq_partition_flush(fmq_partition *partition, int64_t *out_recovery_point);
int fmq_partition_close(fmq_partition *partition, bool clean);
int fmq_partition_delete(fmq_partition *partition, const char *renamed_path);
/* Its directory, as it was registered, into `out` (FMQ_PATH_MAX bytes). */
void fmq_partition_path(const fmq_partition *partition, char *out);

/* ---- counters -------------------------------------------------------------------------------*/

#define FMQ_COUNTERS(X)                                                                            \
    X(produce_requests)                                                                            \
    X(produce_errors)                                                                              \
    X(produce_duplicates)                                                                          \
    X(fetch_requests)                                                                              \
    X(fetch_errors)                                                                                \
    X(fetch_sessions_evicted)                                                                      \
    X(fetch_parked)                                                                                \
    X(other_requests)                                                                              \
    X(bytes_in)                                                                                    \
    X(bytes_out)                                                                                   \
    X(record_bytes_in)                                                                             \
    X(record_bytes_out)                                                                            \
    X(records_in)                                                                                  \
    X(batches_in)                                                                                  \
    X(sendfile_calls)                                                                              \
    X(send_calls)                                                                                  \
    X(recv_calls)                                                                                  \
    X(corrupt_batches)                                                                             \
    X(syncs)                                                                                       \
    X(sync_ns)                                                                                     \
    X(connections_opened)                                                                          \
    X(connections_closed)                                                                          \
    X(reactor_turns)

typedef struct fmq_counters {
#define FMQ_COUNTER_FIELD(name) uint64_t name;
    FMQ_COUNTERS(FMQ_COUNTER_FIELD)
#undef FMQ_COUNTER_FIELD
    /* gauges */
    uint64_t connections;
    uint64_t parked_fetches;
    uint64_t fetch_sessions;
    uint64_t pending_acks;
    uint64_t buffered_bytes;
    uint64_t open_files;
    uint64_t partitions;
} fmq_counters;

void fmq_engine_counters(fmq_engine *engine, fmq_counters *out);

/* Whether the engine moves.  Takes no lock, so that whoever asks does not hang with it. */
typedef struct fmq_vitals {
    int64_t turn_ms; /* the reactor has been at this turn for so long; 0: it waits for work */
    int64_t sync_ms; /* age of the oldest sync that runs; 0: none does */
} fmq_vitals;

void fmq_engine_vitals(fmq_engine *engine, fmq_vitals *out);

/* Time from the arrival of a request to its answer leaving, waits included.  `buckets[i]` counts
 * answers that took at most `fmq_latency_limit_us(i)`; the last bucket has no limit. */
#define FMQ_LATENCY_BUCKETS 16

typedef struct fmq_latency {
    uint64_t buckets[FMQ_LATENCY_BUCKETS];
    uint64_t sum_ns;
} fmq_latency;

uint32_t fmq_latency_limit_us(int bucket); /* 0 for the last */
void fmq_engine_latencies(fmq_engine *engine, fmq_latency *produce, fmq_latency *fetch);

#endif
