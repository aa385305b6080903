/* Ranges of a segment that may be served unseen. */
#include "trust.h"

static void drop_span(fmq_trust *trust, uint32_t at) {
    trust->count--;
    memmove(&trust->spans[at], &trust->spans[at + 1], (trust->count - at) * sizeof(fmq_span));
}

/* Put in a span that touches no other. */
static void insert_span(const fmq_env *env, fmq_trust *trust, fmq_span span) {
    if (span.begin >= span.end) {
        return;
    }
    if (trust->spans == NULL) {
        trust->spans = fmq_alloc(env, FMQ_TRUST_SPANS * sizeof(fmq_span));
        if (trust->spans == NULL) {
            return;
        }
    }
    if (trust->count == FMQ_TRUST_SPANS) { /* the smallest one is the cheapest to check again */
        uint32_t smallest = 0;
        for (uint32_t i = 1; i < trust->count; i++) {
            const fmq_span *a = &trust->spans[i];
            const fmq_span *b = &trust->spans[smallest];
            smallest = a->end - a->begin < b->end - b->begin ? i : smallest;
        }
        drop_span(trust, smallest);
    }
    uint32_t at = trust->count;
    while (at > 0 && trust->spans[at - 1].begin > span.begin) {
        at--;
    }
    memmove(&trust->spans[at + 1], &trust->spans[at], (trust->count - at) * sizeof span);
    trust->spans[at] = span;
    trust->count++;
}

void fmq_trust_add(const fmq_env *env, fmq_trust *trust, int64_t begin, int64_t end) {
    if (begin >= end || begin >= trust->from) {
        return;
    }
    fmq_span span = {begin, end};
    for (uint32_t i = 0; i < trust->count;) {
        const fmq_span *other = &trust->spans[i];
        if (other->end < span.begin || other->begin > span.end) {
            i++;
            continue;
        }
        span.begin = other->begin < span.begin ? other->begin : span.begin;
        span.end = other->end > span.end ? other->end : span.end;
        drop_span(trust, i);
    }
    if (span.end >= trust->from) {
        trust->from = span.begin;
    } else {
        insert_span(env, trust, span);
    }
}

void fmq_trust_cut(fmq_trust *trust, int64_t position) {
    while (trust->count > 0 && trust->spans[trust->count - 1].begin >= position) {
        trust->count--;
    }
    if (trust->count > 0 && trust->spans[trust->count - 1].end >= position) {
        trust->from = trust->spans[--trust->count].begin;
    } else if (trust->from > position) {
        trust->from = position;
    }
}

void fmq_trust_free(const fmq_env *env, fmq_trust *trust) {
    fmq_free(env, trust->spans);
    *trust = (fmq_trust){0};
}
