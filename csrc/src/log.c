/* Append, roll, sync: the life of an open log. */
#include "fastmq/log.h"

#include <fcntl.h>

#include "log_impl.h"
#include "paths.h"

int64_t fmq_log_start(const fmq_log *log) {
    return log->start_offset;
}

int64_t fmq_log_end(const fmq_log *log) {
    return log->end_offset;
}

int64_t fmq_log_size(const fmq_log *log) {
    return log->size;
}

int32_t fmq_log_segment_count(const fmq_log *log) {
    return log->segment_count;
}

int64_t fmq_log_synced(const fmq_log *log) {
    return log->synced_offset;
}

int32_t fmq_log_last_epoch(const fmq_log *log) {
    return fmq_epochs_last(&log->epochs);
}

void fmq_log_set_config(fmq_log *log, const fmq_log_config *config) {
    log->config = *config;
}

const fmq_log_config *fmq_log_get_config(const fmq_log *log) {
    return &log->config;
}

void fmq_log_epoch_end(const fmq_log *log, int32_t epoch, int32_t *out_epoch, int64_t *out_offset) {
    const fmq_epochs *epochs = &log->epochs;
    *out_epoch = -1;
    *out_offset = -1;
    if (epoch < 0 || epoch > fmq_epochs_last(epochs)) {
        return;
    }
    int32_t i = fmq_epochs_floor_epoch(epochs, epoch);
    bool is_last = i == (int32_t)epochs->count - 1;
    *out_epoch = i < 0 ? epoch : epochs->entries[i].epoch;
    *out_offset = is_last ? log->end_offset : epochs->entries[i + 1].start_offset;
}

int32_t fmq_log_epoch_of(const fmq_log *log, int64_t offset) {
    int32_t i = fmq_epochs_floor_offset(&log->epochs, offset);
    return i < 0 ? -1 : log->epochs.entries[i].epoch;
}

int32_t fmq_log_producers(const fmq_log *log, fmq_producer_view *out, int32_t max) {
    int32_t count = 0;
    for (uint32_t i = 0; i < log->producers.capacity; i++) {
        if (log->producers.slots[i].id != FMQ_NO_PRODUCER_ID) {
            if (count < max) {
                fmq_producers_view(&log->producers.slots[i], &out[count]);
            }
            count++;
        }
    }
    return count;
}

int32_t fmq_log_expire_producers(fmq_log *log, int64_t now_ms) {
    int32_t expired =
        fmq_producers_expire(&log->producers, now_ms, log->config.producer_id_expiration_ms);
    if (log->producers.count == 0) {
        fmq_producers_free(log->env, &log->producers);
    }
    return expired;
}

/* ---- segments --------------------------------------------------------------------------------*/

int32_t fmq_log_find_segment(const fmq_log *log, int64_t offset) {
    int32_t low = 0, high = log->segment_count; /* bases below `low` are <= offset */
    if (fmq_log_active(log)->base_offset <= offset) {
        return log->segment_count - 1;
    }
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (log->segments[middle]->base_offset <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : low - 1;
}

static int reserve_segment(fmq_log *log) {
    if (log->segment_count < log->segment_capacity) {
        return FMQ_OK;
    }
    int32_t capacity = log->segment_capacity == 0 ? 1 : log->segment_capacity * 2;
    void *segments = fmq_realloc(log->env, log->segments, (size_t)capacity * sizeof(fmq_segment *));
    if (segments == NULL) {
        return -ENOMEM;
    }
    log->segments = segments;
    log->segment_capacity = capacity;
    return FMQ_OK;
}

int fmq_log_push_segment(fmq_log *log, fmq_segment *segment) {
    int result = reserve_segment(log);
    if (result == FMQ_OK) {
        log->segments[log->segment_count++] = segment;
    }
    return result;
}

void fmq_log_forget_boundaries(fmq_log *log) {
    memset(log->recent_appends, 0, sizeof log->recent_appends);
    memset(log->recent_reads, 0, sizeof log->recent_reads);
}

int fmq_log_drop_oldest(fmq_log *log) {
    fmq_segment *segment = log->segments[0];
    assert(log->segment_count > 1);
    if (segment->refs > 1) {
        int fd = fmq_segment_pin(segment); /* while it has its name */
        if (fd >= 0) {
            fmq_segment_unpin(segment);
        }
    }
    int result = fmq_segment_delete_files(segment, false);
    if (result != FMQ_OK) {
        return fmq_log_failed(log, result);
    }
    log->size -= segment->size;
    log->segment_count--;
    memmove(log->segments, log->segments + 1, (size_t)log->segment_count * sizeof(fmq_segment *));
    segment->file_exists = false;
    fmq_segment_detach(segment, INT64_MAX);
    fmq_log_forget_boundaries(log);
    log->dir_change++;
    return FMQ_OK;
}

int fmq_log_drop_newest(fmq_log *log) {
    fmq_segment *segment = fmq_log_active(log);
    int result = fmq_segment_delete_files(segment, true);
    if (result == FMQ_OK) {
        result = log->env->sync_dir(log->env->ctx, log->dir);
    }
    if (result != FMQ_OK) {
        return fmq_log_failed(log, result);
    }
    log->size -= segment->size;
    log->segment_count--;
    segment->file_exists = false;
    fmq_segment_detach(segment, 0);
    fmq_log_forget_boundaries(log);
    return FMQ_OK;
}

void fmq_log_free(fmq_log *log) {
    fmq_pending_free(log->env, &log->pending);
    for (int32_t i = 0; i < log->segment_count; i++) {
        fmq_segment_detach(log->segments[i], INT64_MAX);
    }
    fmq_producers_free(log->env, &log->producers);
    fmq_epochs_free(log->env, &log->epochs);
    fmq_free(log->env, log->segments);
    fmq_free(log->env, log->dir);
    fmq_free(log->env, log);
}

int fmq_log_ready_active(fmq_log *log) {
    fmq_segment *segment = fmq_log_active(log);
    if (segment->stats_known && segment->index.loaded) {
        return FMQ_OK;
    }
    bool whole;
    int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result == FMQ_OK) {
        result = fmq_segment_load_stats(segment, log->config.index_interval_bytes, &whole);
    }
    return result;
}

/* ---- roll ------------------------------------------------------------------------------------*/

/* A snapshot where the new segment begins; without space the older one has to do. */
static int snapshot_at_roll(fmq_log *log, int64_t offset) {
    int result = fmq_producers_save(log->env, &log->producers, log->dir, offset);
    if (result == FMQ_OK) {
        log->snapshot_offset = offset;
        log->snapshot_unsynced = offset;
    }
    return fmq_is_passing_error(result) ? FMQ_OK : result;
}

/* Make what the sealed segment leaves behind; nothing of it is seen unless the roll succeeds.  What
 * is not written is left to the next flush. */
static int finish_active(fmq_log *log, bool write) {
    fmq_segment *segment = fmq_log_active(log);
    int result = fmq_log_ready_active(log);
    if (result == FMQ_OK) {
        result = fmq_segment_seal(segment);
    }
    if (result != FMQ_OK) {
        return result;
    }
    segment->sealed = false; /* until there is a new one */
    segment->index_unsynced = true;
    return write ? fmq_segment_save_index(segment, false) : FMQ_OK;
}

/* Give back the blocks behind the end of a file that grows no more; they are only space. */
static void free_preallocated(fmq_segment *segment) {
    int fd = fmq_segment_pin(segment);
    if (fd >= 0) {
        (void)segment->env->ftruncate(segment->env->ctx, fd, segment->size);
        fmq_segment_unpin(segment);
    }
}

int fmq_log_drop_ready_file(fmq_log *log) {
    char path[FMQ_PATH_MAX];
    if (log->file_ready < 0) {
        return FMQ_OK;
    }
    fmq_path(path, log->dir, log->file_ready, FMQ_SUFFIX_LOG);
    log->file_ready = -1;
    log->dir_change++;
    int result = log->env->unlink(log->env->ctx, path);
    return result == -ENOENT ? FMQ_OK : fmq_log_failed(log, result);
}

/* The file of a new segment: the one that a job made, where there is one. */
static int have_file(fmq_log *log, fmq_segment *segment) {
    if (log->file_ready >= 0 && log->file_ready == segment->base_offset) {
        int result = fmq_segment_take_file(segment);
        log->file_ready = result == FMQ_OK ? -1 : log->file_ready;
        return result;
    }
    int result = fmq_log_drop_ready_file(log);
    int64_t bytes = log->config.preallocate ? log->config.segment_bytes : 0;
    return result == FMQ_OK ? fmq_segment_create_file(segment, bytes) : result;
}

int fmq_log_roll(fmq_log *log, int64_t base_offset) {
    fmq_segment *old = fmq_log_active(log);
    assert(base_offset >= log->end_offset && old->size > 0);
    /* With a file that is there already nothing here touches the disk. */
    bool is_ready = log->file_ready >= 0 && log->file_ready == base_offset;
    int result = is_ready ? FMQ_OK : fmq_log_write_pending(log);
    if (result == FMQ_OK) {
        result = reserve_segment(log);
    }
    if (result == FMQ_OK) {
        result = finish_active(log, !is_ready);
    }
    if (result != FMQ_OK) {
        return fmq_log_failed(log, result);
    }
    fmq_segment *segment = fmq_segment_new(log->env, log->files, log->dir, base_offset);
    if (segment == NULL) {
        return -ENOMEM;
    }
    result = have_file(log, segment);
    if (result != FMQ_OK) {
        fmq_segment_unref(segment);
        return fmq_log_failed(log, result);
    }
    old->sealed = true;
    old->end_offset = base_offset;
    segment->stats_known = segment->index.loaded = true;
    if (log->config.preallocate) {
        free_preallocated(old);
    }
    log->segments[log->segment_count++] = segment;
    log->dir_change++;
    memset(log->recent_appends, 0, sizeof log->recent_appends);
    return is_ready ? FMQ_OK : fmq_log_failed(log, snapshot_at_roll(log, base_offset));
}

static bool is_roll_due(const fmq_log *log, const fmq_batch_header *h) {
    const fmq_segment *segment = fmq_log_active(log);
    const fmq_log_config *config = &log->config;
    if (segment->size == 0) {
        return false;
    }
    int64_t size = segment->size + h->size;
    if (log->file_ready >= 0) {
        return true; /* a batch wanted it; none may be stored under a name that lies in between */
    }
    if (size > config->segment_bytes || size > INT32_MAX ||
        fmq_batch_last_offset(h) - segment->base_offset > INT32_MAX) {
        return true;
    }
    const fmq_index *index = &segment->index;
    int64_t index_bytes = config->segment_index_bytes;
    if (((int64_t)index->offsets.count + 1) * FMQ_OFFSET_ENTRY_SIZE > index_bytes ||
        ((int64_t)index->times.count + 2) * FMQ_TIME_ENTRY_SIZE > index_bytes) {
        return segment->index.offsets.count > 0;
    }
    return segment->first_timestamp >= 0 && h->max_timestamp > segment->first_timestamp &&
           h->max_timestamp - segment->first_timestamp > config->segment_ms;
}

int fmq_log_roll_if_due(fmq_log *log, int64_t now_ms) {
    fmq_segment *segment = fmq_log_active(log);
    if (log->failed) {
        return -EIO;
    }
    if (segment->size == 0) {
        return FMQ_OK;
    }
    int result = fmq_log_ready_active(log);
    if (result != FMQ_OK) {
        return result;
    }
    if (segment->first_timestamp < 0 || now_ms <= segment->first_timestamp ||
        now_ms - segment->first_timestamp <= log->config.segment_ms) {
        return FMQ_OK;
    }
    return fmq_log_roll(log, log->end_offset);
}

/* ---- append ----------------------------------------------------------------------------------*/

static int refuse(fmq_append *append, int code, const char *reason) {
    append->reason = reason;
    return code;
}

/* Checks for batches that come from a leader or from a coordinator of this broker. */
static int check_trusted(const fmq_log *log, fmq_append *append, const fmq_batch_header *h) {
    if (h->size != append->size) {
        return refuse(append, FMQ_ERR_INVALID_RECORD, "not exactly one batch");
    }
    if (!fmq_batch_crc_ok(append->data, h)) {
        return refuse(append, FMQ_ERR_CORRUPT_MESSAGE, "the CRC does not fit the batch");
    }
    if (append->origin == FMQ_ORIGIN_FOLLOWER && h->base_offset < log->end_offset) {
        return refuse(append, FMQ_ERR_OFFSET_OUT_OF_RANGE, "the batch begins below the log end");
    }
    return FMQ_OK;
}

/* Everything that can be said without touching the disk.  `append->duplicate` ends it well. */
static int check_batch(fmq_log *log, fmq_append *append, fmq_batch_header *h) {
    const fmq_log_config *config = &log->config;
    int result = fmq_batch_parse(append->data, append->size, h);
    if (result != FMQ_OK) {
        return refuse(append, result < 0 ? FMQ_ERR_CORRUPT_MESSAGE : result,
                      "the batch header is not valid");
    }
    if (append->origin != FMQ_ORIGIN_CLIENT) {
        result = check_trusted(log, append, h);
    } else {
        fmq_batch_limits limits = {.max_message_bytes = config->max_message_bytes,
                                   .create_time = !config->log_append_time,
                                   .timestamp_before_max_ms = config->timestamp_before_max_ms,
                                   .timestamp_after_max_ms = config->timestamp_after_max_ms};
        result = fmq_batch_validate(append->data, append->size, h, &limits, append->now_ms,
                                    &append->reason);
    }
    if (result != FMQ_OK) {
        return result;
    }
    if (append->origin != FMQ_ORIGIN_FOLLOWER && h->size > config->segment_bytes) {
        return refuse(append, FMQ_ERR_RECORD_LIST_TOO_LARGE, "the batch is larger than a segment");
    }
    if (append->origin == FMQ_ORIGIN_CLIENT && h->producer_id >= 0) {
        fmq_producer_verdict verdict;
        result = fmq_producers_check(&log->producers, h, &verdict, &append->reason);
        if (result == FMQ_OK && verdict.duplicate) {
            append->duplicate = true;
            append->base_offset = verdict.base_offset;
            append->last_offset = verdict.last_offset;
            append->log_append_time_ms = config->log_append_time ? verdict.timestamp : -1;
        }
    }
    return result;
}

/* Write the final offset, epoch and time into the batch. */
static int number_batch(const fmq_log *log, fmq_append *append, fmq_batch_header *h) {
    if (append->origin != FMQ_ORIGIN_FOLLOWER) {
        h->base_offset = log->end_offset;
        h->leader_epoch = append->leader_epoch;
        fmq_batch_set_base_offset(append->data, h->base_offset);
        fmq_batch_set_leader_epoch(append->data, h->leader_epoch);
        if (log->config.log_append_time) {
            fmq_batch_set_log_append_time(append->data, append->size, append->now_ms);
            h->max_timestamp = append->now_ms;
            append->log_append_time_ms = append->now_ms;
        }
    }
    if (h->base_offset < 0 || h->base_offset > INT64_MAX - h->last_offset_delta - 1) {
        return refuse(append, FMQ_ERR_OFFSET_OUT_OF_RANGE, "the offset is not valid");
    }
    append->base_offset = h->base_offset;
    append->last_offset = fmq_batch_last_offset(h);
    return FMQ_OK;
}

/* Memory for everything that follows the write, so that nothing can fail after it. */
static int reserve_memory(fmq_log *log, const fmq_batch_header *h) {
    int result = fmq_index_reserve(log->env, &fmq_log_active(log)->index);
    if (result == FMQ_OK && h->producer_id >= 0) {
        result = fmq_producers_reserve(log->env, &log->producers);
    }
    if (result == FMQ_OK && h->leader_epoch > fmq_epochs_last(&log->epochs)) {
        result = fmq_epochs_reserve(log->env, &log->epochs);
    }
    return result;
}

/* One pwrite at the end of the active segment, or no trace of it. */
static int write_batch(fmq_log *log, const fmq_append *append) {
    const fmq_env *env = log->env;
    const uint8_t *data = append->data;
    size_t size = append->size;
    fmq_segment *segment = fmq_log_active(log);
    if (append->deferred) {
        return fmq_log_failed(log, fmq_pending_add(env, &log->pending, segment, data, size));
    }
    int result = fmq_log_write_pending(log); /* bytes enter the file in order */
    if (result != FMQ_OK) {
        return result;
    }
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fmq_log_failed(log, fd);
    }
    int64_t wrote = env->pwrite(env->ctx, fd, data, size, segment->size);
    if (wrote != (int64_t)size) {
        /* Regular files take less than asked for when space ends. */
        result = wrote < 0 ? (int)wrote : -ENOSPC;
        int cut = env->ftruncate(env->ctx, fd, segment->size);
        log->failed = log->failed || cut != FMQ_OK;
    }
    fmq_segment_unpin(segment);
    return fmq_log_failed(log, result);
}

static void remember_append(fmq_log *log, fmq_segment *segment, int64_t offset, int64_t position) {
    log->recent_appends[log->next_append] =
        (fmq_boundary){.segment = segment, .offset = offset, .position = position};
    log->next_append = (uint8_t)((log->next_append + 1) % FMQ_RECENT_APPENDS);
}

/* The batch is in the file: let everything know. */
static void commit_batch(fmq_log *log, const fmq_append *append, const fmq_batch_header *h) {
    fmq_segment *segment = fmq_log_active(log);
    if (h->base_offset != log->end_offset) {
        fmq_log_forget_boundaries(log);
    }
    remember_append(log, segment, h->base_offset, segment->size);
    fmq_segment_index_batch(segment, h, segment->size, log->config.index_interval_bytes);
    fmq_epochs_assign(&log->epochs, h->leader_epoch, h->base_offset);
    if (h->producer_id >= 0) {
        fmq_txn_marker marker = {.is_marker = false, .coordinator_epoch = -1};
        if ((h->attributes & FMQ_ATTR_CONTROL) != 0) {
            marker = fmq_txn_marker_read(append->data, h);
        }
        fmq_producers_update(&log->producers, h, &marker);
    }
    segment->size += h->size;
    log->size += h->size;
    log->end_offset = segment->end_offset = fmq_batch_last_offset(h) + 1;
}

/* Have an active segment that takes the batch. */
static int make_room(fmq_log *log, const fmq_batch_header *h) {
    fmq_segment *segment = fmq_log_active(log);
    int result = fmq_log_ready_active(log);
    if (result != FMQ_OK) {
        return result;
    }
    bool is_far = fmq_batch_last_offset(h) - segment->base_offset > INT32_MAX;
    if (is_roll_due(log, h) || (is_far && segment->size > 0)) {
        bool is_far_anew = fmq_batch_last_offset(h) - log->end_offset > INT32_MAX;
        return fmq_log_roll(log, is_far_anew ? h->base_offset : log->end_offset);
    }
    if (is_far) {
        return FMQ_ERR_OFFSET_OUT_OF_RANGE; /* a follower resets the log before such a jump */
    }
    if (!segment->file_exists) {
        result = have_file(log, segment);
    }
    /* Whoever created the file: its name is durable before its first batch is. */
    log->dir_change += segment->size == 0 && result == FMQ_OK;
    return fmq_log_failed(log, result);
}

bool fmq_log_needs_file(fmq_log *log, const uint8_t *data, size_t size) {
    fmq_batch_header h;
    if (log->file_under_way) {
        return true;
    }
    if (log->failed || log->no_room || log->file_ready >= 0 || log->file_failed ||
        fmq_batch_parse(data, size, &h) != FMQ_OK || h.size > log->config.segment_bytes ||
        fmq_log_ready_active(log) != FMQ_OK) {
        return false; /* the append will say what is wrong */
    }
    h.base_offset = log->end_offset;
    if (log->config.log_append_time) {
        h.max_timestamp = log->env->wall_ms(log->env->ctx);
    }
    return !fmq_log_active(log)->file_exists || is_roll_due(log, &h);
}

void fmq_log_want_file(fmq_log *log) {
    log->file_wanted = true;
}

bool fmq_log_awaits_file(const fmq_log *log) {
    return log->file_under_way;
}

int fmq_log_append(fmq_log *log, fmq_append *append) {
    append->base_offset = append->last_offset = append->log_append_time_ms = -1;
    append->duplicate = false;
    append->reason = NULL;
    if (log->failed) {
        return -EIO;
    }
    if (log->file_under_way) { /* a follower, a moment after it has led */
        append->reason = "a file is being created";
        return -ENOMEM; /* an error that passes */
    }
    log->file_failed = false;
    if (log->no_room) {
        append->reason = "there is no room on the disk";
        return -ENOSPC;
    }
    fmq_batch_header h;
    int result = check_batch(log, append, &h);
    if (result != FMQ_OK || append->duplicate) {
        return result;
    }
    result = number_batch(log, append, &h);
    if (result == FMQ_OK) {
        result = make_room(log, &h);
    }
    if (result == FMQ_OK) {
        result = reserve_memory(log, &h);
    }
    if (result == FMQ_OK) {
        result = write_batch(log, append);
    }
    if (result == FMQ_OK) {
        commit_batch(log, append, &h);
    }
    return result;
}
