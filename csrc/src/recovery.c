/* Open a log: trust what was closed cleanly, check the rest batch by batch.
 *
 * Not trusted is every segment from the one that holds the recovery point on.  In it and after it
 * the log ends at the first byte that is not a valid batch, or where a segment does not begin at
 * the end of the one before (a file system may keep a later file and lose an earlier one).  Bytes
 * below the recovery point were acknowledged: a bad batch there is stepped over and left for
 * readers to meet.
 */
#include <fcntl.h>

#include "log_impl.h"
#include "paths.h"
#include "scan.h"

/* Reads of this size pass 1 GB/s from the page cache. */
#define SCAN_BUFFER_SIZE (1024 * 1024)

typedef struct fmq_recoverer {
    fmq_log *log;
    fmq_recovery *report;
    int64_t recovery_point;
    int64_t expected; /* offset that the next batch may begin at */
    uint8_t *buf;
    size_t buf_size;
    bool is_damaged; /* bad bytes at the end of the segment lie below the recovery point */
} fmq_recoverer;

/* A buffer for a scan of the segments from `first` on, no larger than they need. */
static uint8_t *alloc_buffer(const fmq_log *log, int32_t first, size_t *out_size) {
    int64_t size = FMQ_BATCH_HEADER_SIZE;
    for (int32_t i = first; i < log->segment_count; i++) {
        size = log->segments[i]->size > size ? log->segments[i]->size : size;
    }
    *out_size = size < SCAN_BUFFER_SIZE ? (size_t)size : SCAN_BUFFER_SIZE;
    return fmq_alloc(log->env, *out_size);
}

/* ---- one segment -----------------------------------------------------------------------------*/

/* Why the peeked batch cannot stand here, or NULL. */
static const char *find_fault(const fmq_recoverer *r, const fmq_segment *segment,
                              const fmq_batch_header *h) {
    if (h->base_offset < r->expected) {
        return "a batch offset goes back";
    }
    if (fmq_batch_last_offset(h) - segment->base_offset > INT32_MAX) {
        return "a batch offset lies too far from the segment's base";
    }
    return NULL;
}

/* Take over a batch that was found good. */
static int take_batch(fmq_recoverer *r, fmq_segment *segment, fmq_scan *scan,
                      const fmq_batch_header *h) {
    fmq_log *log = r->log;
    int result = fmq_index_reserve(log->env, &segment->index);
    if (result == FMQ_OK) {
        result = fmq_epochs_reserve(log->env, &log->epochs);
    }
    if (result == FMQ_OK && h->producer_id >= 0) {
        result = fmq_producers_reserve(log->env, &log->producers);
    }
    if (result != FMQ_OK) {
        return result;
    }
    if (h->producer_id >= 0) {
        fmq_txn_marker marker = {.is_marker = false, .coordinator_epoch = -1};
        const uint8_t *bytes;
        if ((h->attributes & FMQ_ATTR_CONTROL) != 0) {
            result = fmq_scan_bytes(scan, h->size, &bytes);
            if (result < 0) {
                return result;
            }
            if (result == 1) {
                marker = fmq_txn_marker_read(bytes, h);
            }
        }
        fmq_producers_update(&log->producers, h, &marker);
    }
    fmq_segment_index_batch(segment, h, scan->position, log->config.index_interval_bytes);
    fmq_epochs_assign(&log->epochs, h->leader_epoch, h->base_offset);
    r->expected = fmq_batch_last_offset(h) + 1;
    fmq_scan_advance(scan, h);
    return FMQ_OK;
}

/* Check the batch at the scan's position.  1 good, 0 at the end, 2 bad with `*reason`, -errno. */
static int check_batch(const fmq_recoverer *r, const fmq_segment *segment, fmq_scan *scan,
                       fmq_batch_header *h, const char **reason) {
    int result = fmq_scan_peek(scan, h);
    if (result != 1) {
        *reason = "a batch is cut or its header is not valid";
        return result;
    }
    *reason = find_fault(r, segment, h);
    if (*reason != NULL) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    *reason = "a batch does not fit its CRC";
    return fmq_scan_check_crc(scan, h);
}

/* Behind bad bytes, look for the next place where a valid batch begins.  1, 0 when there is none,
 * -errno. */
static int find_next_batch(const fmq_recoverer *r, const fmq_segment *segment, fmq_scan *scan) {
    fmq_batch_header h;
    const char *reason;
    for (scan->position++; scan->position < scan->end; scan->position++) {
        int result = check_batch(r, segment, scan, &h, &reason);
        if (result != FMQ_ERR_CORRUPT_MESSAGE) {
            return result;
        }
    }
    return 0;
}

/* Scan a segment from its first byte; its size, index and statistics are right afterwards.
 * 1 when all of it is good, 2 when it ends in bad bytes at `segment->size`, -errno. */
static int scan_segment(fmq_recoverer *r, fmq_segment *segment) {
    fmq_log *log = r->log;
    fmq_scan scan;
    fmq_batch_header h;
    const char *reason = NULL;
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    fmq_index_free(log->env, &segment->index);
    segment->unindexed_bytes = 0;
    segment->index.loaded = segment->index.dirty = segment->stats_known = true;
    fmq_scan_init(&scan, log->env, fd, 0, segment->size, r->buf, r->buf_size);
    int result;
    for (;;) {
        result = check_batch(r, segment, &scan, &h, &reason);
        if (result == 1) {
            result = take_batch(r, segment, &scan, &h);
        } else if (result == FMQ_ERR_CORRUPT_MESSAGE && r->expected < r->recovery_point) {
            r->report->reason = "damage below the recovery point was left as it is";
            int64_t bad_position = scan.position;
            result = find_next_batch(r, segment, &scan);
            /* Readers find the batch after the damage through an index entry of its own. */
            segment->unindexed_bytes = (uint32_t)log->config.index_interval_bytes + 1;
            r->is_damaged = result == 0;
            if (result == 0) {
                scan.position = bad_position;
                result = FMQ_ERR_CORRUPT_MESSAGE;
            } else if (result == 1) {
                result = FMQ_OK;
            }
        }
        if (result != FMQ_OK || scan.position >= scan.end) {
            break;
        }
    }
    fmq_segment_unpin(segment);
    r->report->bytes_scanned += scan.position;
    if (result == FMQ_ERR_CORRUPT_MESSAGE && !r->is_damaged) {
        r->report->reason = reason;
        r->report->truncated_at = r->expected;
        r->report->bytes_truncated += segment->size - scan.position;
        log->size -= segment->size - scan.position;
        segment->size = scan.position;
    }
    return result == FMQ_OK || result == 0 ? 1 : result;
}

/* ---- the untrusted part of the log -----------------------------------------------------------*/

/* Remove the segments behind `last`, newest first, so that a crash leaves no hole. */
static int drop_behind(fmq_recoverer *r, int32_t last) {
    fmq_log *log = r->log;
    while (log->segment_count - 1 > last) {
        r->report->bytes_truncated += fmq_log_active(log)->size;
        r->report->segments_deleted++;
        int result = fmq_log_drop_newest(log);
        if (result != FMQ_OK) {
            return result;
        }
    }
    return FMQ_OK;
}

/* Make the file as long as the good part of it. */
static int cut_file(fmq_log *log, fmq_segment *segment) {
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    int64_t size = log->env->file_size(log->env->ctx, fd);
    int result = size < 0 ? (int)size : FMQ_OK;
    if (result == FMQ_OK && size > segment->size) {
        result = log->env->ftruncate(log->env->ctx, fd, segment->size);
    }
    if (result == FMQ_OK) {
        result = log->env->fdatasync(log->env->ctx, fd);
    }
    fmq_segment_unpin(segment);
    return result;
}

/* A scanned segment that others follow: what a roll leaves behind. */
static int finish_sealed(fmq_recoverer *r, fmq_segment *segment) {
    fmq_log *log = r->log;
    int result = fmq_segment_seal(segment);
    if (result == FMQ_OK) {
        result = fmq_index_save(log->env, &segment->index, log->dir, segment->base_offset, false);
    }
    if (result == FMQ_OK) {
        segment->index_unsynced = true;
        segment->end_offset = r->expected;
        fmq_index_free(log->env, &segment->index);
        result = fmq_producers_save(log->env, &log->producers, log->dir, r->expected, false);
        log->snapshot_offset = log->snapshot_unsynced = r->expected;
    }
    return result;
}

/* The last segment ends in bytes that were acknowledged once: leave it alone, write to a new one.
 */
static int begin_after_damage(fmq_recoverer *r) {
    fmq_log *log = r->log;
    if (r->expected < r->recovery_point) {
        r->expected = r->recovery_point;
    }
    int result = finish_sealed(r, fmq_log_active(log));
    if (result != FMQ_OK) {
        return result;
    }
    fmq_segment *segment = fmq_segment_new(log->env, log->files, log->dir, r->expected);
    if (segment == NULL) {
        return -ENOMEM;
    }
    result = fmq_log_push_segment(log, segment);
    if (result != FMQ_OK) {
        fmq_segment_unref(segment);
        return result;
    }
    segment->stats_known = segment->index.loaded = true;
    return fmq_segment_create_file(segment, 0);
}

static int scan_from(fmq_recoverer *r, int32_t first) {
    fmq_log *log = r->log;
    int result = FMQ_OK;
    for (int32_t i = first; i < log->segment_count && result == FMQ_OK; i++) {
        fmq_segment *segment = log->segments[i];
        if (i > first && r->is_damaged && segment->base_offset <= r->recovery_point) {
            r->expected = segment->base_offset;
            r->is_damaged = false;
        }
        if (i > first && (segment->base_offset != r->expected || r->is_damaged)) {
            r->report->reason = "a segment does not begin where the one before ends";
            r->report->truncated_at = r->expected;
            result = drop_behind(r, i - 1);
            break;
        }
        if (i > first) {
            result = finish_sealed(r, log->segments[i - 1]);
        }
        segment->sealed = false;
        if (result == FMQ_OK && segment->size > 0) {
            r->report->recovered = true;
            r->report->indexes_rebuilt++;
            result = scan_segment(r, segment);
            bool is_cut = result == FMQ_ERR_CORRUPT_MESSAGE && !r->is_damaged;
            result = result > 0 ? FMQ_OK : result;
            if (is_cut && result == FMQ_OK) {
                result = drop_behind(r, i);
            }
            if (result == FMQ_OK) {
                result = cut_file(log, segment);
            }
        } else {
            segment->stats_known = segment->index.loaded = true;
        }
        segment->end_offset = r->expected;
    }
    if (result == FMQ_OK && r->is_damaged) {
        result = begin_after_damage(r);
    }
    return result;
}

/* ---- producer state and epochs of what is trusted --------------------------------------------*/

/* Walk over headers of [from, to) and give them to the producer table and, if asked, the epochs. */
static int replay_segment(fmq_log *log, fmq_segment *segment, int64_t from, int64_t to,
                          bool with_epochs, uint8_t *buf, size_t buf_size) {
    int64_t position = 0;
    if (from > segment->base_offset) {
        int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, NULL);
        if (result != FMQ_OK) {
            return result;
        }
        position = fmq_index_floor(&segment->index, (uint32_t)(from - segment->base_offset));
    }
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    fmq_scan scan;
    fmq_batch_header h;
    fmq_scan_init(&scan, log->env, fd, position, segment->size, buf, buf_size);
    int result;
    while ((result = fmq_scan_peek(&scan, &h)) == 1 && h.base_offset < to) {
        if (h.base_offset >= from && h.producer_id >= 0) {
            const uint8_t *bytes;
            fmq_txn_marker marker = {.is_marker = false, .coordinator_epoch = -1};
            if ((h.attributes & FMQ_ATTR_CONTROL) != 0 &&
                fmq_scan_bytes(&scan, h.size, &bytes) == 1) {
                marker = fmq_txn_marker_read(bytes, &h);
            }
            result = fmq_producers_reserve(log->env, &log->producers);
            if (result != FMQ_OK) {
                break;
            }
            fmq_producers_update(&log->producers, &h, &marker);
        }
        if (with_epochs) {
            result = fmq_epochs_reserve(log->env, &log->epochs);
            if (result != FMQ_OK) {
                break;
            }
            fmq_epochs_assign(&log->epochs, h.leader_epoch, h.base_offset);
        }
        fmq_scan_advance(&scan, &h);
    }
    fmq_segment_unpin(segment);
    return result < 0 ? result : FMQ_OK;
}

static int replay(fmq_log *log, int64_t from, int64_t to, bool with_epochs) {
    int result = FMQ_OK;
    if (from >= to) {
        return FMQ_OK;
    }
    int32_t first = fmq_log_find_segment(log, from);
    size_t buf_size;
    uint8_t *buf = alloc_buffer(log, first, &buf_size);
    if (buf == NULL) {
        return -ENOMEM;
    }
    for (int32_t i = first; i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->base_offset >= to) {
            break;
        }
        result = replay_segment(log, segment, from, to, with_epochs, buf, buf_size);
        if (result != FMQ_OK) {
            break;
        }
    }
    fmq_free(log->env, buf);
    return result;
}

static int load_producers(fmq_log *log, const fmq_dir_list *list, int64_t offset) {
    int64_t from = log->segments[0]->base_offset;
    fmq_producers_free(log->env, &log->producers);
    log->snapshot_offset = -1;
    for (int32_t i = list->snapshot_count - 1; i >= 0; i--) {
        if (list->snapshots[i] > offset) {
            continue;
        }
        int result = fmq_producers_load(log->env, &log->producers, log->dir, list->snapshots[i]);
        if (result < 0) {
            return result;
        }
        if (result == FMQ_OK) {
            from = log->snapshot_offset = list->snapshots[i];
            break;
        }
    }
    return replay(log, from, offset, false);
}

int fmq_log_load_producers(fmq_log *log, int64_t offset) {
    fmq_dir_list list;
    int result = fmq_dir_list_read(log->env, log->dir, false, &list);
    if (result == FMQ_OK) {
        result = load_producers(log, &list, offset);
        fmq_dir_list_free(log->env, &list);
    }
    return result;
}

/* Epochs of the batches below `offset`: from the file, else from the batches. */
static int load_epochs(fmq_log *log, int64_t offset) {
    int result = fmq_epochs_load(log->env, &log->epochs, log->dir);
    if (result == FMQ_ERR_CORRUPT_MESSAGE) {
        fmq_producers saved = log->producers;
        log->producers = (fmq_producers){0};
        result = replay(log, log->segments[0]->base_offset, offset, true);
        fmq_producers_free(log->env, &log->producers);
        log->producers = saved;
        log->epochs.dirty = log->epochs.count > 0;
    }
    if (result == FMQ_OK) {
        fmq_epochs_truncate_end(&log->epochs, offset);
    }
    return result;
}

/* ---- open ------------------------------------------------------------------------------------*/

static int recover(fmq_log *log, fmq_dir_list *list, int64_t recovery_point, fmq_recovery *report) {
    int32_t first = fmq_log_find_segment(log, recovery_point);
    fmq_recoverer r = {.log = log,
                       .report = report,
                       .recovery_point = recovery_point,
                       .expected = log->segments[first]->base_offset};
    r.buf = alloc_buffer(log, first, &r.buf_size);
    if (r.buf == NULL) {
        return -ENOMEM;
    }
    /* Snapshots further on may speak of batches that are not there. */
    int result = fmq_drop_snapshots(log->env, log->dir, list, 0, r.expected);
    if (result == FMQ_OK) {
        result = load_producers(log, list, r.expected);
    }
    if (result == FMQ_OK) {
        result = load_epochs(log, r.expected);
    }
    if (result == FMQ_OK) {
        result = scan_from(&r, first);
    }
    fmq_free(log->env, r.buf);
    log->end_offset = r.expected;
    fmq_epochs_truncate_end(&log->epochs, r.expected);
    if (result == FMQ_OK && r.expected < recovery_point && report->reason == NULL) {
        report->reason = "the log ends below the recovery point";
    }
    return result == FMQ_OK ? log->env->sync_dir(log->env->ctx, log->dir) : result;
}

/* Take over a log that was closed cleanly.  2 when its tail is not in order after all. */
static int trust(fmq_log *log, const fmq_dir_list *list) {
    fmq_segment *active = fmq_log_active(log);
    bool whole = true;
    int result = FMQ_OK;
    active->sealed = false;
    active->end_offset = active->base_offset;
    if (active->size > 0 && active->size <= FMQ_SMALL_SEGMENT) {
        result = fmq_segment_rebuild(active, log->config.index_interval_bytes, &whole);
    } else if (active->size > 0) {
        result = fmq_segment_load_index(active, log->config.index_interval_bytes, NULL);
        if (result == FMQ_OK) {
            result = fmq_segment_load_stats(active, log->config.index_interval_bytes, &whole);
        }
    } else {
        active->stats_known = active->index.loaded = true;
    }
    if (result != FMQ_OK || !whole) {
        return result != FMQ_OK ? result : FMQ_ERR_CORRUPT_MESSAGE;
    }
    log->end_offset = active->end_offset;
    result = load_producers(log, list, log->end_offset);
    return result == FMQ_OK ? load_epochs(log, log->end_offset) : result;
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
        segment->size = size;
        segment->file_exists = true;
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
            trusted = recover(log, &list, options->recovery_point, report);
        }
        result = result == FMQ_OK ? trusted : result;
    }
    fmq_dir_list_free(log->env, &list);
    if (result != FMQ_OK) {
        return result;
    }
    int64_t first = log->segments[0]->base_offset;
    log->start_offset = log_start > first ? log_start : first;
    log->synced_offset = log->flushed_offset = log->end_offset;
    if (report->recovered) {
        log->flushed_offset = first;
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
