/* engine_internal.h - structures shared by the files of the engine.
 *
 *   engine.c     life cycle, topic registry, events
 *   partition.c  opening, appends, high watermark, waiters, role
 *   partition_calls.c  snapshots, look-ups and upkeep for other threads
 *   sync_threads.c  log directories and their sync threads
 *   conn.c       connections: answers in order, output
 *   produce.c    the Produce request
 *   fetch*.c     the Fetch request
 *   replicas.c   leading a partition that others follow   follower.c  following
 *   cold.c       reading what is not in the page cache
 *   reactor.c    the loop: receiving, cutting frames, deadlines
 *
 * Everything here is guarded by `engine->lock`, unless it says otherwise.
 */
#ifndef FMQ_ENGINE_INTERNAL_H
#define FMQ_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "counter_sem.h"
#include "fastmq/engine.h"
#include "fastmq/wire.h"
#include "list.h"
#include "poller.h"
#include "wakeup.h"

#define FMQ_RECEIVE_BUFFER_BYTES (256u << 10) /* shared by the loop */
#define FMQ_SCRATCH_BYTES (64u << 10)         /* answers of one read leave in one send */
#define FMQ_COPY_SLICE_BYTES (32u << 10)   /* smaller slices are copied, larger ones sendfile'd */
#define FMQ_TURN_BYTES (1u << 20)          /* read from one connection per turn */
#define FMQ_OUTPUT_HIGH_BYTES (1u << 20)   /* unsent memory above which frames wait */
#define FMQ_UNWRITTEN_MAX_BYTES (64 << 20) /* appended, in memory, per directory */
#define FMQ_DISK_STALL_NS 5000000000ll     /* a sync that takes longer: refuse instead of wait */
#define FMQ_DISK_SLOW_NS 250000000ll       /* a sync that takes longer: nothing else may touch it */
#define FMQ_SYNC_HOLD_NS 200000ll          /* that long others may join a sync before it starts, */
#define FMQ_SYNC_HOLD_BYTES (256 << 10)    /* unless so much is to be written already */
#define FMQ_RETRY_NS 500000000ll           /* after a write found no room */
#define FMQ_COLD_THREADS 2                 /* read ahead for fetches of old data */
#define FMQ_SESSION_BUCKETS 256
#define FMQ_SESSION_BYTES_MAX (64u << 20)    /* of all fetch sessions */
#define FMQ_REQUEST_ENTRIES_MAX (512u << 10) /* partitions of one request, or one session */
#define FMQ_WORK_KEEP_ENTRIES (4u << 10)     /* working space beyond that is given back, */
#define FMQ_WORK_KEEP_BYTES (1u << 20)       /* and room for an answer beyond that */
#define FMQ_SWEEP_NS 500000000ll             /* deadlines of connections are looked at that often */

typedef struct fmq_topic fmq_topic;
typedef struct fmq_conn fmq_conn;
typedef struct fmq_slot fmq_slot;
typedef struct fmq_dir fmq_dir;

/* ---- the lock: the reactor lets others in between frames ------------------------------------*/

typedef struct fmq_lock {
    pthread_mutex_t mutex;
    _Atomic int32_t waiting; /* threads that want it */
} fmq_lock;

static inline void fmq_lock_take(fmq_lock *lock) {
    atomic_fetch_add_explicit(&lock->waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&lock->mutex);
    atomic_fetch_sub_explicit(&lock->waiting, 1, memory_order_relaxed);
}

static inline void fmq_lock_give(fmq_lock *lock) {
    pthread_mutex_unlock(&lock->mutex);
}

/* Called by the holder: gives the lock to whoever waits, then takes it again. */
void fmq_lock_let_others_in(fmq_lock *lock);

static inline void fmq_lock_pause(fmq_lock *lock) {
    if (atomic_load_explicit(&lock->waiting, memory_order_relaxed) > 0) {
        fmq_lock_let_others_in(lock);
    }
}

/* ---- waiting produces and fetches -----------------------------------------------------------*/

/* One partition of a Produce that waits for its high watermark, or an append of Python. */
typedef struct fmq_produce_wait {
    struct fmq_produce_wait *next; /* in its queue, ordered by `required` */
    fmq_slot *slot;                /* NULL: an append of Python, answered by an event */
    int64_t required;              /* answered when the queue's level >= required */
    fmq_event *event;              /* of an append of Python, allocated beforehand */
    size_t error_position; /* of the partition's error code in the slot's answer; 0: answered */
} fmq_produce_wait;

typedef struct fmq_wait_queue {
    fmq_produce_wait *head;
    fmq_produce_wait *tail;
} fmq_wait_queue;

/* One partition that a waiting Fetch listens to. */
typedef struct fmq_fetch_wait {
    fmq_list link; /* in the partition */
    fmq_conn *conn;
} fmq_fetch_wait;

/* An answer in the order of requests. */
typedef enum fmq_slot_state {
    FMQ_SLOT_READY,   /* `data` may be sent */
    FMQ_SLOT_PRODUCE, /* waits for `waits` partitions */
    FMQ_SLOT_PYTHON,  /* waits for fmq_engine_reply */
} fmq_slot_state;

struct fmq_slot {
    fmq_slot *next;
    fmq_conn *conn; /* NULL: gone, nobody listens */
    fmq_slot_state state;
    uint32_t waits;    /* produce waits that still point here */
    size_t frame_size; /* of a request that Python has, counted in buffered_bytes */
    int64_t began_ns;
    int64_t deadline_ns;
    uint8_t *data; /* whole answer with its length prefix; NULL answers nothing */
    size_t size;
    uint32_t wait_count;
    fmq_produce_wait produce_waits[];
};

/* A piece of output: bytes, or a range of a segment. */
typedef struct fmq_out {
    struct fmq_out *next;
    fmq_segment *segment; /* NULL: bytes in `data` */
    int64_t position;
    size_t size;
    size_t sent;
    size_t capacity;
    uint8_t data[];
} fmq_out;

/* ---- connections ----------------------------------------------------------------------------*/

enum {
    FMQ_BLOCKED_PYTHON = 1,  /* a frame is with Python */
    FMQ_BLOCKED_FETCH = 2,   /* the frame at the head of the input is a Fetch that waits */
    FMQ_BLOCKED_ANSWERS = 4, /* too many answers outstanding */
    FMQ_BLOCKED_OUTPUT = 8,  /* too many bytes unsent */
    FMQ_BLOCKED_MEMORY = 16, /* no room to receive */
    FMQ_BLOCKED_ORDER = 32,  /* a Fetch behind answers that are not out yet */
    FMQ_BLOCKED_DISK = 128,  /* a Produce while too much waits to be written */
    FMQ_BLOCKED_COLD = 64,   /* a Fetch whose bytes are being read from the disk */
};

struct fmq_conn {
    fmq_engine *engine;
    fmq_conn *next_dead;
    fmq_event *closed_event; /* allocated beforehand, so that closing cannot fail */
    uint64_t id;
    uint64_t tag;
    int fd;
    uint8_t blocked;      /* FMQ_BLOCKED_* */
    bool readable;        /* an edge was seen and not used up */
    bool hung_up;         /* the poller saw the end of the stream; recv has not yet */
    bool peer_closed;     /* recv returned 0: answer what is outstanding, then close */
    bool closing;         /* execute nothing more; close once all output is sent */
    bool dead;            /* closed; freed at the end of the turn */
    uint8_t fetch_checks; /* how often bytes of the Fetch at the head were read and checked */
    bool fetch_corrupt;   /* and damage was found */
    bool fetch_warm; /* the reading was a moment ago: do not ask whether they are in the page cache
                      */
    bool fetch_due;  /* the waiting Fetch is answered with what there is */
    bool send_blocked; /* the socket takes nothing until it is reported writable */
    bool is_peer;      /* another broker: may fetch as a replica */

    const char *end_reason; /* why it is closing */

    uint8_t *in; /* input not executed yet: [in_start, in_end) */
    size_t in_start;
    size_t in_end;
    size_t in_capacity;
    size_t frame_hint;        /* size of the last large frame: receive straight into `in` */
    int64_t frame_started_ns; /* when the incomplete frame began, 0: none */
    int64_t activity_ns;

    fmq_slot *slots_head;
    fmq_slot *slots_tail;
    uint32_t slot_count;

    fmq_out *out_head;
    fmq_out *out_tail;
    size_t out_bytes; /* in memory, unsent */

    fmq_fetch_wait *fetch_waits; /* array while FMQ_BLOCKED_FETCH */
    uint32_t fetch_wait_count;
    int64_t fetch_began_ns; /* of the Fetch at the head of the input; 0: not begun */
    int64_t fetch_deadline_ns;
    int64_t fetch_missing; /* bytes until min_bytes is reached */
    int32_t heap_index;    /* in the fetch deadlines, -1: not there */

    fmq_list run_link;   /* engine->runnable */
    fmq_list dirty_link; /* engine->dirty: has output to flush */
    fmq_list disk_link;  /* engine->disk_waiters */
};

/* ---- partitions -----------------------------------------------------------------------------*/

typedef enum fmq_role { FMQ_ROLE_OFFLINE = 0, FMQ_ROLE_LEADER = 1, FMQ_ROLE_FOLLOWER = 2 } fmq_role;
typedef enum fmq_sync_state { FMQ_SYNC_IDLE = 0, FMQ_SYNC_QUEUED, FMQ_SYNC_RUNNING } fmq_sync_state;

struct fmq_partition {
    fmq_engine *engine;
    fmq_topic *topic; /* NULL once removed */
    fmq_dir *dir;
    fmq_partition_config *config;
    fmq_log *log; /* NULL: not open */
    int64_t high_watermark;
    int64_t end_bytes;    /* appended since opening, counted at the log end */
    int64_t stable_bytes; /* the same, at the high watermark */
    int64_t log_start;    /* as given at registration */
    int64_t recovery_point;
    int64_t dirty_since_ns;        /* unsynced bytes nobody waits for; 0: none */
    struct fmq_corrupt *corrupt;   /* damaged batches that were found */
    struct fmq_replicas *replicas; /* NULL: nobody else has it */
    fmq_wait_queue waits;          /* for the high watermark */
    fmq_list fetch_waits;
    fmq_list sync_link; /* in dir->queue, then in dir->running */
    int64_t sync_began_ns;
    int64_t unwritten;   /* bytes appended that no job has written yet */
    fmq_list dirty_link; /* in engine->unsynced */
    _Atomic int32_t refs;
    int32_t index;
    int32_t leader_epoch;
    uint8_t role;
    uint8_t sync_state;
    bool sync_again; /* asked for while a sync was running */
    bool clean;
    bool closed;       /* by close or delete: never opened again */
    bool is_in_parent; /* `path` is a name in dir->parent: there are thousands of them */
    char path[];       /* of its directory */
};

struct fmq_topic {
    fmq_topic *next_by_name;
    fmq_topic *next_by_id;
    uint8_t id[16];
    uint64_t name_hash;
    uint64_t id_hash;
    fmq_partition **partitions; /* by index, NULL where not ours */
    int32_t partition_count;
    int32_t used; /* partitions that are not NULL */
    uint32_t name_size;
    char name[];
};

/* A sync on its way: queue -> thread -> engine->sync_done -> reactor. */
typedef struct fmq_sync_result {
    struct fmq_sync_result *next;
    fmq_partition *partition; /* a reference */
    fmq_sync_job job;
    int64_t end_bytes;
    int64_t took_ns;
    int result;
} fmq_sync_result;

struct fmq_dir {
    fmq_dir *next;
    fmq_engine *engine;
    int32_t id;
    char *parent;      /* where its partitions' directories are; NULL: there were none */
    int error;         /* errno that took it offline, 0: fine */
    fmq_list queue;    /* partitions to sync */
    fmq_list running;  /* partitions that are being synced, the oldest first */
    int64_t unwritten; /* of all its partitions */
    fmq_sem work;      /* one post for each that was queued */
    int32_t held;      /* posts that the reactor makes when it has nothing else to do */
    pthread_t *threads;
    int32_t thread_count;
};

/* ---- the engine -----------------------------------------------------------------------------*/

struct fmq_engine {
    fmq_lock lock;
    const fmq_env *env;
    const fmq_transport *transport;
    fmq_engine_options options;
    fmq_files *files;
    fmq_counters counters;
    fmq_latency produce_latency;
    fmq_latency fetch_latency;
    fmq_poller *poller;
    fmq_wakeup wake;   /* others wake the reactor */
    fmq_wakeup events; /* readable while events wait */
    _Atomic bool stop;
    bool draining;
    bool asleep;           /* the reactor waits in the poller, or is about to */
    bool in_turn;          /* the reactor serves: syncs that are asked for wait for its end */
    int64_t held_since_ns; /* when the oldest post that is held was asked for; 0: none */
    int64_t now_ns;        /* of this turn */
    _Atomic int64_t turn_began_ns;  /* 0: the reactor waits for something to do */
    _Atomic int64_t oldest_sync_ns; /* when the oldest that runs began; 0: none runs */
    int64_t next_sweep_ns;

    uint8_t *receive_buffer;
    uint8_t *scratch; /* output of the connection that is being served */
    size_t scratch_size;
    fmq_conn *scratch_owner;

    fmq_conn **conns; /* by slot number */
    uint32_t *generations;
    uint32_t conn_capacity;
    uint32_t conn_count;
    uint32_t conn_hint; /* where to look for a free slot */
    fmq_list runnable;
    fmq_list dirty;
    fmq_conn *graveyard;

    fmq_conn **heap; /* waiting fetches by deadline */
    uint32_t heap_size;
    uint32_t heap_capacity;

    fmq_topic **topics_by_name;
    fmq_topic **topics_by_id;
    uint32_t topic_buckets; /* power of two */
    uint32_t topic_count;
    fmq_dir *dirs;
    fmq_list disk_waiters;
    fmq_list unsynced;      /* partitions with bytes nobody waits for, oldest first */
    fmq_list replicated;    /* fmq_replicas of the partitions led here */
    int64_t lease_until_ms; /* fmq_boot_ns; -1: for ever */
    int64_t throttle_rate;  /* bytes per second to throttled followers; 0: no limit */
    int64_t throttle_room;  /* bytes that may leave now; below 0: too many have */
    int64_t throttle_ns;    /* when the room was counted */
    bool syncs_held;        /* the disk is to be slow: see fmq_engine_hold_syncs */
    bool hints_told;        /* Python knows that fmq_engine_isr_hints has something */
    fmq_sync_result *sync_done_head;
    fmq_sync_result *sync_done_tail;

    struct fmq_cold_job *cold_queue_head;
    struct fmq_cold_job *cold_queue_tail;
    struct fmq_cold_job *cold_done;
    fmq_sem cold_work;
    pthread_t cold_threads[FMQ_COLD_THREADS];
    int32_t cold_thread_count;

    fmq_event *events_head;
    fmq_event *events_tail;

    /* Working space of the request that is being executed. */
    fmq_writer response;
    struct fmq_broker_rack {
        int32_t broker_id;
        uint64_t rack; /* a hash of its name */
    } *racks;
    int32_t rack_count;
    fmq_list sessions; /* fetch sessions, the longest unused first */
    struct fmq_session *sessions_by_id[FMQ_SESSION_BUCKETS];
    uint32_t session_count;
    uint64_t session_bytes;
    uint64_t session_seed;
    uint64_t python_bytes; /* of buffered_bytes: of requests that Python has */
    struct fmq_produce_entry *produce_entries;
    uint32_t produce_capacity;
    struct fmq_fetch_entry *fetch_entries;
    uint32_t fetch_capacity;
};

/* engine.c */
void fmq_engine_wake(fmq_engine *engine);
fmq_event *fmq_event_new(fmq_engine *engine, fmq_event_kind kind, size_t frame_size);
void fmq_event_push(fmq_engine *engine, fmq_event *event);
void fmq_latency_note(fmq_engine *engine, fmq_latency *latency, int64_t began_ns);
fmq_topic *fmq_topic_by_name(fmq_engine *engine, const uint8_t *name, size_t size);
fmq_topic *fmq_topic_by_id(fmq_engine *engine, const uint8_t *id);
/* Take a partition out of the registry; its waiters are answered. */
void fmq_partition_unregister(fmq_partition *partition);
fmq_partition *fmq_topic_partition(const fmq_topic *topic, int32_t index);

/* partition.c */
int fmq_partition_open(fmq_partition *partition);
int fmq_partition_do_append(fmq_partition *partition, fmq_append *append);
int fmq_partition_writable(const fmq_partition *partition); /* FMQ_OK or why not */
/* What this broker has for good: the synced offset where fsync is promised, or the log end. */
int64_t fmq_partition_local_end(const fmq_partition *partition);
/* Up to where a produce waits: the high watermark, or for acks=1 only our own end. */
int64_t fmq_partition_ack_level(const fmq_partition *partition, int16_t acks);
/* Appending this batch would create a file, and a sync thread has been asked to do that first. */
bool fmq_partition_awaits_file(fmq_partition *partition, const uint8_t *data, size_t size);
void fmq_partition_add_wait(fmq_partition *partition, fmq_produce_wait *wait, int16_t acks);
/* `end_bytes` of what is stable now; counts only without replicas, which know it themselves. */
void fmq_partition_advance(fmq_partition *partition, int64_t stable_bytes);
/* After an append by fmq_log_append: count it, have it synced, wake who may read it. */
void fmq_partition_note_append(fmq_partition *partition, const fmq_append *append);
/* A failure of the disk takes the directory offline; returns `rc`. */
int fmq_partition_note_failure(fmq_partition *partition, int rc);
/* Waiters are answered; `leader_epoch` is not older. */
void fmq_partition_change_role(fmq_partition *partition, fmq_role role, int32_t leader_epoch);
/* Followers: cut everything from `offset` on; drop everything and begin anew at `offset`. */
int fmq_partition_cut(fmq_partition *partition, int64_t offset);
int fmq_partition_restart(fmq_partition *partition, int64_t offset);
/* The epoch's end as OffsetForLeaderEpoch defines it; the log is open. */
void fmq_partition_find_epoch_end(const fmq_partition *partition, int32_t epoch, int32_t *out_epoch,
                                  int64_t *out_offset);
void fmq_partition_fail_waits(fmq_partition *partition, int code);
void fmq_partition_wake_fetches(fmq_partition *partition, int64_t bytes);
int16_t fmq_error_code(int rc); /* return code -> error code on the wire */

/* sync_threads.c */
fmq_dir *fmq_dir_get(fmq_engine *engine, int32_t id); /* created at first use; NULL: no memory */
bool fmq_dir_is_stalled(const fmq_dir *dir);          /* its disk does not answer */
bool fmq_dir_is_slow(const fmq_dir *dir);             /* perhaps it does not */
/* Count what the partition has unwritten; who waited for it to become less goes on. */
void fmq_sync_recount(fmq_partition *partition);
void fmq_dir_offline(fmq_dir *dir, int error);
/* A sync of the partition begins, or has ended: in the list of those that run. */
void fmq_sync_note_begin(fmq_partition *partition);
void fmq_sync_note_end(fmq_partition *partition);
void fmq_sync_request(fmq_partition *partition);
/* Start what was asked for in the reactor's turns, unless more may join it: `idle` says that this
 * turn had nothing to do. */
void fmq_sync_let_go(fmq_engine *engine, bool idle);
void fmq_sync_note_dirty(fmq_partition *partition);
void fmq_sync_collect(fmq_engine *engine);         /* finished jobs: advance, answer */
void fmq_sync_due(fmq_engine *engine);             /* queue what has been dirty for long */
void fmq_sync_wait_idle(fmq_partition *partition); /* no job of it runs when this returns */
/* The same for a job that creates a file, but only for a moment. */
void fmq_sync_wait_briefly(fmq_partition *partition);
void fmq_sync_stop(fmq_engine *engine);

/* follower.c */
void fmq_fetcher_detach(fmq_partition *partition); /* from the fetcher that fetches for it */

/* cold.c */
typedef struct fmq_corrupt {
    struct fmq_corrupt *next;
    int64_t begin; /* offsets [begin, end) */
    int64_t end;
} fmq_corrupt;
/* FMQ_ERR_CORRUPT_MESSAGE inside known damage; otherwise `*limit` is lowered to stop before it. */
int fmq_corrupt_check(const fmq_partition *partition, int64_t offset, int64_t *limit);
/* Fence a range off, count it and tell Python, once. */
void fmq_corrupt_note(fmq_partition *partition, int64_t begin, int64_t end);
void fmq_corrupt_forget(fmq_partition *partition);
typedef struct fmq_cold_job fmq_cold_job;
/* A job for this connection's Fetch, with room for `count` slices; NULL: no memory or threads. */
fmq_cold_job *fmq_cold_job_new(fmq_conn *conn, uint32_t count);
/* Add a slice; takes its reference in any case.  FMQ_OK or -errno. */
int fmq_cold_job_add(fmq_cold_job *job, fmq_partition *partition, fmq_slice *slice);
bool fmq_cold_job_is_empty(const fmq_cold_job *job);
/* Let the threads read it; the connection is blocked until they have. */
void fmq_cold_job_start(fmq_cold_job *job);
void fmq_cold_collect(fmq_engine *engine); /* finished jobs: go on with the fetches */
void fmq_cold_stop(fmq_engine *engine);

/* conn.c */
fmq_conn *fmq_conn_find(fmq_engine *engine, uint64_t conn_id);
void fmq_conn_close(fmq_conn *conn, const char *reason);
/* Execute nothing more and close when what was asked before has been answered. */
void fmq_conn_end(fmq_conn *conn, const char *reason);
void fmq_conn_bury(fmq_engine *engine);
void fmq_conn_write(fmq_conn *conn, const uint8_t *data, size_t size);
void fmq_conn_write_file(fmq_conn *conn, fmq_slice *slice); /* takes the slice's reference */
void fmq_conn_flush(fmq_conn *conn);
void fmq_conn_flush_dirty(fmq_engine *engine);
void fmq_conn_make_runnable(fmq_conn *conn);
void fmq_conn_arm(fmq_conn *conn, uint32_t what); /* FMQ_READY_*: wait for it again */
void fmq_conn_unblock(fmq_conn *conn, uint8_t bits);
void fmq_conn_expire_slots(fmq_conn *conn, int64_t now_ns);
void fmq_conn_release_slots(fmq_conn *conn); /* send what is ready, in order */
fmq_slot *fmq_slot_push(fmq_conn *conn, fmq_slot_state state, uint32_t waits);
void fmq_slot_wait_done(fmq_engine *engine, fmq_produce_wait *wait, int code);
void fmq_slot_free(fmq_engine *engine, fmq_slot *slot);
/* Python is done with the request of a slot, or nobody waits for it any more. */
void fmq_slot_uncount(fmq_engine *engine, fmq_slot *slot);
/* Answer with the bytes of `engine->response`: sent now, or queued behind unfinished answers. */
void fmq_conn_answer(fmq_conn *conn);
/* Fill in the length prefix of the answer in `w`, to which `extra` bytes of files belong. */
void fmq_answer_set_length(fmq_writer *w, uint64_t extra);

/* Room for element `index` of a working array of the request being executed: the array, moved where
 * it had to grow, with the element zeroed; NULL when memory is exhausted (the old one stays). */
static inline void *fmq_work_room(const fmq_env *env, void *array, uint32_t *capacity,
                                  uint32_t index, size_t size) {
    if (index >= FMQ_REQUEST_ENTRIES_MAX) {
        return NULL;
    }
    if (index == *capacity) {
        uint32_t grown = index ? 2 * index : 64;
        array = fmq_realloc(env, array, grown * size);
        if (array == NULL) {
            return NULL;
        }
        *capacity = grown;
    }
    memset((uint8_t *)array + index * size, 0, size);
    return array;
}

/* produce.c, fetch.c.  The verdict says what became of the frame. */
typedef enum fmq_verdict {
    FMQ_FRAME_DONE,   /* executed; answered now or later */
    FMQ_FRAME_PYTHON, /* needs Python */
    FMQ_FRAME_WAITS,  /* a Fetch that waits: stays at the head of the input */
    FMQ_FRAME_BAD,    /* malformed, or acks=0 failed: close */
} fmq_verdict;

typedef struct fmq_request {
    int16_t api_key;
    int16_t api_version;
    int32_t correlation_id;
    bool flexible;
    fmq_reader body;
} fmq_request;

fmq_verdict fmq_execute_produce(fmq_conn *conn, fmq_request *request);
fmq_verdict fmq_execute_fetch(fmq_conn *conn, fmq_request *request);
void fmq_sessions_free(fmq_engine *engine);
void fmq_fetch_stop_waiting(fmq_conn *conn);
void fmq_fetch_fire(fmq_conn *conn); /* answer the waiting Fetch with what there is */
void fmq_fetch_fire_due(fmq_engine *engine);
int64_t fmq_fetch_next_deadline(const fmq_engine *engine); /* ns, INT64_MAX: none */

#endif
