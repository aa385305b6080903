/* Check what is not trusted of a log, batch by batch.
 *
 * Not trusted is every segment from the one that holds the recovery point on.  In it and after it
 * the log ends at the first byte that is not a valid batch, or where a segment does not begin at
 * the end of the one before (a file system may keep a later file and lose an earlier one).  Bytes
 * below the recovery point were acknowledged: a bad batch there is stepped over and left for
 * readers to meet.  So is one behind a batch that leaps over the point: where the point lies in the
 * file cannot be told then.
 */
#include "log_impl.h"
#include "scan.h"

typedef struct fmq_recoverer {
    fmq_log *log;
    fmq_recovery *report;
    int64_t recovery_point;
    int64_t expected; /* offset that the next batch may begin at */
    int64_t position; /* where the scan of the segment begins */
    uint8_t *buf;
    size_t buf_size;
    bool is_index_saved; /* of the first segment: as loaded from its files */
    bool has_leapt;      /* from below the recovery point over it: into a hole, or by damage */
    bool has_damage;     /* the segment has bad bytes below the recovery point */
    bool ends_in_damage; /* bad bytes at the end of the segment lie below the recovery point */
} fmq_recoverer;

static int64_t largest_segment(const fmq_log *log, int32_t first) {
    int64_t size = 0;
    for (int32_t i = first; i < log->segment_count; i++) {
        size = log->segments[i]->size > size ? log->segments[i]->size : size;
    }
    return size;
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
    fmq_trust_add(log->env, &segment->trust, scan->position, scan->position + h->size);
    /* No CRC covers epochs: below the point the checkpoint, which has one, knows better. */
    if (h->base_offset >= r->recovery_point) {
        fmq_epochs_assign(&log->epochs, h->leader_epoch, h->base_offset);
    }
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

/* Offsets lie outside the CRC.  A batch that reaches over the recovery point from below it may
 * stand behind a hole, or its offset is damaged: then the batch right behind it goes back. 1 good,
 * 2 bad with `*reason`, -errno. */
static int check_leap(fmq_recoverer *r, const fmq_segment *segment, fmq_scan *scan,
                      const fmq_batch_header *h, const char **reason) {
    fmq_batch_header next;
    const char *next_reason;
    int64_t position = scan->position;
    if (r->expected >= r->recovery_point || fmq_batch_last_offset(h) < r->recovery_point) {
        return 1;
    }
    fmq_scan_advance(scan, h);
    int result = check_batch(r, segment, scan, &next, &next_reason);
    scan->position = position;
    if (result == 1 && next.base_offset <= fmq_batch_last_offset(h)) {
        *reason = "a batch offset leaps over the batches behind it";
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    r->has_leapt = true;
    return result < 0 ? result : 1;
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

/* Take the part of the segment below the recovery point as it is, with the index entries that were
 * synced before the point moved.  1 with the scan's beginning at the point; 0 when the index files
 * cannot tell; -errno. */
static int trust_below(fmq_recoverer *r, fmq_segment *segment) {
    const fmq_env *env = r->log->env;
    int64_t point = r->recovery_point - segment->base_offset;
    if (point <= 0 || point > INT32_MAX || !segment->has_index_files) {
        return 0;
    }
    fmq_index_free(env, &segment->index);
    int result =
        fmq_index_load(env, &segment->index, r->log->dir, segment->base_offset, segment->size);
    if (result != FMQ_OK) {
        return result < 0 ? result : 0;
    }
    fmq_index_end end;
    fmq_index_truncate(&segment->index, UINT32_MAX, (uint32_t)point);
    fmq_index_get_end(&segment->index, &end);
    segment->max_timestamp = end.timestamp;
    segment->max_timestamp_last = end.timestamp_relative;
    int64_t position = end.position, end_offset = -1;
    result = fmq_segment_check_entry(segment, &(fmq_index_entry){end.relative, end.position}, NULL);
    if (result != 1) {
        return result;
    }
    result = fmq_segment_walk(segment, &position, r->recovery_point,
                              r->log->config.index_interval_bytes, &end_offset);
    if (result == FMQ_ERR_CORRUPT_MESSAGE || (result >= 0 && end_offset != r->recovery_point)) {
        return 0;
    }
    if (result >= 0) {
        result = fmq_segment_load_first(segment);
    }
    if (result != FMQ_OK) {
        return result;
    }
    /* Kept in memory until the end of the recovery. */
    r->is_index_saved = !segment->index.dirty;
    segment->index.dirty = segment->stats_known = true;
    r->position = position;
    r->expected = r->recovery_point;
    return 1;
}

static void forget_index(fmq_segment *segment) {
    fmq_index_free(segment->env, &segment->index);
    segment->unindexed_bytes = 0;
    segment->first_timestamp = segment->max_timestamp = FMQ_NO_TIMESTAMP;
    segment->max_timestamp_last = 0;
    segment->index.loaded = segment->index.dirty = segment->stats_known = true;
}

/* Scan a segment from `r->position`; its size, index and statistics are right afterwards.
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
    int64_t start = r->position;
    r->position = 0;
    r->has_damage = r->has_leapt = false;
    fmq_scan_init(&scan, log->env, fd, start, segment->size, r->buf, r->buf_size);
    int result;
    for (;;) {
        result = check_batch(r, segment, &scan, &h, &reason);
        if (result == 1) {
            result = check_leap(r, segment, &scan, &h, &reason);
        }
        if (result == 1) {
            result = take_batch(r, segment, &scan, &h);
        } else if (result == FMQ_ERR_CORRUPT_MESSAGE &&
                   (r->expected < r->recovery_point || r->has_leapt)) {
            r->report->reason = "damage below the recovery point was left as it is";
            int64_t bad_position = scan.position;
            result = find_next_batch(r, segment, &scan);
            /* Readers find the batch after the damage through an index entry of its own. */
            segment->unindexed_bytes = (uint32_t)log->config.index_interval_bytes + 1;
            r->has_damage = true;
            r->ends_in_damage = result == 0;
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
    r->report->bytes_scanned += scan.position - start;
    if (result == FMQ_ERR_CORRUPT_MESSAGE && !r->ends_in_damage) {
        r->report->reason = reason;
        r->report->truncated_at = r->expected;
        r->report->bytes_truncated += segment->size - scan.position;
        log->size -= segment->size - scan.position;
        segment->size = scan.position;
        fmq_trust_cut(&segment->trust, segment->size);
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
        result = fmq_segment_save_index(segment, false);
    }
    if (result == FMQ_OK) {
        segment->index_unsynced = true;
        segment->end_offset = r->expected;
        fmq_index_free(log->env, &segment->index);
        result = fmq_producers_save(log->env, &log->producers, log->dir, r->expected);
        log->snapshot_offset = log->snapshot_unsynced = r->expected;
    }
    return result;
}

/* The last segment has bytes that were acknowledged once and are bad now.  They are left alone, and
 * what is written from now on goes into a new segment: behind them it might be taken for a part of
 * the damaged batch. */
static int begin_after_damage(fmq_recoverer *r) {
    fmq_log *log = r->log;
    if (r->ends_in_damage && r->expected < r->recovery_point) {
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
        if (i > first && r->ends_in_damage && segment->base_offset <= r->recovery_point) {
            r->expected = segment->base_offset;
            r->ends_in_damage = false;
        }
        if (i > first && (segment->base_offset != r->expected || r->ends_in_damage)) {
            r->report->reason = "a segment does not begin where the one before ends";
            r->report->truncated_at = r->expected;
            result = drop_behind(r, i - 1);
            break;
        }
        if (i > first) {
            result = finish_sealed(r, log->segments[i - 1]);
        }
        segment->sealed = false;
        if (r->position == 0) {
            forget_index(segment);
        }
        if (result == FMQ_OK && segment->size > r->position) {
            r->report->recovered = true;
            r->report->indexes_rebuilt++;
            result = scan_segment(r, segment);
            bool is_cut = result == FMQ_ERR_CORRUPT_MESSAGE && !r->ends_in_damage;
            result = result > 0 ? FMQ_OK : result;
            if (is_cut && result == FMQ_OK) {
                result = drop_behind(r, i);
            }
            if (result == FMQ_OK) {
                result = cut_file(log, segment);
            }
        }
        r->position = 0;
        segment->end_offset = r->expected;
    }
    if (result == FMQ_OK && r->has_damage) {
        result = begin_after_damage(r);
    }
    return result;
}

/* ---- all of it --------------------------------------------------------------------------------*/

int fmq_log_recover(fmq_log *log, fmq_dir_list *list, int64_t recovery_point,
                    fmq_recovery *report) {
    int32_t first = fmq_log_find_segment(log, recovery_point);
    fmq_recoverer r = {.log = log,
                       .report = report,
                       .recovery_point = recovery_point,
                       .expected = log->segments[first]->base_offset};
    int result = trust_below(&r, log->segments[first]);
    r.buf = result < 0 ? NULL : fmq_scan_buffer(log->env, largest_segment(log, first), &r.buf_size);
    if (r.buf == NULL) {
        return result < 0 ? result : -ENOMEM;
    }
    log->flushed_offset = r.expected;
    /* Snapshots further on may speak of batches that are not there. */
    result = fmq_drop_snapshots(log->env, log->dir, list, 0, r.expected);
    if (result == FMQ_OK) {
        result = fmq_log_load_producers(log, list, r.expected, FMQ_RECALL_BYTES);
    }
    if (result == FMQ_OK) {
        /* Below the point the file is as good as the batches, which may be damaged. */
        result =
            fmq_log_load_epochs(log, r.expected > recovery_point ? r.expected : recovery_point);
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
    if (result != FMQ_OK) {
        return result;
    }
    if (!report->recovered) {
        if (r.is_index_saved) {
            fmq_index_free(log->env, &fmq_log_active(log)->index); /* loaded again when needed */
        }
        return FMQ_OK;
    }
    return log->env->sync_dir(log->env->ctx, log->dir);
}
