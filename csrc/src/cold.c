/* cold.c - fetches of data that is not in the page cache.
 *
 * The reactor serves every connection, so it must not wait for a disk.  A Fetch that found cold
 * slices is put aside; a thread reads them, which brings them into the page cache and checks the
 * CRC of every batch on the way; then the Fetch is executed anew and finds them warm.  A batch that
 * does not fit its CRC is fenced off: fetches stop before it and get CORRUPT_MESSAGE at it.
 */
#include "engine_internal.h"
#include "fastmq/crc32c.h"

#include <signal.h>

#define COLD_BUFFER_BYTES (256u << 10)

typedef struct fmq_cold_item {
    fmq_partition *partition; /* a reference */
    fmq_slice slice;          /* with its reference, pinned */
    int fd;
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

bool fmq_slice_is_cold(const fmq_engine *engine, const fmq_slice *slice) {
    const fmq_env *env = engine->env;
    int fd = fmq_segment_pin(slice->segment);
    bool cold = fd >= 0 && !(env->is_cached(env->ctx, fd, slice->position + slice->size - 1) &&
                             env->is_cached(env->ctx, fd, slice->position));
    if (fd >= 0) {
        fmq_segment_unpin(slice->segment);
    }
    return cold;
}

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

/* The batch at `begin` is bad; its header, where it makes sense, says how far it reaches. */
static void mark_corrupt(fmq_cold_item *item, int64_t begin, size_t got,
                         const fmq_batch_header *h) {
    int64_t end = item->slice.next_offset;
    if (got >= FMQ_BATCH_HEADER_SIZE && h->base_offset == begin && fmq_batch_last_offset(h) < end) {
        end = fmq_batch_last_offset(h) + 1;
    }
    item->corrupt_begin = begin;
    item->corrupt_end = end;
}

static void check_item(const fmq_env *env, fmq_cold_item *item, uint8_t *buf) {
    int64_t position = item->slice.position;
    int64_t limit = position + item->slice.size;
    window w = {env, item->fd, buf, 0, 0, limit};
    int64_t expected = item->slice.base_offset;
    while (position < limit) {
        const uint8_t *bytes;
        fmq_batch_header h = {0};
        uint32_t crc;
        size_t got = window_at(&w, position, FMQ_BATCH_HEADER_SIZE, &bytes);
        bool good = fmq_batch_parse(bytes, got, &h) == FMQ_OK &&
                    position + (int64_t)h.size <= limit &&
                    window_crc(&w, position + FMQ_BATCH_CRC_START,
                               (int64_t)h.size - FMQ_BATCH_CRC_START, &crc) &&
                    crc == h.crc;
        if (!good) {
            mark_corrupt(item, expected, got, &h);
            return;
        }
        expected = fmq_batch_last_offset(&h) + 1;
        position += h.size;
    }
}

/* ---- jobs -----------------------------------------------------------------------------------*/

static void *cold_thread(void *arg) {
    fmq_engine *engine = arg;
    uint8_t *buf = fmq_alloc(engine->env, COLD_BUFFER_BYTES);
    for (;;) {
        fmq_sem_wait(&engine->cold_work);
        fmq_lock_take(&engine->lock);
        fmq_cold_job *job = engine->cold_queue_head;
        if (job != NULL) {
            engine->cold_queue_head = job->next;
            engine->cold_queue_tail = job->next ? engine->cold_queue_tail : NULL;
        }
        bool stop = atomic_load(&engine->stop) && job == NULL;
        fmq_lock_give(&engine->lock);
        if (stop) {
            fmq_free(engine->env, buf);
            return NULL;
        }
        if (job == NULL) {
            continue;
        }
        for (uint32_t i = 0; i < job->count && buf != NULL; i++) {
            check_item(engine->env, &job->items[i], buf);
        }
        fmq_lock_take(&engine->lock);
        job->next = engine->cold_done;
        engine->cold_done = job;
        fmq_engine_wake(engine);
        fmq_lock_give(&engine->lock);
    }
}

static bool have_threads(fmq_engine *engine) {
    if (engine->options.sync_threads == 0) {
        return false; /* no threads at all: the reads happen in place */
    }
    if (engine->cold_thread_count == 0) {
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
    return engine->cold_thread_count > 0;
}

fmq_cold_job *fmq_cold_job_new(fmq_conn *conn, uint32_t count) {
    fmq_engine *engine = conn->engine;
    fmq_cold_job *job =
        have_threads(engine)
            ? fmq_alloc(engine->env, sizeof *job + (size_t)count * sizeof job->items[0])
            : NULL;
    if (job != NULL) {
        memset(job, 0, sizeof *job);
        job->engine = engine;
        job->conn = conn;
        job->conn_id = conn->id;
    }
    return job;
}

void fmq_cold_job_add(fmq_cold_job *job, fmq_partition *partition, fmq_slice *slice) {
    int fd = fmq_segment_pin(slice->segment);
    if (fd < 0) { /* the answer will say so */
        fmq_segment_unref(slice->segment);
    } else {
        fmq_partition_ref(partition);
        job->items[job->count++] =
            (fmq_cold_item){.partition = partition, .slice = *slice, .fd = fd, .corrupt_begin = -1};
    }
    memset(slice, 0, sizeof *slice);
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

/* Remember the damage; without memory for it, the next cold read finds it again. */
static void fence_off(fmq_partition *partition, const fmq_cold_item *item) {
    for (const fmq_corrupt *known = partition->corrupt; known; known = known->next) {
        if (known->begin == item->corrupt_begin) {
            return;
        }
    }
    fmq_corrupt *range = fmq_alloc(partition->engine->env, sizeof *range);
    if (range != NULL) {
        *range = (fmq_corrupt){partition->corrupt, item->corrupt_begin, item->corrupt_end};
        partition->corrupt = range;
        partition->engine->counters.corrupt_batches++;
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

void fmq_cold_collect(fmq_engine *engine) {
    while (engine->cold_done != NULL) {
        fmq_cold_job *job = engine->cold_done;
        engine->cold_done = job->next;
        for (uint32_t i = 0; i < job->count; i++) {
            fmq_cold_item *item = &job->items[i];
            if (item->corrupt_begin >= 0) {
                fence_off(item->partition, item);
            }
            fmq_segment_unpin(item->slice.segment);
            fmq_segment_unref(item->slice.segment);
            fmq_partition_unref(item->partition);
        }
        fmq_conn *conn = fmq_conn_find(engine, job->conn_id);
        if (conn != NULL) {
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
