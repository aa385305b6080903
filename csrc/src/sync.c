/* Durability: sync jobs, flush, close. */
#include "fastmq/log.h"

#include <fcntl.h>

#include "log_impl.h"
#include "paths.h"

/* The index of an idle log is kept in memory up to this size. */
#define IDLE_INDEX_ENTRIES 16

/* A name of its own: a truncation writes the epochs, too, while a flush job runs. */
#define EPOCHS_SUFFIX ".flush" FMQ_SUFFIX_TMP

int64_t fmq_log_unwritten(const fmq_log *log) {
    int64_t bytes = log->pending.bytes;
    for (const fmq_sync_job *job = log->jobs; job != NULL; job = job->next) {
        bytes += job->writes.bytes;
    }
    return bytes;
}

bool fmq_log_is_usable(const fmq_log *log) {
    return !log->failed;
}

int fmq_log_write_pending(fmq_log *log) {
    /* What a job took may not be in the file either; writing it twice does no harm. */
    int result = FMQ_OK;
    for (const fmq_sync_job *job = log->jobs; result == FMQ_OK && job != NULL; job = job->next) {
        result = fmq_pending_write(log->env, job->writes.head);
    }
    if (result == FMQ_OK) {
        result = fmq_pending_write(log->env, log->pending.head);
    }
    if (result == FMQ_OK) {
        for (const fmq_sync_job *job = log->jobs; job != NULL; job = job->next) {
            fmq_pending_note_written(job->writes.head, &(fmq_pending_list){0});
        }
        fmq_pending_note_written(log->pending.head, &(fmq_pending_list){0});
        fmq_pending_free(log->env, &log->pending);
    }
    return fmq_log_failed(log, result);
}

bool fmq_log_needs_sync(const fmq_log *log) {
    return !log->failed && log->synced_offset < log->end_offset;
}

int fmq_log_sync_begin(fmq_log *log, fmq_sync_job *job) {
    *job = (fmq_sync_job){.dir = log->dir, .end_offset = log->synced_offset, .new_base = -1};
    if (log->failed) {
        return -EIO;
    }
    const int32_t room = (int32_t)(sizeof job->segments / sizeof job->segments[0]);
    for (int32_t i = fmq_log_find_segment(log, log->synced_offset); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->end_offset <= log->synced_offset) {
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
    job->env = log->env; /* the sign that it has begun */
    job->writes.head = log->pending.head;
    job->writes.tail = log->pending.tail;
    job->writes.bytes = log->pending.bytes;
    log->pending = (fmq_pending_list){0};
    if (log->file_wanted && log->jobs == NULL) {
        job->new_base = log->end_offset;
        log->file_under_way = true;
    }
    job->sync_dir = log->dir_change != log->dir_change_synced;
    job->dir_change = log->dir_change;
    job->next = log->jobs;
    log->jobs = job;
    return FMQ_OK;
}

/* A file system that shuts itself down while it syncs may report success for bytes that it dropped
 * (seen with ext4); from then on it refuses to read. */
static int check_alive(const fmq_env *env, int fd) {
    uint8_t byte;
    int64_t got = env->pread(env->ctx, fd, &byte, 1, 0);
    return got < 0 ? (int)got : FMQ_OK;
}

/* The file of the next segment; no more than its name, so that taking it waits for nothing. */
static int create_next(const fmq_sync_job *job) {
    const fmq_env *env = job->env;
    char path[FMQ_PATH_MAX];
    fmq_path(path, job->dir, job->new_base, FMQ_SUFFIX_LOG);
    int fd = env->open(env->ctx, path, O_RDWR | O_CREAT, 0644);
    if (fd < 0) {
        return fd;
    }
    int64_t size = env->file_size(env->ctx, fd);
    env->close(env->ctx, fd);
    return size < 0 ? (int)size : size > 0 ? -EEXIST : FMQ_OK;
}

int fmq_sync_job_run(fmq_sync_job *job) {
    const fmq_env *env = job->env;
    job->new_result = job->new_base >= 0 ? create_next(job) : FMQ_OK;
    int written = fmq_pending_write(env, job->writes.head);
    if (written != FMQ_OK) {
        job->write_failed = true;
        return written;
    }
    for (int32_t i = 0; i < job->segment_count; i++) {
        int result = env->fdatasync(env->ctx, job->segments[i]->fd);
        if (result == FMQ_OK) {
            result = check_alive(env, job->segments[i]->fd);
        }
        if (result != FMQ_OK) {
            return result;
        }
    }
    return job->sync_dir ? env->sync_dir(env->ctx, job->dir) : FMQ_OK;
}

/* Deferred appends are in the file now, or wait for room on the disk, or are lost with the log. */
static void take_writes_back(fmq_log *log, fmq_sync_job *job, int result) {
    fmq_pending_list writes = {job->writes.head, job->writes.tail, job->writes.bytes};
    job->writes.head = job->writes.tail = NULL;
    log->no_room = job->write_failed && fmq_is_passing_error(result);
    if (log->no_room) {
        fmq_pending_put_back(&log->pending, &writes);
        return;
    }
    fmq_pending_note_written(writes.head, &log->pending);
    fmq_pending_free(log->env, &writes);
    log->failed = log->failed || result != FMQ_OK;
}

/* The job's new file becomes that of the next segment, if the log still ends where it did. */
static void take_new_file(fmq_log *log, const fmq_sync_job *job) {
    log->file_wanted = log->file_under_way = false;
    log->file_failed = job->new_result != FMQ_OK;
    if (log->file_failed || log->failed) {
        return;
    }
    log->file_ready = job->new_base;
    if (job->new_base != log->end_offset) {
        (void)fmq_log_drop_ready_file(log);
    }
}

void fmq_log_sync_end(fmq_log *log, fmq_sync_job *job, int result) {
    if (job->env != NULL) {
        fmq_sync_job **link = &log->jobs;
        while (*link != job) {
            link = &(*link)->next;
        }
        *link = job->next;
    }
    assert(job->env != NULL || result != FMQ_OK);
    for (int32_t i = 0; i < job->segment_count; i++) {
        fmq_segment_unpin(job->segments[i]);
        fmq_segment_unref(job->segments[i]);
    }
    job->segment_count = 0;
    take_writes_back(log, job, result);
    if (job->env != NULL && job->new_base >= 0) {
        take_new_file(log, job);
    }
    if (log->failed || result != FMQ_OK) {
        return;
    }
    if (job->sync_dir && (int32_t)(job->dir_change - log->dir_change_synced) > 0) {
        log->dir_change_synced = job->dir_change;
    }
    if (job->end_offset > log->synced_offset) {
        log->synced_offset = job->end_offset;
    }
}

/* ---- flush -----------------------------------------------------------------------------------*/

/* Write the index of a segment, unless it is small enough to be read instead.  Recovery trusts what
 * an index file says of offsets below the recovery point: one that exists is put right. */
static int write_index(fmq_log *log, fmq_segment *segment, fmq_flush_job *job) {
    const int32_t room = (int32_t)(sizeof job->index_bases / sizeof job->index_bases[0]);
    bool is_dirty = segment->index.loaded && segment->index.dirty;
    if (segment->size == 0 || (!segment->index_unsynced && !is_dirty) ||
        (!segment->sealed && !segment->has_index_files && segment->size <= FMQ_SMALL_SEGMENT)) {
        return FMQ_OK;
    }
    bool whole;
    bool is_late = job->index_count == room; /* too many for the job: wait for this one */
    int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result == FMQ_OK) {
        result = fmq_segment_save_index(segment, is_late);
    }
    if (result == FMQ_OK) {
        segment->index_unsynced = false;
        if (!is_late) {
            job->index_bases[job->index_count++] = segment->base_offset;
        }
    }
    return result;
}

static bool is_segment_base(const fmq_log *log, int64_t offset) {
    return log->segments[fmq_log_find_segment(log, offset)]->base_offset == offset;
}

/* A snapshot at the log end, unless the headers since the last one are read as fast. */
static int write_snapshot(fmq_log *log, fmq_flush_job *job) {
    int64_t previous = log->snapshot_offset;
    if (previous == log->end_offset) {
        job->snapshot_offset = log->snapshot_unsynced;
    } else if (log->producers.count > 0 || previous >= 0 || log->size > FMQ_SMALL_SEGMENT) {
        int result = fmq_producers_save(log->env, &log->producers, log->dir, log->end_offset);
        if (result != FMQ_OK) {
            return result;
        }
        log->snapshot_offset = job->snapshot_offset = log->end_offset;
        if (previous >= 0 && !is_segment_base(log, previous)) {
            job->obsolete_snapshot = previous;
        }
    }
    log->snapshot_unsynced = -1;
    return FMQ_OK;
}

/* A job takes a few segments only; those before them are waited for. */
static int sync_oldest(fmq_log *log) {
    const int32_t room = (int32_t)(sizeof((fmq_sync_job *)0)->segments / sizeof(fmq_segment *));
    while (log->segment_count - fmq_log_find_segment(log, log->synced_offset) > room) {
        fmq_sync_job job;
        int result = fmq_log_sync_begin(log, &job);
        if (result != FMQ_OK) {
            return result;
        }
        int64_t synced = log->synced_offset;
        result = fmq_sync_job_run(&job);
        fmq_log_sync_end(log, &job, result);
        if (result != FMQ_OK || log->synced_offset == synced) {
            return result;
        }
    }
    return FMQ_OK;
}

static int write_files(fmq_log *log, fmq_flush_job *job) {
    int result = sync_oldest(log);
    for (int32_t i = fmq_log_find_segment(log, log->flushed_offset);
         result == FMQ_OK && i < log->segment_count; i++) {
        result = write_index(log, log->segments[i], job);
    }
    if (result == FMQ_OK) {
        result = write_snapshot(log, job);
    }
    if (result == FMQ_OK && log->epochs.dirty) {
        result = fmq_epochs_write(log->env, &log->epochs, log->dir, EPOCHS_SUFFIX);
        job->has_epochs = result == FMQ_OK;
        job->epoch_saves = log->epochs.saves;
    }
    return result;
}

/* There will be no job: what it would have synced is left to the next one. */
static void abandon_files(fmq_log *log, const fmq_flush_job *job) {
    for (int32_t i = 0; i < job->index_count; i++) {
        log->segments[fmq_log_find_segment(log, job->index_bases[i])]->index_unsynced = true;
    }
    if (job->snapshot_offset >= 0) {
        log->snapshot_unsynced = job->snapshot_offset;
    }
    log->epochs.dirty = log->epochs.dirty || job->has_epochs;
}

int fmq_log_flush_begin(fmq_log *log, fmq_flush_job *job) {
    *job = (fmq_flush_job){.snapshot_offset = -1, .obsolete_snapshot = -1};
    if (log->failed) {
        return -EIO;
    }
    /* What is written below takes the active segment for one that may go on. */
    log->file_wanted = false;
    int dropped = fmq_log_drop_ready_file(log);
    if (dropped != FMQ_OK) {
        return dropped;
    }
    bool is_needed = log->flushed_offset < log->end_offset || log->epochs.dirty ||
                     log->dir_change != log->dir_change_synced;
    fmq_index *index = &fmq_log_active(log)->index;
    if (!is_needed && !index->dirty && index->offsets.capacity > IDLE_INDEX_ENTRIES) {
        fmq_index_free(log->env, index); /* nothing was written since the last flush */
    }
    /* Files that speak of batches are written after these. */
    int result = fmq_log_write_pending(log);
    if (result == FMQ_OK && is_needed) {
        result = write_files(log, job);
    }
    if (result == FMQ_OK) {
        result = fmq_log_sync_begin(log, &job->sync);
    }
    if (result != FMQ_OK) {
        abandon_files(log, job);
    }
    job->is_needed = is_needed && result == FMQ_OK;
    return fmq_log_failed(log, result);
}

/* Retention and truncation may have removed the file meanwhile. */
static int sync_file(const fmq_sync_job *job, int64_t offset, const char *suffix) {
    const fmq_env *env = job->env;
    char path[FMQ_PATH_MAX];
    fmq_path(path, job->dir, offset, suffix);
    int fd = env->open(env->ctx, path, O_RDWR, 0);
    if (fd < 0) {
        return fd == -ENOENT ? FMQ_OK : fd;
    }
    int result = env->fdatasync(env->ctx, fd);
    env->close(env->ctx, fd);
    return result;
}

int fmq_flush_job_run(fmq_flush_job *job) {
    if (!job->is_needed) {
        return FMQ_OK;
    }
    const fmq_env *env = job->sync.env;
    job->sync.sync_dir = false; /* last, when all files have been synced */
    int result = fmq_sync_job_run(&job->sync);
    for (int32_t i = 0; result == FMQ_OK && i < job->index_count; i++) {
        result = sync_file(&job->sync, job->index_bases[i], FMQ_SUFFIX_INDEX);
        if (result == FMQ_OK) {
            result = sync_file(&job->sync, job->index_bases[i], FMQ_SUFFIX_TIMEINDEX);
        }
    }
    if (result == FMQ_OK && job->snapshot_offset >= 0) {
        result = sync_file(&job->sync, job->snapshot_offset, FMQ_SUFFIX_SNAPSHOT);
    }
    if (result == FMQ_OK && job->has_epochs) {
        result = fmq_epochs_install(env, job->sync.dir, EPOCHS_SUFFIX);
    }
    job->sync.sync_dir = true;
    return result == FMQ_OK ? env->sync_dir(env->ctx, job->sync.dir) : result;
}

int fmq_log_flush_end(fmq_log *log, fmq_flush_job *job, int result) {
    if (!job->is_needed) {
        job->sync.sync_dir = false;
    }
    fmq_log_sync_end(log, &job->sync, result);
    if (log->failed) {
        return result != FMQ_OK ? result : -EIO;
    }
    if (result != FMQ_OK) { /* no room: the next job does it all again */
        abandon_files(log, job);
        return result;
    }
    if (job->has_epochs && job->epoch_saves != log->epochs.saves) {
        log->epochs.dirty = true; /* the job may have put an older file over that of a cut */
    }
    if (job->obsolete_snapshot >= 0 && log->snapshot_offset != job->obsolete_snapshot) {
        char path[FMQ_PATH_MAX];
        fmq_path(path, log->dir, job->obsolete_snapshot, FMQ_SUFFIX_SNAPSHOT);
        result = log->env->unlink(log->env->ctx, path);
        result = result == -ENOENT ? FMQ_OK : fmq_log_failed(log, result);
    }
    if (job->sync.end_offset > log->flushed_offset) {
        log->flushed_offset = job->sync.end_offset;
    }
    return result;
}

int fmq_log_flush(fmq_log *log) {
    fmq_flush_job job;
    int result = fmq_log_flush_begin(log, &job);
    return result != FMQ_OK ? result : fmq_log_flush_end(log, &job, fmq_flush_job_run(&job));
}

int fmq_log_close(fmq_log *log, bool clean) {
    assert(log->jobs == NULL);
    int result = clean ? fmq_log_flush(log) : FMQ_OK;
    fmq_log_free(log);
    return result;
}

void fmq_log_begin_delete(fmq_log *log) {
    assert(log->jobs == NULL);
    for (int32_t i = 0; i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->refs > 1 && segment->file_exists && fmq_segment_pin(segment) >= 0) {
            fmq_segment_unpin(segment);
        }
    }
}

void fmq_log_end_delete(fmq_log *log) {
    for (int32_t i = 0; i < log->segment_count; i++) {
        /* The old name may be taken by another partition: no file may be opened by it any more. */
        log->segments[i]->file_exists = log->segments[i]->fd >= 0;
    }
    fmq_log_free(log);
}

int fmq_log_delete(fmq_log *log, const char *renamed_dir) {
    fmq_log_begin_delete(log);
    int result = log->env->rename(log->env->ctx, log->dir, renamed_dir);
    fmq_log_end_delete(log);
    return result;
}
