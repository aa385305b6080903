/* What a segment knows of its batches: index and time statistics. */
#include "segment.h"

#define WALK_BUFFER_SIZE (64 * 1024)

void fmq_segment_index_batch(fmq_segment *segment, const fmq_batch_header *h, int64_t position,
                             int32_t index_interval_bytes) {
    uint32_t relative = (uint32_t)(fmq_batch_last_offset(h) - segment->base_offset);
    if (segment->unindexed_bytes > (uint32_t)index_interval_bytes) {
        fmq_index_add_offset(&segment->index, relative, (uint32_t)position);
        fmq_index_add_time(&segment->index, segment->max_timestamp, segment->max_timestamp_last);
        segment->unindexed_bytes = 0;
    }
    segment->unindexed_bytes += h->size;
    if (position == 0) {
        segment->first_timestamp = h->max_timestamp;
    }
    if (h->max_timestamp > segment->max_timestamp) {
        segment->max_timestamp = h->max_timestamp;
        segment->max_timestamp_last = relative;
    }
}

int fmq_segment_walk(fmq_segment *segment, int64_t *position, int64_t stop_offset,
                     int32_t index_interval_bytes, int64_t *end_offset) {
    const fmq_env *env = segment->env;
    int64_t left = segment->size - *position;
    size_t buf_size = left < FMQ_BATCH_HEADER_SIZE ? FMQ_BATCH_HEADER_SIZE
                      : left < WALK_BUFFER_SIZE    ? (size_t)left
                                                   : WALK_BUFFER_SIZE;
    uint8_t *buf = fmq_alloc(env, buf_size);
    if (buf == NULL) {
        return -ENOMEM;
    }
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        fmq_free(env, buf);
        return fd;
    }
    fmq_scan scan;
    fmq_batch_header h;
    int result;
    fmq_scan_init(&scan, env, fd, *position, segment->size, buf, buf_size);
    scan.trust = &segment->trust;
    while ((result = fmq_scan_peek(&scan, &h)) == 1 && h.base_offset < stop_offset) {
        if (h.base_offset < segment->base_offset || h.base_offset < *end_offset ||
            fmq_batch_last_offset(&h) - segment->base_offset > INT32_MAX) {
            result = FMQ_ERR_CORRUPT_MESSAGE;
            break;
        }
        int reserved = fmq_index_reserve(env, &segment->index);
        if (reserved != FMQ_OK) {
            result = reserved;
            break;
        }
        fmq_segment_index_batch(segment, &h, scan.position, index_interval_bytes);
        fmq_scan_advance(&scan, &h);
        *end_offset = fmq_batch_last_offset(&h) + 1;
    }
    *position = scan.position;
    fmq_segment_unpin(segment);
    fmq_free(env, buf);
    return result;
}

/* Walk to the end of the file; 0, 2 when bad bytes come first, -errno. */
static int walk_to_end(fmq_segment *segment, int64_t position, int32_t index_interval_bytes) {
    int64_t end_offset = segment->base_offset;
    int result = fmq_segment_walk(segment, &position, INT64_MAX, index_interval_bytes, &end_offset);
    if (segment->end_unknown) {
        segment->end_offset = end_offset;
    }
    return result;
}

int fmq_segment_seal(fmq_segment *segment) {
    assert(segment->index.loaded && segment->stats_known);
    int result = fmq_index_reserve(segment->env, &segment->index);
    if (result == FMQ_OK) {
        fmq_index_add_time(&segment->index, segment->max_timestamp, segment->max_timestamp_last);
        segment->sealed = true;
    }
    return result;
}

int fmq_segment_rebuild(fmq_segment *segment, int32_t index_interval_bytes, bool *whole) {
    fmq_index_free(segment->env, &segment->index);
    segment->unindexed_bytes = 0;
    segment->first_timestamp = segment->max_timestamp = FMQ_NO_TIMESTAMP;
    segment->max_timestamp_last = 0;
    int result = walk_to_end(segment, 0, index_interval_bytes);
    /* Bad bytes end the walk: what lies before them is indexed, readers meet the damage. */
    segment->index.loaded = true;
    segment->index.dirty = true;
    segment->stats_known = true;
    *whole = result == 0;
    if (result > 0) {
        /* What is appended behind the damage is found through an entry of its own. */
        segment->unindexed_bytes = INT32_MAX;
    }
    if (result >= 0 && segment->sealed) {
        result = fmq_segment_seal(segment);
    }
    if (result < 0) {
        fmq_index_free(segment->env, &segment->index);
        segment->stats_known = false;
        return result;
    }
    return FMQ_OK;
}

int fmq_segment_load_index(fmq_segment *segment, int32_t index_interval_bytes, bool *whole) {
    *whole = true;
    if (segment->index.loaded || segment->size == 0) {
        segment->index.loaded = true;
        return FMQ_OK;
    }
    if (segment->dir == NULL) {
        return -ESTALE;
    }
    int result = fmq_index_load(segment->env, &segment->index, segment->dir, segment->base_offset,
                                segment->size);
    return result == FMQ_ERR_CORRUPT_MESSAGE
               ? fmq_segment_rebuild(segment, index_interval_bytes, whole)
               : result;
}

int fmq_segment_peek(const fmq_segment *segment, fmq_scan *scan, fmq_batch_header *out) {
    int result = fmq_scan_peek(scan, out);
    if (result == 1 && (out->base_offset < segment->base_offset ||
                        fmq_batch_last_offset(out) >= segment->end_offset)) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    return result;
}

int fmq_segment_check_entry(fmq_segment *segment, const fmq_index_entry *entry,
                            fmq_batch_header *header) {
    uint8_t bytes[FMQ_BATCH_HEADER_SIZE];
    fmq_batch_header h;
    if (entry->position == 0) {
        return 1;
    }
    if ((int64_t)entry->position + FMQ_BATCH_HEADER_SIZE > segment->size) {
        return 0;
    }
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    fmq_distrust_cold(segment->env, &segment->trust, fd, entry->position,
                      fmq_segment_readable(segment));
    int result = fmq_read_exact(segment->env, fd, bytes, sizeof bytes, entry->position);
    fmq_segment_unpin(segment);
    if (result != FMQ_OK) {
        return result;
    }
    if (fmq_batch_parse(bytes, sizeof bytes, &h) != FMQ_OK ||
        h.base_offset < segment->base_offset || h.base_offset > INT64_MAX - INT32_MAX ||
        fmq_batch_last_offset(&h) - segment->base_offset != entry->relative) {
        return 0;
    }
    if (header != NULL) {
        *header = h;
    }
    return 1;
}

int fmq_segment_seek(fmq_segment *segment, int32_t index_interval_bytes, int64_t offset,
                     int64_t *position) {
    *position = 0;
    if (offset <= segment->base_offset) {
        return FMQ_OK;
    }
    bool whole;
    uint32_t relative = (uint32_t)(offset - segment->base_offset);
    int result = fmq_segment_load_index(segment, index_interval_bytes, &whole);
    if (result != FMQ_OK) {
        return result;
    }
    fmq_index_entry entry = fmq_index_floor(&segment->index, relative);
    result = fmq_segment_check_entry(segment, &entry, NULL);
    if (result == 0) {
        result = fmq_segment_rebuild(segment, index_interval_bytes, &whole);
        entry = fmq_index_floor(&segment->index, relative);
    }
    *position = entry.position;
    return result < 0 ? result : FMQ_OK;
}

int fmq_segment_save_index(fmq_segment *segment, bool sync) {
    segment->has_index_files = true;
    return fmq_index_save(segment->env, &segment->index, segment->dir, segment->base_offset, sync);
}

/* What the index does not tell of a segment that is appended to: the headers from its last indexed
 * batch at `position` on, and the first one. */
static int load_tail(fmq_segment *segment, uint32_t position, bool *whole) {
    /* That batch has its entry already: walk as if it had just been made. */
    segment->unindexed_bytes = 0;
    int result = walk_to_end(segment, position, INT32_MAX);
    *whole = result == 0;
    if (result < 0 || position == 0) {
        return result < 0 ? result : FMQ_OK;
    }
    return fmq_segment_load_first(segment);
}

int fmq_segment_load_first(fmq_segment *segment) {
    uint8_t bytes[FMQ_BATCH_HEADER_SIZE];
    fmq_batch_header h;
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return fd;
    }
    int result = fmq_read_exact(segment->env, fd, bytes, sizeof bytes, 0);
    fmq_segment_unpin(segment);
    if (result == FMQ_OK && fmq_batch_parse(bytes, sizeof bytes, &h) == FMQ_OK) {
        segment->first_timestamp = h.max_timestamp;
    }
    return result;
}

int fmq_segment_load_stats(fmq_segment *segment, int32_t index_interval_bytes, bool *whole) {
    *whole = true;
    if (segment->stats_known || segment->size == 0) {
        segment->stats_known = true;
        return FMQ_OK;
    }
    fmq_index_end end;
    int result = FMQ_ERR_CORRUPT_MESSAGE;
    if (!segment->index.loaded) {
        result = fmq_index_read_end(segment->env, segment->dir, segment->base_offset, &end);
        if (result == FMQ_OK) {
            result = fmq_segment_check_entry(segment,
                                             &(fmq_index_entry){end.relative, end.position}, NULL);
            result = result == 1 ? FMQ_OK : result == 0 ? FMQ_ERR_CORRUPT_MESSAGE : result;
        }
    }
    if (result == FMQ_ERR_CORRUPT_MESSAGE) {
        result = segment->index.loaded ? FMQ_OK
                                       : fmq_segment_rebuild(segment, index_interval_bytes, whole);
        if (result != FMQ_OK || segment->stats_known) {
            return result;
        }
        fmq_index_get_end(&segment->index, &end);
    }
    if (result != FMQ_OK) {
        return result;
    }
    segment->max_timestamp = end.timestamp;
    segment->max_timestamp_last = end.timestamp_relative;
    if (!segment->sealed) {
        result = load_tail(segment, end.position, whole);
    }
    segment->stats_known = result == FMQ_OK;
    return result;
}
