/* Durability: sync jobs, flush, close. */
#include "fastmq/log.h"
#include "log_impl.h"
#include "paths.h"

bool fmq_log_needs_sync(const fmq_log *log) {
    return !log->failed && log->synced_offset < log->end_offset;
}

int fmq_log_sync_begin(fmq_log *log, fmq_sync_job *job) {
    *job = (fmq_sync_job){.dir = log->dir, .env = log->env, .end_offset = log->synced_offset};
    if (log->failed) {
        return -EIO;
    }
    const int32_t room = (int32_t)(sizeof job->segments / sizeof job->segments[0]);
    for (int32_t i = fmq_log_find_segment(log, log->synced_offset); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->size == 0) {
            continue;
        }
        if (job->segment_count == room) {
            break;
        }
        int fd = fmq_segment_pin(segment);
        if (fd < 0) {
            while (job->segment_count > 0) {
                fmq_segment *pinned = job->segments[--job->segment_count];
                fmq_segment_unpin(pinned);
                fmq_segment_unref(pinned);
            }
            return fmq_log_failed(log, fd);
        }
        fmq_segment_ref(segment);
        job->segments[job->segment_count++] = segment;
        job->end_offset = segment->end_offset;
    }
    job->sync_dir = log->dir_unsynced;
    log->dir_unsynced = false;
    if (log->jobs++ == 0) {
        log->job_limit = INT64_MAX;
    }
    return FMQ_OK;
}

int fmq_sync_job_run(fmq_sync_job *job) {
    const fmq_env *env = job->env;
    for (int32_t i = 0; i < job->segment_count; i++) {
        int result = env->fdatasync(env->ctx, job->segments[i]->fd);
        if (result != FMQ_OK) {
            return result;
        }
    }
    return job->sync_dir ? env->sync_dir(env->ctx, job->dir) : FMQ_OK;
}

void fmq_log_sync_end(fmq_log *log, fmq_sync_job *job, int result) {
    assert(log->jobs > 0);
    log->jobs--;
    for (int32_t i = 0; i < job->segment_count; i++) {
        fmq_segment_unpin(job->segments[i]);
        fmq_segment_unref(job->segments[i]);
    }
    job->segment_count = 0;
    if (result != FMQ_OK) {
        log->failed = true;
        return;
    }
    int64_t end = job->end_offset < log->job_limit ? job->end_offset : log->job_limit;
    if (end > log->synced_offset) {
        log->synced_offset = end;
    }
}

/* ---- flush -----------------------------------------------------------------------------------*/

/* Write and sync the index of a segment, unless it is small enough to be read instead.  Recovery
 * trusts what an index file says of offsets below the recovery point: one that exists is put right.
 */
static int flush_index(fmq_log *log, fmq_segment *segment) {
    if (!segment->sealed && !segment->has_index_files && segment->size <= FMQ_SMALL_SEGMENT) {
        return FMQ_OK;
    }
    if (!segment->index_unsynced && !(segment->index.loaded && segment->index.dirty)) {
        return FMQ_OK;
    }
    bool whole;
    int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result == FMQ_OK) {
        result = fmq_segment_save_index(segment, true);
    }
    if (result == FMQ_OK) {
        segment->index_unsynced = false;
    }
    return result;
}

/* All segments with bytes that are not durable, or an index that is not. */
static int flush_segments(fmq_log *log) {
    const fmq_env *env = log->env;
    for (int32_t i = fmq_log_find_segment(log, log->flushed_offset); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->size == 0) {
            continue;
        }
        int result = FMQ_OK;
        if (segment->end_offset > log->synced_offset) {
            int fd = fmq_segment_pin(segment);
            if (fd < 0) {
                return fd;
            }
            result = env->fdatasync(env->ctx, fd);
            fmq_segment_unpin(segment);
        }
        if (result == FMQ_OK) {
            result = flush_index(log, segment);
        }
        if (result != FMQ_OK) {
            return result;
        }
    }
    return FMQ_OK;
}

static bool is_segment_base(const fmq_log *log, int64_t offset) {
    return log->segments[fmq_log_find_segment(log, offset)]->base_offset == offset;
}

/* A snapshot at the log end, unless the headers since the last one are read as fast. */
static int flush_snapshot(fmq_log *log) {
    const fmq_env *env = log->env;
    int64_t previous = log->snapshot_offset;
    if (previous != log->end_offset &&
        (log->producers.count > 0 || previous >= 0 || log->size > FMQ_SMALL_SEGMENT)) {
        int result = fmq_producers_save(env, &log->producers, log->dir, log->end_offset, true);
        if (result != FMQ_OK) {
            return result;
        }
        log->snapshot_offset = log->end_offset;
        if (previous >= 0 && !is_segment_base(log, previous)) {
            result = env->sync_dir(env->ctx, log->dir);
            if (result != FMQ_OK) {
                return result;
            }
            char path[FMQ_PATH_MAX];
            fmq_path(path, log->dir, previous, FMQ_SUFFIX_SNAPSHOT);
            result = env->unlink(env->ctx, path);
            if (result != FMQ_OK && result != -ENOENT) {
                return result;
            }
        }
    } else if (log->snapshot_unsynced == log->end_offset) {
        int result = fmq_producers_save(env, &log->producers, log->dir, log->end_offset, true);
        if (result != FMQ_OK) {
            return result;
        }
    }
    log->snapshot_unsynced = -1;
    return FMQ_OK;
}

int fmq_log_flush(fmq_log *log) {
    if (log->failed) {
        return -EIO;
    }
    if (log->flushed_offset == log->end_offset && !log->epochs.dirty && !log->dir_unsynced) {
        return FMQ_OK;
    }
    int result = flush_segments(log);
    if (result == FMQ_OK) {
        result = flush_snapshot(log);
    }
    if (result == FMQ_OK && log->epochs.dirty) {
        result = fmq_epochs_save(log->env, &log->epochs, log->dir);
    }
    if (result == FMQ_OK && log->size + log->end_offset > 0) {
        result = log->env->sync_dir(log->env->ctx, log->dir);
    }
    if (result != FMQ_OK) {
        return fmq_log_failed(log, result);
    }
    log->dir_unsynced = false;
    log->synced_offset = log->flushed_offset = log->end_offset;
    return FMQ_OK;
}

int fmq_log_close(fmq_log *log, bool clean) {
    assert(log->jobs == 0);
    int result = clean ? fmq_log_flush(log) : FMQ_OK;
    fmq_log_free(log);
    return result;
}

int fmq_log_delete(fmq_log *log, const char *renamed_dir) {
    assert(log->jobs == 0);
    for (int32_t i = 0; i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->refs > 1 && segment->file_exists && fmq_segment_pin(segment) >= 0) {
            fmq_segment_unpin(segment);
        }
    }
    int result = log->env->rename(log->env->ctx, log->dir, renamed_dir);
    for (int32_t i = 0; i < log->segment_count; i++) {
        /* The old name may be taken by another partition: no file may be opened by it any more. */
        log->segments[i]->file_exists = log->segments[i]->fd >= 0;
    }
    fmq_log_free(log);
    return result;
}
