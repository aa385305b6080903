/* Producer state and epochs of the part of a log that is trusted: from the files that hold them,
 * and from headers where they hold too little. */
#include "log_impl.h"
#include "scan.h"

/* Walk over headers of [from, to) and give them to the producer table and, if asked, the epochs. */
static int replay_segment(fmq_log *log, fmq_segment *segment, int64_t from, int64_t to,
                          bool with_epochs) {
    int64_t position;
    int result = fmq_segment_seek(segment, log->config.index_interval_bytes, from, &position);
    if (result != FMQ_OK) {
        return result;
    }
    size_t buf_size;
    uint8_t *buf = fmq_scan_buffer(log->env, segment->size - position, &buf_size);
    int fd = buf == NULL ? -ENOMEM : fmq_segment_pin(segment);
    if (fd < 0) {
        fmq_free(log->env, buf);
        return fd;
    }
    fmq_scan scan;
    fmq_batch_header h;
    fmq_scan_init(&scan, log->env, fd, position, segment->size, buf, buf_size);
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
        int32_t epoch = h.leader_epoch;
        int64_t offset = h.base_offset;
        fmq_scan_advance(&scan, &h);
        if (with_epochs) {
            result = fmq_epochs_reserve(log->env, &log->epochs);
            if (result != FMQ_OK) {
                break;
            }
            /* No CRC covers epochs: one that goes down again behind it is damaged. */
            result = fmq_scan_peek(&scan, &h);
            if (result < 0) {
                break;
            }
            if (result != 1 || h.leader_epoch >= epoch) {
                fmq_epochs_assign(&log->epochs, epoch, offset);
            }
        }
    }
    fmq_segment_unpin(segment);
    fmq_free(log->env, buf);
    return result < 0 ? result : FMQ_OK;
}

static int replay(fmq_log *log, int64_t from, int64_t to, bool with_epochs) {
    int result = FMQ_OK;
    if (from >= to) {
        return FMQ_OK;
    }
    for (int32_t i = fmq_log_find_segment(log, from); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->base_offset >= to) {
            break;
        }
        result = replay_segment(log, segment, from, to, with_epochs);
        if (result != FMQ_OK) {
            break;
        }
    }
    return result;
}

/* Give batches of a segment from about `skip` bytes on, and below `offset`, to the table. */
static int recall_segment(fmq_log *log, fmq_segment *segment, int64_t skip, int64_t offset) {
    int64_t position = 0;
    bool whole;
    int result = FMQ_OK;
    if (skip > 0) {
        result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
        fmq_index_entry entry = fmq_index_boundary(&segment->index, skip, INT64_MAX);
        if (result == FMQ_OK && entry.position > 0) {
            result = fmq_segment_seek(segment, log->config.index_interval_bytes,
                                      segment->base_offset + entry.relative, &position);
        }
    }
    if (result != FMQ_OK) {
        return result;
    }
    size_t buf_size;
    uint8_t *buf = fmq_scan_buffer(log->env, segment->size - position, &buf_size);
    int fd = buf == NULL ? -ENOMEM : fmq_segment_pin(segment);
    if (fd < 0) {
        fmq_free(log->env, buf);
        return fd;
    }
    fmq_scan scan;
    fmq_batch_header h;
    fmq_scan_init(&scan, log->env, fd, position, segment->size, buf, buf_size);
    while ((result = fmq_scan_peek(&scan, &h)) == 1 && h.base_offset < offset) {
        fmq_producers_recall(&log->producers, &h);
        fmq_scan_advance(&scan, &h);
    }
    fmq_segment_unpin(segment);
    fmq_free(log->env, buf);
    return result < 0 ? result : FMQ_OK;
}

/* The batches in the last bytes before a snapshot, which itself knows but one of each producer. */
static int recall_batches(fmq_log *log, int64_t offset, int64_t window) {
    if (log->producers.count == 0 || offset <= log->segments[0]->base_offset) {
        return FMQ_OK;
    }
    int32_t i = fmq_log_find_segment(log, offset - 1);
    int64_t before; /* bytes of the window that lie in segments before this one */
    int result =
        fmq_segment_seek(log->segments[i], log->config.index_interval_bytes, offset, &before);
    for (before = window - before; before > 0 && i > 0; i--) {
        before -= log->segments[i - 1]->size;
    }
    for (; result == FMQ_OK && i < log->segment_count; i++, before = 0) {
        if (log->segments[i]->base_offset >= offset) {
            break;
        }
        result = recall_segment(log, log->segments[i], -before, offset);
    }
    return result;
}

int fmq_log_load_producers(fmq_log *log, const fmq_dir_list *list, int64_t offset, int64_t window) {
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
            result = recall_batches(log, from, window);
            if (result != FMQ_OK) {
                return result;
            }
            break;
        }
    }
    return replay(log, from, offset, false);
}

int fmq_log_reload_producers(fmq_log *log, int64_t offset) {
    fmq_dir_list list;
    int result = fmq_dir_list_read(log->env, log->dir, false, &list);
    if (result == FMQ_OK) {
        result = fmq_log_load_producers(log, &list, offset, FMQ_RECALL_BYTES);
        fmq_dir_list_free(log->env, &list);
    }
    return result;
}

/* Epochs of the batches below `offset`: from the file, else from the batches. */
int fmq_log_load_epochs(fmq_log *log, int64_t offset) {
    int result = fmq_epochs_load(log->env, &log->epochs, log->dir);
    if (result == FMQ_ERR_CORRUPT_MESSAGE) {
        fmq_producers saved = log->producers;
        log->producers = (fmq_producers){0};
        result = replay(log, log->segments[0]->base_offset, offset, true);
        fmq_producers_free(log->env, &log->producers);
        log->producers = saved;
        log->epochs.dirty = true;
    }
    if (result == FMQ_OK) {
        fmq_epochs_truncate_end(&log->epochs, offset);
    }
    return result;
}
