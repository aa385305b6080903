/* What makes a log shorter: retention and DeleteRecords at its beginning, truncation at its end. */
#include "log_impl.h"
#include "paths.h"
#include "scan.h"

/* ---- the beginning ---------------------------------------------------------------------------*/

static void move_start(fmq_log *log, int64_t offset) {
    if (offset > log->start_offset) {
        log->start_offset = offset;
        fmq_epochs_truncate_start(&log->epochs, offset);
    }
}

/* Delete sealed segments that lie below the log start; how many, or -errno. */
static int drop_below_start(fmq_log *log) {
    int dropped = 0;
    while (log->segment_count > 1 && log->segments[0]->end_offset <= log->start_offset) {
        int64_t end = log->segments[0]->end_offset;
        char path[FMQ_PATH_MAX];
        fmq_path(path, log->dir, log->segments[0]->base_offset, FMQ_SUFFIX_SNAPSHOT);
        int result = fmq_log_drop_oldest(log);
        if (result != FMQ_OK) {
            return result;
        }
        assert(log->segments[0]->base_offset == end);
        result = log->env->unlink(log->env->ctx, path);
        if (result != FMQ_OK && result != -ENOENT) {
            return fmq_log_failed(log, result);
        }
        dropped++;
    }
    return dropped;
}

int fmq_log_advance_start(fmq_log *log, int64_t offset) {
    if (log->failed) {
        return -EIO;
    }
    if (offset > log->end_offset) {
        return FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    move_start(log, offset);
    int dropped = drop_below_start(log);
    return dropped < 0 ? dropped : FMQ_OK;
}

/* 1 when all records of the segment are older than retention.ms, 0, -errno. */
static int is_expired(fmq_log *log, fmq_segment *segment, int64_t now_ms) {
    if (log->config.retention_ms < 0 || segment->size == 0) {
        return 0;
    }
    bool whole;
    int result = fmq_segment_load_stats(segment, log->config.index_interval_bytes, &whole);
    if (result != FMQ_OK) {
        return result;
    }
    return segment->max_timestamp >= 0 && segment->max_timestamp < now_ms &&
           now_ms - segment->max_timestamp > log->config.retention_ms;
}

/* Offset that retention moves the log start to. */
static int find_retained(fmq_log *log, int64_t limit_offset, int64_t now_ms, int64_t *out) {
    int64_t size = log->size;
    *out = log->start_offset;
    for (int32_t i = 0; i < log->segment_count - 1; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->end_offset > limit_offset) {
            break;
        }
        bool is_excess =
            log->config.retention_bytes >= 0 && size - segment->size >= log->config.retention_bytes;
        int expired = is_excess ? 1 : is_expired(log, segment, now_ms);
        if (expired < 0) {
            return expired;
        }
        if (expired == 0 && segment->end_offset > log->start_offset) {
            break;
        }
        size -= segment->size;
        *out = segment->end_offset;
    }
    return FMQ_OK;
}

int fmq_log_apply_retention(fmq_log *log, int64_t limit_offset, int64_t now_ms) {
    if (log->failed) {
        return -EIO;
    }
    if (log->config.cleanup_delete) {
        fmq_segment *active = fmq_log_active(log);
        if (active->end_offset <= limit_offset) {
            int expired = is_expired(log, active, now_ms);
            int result = expired == 1 ? fmq_log_roll(log, log->end_offset) : expired;
            if (result != FMQ_OK) {
                return result;
            }
        }
        int64_t retained;
        int result = find_retained(log, limit_offset, now_ms, &retained);
        if (result != FMQ_OK) {
            return result;
        }
        move_start(log, retained);
    }
    return drop_below_start(log);
}

/* ---- the end ---------------------------------------------------------------------------------*/

/* Snapshots behind `offset` speak of batches that are going away: they go first, for good. */
static int drop_snapshots_behind(fmq_log *log, int64_t offset) {
    fmq_dir_list list;
    int result = fmq_dir_list_read(log->env, log->dir, false, &list);
    if (result != FMQ_OK) {
        return result;
    }
    result = fmq_drop_snapshots(log->env, log->dir, &list, 0, offset);
    fmq_dir_list_free(log->env, &list);
    return result == FMQ_OK ? log->env->sync_dir(log->env->ctx, log->dir) : result;
}

/* Readers that hold the active segment learn that it was cut; the log goes on with a new one for
 * the same file. */
static int replace_active(fmq_log *log, int64_t position) {
    fmq_segment *old = fmq_log_active(log);
    fmq_segment *segment = fmq_segment_new(log->env, log->files, log->dir, old->base_offset);
    if (segment == NULL) {
        return -ENOMEM;
    }
    segment->size = old->size;
    segment->end_offset = old->end_offset;
    segment->file_exists = old->file_exists;
    segment->has_index_files = old->has_index_files;
    segment->index = old->index;
    segment->index_unsynced = old->index_unsynced;
    segment->trust = old->trust;
    old->index = (fmq_index){0};
    old->trust = (fmq_trust){.from = INT64_MAX};
    log->segments[log->segment_count - 1] = segment;
    fmq_segment_detach(old, position);
    return FMQ_OK;
}

/* Cut the active segment so that it ends at `position` and `offset`, durably. */
static int cut_active(fmq_log *log, int64_t position, int64_t offset) {
    const fmq_env *env = log->env;
    int result = replace_active(log, position);
    fmq_segment *segment = fmq_log_active(log);
    if (result != FMQ_OK || !segment->file_exists) {
        return result;
    }
    bool whole;
    result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result != FMQ_OK) {
        return result;
    }
    fmq_index_truncate(&segment->index, (uint32_t)position,
                       (uint32_t)(offset - segment->base_offset));
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    result = env->ftruncate(env->ctx, fd, position);
    if (result == FMQ_OK) {
        result = env->fdatasync(env->ctx, fd);
    }
    fmq_segment_unpin(segment);
    if (result == FMQ_OK) {
        result = fmq_segment_save_index(segment, true);
    }
    log->size -= segment->size - position;
    segment->size = position;
    fmq_trust_cut(&segment->trust, position);
    segment->end_offset = offset;
    segment->sealed = segment->stats_known = false;
    segment->index_unsynced = false;
    segment->max_timestamp = segment->first_timestamp = FMQ_NO_TIMESTAMP;
    segment->unindexed_bytes = 0;
    return result;
}

static void lower_end(fmq_log *log, int64_t offset) {
    log->end_offset = offset;
    log->synced_offset = log->synced_offset < offset ? log->synced_offset : offset;
    log->flushed_offset = log->flushed_offset < offset ? log->flushed_offset : offset;
    for (fmq_sync_job *job = log->jobs; job != NULL; job = job->next) {
        job->end_offset = job->end_offset < offset ? job->end_offset : offset;
    }
    log->start_offset = log->start_offset < offset ? log->start_offset : offset;
    log->snapshot_unsynced = -1;
    fmq_log_forget_boundaries(log);
    fmq_epochs_truncate_end(&log->epochs, offset);
}

/* Write down what the cut left: epochs at once, since recovery does not look below its point. */
static int settle(fmq_log *log) {
    int result = fmq_epochs_save(log->env, &log->epochs, log->dir);
    if (result == FMQ_OK) {
        result = log->env->sync_dir(log->env->ctx, log->dir);
    }
    return result == FMQ_OK ? fmq_log_reload_producers(log, log->end_offset) : result;
}

static int truncate_to(fmq_log *log, int64_t offset) {
    int result = drop_snapshots_behind(log, offset);
    while (result == FMQ_OK && log->segment_count > 1 &&
           fmq_log_active(log)->base_offset >= offset) {
        result = fmq_log_drop_newest(log);
        if (result == FMQ_OK) {
            lower_end(log, fmq_log_active(log)->end_offset);
        }
    }
    if (result != FMQ_OK) {
        return result;
    }
    fmq_location cut;
    int found = fmq_log_locate(log, offset, &cut);
    if (found != 1) {
        /* Nothing at or after it is left, but offsets may have been skipped. */
        lower_end(log, offset < log->end_offset ? offset : log->end_offset);
        fmq_log_active(log)->end_offset = log->end_offset;
        fmq_log_active(log)->sealed = fmq_log_active(log)->stats_known = false;
        return found == 0 ? settle(log) : found < 0 ? found : -EIO;
    }
    int64_t end = cut.base_offset < offset ? cut.base_offset : offset;
    result = cut_active(log, cut.position, end);
    if (result == FMQ_OK) {
        lower_end(log, end);
        result = settle(log);
    }
    return result;
}

/* State on disk and in memory may differ after any failure here: none of them passes. */
static int finish_cut(fmq_log *log, int result) {
    fmq_pending_trim(log->env, &log->pending);
    if (result != FMQ_OK) {
        log->failed = true;
    }
    return result;
}

int fmq_log_truncate_to(fmq_log *log, int64_t offset) {
    if (log->failed) {
        return -EIO;
    }
    if (offset >= log->end_offset) {
        return FMQ_OK;
    }
    if (offset < log->segments[0]->base_offset) {
        return fmq_log_reset(log, offset);
    }
    int result = fmq_log_drop_ready_file(log);
    if (result == FMQ_OK) {
        result = fmq_log_write_pending(log); /* the cut looks for batches in the file */
    }
    if (result == FMQ_OK) {
        result = truncate_to(log, offset);
    }
    return finish_cut(log, result);
}

/* Every step leaves a log that is a prefix of the old one, until the new file has its name. */
static int reset(fmq_log *log, int64_t offset) {
    const fmq_env *env = log->env;
    int result = drop_snapshots_behind(log, -1);
    while (result == FMQ_OK && log->segment_count > 1) {
        result = fmq_log_drop_newest(log);
    }
    if (result == FMQ_OK) {
        result = cut_active(log, 0, fmq_log_active(log)->base_offset);
    }
    fmq_segment *old = fmq_log_active(log);
    if (result != FMQ_OK || old->base_offset == offset) {
        old->stats_known = true;
        return result;
    }
    fmq_segment *segment = fmq_segment_new(env, log->files, log->dir, offset);
    if (segment == NULL) {
        return -ENOMEM;
    }
    segment->stats_known = segment->index.loaded = true;
    result = fmq_segment_create_file(segment, 0);
    if (result == FMQ_OK) {
        result = env->sync_dir(env->ctx, log->dir);
    }
    if (result == FMQ_OK) {
        result = fmq_segment_delete_files(old, true);
    }
    log->segments[0] = segment;
    old->file_exists = false;
    fmq_segment_detach(old, 0);
    return result;
}

int fmq_log_reset(fmq_log *log, int64_t offset) {
    assert(offset >= 0);
    if (log->failed) {
        return -EIO;
    }
    int result = fmq_log_drop_ready_file(log);
    if (result == FMQ_OK) {
        result = reset(log, offset);
    }
    if (result == FMQ_OK) {
        fmq_epochs_truncate_end(&log->epochs, 0);
        lower_end(log, offset);
        log->start_offset = log->synced_offset = log->flushed_offset = offset;
        result = settle(log);
    }
    return finish_cut(log, result);
}
