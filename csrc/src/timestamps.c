/* Look-ups by time: ListOffsets with a timestamp, and with -3. */
#include "fastmq/log.h"
#include "log_impl.h"
#include "scan.h"

#define HEADERS_BUFFER_SIZE 8192

/* What is looked for, and the best found so far. */
typedef struct fmq_search {
    int64_t start_offset; /* batches that end below are passed over */
    int64_t limit_offset; /* batches that begin here or later end the search */
    int64_t timestamp;    /* stop at the first batch with this one or a later one */
    int64_t best_timestamp;
    fmq_slice best;
} fmq_search;

/* Walk over the headers of a segment from `position`; 1 when the search has ended, else 0. */
static int walk(fmq_segment *segment, int64_t position, fmq_search *search) {
    uint8_t buf[HEADERS_BUFFER_SIZE];
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    fmq_scan scan;
    fmq_batch_header h;
    int result;
    fmq_scan_init(&scan, segment->env, fd, position, fmq_segment_readable(segment), buf,
                  sizeof buf);
    while ((result = fmq_segment_peek(segment, &scan, &h)) == 1) {
        if (h.base_offset >= search->limit_offset) {
            break;
        }
        if (fmq_batch_last_offset(&h) >= search->start_offset &&
            h.max_timestamp > search->best_timestamp) {
            search->best_timestamp = h.max_timestamp;
            search->best = (fmq_slice){.segment = segment,
                                       .position = scan.position,
                                       .size = h.size,
                                       .base_offset = h.base_offset,
                                       .next_offset = fmq_batch_last_offset(&h) + 1};
            if (h.max_timestamp >= search->timestamp) {
                break;
            }
        }
        fmq_scan_advance(&scan, &h);
    }
    fmq_segment_unpin(segment);
    return result;
}

static int load_stats(fmq_log *log, fmq_segment *segment) {
    bool whole;
    int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result == FMQ_OK) {
        result = fmq_segment_load_stats(segment, log->config.index_interval_bytes, &whole);
    }
    return result;
}

/* Walk from the batch that holds `offset`, or the log start where that lies behind it. */
static int walk_from(fmq_log *log, fmq_segment *segment, int64_t offset, fmq_search *search) {
    int64_t position;
    int result =
        fmq_segment_seek(segment, log->config.index_interval_bytes,
                         offset > search->start_offset ? offset : search->start_offset, &position);
    return result == FMQ_OK ? walk(segment, position, search) : result;
}

static void give(const fmq_search *search, fmq_slice *out) {
    if (search->best.size > 0) {
        *out = search->best;
        fmq_segment_ref(out->segment);
    }
}

int fmq_log_find_timestamp(fmq_log *log, int64_t timestamp_ms, int64_t limit_offset,
                           fmq_slice *out) {
    *out = (fmq_slice){.base_offset = -1, .next_offset = -1};
    if (log->failed) {
        return -EIO;
    }
    fmq_search search = {.start_offset = log->start_offset,
                         .limit_offset = limit_offset,
                         .timestamp = timestamp_ms,
                         .best_timestamp =
                             timestamp_ms == INT64_MIN ? INT64_MIN : timestamp_ms - 1};
    for (int32_t i = fmq_log_find_segment(log, log->start_offset); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->base_offset >= limit_offset) {
            break;
        }
        int result = load_stats(log, segment);
        if (result != FMQ_OK) {
            return result;
        }
        if (segment->max_timestamp < timestamp_ms) {
            continue;
        }
        /* Nothing up to the time index's last older entry is as new. */
        int64_t offset = segment->base_offset + fmq_index_time_floor(&segment->index, timestamp_ms);
        result = walk_from(log, segment, offset, &search);
        if (result < 0 || result == FMQ_ERR_CORRUPT_MESSAGE || search.best.size > 0) {
            give(&search, out);
            return result == 1 ? FMQ_OK : result;
        }
    }
    return FMQ_OK;
}

/* The newest batch of a segment that lies within the bounds in part only. */
static int search_part(fmq_log *log, fmq_segment *segment, fmq_search *search) {
    const fmq_index *index = &segment->index;
    /* Time entries tell the maximum of everything up to their offset: the last one below the limit
     * saves the walk up to it, unless its batch lies below the start. */
    for (uint32_t i = index->times.count; i > 0; i--) {
        int64_t timestamp;
        uint32_t relative;
        fmq_index_time_at(index, i - 1, &timestamp, &relative);
        int64_t offset = segment->base_offset + relative;
        if (offset >= search->limit_offset) {
            continue;
        }
        return walk_from(log, segment, offset, search);
    }
    return walk_from(log, segment, segment->base_offset, search);
}

int fmq_log_find_max_timestamp(fmq_log *log, int64_t limit_offset, fmq_slice *out) {
    *out = (fmq_slice){.base_offset = -1, .next_offset = -1};
    if (log->failed) {
        return -EIO;
    }
    fmq_search search = {.start_offset = log->start_offset,
                         .limit_offset = limit_offset,
                         .timestamp = INT64_MAX,
                         .best_timestamp = INT64_MIN};
    for (int32_t i = fmq_log_find_segment(log, log->start_offset); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        if (segment->base_offset >= limit_offset) {
            break;
        }
        int result = load_stats(log, segment);
        if (result != FMQ_OK) {
            return result;
        }
        bool is_whole =
            segment->base_offset >= log->start_offset && segment->end_offset <= limit_offset;
        if (segment->max_timestamp <= search.best_timestamp && search.best.size > 0) {
            continue;
        }
        if (is_whole) {
            /* The walk ends at once: the batch is known by its offset. */
            search.timestamp = segment->max_timestamp;
            result = walk_from(log, segment, segment->base_offset + segment->max_timestamp_last,
                               &search);
            search.timestamp = INT64_MAX;
        } else {
            result = search_part(log, segment, &search);
        }
        if (result < 0 || result == FMQ_ERR_CORRUPT_MESSAGE) {
            return result;
        }
    }
    give(&search, out);
    return FMQ_OK;
}
