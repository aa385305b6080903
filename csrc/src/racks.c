/* racks.c - letting clients read from a replica in their own rack (KIP-392).
 *
 * The leader answers a consumer that tells its rack with the replica it had better read from, and
 * without records.  Followers serve consumers up to their high watermark, which their leader tells
 * them as soon as it moves while racks are known.
 */
#include "racks.h"

#include "fastmq/base.h"

uint64_t fmq_rack_hash(const uint8_t *name, size_t size) {
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ name[i]) * 1099511628211ull;
    }
    return size == 0 ? 0 : hash | 1;
}

int fmq_engine_set_racks(fmq_engine *engine, const fmq_rack *racks, int32_t count) {
    size_t bytes = (size_t)count * sizeof *engine->racks;
    struct fmq_broker_rack *copy = count > 0 ? fmq_alloc(engine->env, bytes) : NULL;
    if (count > 0 && copy == NULL) {
        return -ENOMEM;
    }
    for (int32_t i = 0; i < count; i++) {
        copy[i].broker_id = racks[i].broker_id;
        copy[i].rack = fmq_rack_hash((const uint8_t *)racks[i].rack, racks[i].size);
    }
    fmq_lock_take(&engine->lock);
    struct fmq_broker_rack *old = engine->racks;
    engine->racks = copy;
    engine->rack_count = count;
    fmq_lock_give(&engine->lock);
    fmq_free(engine->env, old);
    return FMQ_OK;
}

static uint64_t rack_of(const fmq_engine *engine, int32_t broker_id) {
    for (int32_t i = 0; i < engine->rack_count; i++) {
        if (engine->racks[i].broker_id == broker_id) {
            return engine->racks[i].rack;
        }
    }
    return 0;
}

int32_t fmq_racks_choose(const fmq_partition *partition, uint64_t rack, int64_t offset) {
    const fmq_engine *engine = partition->engine;
    const fmq_replicas *replicas = partition->replicas;
    if (rack == 0 || replicas == NULL || partition->role != FMQ_ROLE_LEADER ||
        rack_of(engine, engine->options.node_id) == rack) {
        return -1;
    }
    const fmq_other *best = NULL;
    for (int32_t i = 0; i < replicas->count; i++) {
        const fmq_other *other = &replicas->others[i];
        if (other->standing == FMQ_REPLICA_IN && other->log_end >= offset &&
            rack_of(engine, other->broker_id) == rack &&
            (best == NULL || other->log_end > best->log_end)) {
            best = other;
        }
    }
    return best != NULL ? best->broker_id : -1;
}
