/* Find batches for readers.
 *
 * Tail readers cost no I/O: the batch starts of the last appends and the ends of the last reads are
 * remembered, and the end of a segment is known.  All others cost one index look-up and one small
 * read of headers for either end of the slice.
 */
#include "fastmq/log.h"
#include "log_impl.h"
#include "scan.h"

#define HEADERS_BUFFER_SIZE 8192
#define EARLY_END_BYTES (64u << 10) /* slices from here on may end a little early */
#define PAGE_BYTES 4096             /* the smallest there are */

/* ---- remembered batch starts -----------------------------------------------------------------*/

static const fmq_boundary *recall(const fmq_boundary *boundaries, size_t count, int64_t offset) {
    for (size_t i = 0; i < count; i++) {
        if (boundaries[i].offset == offset && boundaries[i].segment != NULL) {
            return &boundaries[i];
        }
    }
    return NULL;
}

static const fmq_boundary *recall_any(const fmq_log *log, int64_t offset) {
    const fmq_boundary *found = recall(log->recent_appends, FMQ_RECENT_APPENDS, offset);
    return found != NULL ? found : recall(log->recent_reads, FMQ_RECENT_READS, offset);
}

static void remember_read(fmq_log *log, const fmq_slice *slice) {
    int64_t position = slice->position + slice->size;
    bool is_log_end = slice->next_offset == log->end_offset;
    if (position == slice->segment->size && !is_log_end) {
        return; /* the next batch lies in the next segment */
    }
    if (recall(log->recent_reads, FMQ_RECENT_READS, slice->next_offset) == NULL) {
        log->recent_reads[log->next_read] = (fmq_boundary){
            .segment = slice->segment, .offset = slice->next_offset, .position = position};
        log->next_read = (uint8_t)((log->next_read + 1) % FMQ_RECENT_READS);
    }
}

/* ---- the beginning ---------------------------------------------------------------------------*/

/* Walk from `position` to the first batch that ends at or after `offset`. */
static int walk_to(fmq_segment *segment, int64_t position, int64_t offset, fmq_location *out) {
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
    scan.trust = &segment->trust;
    while ((result = fmq_segment_peek(segment, &scan, &h)) == 1 &&
           fmq_batch_last_offset(&h) < offset) {
        fmq_scan_advance(&scan, &h);
    }
    fmq_segment_unpin(segment);
    if (result == 1) {
        *out = (fmq_location){
            .segment = segment, .position = scan.position, .base_offset = h.base_offset};
    }
    return result;
}

int fmq_log_locate(fmq_log *log, int64_t offset, fmq_location *out) {
    const fmq_boundary *known = recall_any(log, offset);
    if (known != NULL && known->position < known->segment->size) {
        *out = (fmq_location){
            .segment = known->segment, .position = known->position, .base_offset = offset};
        return 1;
    }
    for (int32_t i = fmq_log_find_segment(log, offset); i < log->segment_count; i++) {
        fmq_segment *segment = log->segments[i];
        int64_t position;
        if (segment->size == 0 || segment->end_offset <= offset) {
            continue;
        }
        int result = fmq_segment_seek(segment, log->config.index_interval_bytes, offset, &position);
        if (result == FMQ_OK) {
            result = walk_to(segment, position, offset, out);
        }
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* ---- the end ---------------------------------------------------------------------------------*/

typedef struct fmq_bounds {
    int64_t limit_offset;
    uint32_t max_bytes;
    bool min_one;
    bool ends_in_damage; /* out: what follows the slice is no batch */
} fmq_bounds;

static void set_end(fmq_slice *out, int64_t position, int64_t next_offset,
                    const fmq_bounds *bounds) {
    out->size = (uint32_t)(position - out->position);
    /* Records that a compaction took away may lie on both sides of the limit. */
    out->next_offset = next_offset < bounds->limit_offset ? next_offset : bounds->limit_offset;
}

/* An end that is known without looking: the segment's, or a remembered batch start at the limit. */
static bool find_known_end(const fmq_log *log, const fmq_bounds *bounds, fmq_slice *out) {
    const fmq_segment *segment = out->segment;
    if (segment->end_offset <= bounds->limit_offset) {
        if (segment->size - out->position <= bounds->max_bytes) {
            set_end(out, segment->size, segment->end_offset, bounds);
            return true;
        }
        return false;
    }
    const fmq_boundary *known = recall_any(log, bounds->limit_offset);
    if (known != NULL && known->segment == segment &&
        known->position - out->position <= bounds->max_bytes) {
        set_end(out, known->position, bounds->limit_offset, bounds);
        return true;
    }
    return false;
}

/* Walk over headers, from a batch start, to the last batch that fits the bounds.  What lies before
 * damage is good: the slice ends there, unless nothing was passed. */
static int walk_end(fmq_bounds *bounds, int64_t position, fmq_slice *out) {
    uint8_t buf[HEADERS_BUFFER_SIZE];
    fmq_segment *segment = out->segment;
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    fmq_scan scan;
    fmq_batch_header h;
    int result;
    bool has_passed = false;
    int64_t passed_offset = position > out->position ? out->base_offset + 1 : -1;
    int64_t position_max = out->position + bounds->max_bytes;
    fmq_scan_init(&scan, segment->env, fd, position, fmq_segment_readable(segment), buf,
                  sizeof buf);
    scan.trust = &segment->trust;
    while ((result = fmq_segment_peek(segment, &scan, &h)) == 1) {
        if (h.base_offset < passed_offset) {
            result = FMQ_ERR_CORRUPT_MESSAGE; /* readers must never be sent back */
            break;
        }
        bool is_first = scan.position == out->position;
        if (fmq_batch_last_offset(&h) >= bounds->limit_offset ||
            (scan.position + h.size > position_max && !(is_first && bounds->min_one))) {
            break;
        }
        has_passed = true;
        passed_offset = fmq_batch_last_offset(&h) + 1;
        fmq_scan_advance(&scan, &h);
    }
    fmq_segment_unpin(segment);
    if (result == FMQ_ERR_CORRUPT_MESSAGE && has_passed) {
        set_end(out, scan.position, passed_offset, bounds);
        bounds->ends_in_damage = true;
        return FMQ_OK;
    }
    if (result == 0 || result == 1) {
        set_end(out, scan.position, result == 1 ? h.base_offset : segment->end_offset, bounds);
        result = FMQ_OK;
    }
    return result;
}

/* End before a batch that the index knows, the header of which was just read, without looking for
 * more: when it does not fit, or when so much was found that little is lost. */
static bool end_at_entry(const fmq_bounds *bounds, int64_t position, const fmq_batch_header *h,
                         fmq_slice *out) {
    int64_t size = position - out->position;
    bool fits =
        fmq_batch_last_offset(h) < bounds->limit_offset && size + h->size <= bounds->max_bytes;
    bool enough = size >= EARLY_END_BYTES && size >= bounds->max_bytes - bounds->max_bytes / 8;
    if ((fits && !enough) || h->base_offset <= out->base_offset) {
        return false;
    }
    set_end(out, position, h->base_offset, bounds);
    /* The header's page, where that has the slice's last byte, too. */
    out->end_is_cached = position % PAGE_BYTES != 0 &&
                         fmq_trust_covers(&out->segment->trust, position, position + 1);
    return true;
}

static int find_end(fmq_log *log, fmq_bounds *bounds, fmq_slice *out) {
    fmq_segment *segment = out->segment;
    if (find_known_end(log, bounds, out)) {
        return FMQ_OK;
    }
    bool whole; /* damage shows itself to the reader who comes to it */
    int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result != FMQ_OK) {
        return result;
    }
    fmq_index_entry entry = fmq_index_boundary(&segment->index, out->position + bounds->max_bytes,
                                               bounds->limit_offset - segment->base_offset);
    if (entry.position > out->position) {
        fmq_batch_header h;
        result = fmq_segment_check_entry(segment, &entry, &h);
        if (result == 1 && end_at_entry(bounds, entry.position, &h, out)) {
            return FMQ_OK;
        }
        if (result == 1) {
            result = walk_end(bounds, entry.position, out);
        } else if (result == 0) {
            result = fmq_segment_rebuild(segment, log->config.index_interval_bytes, &whole);
            result = result == FMQ_OK ? FMQ_ERR_CORRUPT_MESSAGE : result;
        }
        if (result != FMQ_ERR_CORRUPT_MESSAGE) {
            return result;
        }
    }
    return walk_end(bounds, out->position, out);
}

int fmq_log_read(fmq_log *log, int64_t offset, int64_t limit_offset, uint32_t max_bytes,
                 bool min_one, fmq_slice *out) {
    *out = (fmq_slice){.base_offset = offset, .next_offset = offset};
    if (log->failed) {
        return -EIO;
    }
    if (offset < log->start_offset || offset > log->end_offset) {
        return FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    fmq_bounds bounds = {.limit_offset = limit_offset, .max_bytes = max_bytes, .min_one = min_one};
    if (bounds.limit_offset > log->end_offset) {
        bounds.limit_offset = log->end_offset;
    }
    if (offset >= bounds.limit_offset) {
        return FMQ_OK;
    }
    fmq_location start;
    int result = fmq_log_locate(log, offset, &start);
    if (result != 1 || start.base_offset >= bounds.limit_offset) {
        return result == 1 ? FMQ_OK : result;
    }
    fmq_slice slice = {
        .segment = start.segment, .position = start.position, .base_offset = start.base_offset};
    result = find_end(log, &bounds, &slice);
    if (result != FMQ_OK || slice.size == 0) {
        return result;
    }
    if (slice.next_offset <= offset) {
        return FMQ_ERR_CORRUPT_MESSAGE; /* offsets overlap: the reader would be sent back */
    }
    if (!bounds.ends_in_damage) {
        remember_read(log, &slice);
    }
    fmq_segment_ref(slice.segment);
    *out = slice;
    return FMQ_OK;
}

/* ---- trust ----------------------------------------------------------------------------------*/

bool fmq_slice_is_trusted(const fmq_slice *slice) {
    return fmq_trust_covers(&slice->segment->trust, slice->position, slice->position + slice->size);
}

void fmq_slice_trust(const fmq_slice *slice, int64_t position_end) {
    fmq_trust_add(slice->segment->env, &slice->segment->trust, slice->position, position_end);
}

void fmq_slice_probe(const fmq_slice *slice) {
    fmq_segment *segment = slice->segment;
    int64_t end = slice->position + slice->size;
    int64_t readable = fmq_segment_readable(segment);
    int fd = fmq_segment_pin(segment);
    if (fd >= 0) {
        fmq_distrust_cold(segment->env, &segment->trust, fd, slice->position, readable);
        if (!slice->end_is_cached) {
            fmq_distrust_cold(segment->env, &segment->trust, fd, end - 1, readable);
        }
        if (!fmq_slice_is_trusted(slice)) { /* what is read ahead when this is checked */
            fmq_distrust_cold(segment->env, &segment->trust, fd, end, readable);
        }
        fmq_segment_unpin(segment);
    }
}

int fmq_log_chain(fmq_log *log, const fmq_slice *slice, fmq_chain *out) {
    fmq_segment *segment = slice->segment;
    *out = (fmq_chain){.expected = segment->base_offset,
                       .readable = fmq_segment_readable(segment),
                       .offset_end = segment->end_offset,
                       .last_epoch = fmq_epochs_last(&log->epochs)};
    int result = fmq_segment_seek(segment, log->config.index_interval_bytes, slice->base_offset,
                                  &out->position);
    if (out->position > slice->position) {
        out->position = 0; /* the index lies: go by the batches alone */
    }
    out->expected = out->position == 0 ? segment->base_offset : -1;
    return result;
}

/* ---- the bytes -------------------------------------------------------------------------------*/

static int check_batches(const uint8_t *at, size_t size) {
    while (size > 0) {
        fmq_batch_header h;
        if (fmq_batch_parse(at, size, &h) != FMQ_OK || h.size > size || !fmq_batch_crc_ok(at, &h)) {
            return FMQ_ERR_CORRUPT_MESSAGE;
        }
        at += h.size;
        size -= h.size;
    }
    return FMQ_OK;
}

int fmq_slice_read(const fmq_slice *slice, uint8_t *buf, bool verify) {
    fmq_segment *segment = slice->segment;
    if (slice->size == 0) {
        return FMQ_OK;
    }
    /* A pinned segment may be read from any thread: touch nothing then. */
    bool is_pinned = segment->pins > 0;
    int fd = is_pinned ? segment->fd : fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    int result = fmq_read_exact(segment->env, fd, buf, slice->size, slice->position);
    if (!is_pinned) {
        fmq_segment_unpin(segment);
    }
    return result == FMQ_OK && verify ? check_batches(buf, slice->size) : result;
}
