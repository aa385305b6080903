/* partition_calls.c - what other threads ask of a partition: snapshots, look-ups, upkeep, its end.
 *
 * Each call takes the engine's lock for as long as it looks at the partition, and gives it up while
 * it waits for the disk.
 */
#include <time.h>

#include "paths.h"
#include "replicas.h"

#define DISK_POLLS_MAX 400 /* two seconds: */
#define DISK_POLL_NS 5000000

/* ---- snapshots and look-ups -----------------------------------------------------------------*/

static void peek_locked(const fmq_partition *partition, fmq_partition_view *out) {
    memset(out, 0, sizeof *out);
    out->leader_epoch = partition->leader_epoch;
    out->leader = partition->role == FMQ_ROLE_LEADER;
    out->follower = partition->role == FMQ_ROLE_FOLLOWER;
    out->open = partition->log != NULL;
    if (partition->log != NULL) {
        out->log_start = fmq_log_start(partition->log);
        out->log_end = fmq_log_end(partition->log);
        out->synced = fmq_log_synced(partition->log);
        out->size_bytes = fmq_log_size(partition->log);
        out->segment_count = fmq_log_segment_count(partition->log);
        out->high_watermark = partition->high_watermark;
        out->last_stable_offset = partition->high_watermark;
    }
}

void fmq_partition_peek(fmq_partition *partition, fmq_partition_view *out) {
    fmq_lock_take(&partition->engine->lock);
    peek_locked(partition, out);
    fmq_lock_give(&partition->engine->lock);
}

/* Take the lock and have the log open; the caller gives the lock back whatever is returned. */
static int enter(fmq_partition *partition) {
    fmq_lock_take(&partition->engine->lock);
    return fmq_partition_open(partition);
}

static int leave(fmq_partition *partition, int rc) {
    fmq_engine_wake(partition->engine);
    fmq_lock_give(&partition->engine->lock);
    return rc;
}

int fmq_partition_view_get(fmq_partition *partition, fmq_partition_view *out) {
    int rc = enter(partition);
    peek_locked(partition, out);
    return leave(partition, rc);
}

/* Copy the slice that was found and give it back.  The file is read without the lock. */
static int copy_slice(fmq_partition *partition, fmq_slice *slice, bool verify, uint8_t **out,
                      size_t *out_size) {
    fmq_engine *engine = partition->engine;
    *out = NULL;
    *out_size = 0;
    if (slice->size == 0) {
        return leave(partition, FMQ_OK);
    }
    uint8_t *data = fmq_alloc(engine->env, slice->size);
    int rc = data == NULL ? -ENOMEM : fmq_segment_pin(slice->segment);
    bool pinned = data != NULL && rc >= 0;
    if (pinned) {
        fmq_lock_give(&engine->lock);
        rc = fmq_slice_read(slice, data, verify);
        fmq_lock_take(&engine->lock);
        fmq_segment_unpin(slice->segment);
    }
    fmq_segment_unref(slice->segment);
    if (rc != FMQ_OK) {
        fmq_free(engine->env, data);
        return leave(partition, rc);
    }
    *out = data;
    *out_size = slice->size;
    return leave(partition, FMQ_OK);
}

int fmq_partition_read(fmq_partition *partition, int64_t offset, int64_t limit_offset,
                       uint32_t max_bytes, bool min_one, uint8_t **out, size_t *out_size) {
    int rc = enter(partition);
    if (rc != FMQ_OK) {
        return leave(partition, rc);
    }
    int64_t limit = limit_offset >= 0 ? limit_offset : partition->high_watermark;
    if (fmq_log_unwritten(partition->log) > 0 && limit > partition->high_watermark) {
        limit = partition->high_watermark; /* what lies behind may not be in the file */
    }
    fmq_slice slice = {0};
    rc = fmq_log_read(partition->log, offset, limit, max_bytes, min_one, &slice);
    if (rc != FMQ_OK) {
        return leave(partition, rc);
    }
    return copy_slice(partition, &slice, true, out, out_size);
}

int fmq_partition_find_time(fmq_partition *partition, int64_t timestamp_ms, bool max, uint8_t **out,
                            size_t *out_size) {
    int rc = enter(partition);
    if (rc != FMQ_OK) {
        return leave(partition, rc);
    }
    int64_t limit = partition->high_watermark;
    fmq_slice slice = {0};
    rc = max ? fmq_log_find_max_timestamp(partition->log, limit, &slice)
             : fmq_log_find_timestamp(partition->log, timestamp_ms, limit, &slice);
    if (rc != FMQ_OK) {
        return leave(partition, rc);
    }
    return copy_slice(partition, &slice, true, out, out_size);
}

void fmq_partition_find_epoch_end(const fmq_partition *partition, int32_t epoch, int32_t *out_epoch,
                                  int64_t *out_offset) {
    fmq_log_epoch_end(partition->log, epoch, out_epoch, out_offset);
    int32_t last = fmq_log_last_epoch(partition->log);
    if (epoch > last && epoch <= partition->leader_epoch) {
        /* The leader has written nothing yet: its epoch begins at the log end. */
        *out_epoch = epoch == partition->leader_epoch || last < 0 ? epoch : last;
        *out_offset = fmq_log_end(partition->log);
    }
}

int fmq_partition_epoch_end(fmq_partition *partition, int32_t epoch, int32_t *out_epoch,
                            int64_t *out_offset) {
    int rc = enter(partition);
    if (rc == FMQ_OK) {
        fmq_partition_find_epoch_end(partition, epoch, out_epoch, out_offset);
    }
    return leave(partition, rc);
}

int fmq_partition_epoch_of(fmq_partition *partition, int64_t offset, int32_t *out_epoch) {
    int rc = enter(partition);
    if (rc == FMQ_OK) {
        *out_epoch = fmq_log_epoch_of(partition->log, offset);
    }
    return leave(partition, rc);
}

int fmq_partition_producers(fmq_partition *partition, fmq_producer_view **out, int32_t *out_count) {
    int rc = enter(partition);
    *out = NULL;
    *out_count = 0;
    if (rc == FMQ_OK) {
        int32_t count = fmq_log_producers(partition->log, NULL, 0);
        *out = fmq_alloc(partition->engine->env, (size_t)(count + 1) * sizeof **out);
        rc = *out == NULL ? -ENOMEM : FMQ_OK;
        *out_count = *out == NULL ? 0 : fmq_log_producers(partition->log, *out, count);
    }
    return leave(partition, rc);
}

/* ---- upkeep ---------------------------------------------------------------------------------*/

/* Remove renamed segments without the lock; what fails is left to the next time. */
static int leave_and_sweep(fmq_partition *partition, int rc, bool is_shorter) {
    rc = leave(partition, rc);
    if (is_shorter) {
        char path[FMQ_PATH_MAX];
        fmq_partition_path(partition, path);
        (void)fmq_log_sweep(partition->engine->env, path);
    }
    return rc;
}

/* Let a disk that seems to hang come back, without the lock; false when it does not. */
static bool wait_for_disk(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    for (int i = 0; i < DISK_POLLS_MAX && fmq_dir_is_slow(partition->dir); i++) {
        struct timespec pause = {0, DISK_POLL_NS};
        fmq_lock_give(&engine->lock);
        (void)nanosleep(&pause, NULL);
        fmq_lock_take(&engine->lock);
    }
    return !fmq_dir_is_slow(partition->dir);
}

int fmq_partition_delete_records(fmq_partition *partition, int64_t offset, int64_t *out_start) {
    fmq_lock_take(&partition->engine->lock);
    int rc = wait_for_disk(partition) ? fmq_partition_open(partition) : FMQ_ERR_KAFKA_STORAGE_ERROR;
    int32_t segment_count = rc == FMQ_OK ? fmq_log_segment_count(partition->log) : 0;
    if (rc == FMQ_OK) {
        offset = offset == -1 ? partition->high_watermark : offset;
        bool inside = offset >= 0 && offset <= partition->high_watermark;
        rc = inside ? FMQ_OK : FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    if (rc == FMQ_OK && offset > fmq_log_start(partition->log)) {
        rc = fmq_partition_note_failure(partition, fmq_log_advance_start(partition->log, offset));
    }
    *out_start = rc == FMQ_OK ? fmq_log_start(partition->log) : -1;
    bool is_shorter = rc == FMQ_OK && fmq_log_segment_count(partition->log) < segment_count;
    return leave_and_sweep(partition, rc, is_shorter);
}

/* An idle, unopened log has nothing to roll, expire or delete until somebody opens it; retention
 * opens it because its segments may have grown old. */
int fmq_partition_apply_retention(fmq_partition *partition, int64_t now_ms) {
    int rc = enter(partition);
    if (rc == FMQ_OK && !fmq_dir_is_slow(partition->dir) && !fmq_log_awaits_file(partition->log)) {
        rc = fmq_log_apply_retention(partition->log, partition->high_watermark, now_ms);
        fmq_partition_note_failure(partition, rc);
    }
    return leave_and_sweep(partition, rc, rc > 0);
}

int fmq_partition_roll_if_due(fmq_partition *partition, int64_t now_ms) {
    fmq_lock_take(&partition->engine->lock);
    int rc = FMQ_OK;
    if (partition->log != NULL && !fmq_dir_is_slow(partition->dir) &&
        !fmq_log_awaits_file(partition->log)) {
        rc = fmq_partition_note_failure(partition, fmq_log_roll_if_due(partition->log, now_ms));
    }
    return leave(partition, rc);
}

int fmq_partition_expire_producers(fmq_partition *partition, int64_t now_ms) {
    fmq_lock_take(&partition->engine->lock);
    int rc = partition->log ? fmq_log_expire_producers(partition->log, now_ms) : FMQ_OK;
    return leave(partition, rc);
}

/* The disk is waited for without the lock, as in a sync job: the state keeps others from closing
 * the log meanwhile. */
static int flush_locked(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    fmq_flush_job job;
    fmq_sync_wait_idle(partition);
    int64_t end_bytes = partition->end_bytes;
    int rc = fmq_log_flush_begin(partition->log, &job);
    if (rc == FMQ_OK) {
        fmq_sync_note_begin(partition);
        fmq_lock_give(&engine->lock);
        rc = fmq_flush_job_run(&job);
        fmq_lock_take(&engine->lock);
        fmq_sync_note_end(partition);
        rc = fmq_log_flush_end(partition->log, &job, rc);
    }
    fmq_sync_recount(partition);
    if (rc == FMQ_OK) {
        partition->recovery_point = job.sync.end_offset;
        fmq_partition_advance(partition, end_bytes);
    }
    bool is_awaited = rc != FMQ_OK && partition->config->flush == FMQ_FLUSH_ACK;
    if ((partition->sync_again || is_awaited) && !partition->closed &&
        fmq_log_needs_sync(partition->log)) {
        partition->sync_again = false;
        fmq_sync_request(partition);
    }
    return rc;
}

int fmq_partition_flush(fmq_partition *partition, int64_t *out_recovery_point) {
    fmq_lock_take(&partition->engine->lock);
    /* On a disk that hangs it would hang with the lock; the recovery point stays where it is. */
    bool may_flush = partition->log != NULL && !fmq_dir_is_slow(partition->dir);
    int rc = may_flush ? fmq_partition_note_failure(partition, flush_locked(partition)) : FMQ_OK;
    *out_recovery_point = partition->recovery_point;
    return leave(partition, rc);
}

/* No append, sync or open can follow; waiters have been answered. */
static void shut_locked(fmq_partition *partition) {
    fmq_partition_change_role(partition, FMQ_ROLE_OFFLINE, partition->leader_epoch);
    partition->closed = true;
    fmq_sync_wait_idle(partition);
    fmq_list_remove(&partition->dirty_link);
}

int fmq_partition_close(fmq_partition *partition, bool clean) {
    fmq_lock_take(&partition->engine->lock);
    shut_locked(partition);
    int rc = FMQ_OK;
    if (partition->log != NULL) {
        if (clean) {
            partition->log_start = fmq_log_start(partition->log);
            partition->recovery_point = fmq_log_end(partition->log);
        }
        rc = fmq_log_close(partition->log, clean);
        partition->log = NULL;
        fmq_sync_recount(partition);
    }
    return leave(partition, rc);
}

void fmq_partition_path(const fmq_partition *partition, char *out) {
    if (partition->is_in_parent) {
        fmq_path_name(out, partition->dir->parent, partition->path, "");
    } else {
        memcpy(out, partition->path, strlen(partition->path) + 1); /* fits, or it was refused */
    }
}

int fmq_partition_delete(fmq_partition *partition, const char *renamed_path) {
    fmq_engine *engine = partition->engine;
    fmq_lock_take(&engine->lock);
    fmq_partition_unregister(partition);
    shut_locked(partition);
    /* Nobody opens it or writes to it any more, so the disk is waited for without the lock. */
    fmq_log *log = partition->log;
    partition->log = NULL;
    fmq_sync_recount(partition);
    char path[FMQ_PATH_MAX];
    fmq_partition_path(partition, path);
    if (log != NULL) {
        fmq_log_begin_delete(log);
    }
    fmq_lock_give(&engine->lock);
    int rc = engine->env->rename(engine->env->ctx, path, renamed_path);
    fmq_lock_take(&engine->lock);
    if (log != NULL) {
        fmq_log_end_delete(log);
    }
    return leave(partition, rc);
}
