/* scan.h - walk the batches of one segment file through a caller's buffer.
 *
 * A scan never trusts what it reads: a header that does not parse, or a batch that would reach past
 * `end`, is FMQ_ERR_CORRUPT_MESSAGE and the position stays where the bad bytes begin.
 */
#ifndef FMQ_SCAN_H
#define FMQ_SCAN_H

#include "fastmq/batch.h"
#include "fastmq/env.h"
#include "trust.h"

typedef struct fmq_scan {
    const fmq_env *env;
    int fd;
    int64_t position; /* of the next header */
    int64_t end;      /* no byte at or after it is looked at */
    uint8_t *buf;     /* borrowed */
    size_t capacity;  /* >= FMQ_BATCH_HEADER_SIZE */
    int64_t buf_position;
    size_t buf_size;
    fmq_trust *trust; /* of the file: told when bytes were not in the page cache; or NULL */
} fmq_scan;

void fmq_scan_init(fmq_scan *scan, const fmq_env *env, int fd, int64_t position, int64_t end,
                   uint8_t *buf, size_t capacity);

/* Parse the header at the position without moving.  1 with `*out` filled, 0 at the end, 2 on bad
 * bytes, -errno. */
int fmq_scan_peek(fmq_scan *scan, fmq_batch_header *out);

/* Check the CRC of the peeked batch.  1 when it fits, 2 when not, -errno. */
int fmq_scan_check_crc(fmq_scan *scan, const fmq_batch_header *h);

/* `size` bytes of the peeked batch, counted from its first, inside the buffer.
 * 1 with `*out` set, 2 when the batch is larger than the buffer, -errno. */
int fmq_scan_bytes(fmq_scan *scan, size_t size, const uint8_t **out);

/* Go to the batch after the peeked one. */
static inline void fmq_scan_advance(fmq_scan *scan, const fmq_batch_header *h) {
    scan->position += h->size;
}

/* A buffer to scan `bytes` bytes with, no larger than of use; NULL without memory. */
uint8_t *fmq_scan_buffer(const fmq_env *env, int64_t bytes, size_t *out_size);

/* About to read from `position`: when that has to come from the disk although it is trusted,
 * nothing of the file, which may be read up to `end`, is.  `trust` may be NULL. */
void fmq_distrust_cold(const fmq_env *env, fmq_trust *trust, int fd, int64_t position, int64_t end);

/* Read exactly `size` bytes; a file that ends too early is -EIO. */
int fmq_read_exact(const fmq_env *env, int fd, void *buf, size_t size, int64_t position);

#endif
