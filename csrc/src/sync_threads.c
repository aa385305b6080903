/* sync_threads.c - log directories and the threads that make appended bytes durable.
 *
 * Syncs clock themselves: while one of a partition runs, appends gather, and the next begins when
 * it has ended, if anyone waits.  So many producers share one fdatasync, and files of different
 * partitions are synced in parallel.  A thread takes the engine's lock to begin a job and to hand
 * it back; the reactor takes over the result and answers the waiters.
 *
 * What the reactor asks for starts when it finds nothing else to do, or after FMQ_SYNC_HOLD_NS: so
 * all frames that have arrived share a sync, and so do producers that were answered a moment ago
 * and come back with their next.  They would take turns otherwise, each waiting for two syncs.
 *
 * A failed sync takes the whole directory offline, for good: the kernel may have dropped the pages
 * that it could not write, so a second fdatasync would lie.
 */
#include "engine_internal.h"

#include <signal.h>
#include <time.h>

#define FMQ_SYNC_POLLS_MAX 50   /* of them, for an append that waits for a file */
#define FMQ_SYNC_POLL_NS 200000 /* how often closing looks whether a sync has ended */

/* ---- directories ----------------------------------------------------------------------------*/

fmq_dir *fmq_dir_get(fmq_engine *engine, int32_t id) {
    for (fmq_dir *dir = engine->dirs; dir != NULL; dir = dir->next) {
        if (dir->id == id) {
            return dir;
        }
    }
    fmq_dir *dir = fmq_alloc(engine->env, sizeof *dir);
    if (dir == NULL) {
        return NULL;
    }
    memset(dir, 0, sizeof *dir);
    dir->engine = engine;
    dir->id = id;
    fmq_list_init(&dir->queue);
    fmq_list_init(&dir->running);
    fmq_sem_init(&dir->work);
    dir->next = engine->dirs;
    engine->dirs = dir;
    return dir;
}

bool fmq_dir_is_stalled(const fmq_dir *dir) {
    if (fmq_list_empty(&dir->running)) {
        return false;
    }
    const fmq_partition *oldest = FMQ_ENTRY(dir->running.next, const fmq_partition, sync_link);
    return dir->engine->now_ns - oldest->sync_began_ns > FMQ_DISK_STALL_NS;
}

bool fmq_dir_is_slow(const fmq_dir *dir) {
    if (fmq_list_empty(&dir->running)) {
        return false;
    }
    const fmq_env *env = dir->engine->env;
    const fmq_partition *oldest = FMQ_ENTRY(dir->running.next, const fmq_partition, sync_link);
    return env->mono_ns(env->ctx) - oldest->sync_began_ns > FMQ_DISK_SLOW_NS;
}

static void wake_disk_waiters(fmq_engine *engine) {
    while (!fmq_list_empty(&engine->disk_waiters)) {
        fmq_conn *conn = FMQ_ENTRY(engine->disk_waiters.next, fmq_conn, disk_link);
        fmq_list_remove(&conn->disk_link);
        fmq_conn_unblock(conn, FMQ_BLOCKED_DISK);
    }
}

void fmq_sync_recount(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    int64_t now = partition->log != NULL ? fmq_log_unwritten(partition->log) : 0;
    bool is_less = now < partition->unwritten;
    partition->dir->unwritten += now - partition->unwritten;
    partition->unwritten = now;
    if (is_less) {
        wake_disk_waiters(engine);
    }
}

void fmq_dir_offline(fmq_dir *dir, int error) {
    if (dir->error != 0) {
        return;
    }
    fmq_engine *engine = dir->engine;
    dir->error = error;
    fmq_event *event = fmq_event_new(engine, FMQ_EVENT_DIR_OFFLINE, 0);
    if (event != NULL) {
        event->dir_id = dir->id;
        event->code = error;
        fmq_event_push(engine, event);
    }
    for (uint32_t i = 0; i < engine->topic_buckets; i++) {
        for (fmq_topic *topic = engine->topics_by_name[i]; topic; topic = topic->next_by_name) {
            for (int32_t p = 0; p < topic->partition_count; p++) {
                fmq_partition *partition = topic->partitions[p];
                if (partition != NULL && partition->dir == dir) {
                    fmq_partition_fail_waits(partition, FMQ_ERR_KAFKA_STORAGE_ERROR);
                    fmq_partition_wake_fetches(partition, INT64_MAX);
                }
            }
        }
    }
}

/* ---- what runs ------------------------------------------------------------------------------*/

static void note_oldest(fmq_engine *engine) {
    int64_t oldest_ns = 0;
    for (const fmq_dir *dir = engine->dirs; dir != NULL; dir = dir->next) {
        if (!fmq_list_empty(&dir->running)) {
            const fmq_partition *first =
                FMQ_ENTRY(dir->running.next, const fmq_partition, sync_link);
            if (oldest_ns == 0 || first->sync_began_ns < oldest_ns) {
                oldest_ns = first->sync_began_ns;
            }
        }
    }
    atomic_store_explicit(&engine->oldest_sync_ns, oldest_ns, memory_order_relaxed);
}

void fmq_sync_note_begin(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    partition->sync_state = FMQ_SYNC_RUNNING;
    partition->sync_began_ns = engine->env->mono_ns(engine->env->ctx);
    fmq_list_push(&partition->dir->running, &partition->sync_link);
    note_oldest(engine);
}

void fmq_sync_note_end(fmq_partition *partition) {
    partition->sync_state = FMQ_SYNC_IDLE;
    fmq_list_remove(&partition->sync_link);
    note_oldest(partition->engine);
}

/* ---- jobs -----------------------------------------------------------------------------------*/

/* Take the next partition of the queue and begin its job; NULL when there is nothing to do. */
static fmq_sync_result *begin_next(fmq_dir *dir) {
    const fmq_env *env = dir->engine->env;
    if (fmq_list_empty(&dir->queue)) {
        return NULL;
    }
    fmq_sync_result *result = fmq_alloc(env, sizeof *result);
    if (result == NULL) {
        fmq_sem_post(&dir->work); /* later; somebody will free memory */
        return NULL;
    }
    fmq_partition *partition = FMQ_ENTRY(dir->queue.next, fmq_partition, sync_link);
    fmq_list_remove(&partition->sync_link);
    memset(result, 0, sizeof *result);
    result->partition = partition;
    result->end_bytes = partition->end_bytes;
    result->result = fmq_log_sync_begin(partition->log, &result->job);
    fmq_sync_note_begin(partition);
    partition->sync_again = false;
    fmq_partition_ref(partition);
    return result;
}

static void run_job(fmq_engine *engine, fmq_sync_result *result) {
    const fmq_env *env = engine->env;
    int64_t began = env->mono_ns(env->ctx);
    if (result->result == FMQ_OK) {
        result->result = fmq_sync_job_run(&result->job);
    }
    result->took_ns = env->mono_ns(env->ctx) - began;
}

/* The caller holds the lock, and wakes the reactor. */
static void hand_back(fmq_engine *engine, fmq_sync_result *result) {
    if (engine->sync_done_tail == NULL) {
        engine->sync_done_head = result;
    } else {
        engine->sync_done_tail->next = result;
    }
    engine->sync_done_tail = result;
}

static void *sync_thread(void *arg) {
    fmq_dir *dir = arg;
    fmq_engine *engine = dir->engine;
    for (;;) {
        fmq_sem_wait(&dir->work);
        fmq_lock_take(&engine->lock);
        bool stop = atomic_load(&engine->stop);
        fmq_sync_result *result = stop ? NULL : begin_next(dir);
        fmq_lock_give(&engine->lock);
        if (stop) {
            return NULL;
        }
        if (result != NULL) {
            run_job(engine, result);
            fmq_lock_take(&engine->lock);
            hand_back(engine, result);
            bool was_asleep = engine->asleep;
            engine->asleep = false;
            fmq_lock_give(&engine->lock);
            if (was_asleep) { /* without the lock, which is what the reactor takes first */
                fmq_wakeup_poke(&engine->wake);
            }
        }
    }
}

/* Threads start with the first sync of a directory, with all signals blocked: those are for the
 * main thread. */
static void start_threads(fmq_dir *dir) {
    fmq_engine *engine = dir->engine;
    int32_t wanted = engine->options.sync_threads;
    dir->threads = fmq_alloc(engine->env, (size_t)wanted * sizeof *dir->threads);
    if (dir->threads == NULL) {
        return;
    }
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int32_t i = 0; i < wanted; i++) {
        if (pthread_create(&dir->threads[dir->thread_count], NULL, sync_thread, dir) == 0) {
            dir->thread_count++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void fmq_sync_request(fmq_partition *partition) {
    fmq_dir *dir = partition->dir;
    if (!fmq_list_empty(&partition->dirty_link)) {
        fmq_list_remove(&partition->dirty_link);
    }
    if (partition->sync_state == FMQ_SYNC_RUNNING) {
        partition->sync_again = true;
        return;
    }
    if (partition->sync_state == FMQ_SYNC_QUEUED || dir->error != 0) {
        return;
    }
    partition->sync_state = FMQ_SYNC_QUEUED;
    fmq_list_push(&dir->queue, &partition->sync_link);
    fmq_engine *engine = dir->engine;
    if (engine->options.sync_threads > 0) {
        if (dir->thread_count == 0) {
            start_threads(dir);
        }
        if (engine->in_turn && dir->unwritten < FMQ_SYNC_HOLD_BYTES) {
            dir->held++;
            engine->held_since_ns = engine->held_since_ns ? engine->held_since_ns : engine->now_ns;
        } else {
            fmq_sem_post(&dir->work);
        }
    }
}

void fmq_sync_let_go(fmq_engine *engine, bool idle) {
    if (engine->held_since_ns == 0 ||
        (!idle && !atomic_load(&engine->stop) &&
         engine->env->mono_ns(engine->env->ctx) - engine->held_since_ns < FMQ_SYNC_HOLD_NS)) {
        return;
    }
    engine->held_since_ns = 0;
    for (fmq_dir *dir = engine->dirs; dir != NULL; dir = dir->next) {
        for (; dir->held > 0; dir->held--) {
            fmq_sem_post(&dir->work);
        }
    }
}

void fmq_sync_note_dirty(fmq_partition *partition) {
    if (fmq_list_empty(&partition->dirty_link) && partition->sync_state != FMQ_SYNC_QUEUED) {
        partition->dirty_since_ns = partition->engine->now_ns;
        fmq_list_push(&partition->engine->unsynced, &partition->dirty_link);
    }
}

/* The disk is full: who waits is told, and the bytes are tried again soon. */
static void retry_later(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    fmq_partition_fail_waits(partition, FMQ_ERR_KAFKA_STORAGE_ERROR);
    if (fmq_list_empty(&partition->dirty_link) && !partition->closed) {
        partition->dirty_since_ns = engine->now_ns + FMQ_RETRY_NS;
        fmq_list_push(&engine->unsynced, &partition->dirty_link);
    }
}

static void finish(fmq_engine *engine, fmq_sync_result *result) {
    fmq_partition *partition = result->partition;
    fmq_sync_note_end(partition);
    bool made_file = result->job.new_base >= 0;
    fmq_log_sync_end(partition->log, &result->job, result->result);
    fmq_sync_recount(partition);
    if (made_file) {
        wake_disk_waiters(engine);
    }
    engine->counters.syncs++;
    engine->counters.sync_ns += (uint64_t)result->took_ns;
    if (result->result == FMQ_OK) {
        fmq_partition_advance(partition, result->end_bytes);
        if (partition->sync_again && !partition->closed) {
            partition->sync_again = false;
            fmq_sync_request(partition);
        }
    } else if (fmq_log_is_usable(partition->log)) {
        retry_later(partition);
    } else {
        fmq_dir_offline(partition->dir, result->result < 0 ? -result->result : EIO);
    }
    fmq_partition_unref(partition);
    fmq_free(engine->env, result);
}

void fmq_sync_collect(fmq_engine *engine) {
    while (engine->sync_done_head != NULL) {
        fmq_sync_result *result = engine->sync_done_head;
        engine->sync_done_head = result->next;
        if (engine->sync_done_head == NULL) {
            engine->sync_done_tail = NULL;
        }
        finish(engine, result);
    }
}

void fmq_sync_due(fmq_engine *engine) {
    int64_t limit_ns = engine->options.flush_interval_ms * 1000000;
    while (!fmq_list_empty(&engine->unsynced)) {
        fmq_partition *partition = FMQ_ENTRY(engine->unsynced.next, fmq_partition, dirty_link);
        if (engine->now_ns - partition->dirty_since_ns < limit_ns) {
            break;
        }
        fmq_list_remove(&partition->dirty_link);
        fmq_sync_request(partition);
    }
    if (engine->options.sync_threads > 0 || engine->syncs_held) {
        return;
    }
    for (fmq_dir *dir = engine->dirs; dir != NULL; dir = dir->next) {
        for (fmq_sync_result *result; (result = begin_next(dir)) != NULL;) {
            run_job(engine, result);
            hand_back(engine, result);
        }
    }
    fmq_sync_collect(engine);
}

void fmq_engine_hold_syncs(fmq_engine *engine, bool held) {
    fmq_lock_take(&engine->lock);
    engine->syncs_held = held;
    fmq_engine_wake(engine);
    fmq_lock_give(&engine->lock);
}

void fmq_sync_wait_idle(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    if (partition->sync_state == FMQ_SYNC_QUEUED) {
        fmq_list_remove(&partition->sync_link);
        partition->sync_state = FMQ_SYNC_IDLE;
    }
    partition->sync_again = false;
    fmq_sync_collect(engine); /* the reactor may have ended already */
    while (partition->sync_state == FMQ_SYNC_RUNNING) {
        struct timespec pause = {0, FMQ_SYNC_POLL_NS};
        fmq_lock_give(&engine->lock);
        (void)nanosleep(&pause, NULL);
        fmq_lock_take(&engine->lock);
        partition->sync_again = false;
        fmq_sync_collect(engine);
    }
}

void fmq_sync_wait_briefly(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    fmq_sync_let_go(engine, true);
    for (int i = 0;
         i < FMQ_SYNC_POLLS_MAX && partition->log != NULL && fmq_log_awaits_file(partition->log);
         i++) {
        struct timespec pause = {0, FMQ_SYNC_POLL_NS};
        fmq_lock_give(&engine->lock);
        (void)nanosleep(&pause, NULL);
        fmq_lock_take(&engine->lock);
        fmq_sync_collect(engine);
    }
}

void fmq_sync_stop(fmq_engine *engine) {
    atomic_store(&engine->stop, true);
    for (fmq_dir *dir = engine->dirs; dir != NULL; dir = dir->next) {
        for (int32_t i = 0; i < dir->thread_count; i++) {
            fmq_sem_post(&dir->work);
        }
        for (int32_t i = 0; i < dir->thread_count; i++) {
            (void)pthread_join(dir->threads[i], NULL);
        }
        dir->thread_count = 0;
    }
    fmq_lock_take(&engine->lock);
    fmq_sync_collect(engine);
    fmq_lock_give(&engine->lock);
}
