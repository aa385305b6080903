/* replicas.c - leading a partition that other brokers follow. */
#include "replicas.h"

bool fmq_replicas_make(fmq_partition *partition) {
    if (partition->replicas != NULL) {
        return true;
    }
    fmq_replicas *replicas = fmq_alloc(partition->engine->env, sizeof *replicas);
    if (replicas == NULL) {
        return false;
    }
    memset(replicas, 0, sizeof *replicas);
    replicas->partition = partition;
    replicas->epoch_start = replicas->known_watermark = replicas->leader_watermark = -1;
    replicas->asked_offset = replicas->woken_end = -1;
    fmq_list_init(&replicas->link);
    fmq_list_init(&replicas->fetch_waits);
    partition->replicas = replicas;
    return true;
}

void fmq_replicas_free(fmq_partition *partition) {
    fmq_replicas *replicas = partition->replicas;
    if (replicas != NULL) {
        fmq_list_remove(&replicas->link);
        fmq_free(partition->engine->env, replicas->others);
        fmq_free(partition->engine->env, replicas);
        partition->replicas = NULL;
    }
}

void fmq_replicas_stop(fmq_partition *partition) {
    fmq_list_remove(&partition->replicas->link);
    partition->replicas->count = partition->replicas->in_sync = 0;
    partition->replicas->leader_watermark = partition->replicas->woken_end = -1;
}

fmq_other *fmq_replicas_find(const fmq_replicas *replicas, int32_t broker_id) {
    for (int32_t i = 0; i < replicas->count; i++) {
        if (replicas->others[i].broker_id == broker_id) {
            return &replicas->others[i];
        }
    }
    return NULL;
}

/* ---- the high watermark ---------------------------------------------------------------------*/

bool fmq_replicas_are_enough(const fmq_partition *partition) {
    const fmq_replicas *replicas = partition->replicas;
    /* More than there are cannot be asked for (KIP-966). */
    return replicas == NULL || replicas->in_sync == replicas->count ||
           replicas->in_sync + 1 >= partition->config->min_insync_replicas;
}

bool fmq_replicas_lease_is_over(const fmq_partition *partition) {
    const fmq_replicas *replicas = partition->replicas;
    const fmq_engine *engine = partition->engine;
    return replicas != NULL && replicas->count > 0 && engine->lease_until_ms >= 0 &&
           fmq_boot_ns(engine->env) / 1000000 >= engine->lease_until_ms;
}

void fmq_engine_set_lease(fmq_engine *engine, int64_t until_ms) {
    fmq_lock_take(&engine->lock);
    engine->lease_until_ms = until_ms;
    fmq_lock_give(&engine->lock);
}

int64_t fmq_replicas_watermark(const fmq_partition *partition, int64_t local_end) {
    const fmq_replicas *replicas = partition->replicas;
    if (partition->role == FMQ_ROLE_FOLLOWER) {
        return replicas->leader_watermark < local_end ? replicas->leader_watermark : local_end;
    }
    if (partition->role != FMQ_ROLE_LEADER || !fmq_replicas_are_enough(partition)) {
        return partition->high_watermark;
    }
    int64_t least = local_end;
    for (int32_t i = 0; i < replicas->count; i++) {
        const fmq_other *other = &replicas->others[i];
        if (other->standing != FMQ_REPLICA_OUT && other->log_end < least) {
            least = other->log_end;
        }
    }
    return least;
}

void fmq_replicas_mark(fmq_partition *partition) {
    fmq_replicas *replicas = partition->replicas;
    uint8_t at = replicas->next_mark;
    replicas->marks[at].offset = fmq_log_end(partition->log);
    replicas->marks[at].bytes = partition->end_bytes;
    replicas->next_mark = (uint8_t)((at + 1) % FMQ_BYTE_MARKS);
}

int64_t fmq_replicas_bytes_at(const fmq_partition *partition, int64_t offset) {
    const fmq_replicas *replicas = partition->replicas;
    if (offset >= fmq_log_end(partition->log)) {
        return partition->end_bytes;
    }
    int64_t bytes = partition->stable_bytes;
    for (int i = 0; i < FMQ_BYTE_MARKS; i++) {
        if (replicas->marks[i].offset <= offset && replicas->marks[i].bytes > bytes) {
            bytes = replicas->marks[i].bytes;
        }
    }
    return bytes;
}

/* ---- fetches of followers -------------------------------------------------------------------*/

int64_t fmq_replicas_readable_end(const fmq_partition *partition) {
    const fmq_log *log = partition->log;
    return fmq_log_unwritten(log) > 0 ? fmq_log_synced(log) : fmq_log_end(log);
}

/* Out of sync, and has everything that is committed, and all that the epochs before left. */
static bool has_caught_up(const fmq_partition *partition, const fmq_other *other) {
    return other->standing == FMQ_REPLICA_OUT && other->log_end >= partition->high_watermark &&
           other->log_end >= partition->replicas->epoch_start;
}

static void tell_hints(fmq_engine *engine) {
    if (engine->hints_told) {
        return;
    }
    fmq_event *event = fmq_event_new(engine, FMQ_EVENT_REPLICAS, 0);
    if (event != NULL) { /* without memory the next regular look finds it */
        engine->hints_told = true;
        fmq_event_push(engine, event);
    }
}

int fmq_replicas_fetched(fmq_partition *partition, int32_t broker_id, int64_t broker_epoch,
                         int64_t offset) {
    fmq_replicas *replicas = partition->replicas;
    fmq_other *other = replicas != NULL ? fmq_replicas_find(replicas, broker_id) : NULL;
    if (other == NULL) {
        return FMQ_ERR_NOT_LEADER_OR_FOLLOWER;
    }
    int64_t end = fmq_log_end(partition->log);
    if (offset < fmq_log_start(partition->log) || offset > end) {
        return FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    int64_t now_ns = partition->engine->now_ns;
    if (offset == end) {
        other->caught_up_ns = now_ns;
    } else if (offset >= other->fetched_end) {
        other->caught_up_ns = other->fetched_ns;
    }
    other->fetched_ns = now_ns;
    other->fetched_end = end;
    other->broker_epoch = broker_epoch;
    other->log_end = offset;
    fmq_partition_advance(partition, 0);
    if (has_caught_up(partition, other)) {
        tell_hints(partition->engine);
    }
    return FMQ_OK;
}

/* ---- calls for Python -----------------------------------------------------------------------*/

/* The others with what is known of them from the same epoch; NULL: no memory. */
static fmq_other *take_over(const fmq_partition *partition, bool same_epoch,
                            const fmq_replica *others, int32_t count, int64_t now_ns) {
    fmq_other *made = fmq_alloc(partition->engine->env, (size_t)(count + 1) * sizeof *made);
    for (int32_t i = 0; made != NULL && i < count; i++) {
        const fmq_other *old =
            same_epoch ? fmq_replicas_find(partition->replicas, others[i].broker_id) : NULL;
        if (old != NULL) {
            made[i] = *old;
        } else {
            made[i] = (fmq_other){.broker_id = others[i].broker_id,
                                  .log_end = -1,
                                  .fetched_end = INT64_MAX,
                                  .caught_up_ns = now_ns,
                                  .broker_epoch = -1};
        }
        made[i].standing = others[i].standing;
    }
    return made;
}

static int lead_locked(fmq_partition *partition, int32_t leader_epoch, const fmq_replica *others,
                       int32_t count) {
    fmq_engine *engine = partition->engine;
    if (leader_epoch < partition->leader_epoch) {
        return FMQ_ERR_FENCED_LEADER_EPOCH;
    }
    bool same_epoch = partition->role == FMQ_ROLE_LEADER && leader_epoch == partition->leader_epoch;
    fmq_other *made = NULL;
    if (fmq_replicas_make(partition)) {
        made =
            take_over(partition, same_epoch, others, count, engine->env->mono_ns(engine->env->ctx));
    }
    if (made == NULL) {
        return -ENOMEM;
    }
    fmq_replicas *replicas = partition->replicas;
    if (!same_epoch) {
        fmq_partition_change_role(partition, FMQ_ROLE_LEADER, leader_epoch);
        replicas->epoch_start = partition->log != NULL ? fmq_log_end(partition->log) : -1;
    }
    fmq_free(engine->env, replicas->others);
    replicas->others = made;
    replicas->count = count;
    replicas->in_sync = 0;
    for (int32_t i = 0; i < count; i++) {
        replicas->in_sync += made[i].standing == FMQ_REPLICA_IN;
    }
    fmq_list_remove(&replicas->link);
    fmq_list_push(&engine->replicated, &replicas->link);
    if (partition->log != NULL) {
        fmq_partition_advance(partition, 0);
    }
    return FMQ_OK;
}

int fmq_partition_lead_replicas(fmq_partition *partition, int32_t leader_epoch,
                                const fmq_replica *others, int32_t count) {
    fmq_engine *engine = partition->engine;
    fmq_lock_take(&engine->lock);
    int rc = lead_locked(partition, leader_epoch, others, count);
    fmq_engine_wake(engine);
    fmq_lock_give(&engine->lock);
    return rc;
}

static bool is_behind(const fmq_partition *partition, const fmq_other *other) {
    return partition->log == NULL || other->log_end < fmq_log_end(partition->log);
}

int32_t fmq_partition_replicas(fmq_partition *partition, fmq_replica_view *out, int32_t room) {
    const fmq_env *env = partition->engine->env;
    fmq_lock_take(&partition->engine->lock);
    const fmq_replicas *replicas = partition->replicas;
    int32_t count = replicas != NULL ? replicas->count : 0;
    int64_t now_ns = env->mono_ns(env->ctx);
    for (int32_t i = 0; i < count && i < room; i++) {
        const fmq_other *other = &replicas->others[i];
        bool behind = is_behind(partition, other);
        out[i] = (fmq_replica_view){
            .broker_id = other->broker_id,
            .standing = other->standing,
            .log_end = other->log_end,
            .caught_up_ms = behind ? (now_ns - other->caught_up_ns) / 1000000 : 0,
            .broker_epoch = other->broker_epoch,
        };
    }
    fmq_lock_give(&partition->engine->lock);
    return count;
}

int64_t fmq_partition_lag(fmq_partition *partition) {
    fmq_lock_take(&partition->engine->lock);
    const fmq_replicas *replicas = partition->replicas;
    int64_t lag = 0;
    if (partition->role == FMQ_ROLE_FOLLOWER && replicas != NULL) {
        int64_t end = partition->log != NULL ? fmq_log_end(partition->log) : 0;
        lag = replicas->leader_watermark < 0 ? -1 : replicas->leader_watermark - end;
        lag = replicas->leader_watermark >= 0 && lag < 0 ? 0 : lag;
    }
    fmq_lock_give(&partition->engine->lock);
    return lag;
}

static bool find_hint(const fmq_partition *partition, const fmq_other *other, int64_t now_ns,
                      int64_t lag_max_ns, fmq_isr_hint *out) {
    bool lags = other->standing == FMQ_REPLICA_IN && is_behind(partition, other) &&
                now_ns - other->caught_up_ns > lag_max_ns;
    bool caught_up = partition->log != NULL && has_caught_up(partition, other);
    if (lags || caught_up) {
        memcpy(out->topic_id, partition->topic->id, sizeof out->topic_id);
        out->index = partition->index;
        out->leader_epoch = partition->leader_epoch;
        out->broker_id = other->broker_id;
        out->caught_up = caught_up;
    }
    return lags || caught_up;
}

int32_t fmq_engine_isr_hints(fmq_engine *engine, int64_t lag_max_ms, fmq_isr_hint *out,
                             int32_t room) {
    fmq_lock_take(&engine->lock);
    int64_t now_ns = engine->env->mono_ns(engine->env->ctx);
    int32_t count = 0;
    engine->hints_told = false;
    for (fmq_list *at = engine->replicated.next; at != &engine->replicated; at = at->next) {
        const fmq_replicas *replicas = FMQ_ENTRY(at, const fmq_replicas, link);
        const fmq_partition *partition = replicas->partition;
        for (int32_t i = 0; i < replicas->count && count < room; i++) {
            const fmq_other *other = &replicas->others[i];
            count += find_hint(partition, other, now_ns, lag_max_ms * 1000000, &out[count]);
        }
    }
    fmq_lock_give(&engine->lock);
    return count;
}
