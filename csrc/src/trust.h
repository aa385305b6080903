/* trust.h - which bytes of a segment may be served without looking at them.
 *
 * Trusted is what this process wrote itself, and what it has checked against the CRC since it read
 * it from the disk.  Everything else is checked before it is served.  When trusted bytes turn out
 * to have left the page cache, nothing of the file is trusted any more: what comes back from the
 * disk may be other bytes, and the kernel reads ahead.
 *
 * Bounded: one open range and at most FMQ_TRUST_SPANS closed ones; what does not fit is forgotten,
 * and checked once more when it is read again.
 */
#ifndef FMQ_TRUST_H
#define FMQ_TRUST_H

#include "fastmq/env.h"

#define FMQ_TRUST_SPANS 16

typedef struct fmq_span {
    int64_t begin; /* bytes [begin, end) of the file */
    int64_t end;
} fmq_span;

/* Zeroed: all of the file, as for one that is being created. */
typedef struct fmq_trust {
    int64_t from;    /* everything from here on */
    fmq_span *spans; /* ascending, apart, all before `from`; allocated with the first */
    uint32_t count;
} fmq_trust;

static inline bool fmq_trust_covers(const fmq_trust *trust, int64_t begin, int64_t end) {
    if (begin >= trust->from) {
        return true;
    }
    for (uint32_t i = 0; i < trust->count; i++) {
        if (begin >= trust->spans[i].begin && end <= trust->spans[i].end) {
            return true;
        }
    }
    return false;
}

/* Without memory nothing is remembered. */
void fmq_trust_add(const fmq_env *env, fmq_trust *trust, int64_t begin, int64_t end);
/* Trust nothing below `position`. */
static inline void fmq_trust_reset(fmq_trust *trust, int64_t position) {
    trust->count = 0;
    trust->from = position;
}
/* The file ends at `position` now; what is written there later is trusted. */
void fmq_trust_cut(fmq_trust *trust, int64_t position);
void fmq_trust_free(const fmq_env *env, fmq_trust *trust);

#endif
