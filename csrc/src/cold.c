/* cold.c - fetches of bytes that may not be served yet: not checked, or not in the page cache.
 *
 * What this process wrote, or has checked, is trusted (trust.h) and leaves unseen.  A Fetch that
 * found other slices, or slices that have left the page cache, is put aside: a thread reads them,
 * because the reactor must not wait for a disk, and checks every batch on the way: the CRC, and by
 * the batches around it the offsets and the epoch, which the CRC does not cover.  Then the Fetch is
 * executed anew.  A bad batch is fenced off: fetches stop before it and get CORRUPT_MESSAGE at it.
 */
#include "engine_internal.h"
#include "fastmq/crc32c.h"
#include "fastmq/repair.h"

#include <signal.h>

#define COLD_BUFFER_BYTES (256u << 10)
#define CORRUPT_RANGES_MAX 64 /* of a partition that are remembered */

typedef struct fmq_cold_item {
    fmq_partition *partition; /* a reference */
    fmq_slice slice;          /* with its reference, pinned */
    fmq_chain chain;
    int fd;
    int64_t good_end;      /* position up to which all is in order */
    int64_t corrupt_begin; /* offsets of the first bad batch, -1: none */
    int64_t corrupt_end;
} fmq_cold_item;

struct fmq_cold_job {
    fmq_cold_job *next;
    fmq_conn *conn; /* only until it is started */
    fmq_engine *engine;
    uint64_t conn_id;
    uint32_t count;
    fmq_cold_item items[];
};

/* ---- reading and checking, in a thread, without the lock ------------------------------------*/

/* A window over the slice: [begin, end) of the file are in `buf`. */
typedef struct window {
    const fmq_env *env;
    int fd;
    uint8_t *buf;
    int64_t begin;
    int64_t end;
    int64_t limit;
} window;

/* Bytes available at `position`, at least `want` unless the slice ends or the read fails. */
static size_t window_at(window *w, int64_t position, size_t want, const uint8_t **out) {
    if (position < w->begin || position + (int64_t)want > w->end) {
        int64_t left = w->limit - position;
        size_t size = left < (int64_t)COLD_BUFFER_BYTES ? (size_t)left : COLD_BUFFER_BYTES;
        int64_t got = w->env->pread(w->env->ctx, w->fd, w->buf, size, position);
        w->begin = position;
        w->end = position + (got > 0 ? got : 0);
    }
    *out = w->buf + (position - w->begin);
    return (size_t)(w->end - position);
}

/* CRC of [position, position + size). False when it could not be read whole. */
static bool window_crc(window *w, int64_t position, int64_t size, uint32_t *crc) {
    *crc = 0;
    while (size > 0) {
        const uint8_t *bytes;
        size_t got = window_at(w, position, 1, &bytes);
        if (got == 0) {
            return false;
        }
        size_t part = (int64_t)got < size ? got : (size_t)size;
        *crc = fmq_crc32c(*crc, bytes, part);
        position += (int64_t)part;
        size -= (int64_t)part;
    }
    return true;
}

/* A header; false when there is none that makes sense. */
static bool window_header(window *w, int64_t position, fmq_batch_header *out) {
    const uint8_t *bytes;
    size_t got = w->limit - position < FMQ_BATCH_HEADER_SIZE
                     ? 0
                     : window_at(w, position, FMQ_BATCH_HEADER_SIZE, &bytes);
    return got >= FMQ_BATCH_HEADER_SIZE && fmq_batch_parse(bytes, got, out) == FMQ_OK &&
           position + (int64_t)out->size <= w->limit && out->base_offset >= 0 &&
           out->base_offset <= INT64_MAX - out->last_offset_delta - 1;
}

#define EXPECTED_BY_INDEX (-1) /* the index names the end of the batch: that is as good */
#define EXPECTED_UNKNOWN (-2)

/* Where a walk over batches stands. */
typedef struct walk {
    window window;
    const fmq_chain *chain;
    int64_t position;
    int64_t expected; /* base offset, or EXPECTED_* */
    int32_t epoch;    /* of the batch before, -1: unknown */
    bool has_header;  /* of the batch here: */
    fmq_batch_header h;
    bool has_next; /* and of the one behind: */
    fmq_batch_header next;
} walk;

static void look_at(walk *at, bool check_crc, bool *crc_ok) {
    window *w = &at->window;
    uint32_t crc;
    at->has_header = window_header(w, at->position, &at->h);
    *crc_ok = at->has_header &&
              (!check_crc || (window_crc(w, at->position + FMQ_BATCH_CRC_START,
                                         (int64_t)at->h.size - FMQ_BATCH_CRC_START, &crc) &&
                              crc == at->h.crc));
    at->has_next = at->has_header && window_header(w, at->position + at->h.size, &at->next);
}

/* Offsets and epoch, by what stands around.  In a log that was never compacted offsets have no
 * gaps, so that every flipped bit of them shows. */
static bool is_in_place(const walk *at) {
    int64_t end = fmq_batch_last_offset(&at->h) + 1;
    bool is_last = at->position + (int64_t)at->h.size == at->window.limit;
    if (end > at->chain->offset_end || at->h.leader_epoch > at->chain->last_epoch) {
        return false;
    }
    if (at->h.leader_epoch < at->epoch || (at->has_next && at->epoch <= at->next.leader_epoch &&
                                           at->h.leader_epoch > at->next.leader_epoch)) {
        return false;
    }
    if (at->h.base_offset == at->expected) {
        return true;
    }
    if (at->expected >= 0 && at->h.base_offset < at->expected) {
        return false;
    }
    if (at->has_next) {
        return at->next.base_offset >= end;
    }
    return is_last || at->expected == EXPECTED_BY_INDEX;
}

static void step(walk *at) {
    at->expected = fmq_batch_last_offset(&at->h) + 1;
    at->epoch = at->h.leader_epoch;
    at->position += at->h.size;
}

/* The batch here is bad; it reaches to the next one that makes sense. */
static void mark_corrupt(fmq_cold_item *item, const walk *at) {
    int64_t begin = at->expected >= 0 ? at->expected : item->slice.base_offset;
    int64_t end = item->slice.next_offset;
    if (at->has_next && at->next.base_offset > begin && at->next.base_offset < end) {
        end = at->next.base_offset;
    }
    item->corrupt_begin = begin;
    item->corrupt_end = end > begin ? end : begin + 1;
}

static void check_item(const fmq_env *env, fmq_cold_item *item, uint8_t *buf) {
    int64_t begin = item->slice.position;
    int64_t end = begin + item->slice.size;
    const fmq_chain *chain = &item->chain;
    walk at = {.window = {env, item->fd, buf, 0, 0, chain->readable},
               .chain = chain,
               .position = chain->position,
               .expected = chain->expected,
               .epoch = -1};
    while (at.position < end) {
        bool is_inside = at.position >= begin;
        bool good;
        look_at(&at, is_inside || at.expected != EXPECTED_BY_INDEX, &good);
        if (at.has_header && !is_inside && at.position + (int64_t)at.h.size > begin) {
            good = at.has_header = false; /* the way does not lead to the slice */
        }
        good = good && is_in_place(&at) && (!is_inside || at.position + (int64_t)at.h.size <= end);
        if (good) {
            step(&at);
        } else if (is_inside) {
            mark_corrupt(item, &at);
            break;
        } else { /* not what was asked for: only its neighbour is missed */
            at.position = at.has_header ? at.position + at.h.size : begin;
            at.expected = EXPECTED_UNKNOWN;
            at.epoch = -1;
        }
        item->good_end = at.position > begin ? at.position : begin;
    }
}

/* ---- jobs -----------------------------------------------------------------------------------*/

static void check_all(const fmq_env *env, fmq_cold_job *job, uint8_t *buf) {
    for (uint32_t i = 0; i < job->count && buf != NULL; i++) {
        check_item(env, &job->items[i], buf);
    }
}

static fmq_cold_job *take_job(fmq_engine *engine) {
    fmq_cold_job *job = engine->cold_queue_head;
    if (job != NULL) {
        engine->cold_queue_head = job->next;
        engine->cold_queue_tail = job->next ? engine->cold_queue_tail : NULL;
    }
    return job;
}

static void *cold_thread(void *arg) {
    fmq_engine *engine = arg;
    uint8_t *buf = fmq_alloc(engine->env, COLD_BUFFER_BYTES);
    for (;;) {
        fmq_sem_wait(&engine->cold_work);
        fmq_lock_take(&engine->lock);
        fmq_cold_job *job = take_job(engine);
        bool stop = atomic_load(&engine->stop) && job == NULL;
        fmq_lock_give(&engine->lock);
        if (stop) {
            fmq_free(engine->env, buf);
            return NULL;
        }
        if (job == NULL) {
            continue;
        }
        check_all(engine->env, job, buf);
        fmq_lock_take(&engine->lock);
        job->next = engine->cold_done;
        engine->cold_done = job;
        fmq_engine_wake(engine);
        fmq_lock_give(&engine->lock);
    }
}

/* Without threads the jobs are done in the reactor. */
static void start_threads(fmq_engine *engine) {
    if (engine->options.sync_threads > 0 && engine->cold_thread_count == 0) {
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        while (engine->cold_thread_count < FMQ_COLD_THREADS &&
               pthread_create(&engine->cold_threads[engine->cold_thread_count], NULL, cold_thread,
                              engine) == 0) {
            engine->cold_thread_count++;
        }
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
}

fmq_cold_job *fmq_cold_job_new(fmq_conn *conn, uint32_t count) {
    fmq_engine *engine = conn->engine;
    fmq_cold_job *job = fmq_alloc(engine->env, sizeof *job + (size_t)count * sizeof job->items[0]);
    if (job != NULL) {
        start_threads(engine);
        memset(job, 0, sizeof *job);
        job->engine = engine;
        job->conn = conn;
        job->conn_id = conn->id;
    }
    return job;
}

int fmq_cold_job_add(fmq_cold_job *job, fmq_partition *partition, fmq_slice *slice) {
    fmq_cold_item *item = &job->items[job->count];
    *item = (fmq_cold_item){
        .partition = partition, .slice = *slice, .good_end = slice->position, .corrupt_begin = -1};
    memset(slice, 0, sizeof *slice);
    int rc = fmq_log_chain(partition->log, &item->slice, &item->chain);
    item->fd = rc == FMQ_OK ? fmq_segment_pin(item->slice.segment) : rc;
    if (item->fd < 0) {
        fmq_segment_unref(item->slice.segment);
        return item->fd;
    }
    fmq_partition_ref(partition);
    job->count++;
    return FMQ_OK;
}

bool fmq_cold_job_is_empty(const fmq_cold_job *job) {
    return job->count == 0;
}

void fmq_cold_job_start(fmq_cold_job *job) {
    fmq_engine *engine = job->engine;
    job->conn->blocked |= FMQ_BLOCKED_COLD;
    job->conn = NULL;
    if (engine->cold_queue_tail == NULL) {
        engine->cold_queue_head = job;
    } else {
        engine->cold_queue_tail->next = job;
    }
    engine->cold_queue_tail = job;
    fmq_sem_post(&engine->cold_work);
}

/* Tell Python, whose business are log lines and other replicas. */
static void tell_corrupt(const fmq_partition *partition, int64_t begin, int64_t end) {
    fmq_event *event =
        partition->topic != NULL ? fmq_event_new(partition->engine, FMQ_EVENT_CORRUPT, 36) : NULL;
    if (event != NULL) {
        memcpy(event->frame, partition->topic->id, 16);
        fmq_store_be32(event->frame + 16, (uint32_t)partition->index);
        fmq_store_be64(event->frame + 20, (uint64_t)begin);
        fmq_store_be64(event->frame + 28, (uint64_t)end);
        fmq_event_push(partition->engine, event);
    }
}

void fmq_corrupt_note(fmq_partition *partition, int64_t begin, int64_t end) {
    uint32_t count = 0;
    for (const fmq_corrupt *known = partition->corrupt; known; known = known->next, count++) {
        if (begin >= known->begin && begin < known->end) {
            return;
        }
    }
    fmq_corrupt *range =
        count < CORRUPT_RANGES_MAX ? fmq_alloc(partition->engine->env, sizeof *range) : NULL;
    if (range != NULL) { /* otherwise it is found again, and not served all the same */
        *range = (fmq_corrupt){partition->corrupt, begin, end};
        partition->corrupt = range;
        partition->engine->counters.corrupt_batches++;
        tell_corrupt(partition, begin, end);
    }
}

int fmq_corrupt_check(const fmq_partition *partition, int64_t offset, int64_t *limit) {
    for (const fmq_corrupt *range = partition->corrupt; range; range = range->next) {
        if (offset >= range->begin && offset < range->end) {
            return FMQ_ERR_CORRUPT_MESSAGE;
        }
        if (range->begin > offset && range->begin < *limit) {
            *limit = range->begin;
        }
    }
    return FMQ_OK;
}

void fmq_corrupt_forget(fmq_partition *partition) {
    while (partition->corrupt != NULL) {
        fmq_corrupt *range = partition->corrupt;
        partition->corrupt = range->next;
        fmq_free(partition->engine->env, range);
    }
}

/* Without threads: do what there is to do. */
static void check_here(fmq_engine *engine) {
    uint8_t *buf = fmq_alloc(engine->env, COLD_BUFFER_BYTES);
    fmq_cold_job *job;
    while ((job = take_job(engine)) != NULL) {
        check_all(engine->env, job, buf);
        job->next = engine->cold_done;
        engine->cold_done = job;
    }
    fmq_free(engine->env, buf);
}

void fmq_cold_collect(fmq_engine *engine) {
    if (engine->cold_thread_count == 0 && engine->cold_queue_head != NULL) {
        check_here(engine);
    }
    while (engine->cold_done != NULL) {
        fmq_cold_job *job = engine->cold_done;
        engine->cold_done = job->next;
        bool found_damage = false;
        for (uint32_t i = 0; i < job->count; i++) {
            fmq_cold_item *item = &job->items[i];
            found_damage = found_damage || item->corrupt_begin >= 0;
            fmq_slice_trust(&item->slice, item->good_end);
            if (item->corrupt_begin >= 0 &&
                !fmq_segment_truncated_below(item->slice.segment,
                                             item->slice.position + item->slice.size)) {
                fmq_corrupt_note(item->partition, item->corrupt_begin, item->corrupt_end);
            }
            fmq_segment_unpin(item->slice.segment);
            fmq_segment_unref(item->slice.segment);
            fmq_partition_unref(item->partition);
        }
        fmq_conn *conn = fmq_conn_find(engine, job->conn_id);
        if (conn != NULL) {
            conn->fetch_corrupt = conn->fetch_corrupt || found_damage;
            conn->fetch_warm = true;
            fmq_conn_unblock(conn, FMQ_BLOCKED_COLD);
        }
        fmq_free(engine->env, job);
    }
}

void fmq_cold_stop(fmq_engine *engine) {
    atomic_store(&engine->stop, true);
    for (int32_t i = 0; i < engine->cold_thread_count; i++) {
        fmq_sem_post(&engine->cold_work);
    }
    for (int32_t i = 0; i < engine->cold_thread_count; i++) {
        (void)pthread_join(engine->cold_threads[i], NULL);
    }
    engine->cold_thread_count = 0;
    fmq_lock_take(&engine->lock);
    fmq_cold_collect(engine);
    fmq_lock_give(&engine->lock);
}

/* ---- reading for the sake of it -------------------------------------------------------------*/

static int scrub_locked(fmq_partition *partition, int64_t offset, uint32_t max_bytes,
                        int64_t *next) {
    fmq_engine *engine = partition->engine;
    int rc = fmq_partition_open(partition);
    if (rc != FMQ_OK) {
        return rc;
    }
    int64_t limit = partition->high_watermark;
    if (fmq_corrupt_check(partition, offset, &limit) != FMQ_OK) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    if (offset >= limit) {
        return FMQ_OK;
    }
    fmq_cold_item item = {.partition = partition, .corrupt_begin = -1};
    rc = fmq_log_read(partition->log, offset, limit, max_bytes, true, &item.slice);
    if (rc == FMQ_ERR_CORRUPT_MESSAGE) {
        fmq_corrupt_note(partition, offset, offset + 1);
    }
    if (rc != FMQ_OK || item.slice.size == 0) {
        return rc;
    }
    uint8_t *buf = fmq_alloc(engine->env, COLD_BUFFER_BYTES);
    rc = buf == NULL ? -ENOMEM : fmq_log_chain(partition->log, &item.slice, &item.chain);
    item.fd = rc == FMQ_OK ? fmq_segment_pin(item.slice.segment) : rc;
    if (item.fd >= 0) {
        item.good_end = item.slice.position;
        fmq_lock_give(&engine->lock);
        check_item(engine->env, &item, buf);
        fmq_lock_take(&engine->lock);
        bool is_cut =
            fmq_segment_truncated_below(item.slice.segment, item.slice.position + item.slice.size);
        if (!is_cut) {
            fmq_slice_trust(&item.slice, item.good_end);
            *next = item.slice.next_offset;
        }
        if (!is_cut && item.corrupt_begin >= 0) {
            fmq_corrupt_note(partition, item.corrupt_begin, item.corrupt_end);
            *next = item.corrupt_begin;
            rc = FMQ_ERR_CORRUPT_MESSAGE;
        }
        fmq_segment_unpin(item.slice.segment);
    }
    fmq_free(engine->env, buf);
    fmq_segment_unref(item.slice.segment);
    return item.fd < 0 ? item.fd : rc;
}

int fmq_partition_scrub(fmq_partition *partition, int64_t offset, uint32_t max_bytes,
                        int64_t *next) {
    *next = offset;
    fmq_lock_take(&partition->engine->lock);
    int rc = scrub_locked(partition, offset, max_bytes, next);
    fmq_engine_wake(partition->engine);
    fmq_lock_give(&partition->engine->lock);
    return rc;
}
