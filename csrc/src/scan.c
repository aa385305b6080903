#include "scan.h"

#include "fastmq/crc32c.h"

/* Reads of this size pass 1 GB/s from the page cache. */
#define SCAN_BUFFER_SIZE (1024 * 1024)

uint8_t *fmq_scan_buffer(const fmq_env *env, int64_t bytes, size_t *out_size) {
    size_t size = bytes < FMQ_BATCH_HEADER_SIZE ? FMQ_BATCH_HEADER_SIZE
                  : bytes < SCAN_BUFFER_SIZE    ? (size_t)bytes
                                                : SCAN_BUFFER_SIZE;
    *out_size = size;
    return fmq_alloc(env, size);
}

int fmq_read_exact(const fmq_env *env, int fd, void *buf, size_t size, int64_t position) {
    uint8_t *at = buf;
    while (size > 0) {
        int64_t got = env->pread(env->ctx, fd, at, size, position);
        if (got < 0) {
            return (int)got;
        }
        if (got == 0) {
            return -EIO;
        }
        at += got;
        size -= (size_t)got;
        position += got;
    }
    return FMQ_OK;
}

void fmq_distrust_cold(const fmq_env *env, fmq_trust *trust, int fd, int64_t position,
                       int64_t end) {
    if (trust != NULL && position < end && fmq_trust_covers(trust, position, position + 1) &&
        !env->is_cached(env->ctx, fd, position)) {
        fmq_trust_reset(trust, end);
    }
}

void fmq_scan_init(fmq_scan *scan, const fmq_env *env, int fd, int64_t position, int64_t end,
                   uint8_t *buf, size_t capacity) {
    assert(capacity >= FMQ_BATCH_HEADER_SIZE && position >= 0);
    *scan = (fmq_scan){
        .env = env, .fd = fd, .position = position, .end = end, .buf = buf, .capacity = capacity};
}

/* Bring the bytes [position, position + size) into the buffer; the caller knows that they lie
 * before `end`. */
static int fill(fmq_scan *scan, int64_t position, size_t size, const uint8_t **out) {
    int64_t buffered_end = scan->buf_position + (int64_t)scan->buf_size;
    if (position >= scan->buf_position && position + (int64_t)size <= buffered_end) {
        *out = scan->buf + (position - scan->buf_position);
        return FMQ_OK;
    }
    size_t keep = 0;
    if (position >= scan->buf_position && position < buffered_end) {
        keep = (size_t)(buffered_end - position);
        memmove(scan->buf, scan->buf + (position - scan->buf_position), keep);
    }
    scan->buf_position = position;
    scan->buf_size = keep;
    int64_t left = scan->end - position - (int64_t)keep;
    size_t want = scan->capacity - keep;
    if ((int64_t)want > left) {
        want = (size_t)left;
    }
    fmq_distrust_cold(scan->env, scan->trust, scan->fd, position + (int64_t)keep, scan->end);
    int result =
        fmq_read_exact(scan->env, scan->fd, scan->buf + keep, want, position + (int64_t)keep);
    if (result != FMQ_OK) {
        scan->buf_size = 0;
        return result;
    }
    scan->buf_size = keep + want;
    *out = scan->buf;
    return FMQ_OK;
}

int fmq_scan_peek(fmq_scan *scan, fmq_batch_header *out) {
    int64_t left = scan->end - scan->position;
    if (left <= 0) {
        return 0;
    }
    if (left < FMQ_BATCH_HEADER_SIZE) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    const uint8_t *at;
    int result = fill(scan, scan->position, FMQ_BATCH_HEADER_SIZE, &at);
    if (result != FMQ_OK) {
        return result;
    }
    if (fmq_batch_parse(at, FMQ_BATCH_HEADER_SIZE, out) != FMQ_OK || out->size > left ||
        out->base_offset < 0 || out->base_offset > INT64_MAX - out->last_offset_delta - 1) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    return 1;
}

int fmq_scan_check_crc(fmq_scan *scan, const fmq_batch_header *h) {
    int64_t position = scan->position + FMQ_BATCH_CRC_START;
    size_t left = h->size - FMQ_BATCH_CRC_START;
    uint32_t crc = 0;
    while (left > 0) {
        const uint8_t *at;
        int result = fill(scan, position, 1, &at);
        if (result != FMQ_OK) {
            return result;
        }
        int64_t buffered_end = scan->buf_position + (int64_t)scan->buf_size;
        size_t size = (size_t)(buffered_end - position);
        size = size < left ? size : left;
        crc = fmq_crc32c(crc, at, size);
        position += (int64_t)size;
        left -= size;
    }
    return crc == h->crc ? 1 : FMQ_ERR_CORRUPT_MESSAGE;
}

int fmq_scan_bytes(fmq_scan *scan, size_t size, const uint8_t **out) {
    if (size > scan->capacity || (int64_t)size > scan->end - scan->position) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    int result = fill(scan, scan->position, size, out);
    return result == FMQ_OK ? 1 : result;
}
