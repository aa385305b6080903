/* partition.c - one partition: appends, the high watermark, who waits for it, its role.
 *
 * The high watermark is the synced offset where fsync is promised (FMQ_FLUSH_ACK) and the log end
 * otherwise, and with several replicas what replicas.c makes of it; it never moves back while the
 * log is open, except where a follower cuts what its leader does not have.  Everything that changes
 * a partition runs under the engine's lock, so an append, its offsets and its waiters are one step.
 */
#include "replicas.h"

int16_t fmq_error_code(int rc) {
    if (rc >= 0) {
        return (int16_t)rc;
    }
    return FMQ_ERR_KAFKA_STORAGE_ERROR;
}

/* Errors that say nothing about the health of the disk. */
static bool is_disk_failure(int rc) {
    switch (rc) {
    case -ENOSPC:
    case -EDQUOT:
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
    case -EINVAL:
        return false;
    default:
        return rc < 0;
    }
}

int fmq_partition_note_failure(fmq_partition *partition, int rc) {
    if (is_disk_failure(rc)) {
        fmq_dir_offline(partition->dir, -rc);
    }
    return rc;
}

/* ---- settings -------------------------------------------------------------------------------*/

fmq_partition_config *fmq_partition_config_new(const fmq_env *env) {
    fmq_partition_config *config = fmq_alloc(env, sizeof *config);
    if (config != NULL) {
        memset(config, 0, sizeof *config);
        config->refs = 1;
    }
    return config;
}

void fmq_partition_config_ref(fmq_partition_config *config) {
    __atomic_add_fetch(&config->refs, 1, __ATOMIC_RELAXED);
}

void fmq_partition_config_unref(const fmq_env *env, fmq_partition_config *config) {
    if (__atomic_sub_fetch(&config->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        fmq_free(env, config);
    }
}

void fmq_partition_ref(fmq_partition *partition) {
    atomic_fetch_add_explicit(&partition->refs, 1, memory_order_relaxed);
}

void fmq_partition_unref(fmq_partition *partition) {
    if (atomic_fetch_sub_explicit(&partition->refs, 1, memory_order_acq_rel) == 1) {
        const fmq_env *env = partition->engine->env;
        assert(partition->log == NULL);
        fmq_replicas_free(partition);
        fmq_corrupt_forget(partition);
        fmq_partition_config_unref(env, partition->config);
        fmq_free(env, partition);
    }
}

void fmq_partition_set_config(fmq_partition *partition, fmq_partition_config *config) {
    fmq_engine *engine = partition->engine;
    fmq_lock_take(&engine->lock);
    fmq_partition_config *old = partition->config;
    fmq_partition_config_ref(config);
    partition->config = config;
    if (partition->log != NULL) {
        /* The log end may be shown from now on: it has to be in the file. */
        (void)fmq_partition_note_failure(partition, fmq_log_write_pending(partition->log));
        fmq_sync_recount(partition);
        fmq_log_set_config(partition->log, &config->log);
        fmq_partition_advance(partition, partition->end_bytes);
    }
    fmq_engine_wake(engine);
    fmq_lock_give(&engine->lock);
    fmq_partition_config_unref(engine->env, old);
}

/* ---- opening --------------------------------------------------------------------------------*/

/* The path is written into `path`, FMQ_PATH_MAX bytes. */
static fmq_log_open_options open_options(const fmq_partition *partition, char *path) {
    fmq_partition_path(partition, path);
    return (fmq_log_open_options){
        .dir = path,
        .log_start = partition->log_start,
        .recovery_point = partition->recovery_point,
        .clean = partition->clean,
        .config = partition->config->log,
    };
}

/* Of a log that was just opened: with other replicas only what is known to be committed. */
static void begin_watermark(fmq_partition *partition) {
    fmq_replicas *replicas = partition->replicas;
    partition->high_watermark = fmq_partition_local_end(partition);
    if (replicas == NULL) {
        return;
    }
    int64_t start = fmq_log_start(partition->log);
    int64_t known = replicas->known_watermark > start ? replicas->known_watermark : start;
    if (known < partition->high_watermark) {
        partition->high_watermark = known;
    }
    if (replicas->epoch_start < 0) {
        replicas->epoch_start = fmq_log_end(partition->log);
    }
    fmq_partition_advance(partition, 0);
}

void fmq_partition_set_watermark(fmq_partition *partition, int64_t high_watermark) {
    fmq_lock_take(&partition->engine->lock);
    if (fmq_replicas_make(partition)) { /* without memory it begins at the log start */
        partition->replicas->known_watermark = high_watermark;
    }
    fmq_lock_give(&partition->engine->lock);
}

int fmq_partition_open(fmq_partition *partition) {
    if (partition->log != NULL) {
        return FMQ_OK;
    }
    if (partition->closed) {
        return FMQ_ERR_NOT_LEADER_OR_FOLLOWER;
    }
    if (partition->dir->error != 0) {
        return FMQ_ERR_KAFKA_STORAGE_ERROR;
    }
    fmq_engine *engine = partition->engine;
    char path[FMQ_PATH_MAX];
    fmq_log_open_options options = open_options(partition, path);
    fmq_recovery recovery;
    int rc = fmq_log_open(engine->env, engine->files, &options, &partition->log, &recovery);
    if (rc != FMQ_OK) {
        partition->log = NULL;
        return fmq_partition_note_failure(partition, rc);
    }
    partition->clean = true; /* from now on the log itself knows what is on disk */
    begin_watermark(partition);
    if (partition->config->flush == FMQ_FLUSH_ACK && fmq_log_needs_sync(partition->log)) {
        fmq_sync_request(partition);
    }
    return FMQ_OK;
}

int fmq_partition_recover(fmq_partition *partition, int64_t log_start, int64_t recovery_point,
                          fmq_recovery *recovery) {
    /* A private set of files: the shared one belongs to whoever holds the lock. */
    const fmq_env *env = partition->engine->env;
    fmq_files *files = NULL;
    fmq_log *log = NULL;
    memset(recovery, 0, sizeof *recovery);
    int rc = fmq_files_create(env, 16, &files);
    if (rc != FMQ_OK) {
        return rc;
    }
    partition->log_start = log_start;
    partition->recovery_point = recovery_point;
    char path[FMQ_PATH_MAX];
    fmq_log_open_options options = open_options(partition, path);
    options.clean = false;
    rc = fmq_log_open(env, files, &options, &log, recovery);
    if (rc == FMQ_OK) {
        partition->recovery_point = fmq_log_end(log);
        rc = fmq_log_close(log, true);
    }
    fmq_files_destroy(files);
    partition->clean = rc == FMQ_OK;
    return rc;
}

static void wake_fetches(fmq_list *waits, int64_t bytes);

/* ---- appending ------------------------------------------------------------------------------*/

int fmq_partition_writable(const fmq_partition *partition) {
    if (partition->role != FMQ_ROLE_LEADER || partition->closed) {
        return FMQ_ERR_NOT_LEADER_OR_FOLLOWER;
    }
    return partition->dir->error != 0 ? FMQ_ERR_KAFKA_STORAGE_ERROR : FMQ_OK;
}

/* Where the answer waits for a sync, the thread that syncs writes, too. */
static bool may_defer(const fmq_partition *partition) {
    return partition->config->flush == FMQ_FLUSH_ACK && partition->engine->options.sync_threads > 0;
}

bool fmq_partition_awaits_file(fmq_partition *partition, const uint8_t *data, size_t size) {
    if (!may_defer(partition) || fmq_partition_writable(partition) != FMQ_OK ||
        fmq_partition_open(partition) != FMQ_OK || fmq_dir_is_stalled(partition->dir) ||
        !fmq_log_needs_file(partition->log, data, size)) {
        return false;
    }
    fmq_log_want_file(partition->log);
    fmq_sync_request(partition);
    return true;
}

void fmq_partition_note_append(fmq_partition *partition, const fmq_append *append) {
    partition->end_bytes += (int64_t)append->size;
    if (partition->replicas != NULL) {
        fmq_replicas_mark(partition);
    }
    switch (partition->config->flush) {
    case FMQ_FLUSH_ACK:
        fmq_sync_request(partition);
        break;
    case FMQ_FLUSH_NEVER:
        fmq_partition_advance(partition, partition->end_bytes);
        break;
    default:
        fmq_sync_note_dirty(partition);
        fmq_partition_advance(partition, partition->end_bytes);
        break;
    }
    if (partition->replicas != NULL && !append->deferred) {
        partition->replicas->woken_end = fmq_replicas_readable_end(partition);
        wake_fetches(&partition->replicas->fetch_waits, (int64_t)append->size);
    }
}

/* Frames wait until a sync thread has made their file (fmq_partition_awaits_file); Python's appends
 * cannot, and make it themselves unless the disk seems to hang. */
static bool must_not_wait(fmq_partition *partition, const fmq_append *append) {
    if (fmq_log_awaits_file(partition->log)) {
        fmq_sync_wait_briefly(partition); /* without the lock: everything may have changed */
    }
    return partition->log == NULL || fmq_partition_writable(partition) != FMQ_OK ||
           fmq_log_awaits_file(partition->log) ||
           (append->deferred && fmq_dir_is_slow(partition->dir) &&
            fmq_log_needs_file(partition->log, append->data, append->size));
}

int fmq_partition_do_append(fmq_partition *partition, fmq_append *append) {
    int rc = fmq_partition_writable(partition);
    if (rc == FMQ_OK) {
        rc = fmq_partition_open(partition);
    }
    if (rc != FMQ_OK) {
        return rc;
    }
    fmq_counters *counters = &partition->engine->counters;
    if (fmq_dir_is_stalled(partition->dir)) {
        append->reason = "the disk does not answer";
        return FMQ_ERR_KAFKA_STORAGE_ERROR;
    }
    append->deferred = may_defer(partition);
    if (must_not_wait(partition, append)) {
        append->reason = "the disk does not answer";
        return FMQ_ERR_KAFKA_STORAGE_ERROR;
    }
    append->leader_epoch = partition->leader_epoch;
    rc = fmq_log_append(partition->log, append);
    if (rc != FMQ_OK) {
        return fmq_partition_note_failure(partition, rc);
    }
    if (append->deferred) {
        fmq_sync_recount(partition);
    }
    if (append->duplicate) {
        counters->produce_duplicates++;
        return FMQ_OK;
    }
    counters->batches_in++;
    counters->records_in += (uint64_t)(append->last_offset - append->base_offset + 1);
    counters->record_bytes_in += append->size;
    fmq_partition_note_append(partition, append);
    return FMQ_OK;
}

int fmq_partition_append(fmq_partition *partition, fmq_append *append, uint64_t token) {
    fmq_engine *engine = partition->engine;
    fmq_produce_wait *wait = NULL;
    fmq_event *event = NULL;
    if (token > 0) {
        wait = fmq_alloc(engine->env, sizeof *wait);
        event = fmq_event_new(engine, FMQ_EVENT_APPENDED, 0);
        if (wait == NULL || event == NULL) {
            fmq_free(engine->env, wait);
            fmq_free(engine->env, event);
            return -ENOMEM;
        }
        event->tag = token;
        *wait = (fmq_produce_wait){.event = event};
    }
    fmq_lock_take(&engine->lock);
    int rc = fmq_partition_do_append(partition, append);
    if (rc == FMQ_OK && wait != NULL) {
        wait->required = append->last_offset + 1;
        fmq_partition_add_wait(partition, wait, -1);
    }
    fmq_engine_wake(engine); /* fetches may have been fired */
    fmq_lock_give(&engine->lock);
    if (rc != FMQ_OK) {
        fmq_free(engine->env, wait);
        fmq_free(engine->env, event);
    }
    return rc;
}

/* ---- waiting --------------------------------------------------------------------------------*/

static void finish_wait(fmq_partition *partition, fmq_produce_wait *wait, int code) {
    fmq_engine *engine = partition->engine;
    engine->counters.pending_acks--;
    if (wait->slot != NULL) {
        fmq_slot_wait_done(engine, wait, code);
        return;
    }
    wait->event->code = code;
    fmq_event_push(engine, wait->event);
    fmq_free(engine->env, wait);
}

int64_t fmq_partition_local_end(const fmq_partition *partition) {
    bool ack = partition->config->flush == FMQ_FLUSH_ACK;
    return ack ? fmq_log_synced(partition->log) : fmq_log_end(partition->log);
}

/* With one replica our own end is the high watermark, which never moves back. */
static bool waits_alone(const fmq_partition *partition, int16_t acks) {
    return partition->replicas != NULL && acks == 1;
}

int64_t fmq_partition_ack_level(const fmq_partition *partition, int16_t acks) {
    return waits_alone(partition, acks) ? fmq_partition_local_end(partition)
                                        : partition->high_watermark;
}

static void queue_wait(fmq_wait_queue *queue, fmq_produce_wait *wait) {
    wait->next = NULL;
    if (queue->tail == NULL) {
        queue->head = queue->tail = wait;
    } else if (queue->tail->required <= wait->required) {
        queue->tail->next = wait;
        queue->tail = wait;
    } else { /* a duplicate waits for an original further back */
        fmq_produce_wait **at = &queue->head;
        while ((*at)->required <= wait->required) {
            at = &(*at)->next;
        }
        wait->next = *at;
        *at = wait;
    }
}

void fmq_partition_add_wait(fmq_partition *partition, fmq_produce_wait *wait, int16_t acks) {
    partition->engine->counters.pending_acks++;
    if (wait->required <= fmq_partition_ack_level(partition, acks)) {
        finish_wait(partition, wait, FMQ_OK);
    } else if (waits_alone(partition, acks)) {
        queue_wait(&partition->replicas->sync_waits, wait);
    } else {
        queue_wait(&partition->waits, wait);
    }
}

/* Answer those who wait for at most `level`. */
static void finish_waits(fmq_partition *partition, fmq_wait_queue *queue, int64_t level, int code) {
    while (queue->head != NULL && queue->head->required <= level) {
        fmq_produce_wait *wait = queue->head;
        queue->head = wait->next;
        if (queue->head == NULL) {
            queue->tail = NULL;
        }
        finish_wait(partition, wait, code);
    }
}

void fmq_partition_fail_waits(fmq_partition *partition, int code) {
    finish_waits(partition, &partition->waits, INT64_MAX, code);
    if (partition->replicas != NULL) {
        finish_waits(partition, &partition->replicas->sync_waits, INT64_MAX, code);
    }
}

static void wake_fetches(fmq_list *waits, int64_t bytes) {
    if (fmq_list_empty(waits)) {
        return;
    }
    /* Firing unlinks every wait of a connection, so the walk goes over a list of its own. */
    fmq_list pending = *waits;
    pending.next->prev = &pending;
    pending.prev->next = &pending;
    fmq_list_init(waits);
    while (!fmq_list_empty(&pending)) {
        fmq_list *link = pending.next;
        fmq_list_remove(link);
        fmq_list_push(waits, link);
        fmq_conn *conn = FMQ_ENTRY(link, fmq_fetch_wait, link)->conn;
        if (conn->fetch_missing <= bytes) {
            fmq_fetch_fire(conn);
        } else {
            conn->fetch_missing -= bytes;
        }
    }
}

void fmq_partition_wake_fetches(fmq_partition *partition, int64_t bytes) {
    wake_fetches(&partition->fetch_waits, bytes);
    if (partition->replicas != NULL && bytes == INT64_MAX) {
        wake_fetches(&partition->replicas->fetch_waits, bytes);
    }
}

/* Our own end has moved: who waits for that alone. */
static void advance_local(fmq_partition *partition, int64_t local_end) {
    fmq_replicas *replicas = partition->replicas;
    finish_waits(partition, &replicas->sync_waits, local_end, FMQ_OK);
    int64_t readable = fmq_replicas_readable_end(partition);
    /* Followers come here, too, with each fetch: one of them must not wake the others by that. */
    if (partition->config->flush == FMQ_FLUSH_ACK && readable != replicas->woken_end) {
        replicas->woken_end = readable;
        wake_fetches(&replicas->fetch_waits, INT64_MAX); /* deferred appends are in the file now */
    }
    if (replicas->fetcher != NULL) {
        fmq_fetcher_synced(replicas->fetcher);
    }
}

void fmq_partition_advance(fmq_partition *partition, int64_t stable_bytes) {
    int64_t stable = fmq_partition_local_end(partition);
    if (partition->replicas != NULL) {
        advance_local(partition, stable);
        stable = fmq_replicas_watermark(partition, stable);
        stable_bytes = fmq_replicas_bytes_at(partition, stable);
    }
    if (stable <= partition->high_watermark) {
        return;
    }
    partition->high_watermark = stable;
    int64_t gained = stable_bytes - partition->stable_bytes;
    partition->stable_bytes = stable_bytes;
    finish_waits(partition, &partition->waits, stable, FMQ_OK);
    fmq_partition_wake_fetches(partition, gained);
    if (partition->engine->rack_count > 0 && partition->replicas != NULL) {
        wake_fetches(&partition->replicas->fetch_waits, INT64_MAX); /* consumers read there, too */
    }
}

/* ---- role -----------------------------------------------------------------------------------*/

void fmq_partition_change_role(fmq_partition *partition, fmq_role role, int32_t leader_epoch) {
    assert(leader_epoch >= partition->leader_epoch);
    partition->leader_epoch = leader_epoch;
    partition->role = (uint8_t)role;
    if (partition->replicas != NULL) {
        fmq_replicas_stop(partition);
    }
    if (role != FMQ_ROLE_FOLLOWER) {
        fmq_fetcher_detach(partition);
    }
    fmq_partition_fail_waits(partition, FMQ_ERR_NOT_LEADER_OR_FOLLOWER);
    fmq_partition_wake_fetches(partition, INT64_MAX);
    fmq_engine_wake(partition->engine);
}

void fmq_partition_lead(fmq_partition *partition, int32_t leader_epoch) {
    fmq_engine *engine = partition->engine;
    fmq_lock_take(&engine->lock);
    if (leader_epoch != partition->leader_epoch || partition->role != FMQ_ROLE_LEADER) {
        fmq_partition_change_role(partition, FMQ_ROLE_LEADER, leader_epoch);
    }
    fmq_lock_give(&engine->lock);
}

int fmq_partition_follow(fmq_partition *partition, int32_t leader_epoch) {
    fmq_engine *engine = partition->engine;
    int rc = FMQ_OK;
    fmq_lock_take(&engine->lock);
    if (leader_epoch < partition->leader_epoch) {
        rc = FMQ_ERR_FENCED_LEADER_EPOCH;
    } else if (!fmq_replicas_make(partition)) {
        rc = -ENOMEM;
    } else if (leader_epoch != partition->leader_epoch || partition->role != FMQ_ROLE_FOLLOWER) {
        fmq_partition_change_role(partition, FMQ_ROLE_FOLLOWER, leader_epoch);
    }
    fmq_lock_give(&engine->lock);
    return rc;
}

static void resign_locked(fmq_partition *partition) {
    fmq_partition_change_role(partition, FMQ_ROLE_OFFLINE, partition->leader_epoch);
}

void fmq_partition_resign(fmq_partition *partition) {
    fmq_lock_take(&partition->engine->lock);
    resign_locked(partition);
    fmq_lock_give(&partition->engine->lock);
}

/* ---- following: what the leader does not have -----------------------------------------------*/

/* The log was cut or begun anew: nothing that is remembered of its bytes holds any more. */
static void settle_cut(fmq_partition *partition) {
    int64_t end = fmq_log_end(partition->log);
    if (partition->high_watermark > end) {
        partition->high_watermark = end;
    }
    fmq_corrupt_forget(partition);
    fmq_sync_recount(partition);
    partition->stable_bytes = partition->end_bytes;
    partition->replicas->woken_end = -1;
    memset(partition->replicas->marks, 0, sizeof partition->replicas->marks);
    fmq_partition_wake_fetches(partition, INT64_MAX);
}

int fmq_partition_cut(fmq_partition *partition, int64_t offset) {
    int rc = fmq_partition_note_failure(partition, fmq_log_truncate_to(partition->log, offset));
    if (rc == FMQ_OK) {
        settle_cut(partition);
    }
    return rc;
}

int fmq_partition_restart(fmq_partition *partition, int64_t offset) {
    int rc = fmq_partition_note_failure(partition, fmq_log_reset(partition->log, offset));
    if (rc == FMQ_OK) {
        partition->high_watermark = offset;
        settle_cut(partition);
    }
    return rc;
}
