/* throttle.c - how fast followers catch up, where somebody wants it slower.
 *
 * One bucket for all throttled partitions of this broker.  It fills with the rate, up to what one
 * second brings; who finds anything in it may take a whole answer, and the debt is waited off.
 * Followers in sync never wait: they are what acks=all waits for.
 */
#include "replicas.h"

#define THROTTLE_RATE_MAX (1LL << 40) /* faster than any machine, and no product overflows */

void fmq_engine_set_throttle(fmq_engine *engine, int64_t bytes_per_s) {
    fmq_lock_take(&engine->lock);
    engine->throttle_rate = bytes_per_s < 0                   ? 0
                            : bytes_per_s < THROTTLE_RATE_MAX ? bytes_per_s + (bytes_per_s == 0)
                                                              : THROTTLE_RATE_MAX;
    engine->throttle_room = engine->throttle_rate;
    engine->throttle_ns = engine->env->mono_ns(engine->env->ctx);
    fmq_lock_give(&engine->lock);
}

void fmq_partition_set_throttled(fmq_partition *partition, bool throttled) {
    fmq_lock_take(&partition->engine->lock);
    if (partition->replicas != NULL) {
        partition->replicas->throttled = throttled;
    }
    fmq_lock_give(&partition->engine->lock);
}

static bool is_throttled(const fmq_partition *partition, int32_t broker_id) {
    const fmq_replicas *replicas = partition->replicas;
    if (partition->engine->throttle_rate == 0 || replicas == NULL || !replicas->throttled) {
        return false;
    }
    const fmq_other *other = fmq_replicas_find(replicas, broker_id);
    return other != NULL && other->standing == FMQ_REPLICA_OUT;
}

bool fmq_replicas_must_wait(const fmq_partition *partition, int32_t broker_id) {
    if (!is_throttled(partition, broker_id)) {
        return false;
    }
    fmq_engine *engine = partition->engine;
    int64_t passed_ns = engine->now_ns - engine->throttle_ns;
    /* In microseconds, and no more than a minute, for the same reason. */
    int64_t passed_us = passed_ns < 60000000000 ? passed_ns / 1000 : 60000000;
    int64_t rate = engine->throttle_rate;
    int64_t gained = rate / 1000000 * passed_us + rate % 1000000 * passed_us / 1000000;
    if (gained > 0) {
        int64_t room = engine->throttle_room + gained;
        engine->throttle_room = room < rate ? room : rate;
        engine->throttle_ns = engine->now_ns;
    }
    return engine->throttle_room <= 0;
}

void fmq_replicas_sent(const fmq_partition *partition, int32_t broker_id, uint32_t bytes) {
    if (is_throttled(partition, broker_id)) {
        partition->engine->throttle_room -= bytes;
    }
}
