/* Which bytes of a segment may be served unseen. */
#include "../src/trust.h"
#include "check.h"

#define BYTES 200

static void covers_what_a_set_of_bytes_would(void) {
    const fmq_env *env = fmq_env_system();
    unsigned seed = 7;
    for (int round = 0; round < 50; round++) {
        fmq_trust trust = {.from = round % BYTES};
        bool model[BYTES];
        for (int i = 0; i < BYTES; i++) {
            model[i] = i >= trust.from;
        }
        for (int step = 0; step < 60; step++) {
            seed = seed * 1103515245u + 12345u;
            int64_t begin = (int64_t)(seed >> 8) % BYTES;
            int64_t size = (int64_t)(seed >> 20) % 30;
            int64_t end = begin + size < BYTES ? begin + size : BYTES;
            bool add = (seed >> 5) % 3 > 0;
            if (add) {
                fmq_trust_add(env, &trust, begin, end);
            } else if ((seed >> 5) % 6 != 0) {
                fmq_trust_cut(&trust, begin);
                end = BYTES;
            } else {
                fmq_trust_reset(&trust, begin);
                memset(model, 0, (size_t)begin);
                end = BYTES;
            }
            for (int64_t i = begin; i < end; i++) {
                model[i] = true;
            }
            CHECK(trust.count <= FMQ_TRUST_SPANS);
            for (int i = 0; i < BYTES; i++) {
                if (fmq_trust_covers(&trust, i, i + 1)) {
                    CHECK(model[i]); /* may know less, never more */
                } else if (trust.count < 8) {
                    CHECK(!model[i]);
                }
            }
        }
        fmq_trust_free(env, &trust);
    }
}

static void a_range_is_covered_whole_or_not_at_all(void) {
    const fmq_env *env = fmq_env_system();
    fmq_trust trust = {.from = 100};
    fmq_trust_add(env, &trust, 10, 20);
    fmq_trust_add(env, &trust, 20, 30);
    CHECK(fmq_trust_covers(&trust, 12, 30));
    CHECK(!fmq_trust_covers(&trust, 12, 31));
    CHECK(!fmq_trust_covers(&trust, 99, 101));
    fmq_trust_add(env, &trust, 30, 100);
    CHECK(fmq_trust_covers(&trust, 10, 1000));
    CHECK_EQ(trust.count, 0);
    fmq_trust_reset(&trust, 60);
    CHECK(!fmq_trust_covers(&trust, 10, 50));
    CHECK(fmq_trust_covers(&trust, 60, 70));
    fmq_trust_free(env, &trust);
}

static void forgets_the_smallest_when_there_are_too_many(void) {
    const fmq_env *env = fmq_env_system();
    fmq_trust trust = {.from = INT64_MAX};
    for (int64_t i = 0; i < 2 * FMQ_TRUST_SPANS; i++) {
        fmq_trust_add(env, &trust, 1000 * i, 1000 * i + 10 + i);
    }
    CHECK_EQ(trust.count, FMQ_TRUST_SPANS);
    CHECK(!fmq_trust_covers(&trust, 0, 1));
    CHECK(fmq_trust_covers(&trust, 1000 * 31, 1000 * 31 + 41));
    fmq_trust_free(env, &trust);
}

int main(void) {
    RUN(covers_what_a_set_of_bytes_would);
    RUN(a_range_is_covered_whole_or_not_at_all);
    RUN(forgets_the_smallest_when_there_are_too_many);
    return check_report();
}
