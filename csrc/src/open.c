/* Open a log: list the directory, trust what was closed cleanly, recover the rest. */
#include <fcntl.h>

#include "log_impl.h"
#include "paths.h"

/* Take over a log that was closed cleanly.  2 when its tail is not in order after all. */
static int trust(fmq_log *log, const fmq_dir_list *list) {
    fmq_segment *active = fmq_log_active(log);
    bool whole = true;
    int result = FMQ_OK;
    active->sealed = false;
    active->end_offset = active->base_offset;
    active->end_unknown = true;
    if (active->size > 0 && active->size <= FMQ_SMALL_SEGMENT) {
        result = fmq_segment_rebuild(active, log->config.index_interval_bytes, &whole);
    } else if (active->size > 0) {
        result = fmq_segment_load_stats(active, log->config.index_interval_bytes, &whole);
    } else {
        active->stats_known = active->index.loaded = true;
    }
    active->end_unknown = false;
    if (result != FMQ_OK || !whole) {
        return result != FMQ_OK ? result : FMQ_ERR_CORRUPT_MESSAGE;
    }
    log->end_offset = active->end_offset;
    result = fmq_log_load_producers(log, list, log->end_offset, FMQ_RECALL_BYTES_CLEAN);
    return result == FMQ_OK ? fmq_log_load_epochs(log, log->end_offset) : result;
}

static int add_segments(fmq_log *log, const fmq_dir_list *list) {
    const fmq_env *env = log->env;
    char path[FMQ_PATH_MAX];
    for (int32_t i = 0; i < list->base_count; i++) {
        fmq_path(path, log->dir, list->bases[i], FMQ_SUFFIX_LOG);
        int fd = env->open(env->ctx, path, O_RDONLY, 0);
        if (fd < 0) {
            return fd;
        }
        int64_t size = env->file_size(env->ctx, fd);
        env->close(env->ctx, fd);
        if (size < 0 || size > INT32_MAX) {
            return size < 0 ? (int)size : -EFBIG;
        }
        fmq_segment *segment = fmq_segment_new(env, log->files, log->dir, list->bases[i]);
        if (segment == NULL) {
            return -ENOMEM;
        }
        int result = fmq_log_push_segment(log, segment);
        if (result != FMQ_OK) {
            fmq_segment_unref(segment);
            return result;
        }
        segment->size = segment->trust.from = size;
        segment->file_exists = true;
        segment->has_index_files =
            fmq_dir_list_has(list->indexes, list->index_count, list->bases[i]);
        segment->sealed = true;
        segment->end_offset = i + 1 < list->base_count ? list->bases[i + 1] : list->bases[i];
        log->size += size;
    }
    return FMQ_OK;
}

/* An empty directory: the file is made by the first append. */
static int begin_empty(fmq_log *log, fmq_dir_list *list, int64_t offset) {
    fmq_segment *segment = fmq_segment_new(log->env, log->files, log->dir, offset);
    if (segment == NULL) {
        return -ENOMEM;
    }
    segment->stats_known = segment->index.loaded = true;
    int result = fmq_log_push_segment(log, segment);
    if (result != FMQ_OK) {
        fmq_segment_unref(segment);
        return result;
    }
    log->end_offset = offset;
    return fmq_drop_snapshots(log->env, log->dir, list, 0, -1);
}

static int load(fmq_log *log, const fmq_log_open_options *options, fmq_recovery *report) {
    fmq_dir_list list;
    int64_t log_start = options->log_start > 0 ? options->log_start : 0;
    int result = fmq_dir_list_read(log->env, log->dir, true, &list);
    if (result != FMQ_OK) {
        return result;
    }
    if (list.base_count == 0) {
        result = begin_empty(log, &list, log_start);
        if (options->recovery_point > log_start) {
            report->reason = "the log has no segments";
        }
    } else {
        result = add_segments(log, &list);
        int trusted = FMQ_ERR_CORRUPT_MESSAGE;
        if (result == FMQ_OK && options->clean) {
            trusted = trust(log, &list);
        }
        if (result == FMQ_OK && trusted == FMQ_ERR_CORRUPT_MESSAGE) {
            trusted = fmq_log_recover(log, &list, options->recovery_point, report);
        }
        result = result == FMQ_OK ? trusted : result;
    }
    fmq_dir_list_free(log->env, &list);
    if (result != FMQ_OK) {
        return result;
    }
    int64_t first = log->segments[0]->base_offset;
    log->start_offset = log_start > first ? log_start : first;
    log->synced_offset = log->end_offset;
    if (!report->recovered) {
        log->flushed_offset = log->end_offset;
    }
    return log->start_offset > log->end_offset ? fmq_log_reset(log, log->start_offset) : FMQ_OK;
}

int fmq_log_open(const fmq_env *env, fmq_files *files, const fmq_log_open_options *options,
                 fmq_log **out, fmq_recovery *recovery) {
    *recovery = (fmq_recovery){.truncated_at = -1};
    *out = NULL;
    size_t dir_size = strlen(options->dir) + 1;
    if (dir_size + FMQ_NAME_ROOM > FMQ_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    /* The shared LRU belongs to another thread until the log does. */
    fmq_files own = {.env = env, .max_open = 1};
    fmq_log *log = fmq_alloc(env, sizeof *log);
    if (log == NULL) {
        return -ENOMEM;
    }
    *log = (fmq_log){.env = env,
                     .files = &own,
                     .config = options->config,
                     .snapshot_offset = -1,
                     .snapshot_unsynced = -1,
                     .file_ready = -1,
                     .dir = fmq_alloc(env, dir_size)};
    int result = log->dir == NULL ? -ENOMEM : FMQ_OK;
    if (result == FMQ_OK) {
        memcpy(log->dir, options->dir, dir_size);
        result = load(log, options, recovery);
    }
    fmq_files_close_all(&own);
    if (result != FMQ_OK) {
        fmq_log_free(log);
        return result;
    }
    log->files = files;
    for (int32_t i = 0; i < log->segment_count; i++) {
        log->segments[i]->files = files;
    }
    *out = log;
    return FMQ_OK;
}
