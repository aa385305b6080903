/* engine.c - life cycle of the engine, the topic registry and the events for Python. */
#define _GNU_SOURCE
#include "engine_internal.h"

#include <sched.h>

#include "socket_transport.h"

#define FMQ_LOCK_YIELDS_MAX 1000 /* a thread that wants the lock gets it long before */
#define FMQ_TOPIC_BUCKETS_MIN 256u

void fmq_lock_let_others_in(fmq_lock *lock) {
    pthread_mutex_unlock(&lock->mutex);
    /* A plain unlock and lock would win against a sleeping waiter every time. */
    for (int i = 0; i < FMQ_LOCK_YIELDS_MAX; i++) {
        if (atomic_load_explicit(&lock->waiting, memory_order_relaxed) == 0) {
            break;
        }
        sched_yield();
    }
    pthread_mutex_lock(&lock->mutex);
}

/* ---- life cycle -----------------------------------------------------------------------------*/

void fmq_engine_options_default(fmq_engine_options *options) {
    *options = (fmq_engine_options){
        .max_open_files = 4096,
        .max_request_bytes = 100u << 20,
        .max_buffered_bytes = 512ull << 20,
        .max_unanswered_frames = 256,
        .fetch_max_bytes = 55u << 20,
        .fetch_sessions = 1000,
        .idle_timeout_ms = 600000,
        .frame_timeout_ms = 30000,
        .sync_threads = 4,
        .flush_interval_ms = 10,
    };
}

static int engine_open_descriptors(fmq_engine *engine) {
    int rc = fmq_poller_create(engine->env, &engine->poller);
    if (rc == FMQ_OK) {
        rc = fmq_wakeup_open(&engine->wake);
    }
    if (rc == FMQ_OK) {
        rc = fmq_wakeup_open(&engine->events);
    }
    return rc == FMQ_OK ? fmq_poller_add(engine->poller, engine->wake.read_fd, 0) : rc;
}

static int engine_allocate(fmq_engine *engine) {
    const fmq_env *env = engine->env;
    engine->receive_buffer = fmq_alloc(env, FMQ_RECEIVE_BUFFER_BYTES);
    engine->scratch = fmq_alloc(env, FMQ_SCRATCH_BYTES);
    engine->topic_buckets = FMQ_TOPIC_BUCKETS_MIN;
    size_t bytes = engine->topic_buckets * sizeof(fmq_topic *);
    engine->topics_by_name = fmq_alloc(env, bytes);
    engine->topics_by_id = fmq_alloc(env, bytes);
    if (!engine->receive_buffer || !engine->scratch || !engine->topics_by_name ||
        !engine->topics_by_id) {
        return -ENOMEM;
    }
    memset(engine->topics_by_name, 0, bytes);
    memset(engine->topics_by_id, 0, bytes);
    return fmq_files_create(env, engine->options.max_open_files, &engine->files);
}

int fmq_engine_create(const fmq_env *env, const fmq_transport *transport,
                      const fmq_engine_options *options, fmq_engine **out) {
    fmq_engine *engine = fmq_alloc(env, sizeof *engine);
    if (engine == NULL) {
        return -ENOMEM;
    }
    memset(engine, 0, sizeof *engine);
    engine->lease_until_ms = -1;
    engine->env = env;
    engine->transport = transport ? transport : fmq_socket_transport();
    engine->options = *options;
    engine->wake = engine->events = FMQ_WAKEUP_CLOSED;
    pthread_mutex_init(&engine->lock.mutex, NULL);
    fmq_sem_init(&engine->cold_work);
    fmq_list_init(&engine->runnable);
    fmq_list_init(&engine->dirty);
    fmq_list_init(&engine->unsynced);
    fmq_list_init(&engine->replicated);
    fmq_list_init(&engine->sessions);
    fmq_list_init(&engine->disk_waiters);
    fmq_writer_init(&engine->response, env);
    engine->now_ns = env->mono_ns(env->ctx);
    int rc = engine_allocate(engine);
    if (rc == FMQ_OK) {
        rc = engine_open_descriptors(engine);
    }
    if (rc != FMQ_OK) {
        fmq_engine_destroy(engine);
        return rc;
    }
    *out = engine;
    return FMQ_OK;
}

static void engine_free_topics(fmq_engine *engine) {
    for (uint32_t i = 0; engine->topics_by_name && i < engine->topic_buckets; i++) {
        while (engine->topics_by_name[i] != NULL) {
            fmq_topic *topic = engine->topics_by_name[i];
            int32_t used = topic->used; /* the topic goes with its last partition */
            for (int32_t p = 0; used > 0 && p < topic->partition_count; p++) {
                if (topic->partitions[p] != NULL) {
                    used--;
                    fmq_partition *partition = topic->partitions[p];
                    fmq_partition_ref(partition);
                    fmq_engine_remove_partition(engine, partition);
                    fmq_partition_unref(partition);
                }
            }
        }
    }
}

void fmq_engine_destroy(fmq_engine *engine) {
    const fmq_env *env = engine->env;
    fmq_sync_stop(engine);
    fmq_cold_stop(engine);
    fmq_lock_take(&engine->lock);
    for (uint32_t i = 0; i < engine->conn_capacity; i++) {
        if (engine->conns[i] != NULL) {
            fmq_conn_close(engine->conns[i], "the broker stops");
        }
    }
    fmq_conn_bury(engine);
    fmq_lock_give(&engine->lock);
    engine_free_topics(engine);
    fmq_sessions_free(engine);
    fmq_events_free(engine, engine->events_head);
    while (engine->dirs != NULL) {
        fmq_dir *dir = engine->dirs;
        engine->dirs = dir->next;
        fmq_sem_destroy(&dir->work);
        fmq_free(env, dir->threads);
        fmq_free(env, dir->parent);
        fmq_free(env, dir);
    }
    if (engine->files != NULL) {
        fmq_files_destroy(engine->files);
    }
    fmq_poller_destroy(engine->poller);
    fmq_wakeup_close(&engine->wake);
    fmq_wakeup_close(&engine->events);
    fmq_writer_free(&engine->response);
    void *blocks[] = {engine->receive_buffer, engine->scratch,       engine->conns,
                      engine->generations,    engine->heap,          engine->topics_by_name,
                      engine->topics_by_id,   engine->fetch_entries, engine->produce_entries,
                      engine->racks};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        fmq_free(env, blocks[i]);
    }
    fmq_sem_destroy(&engine->cold_work);
    pthread_mutex_destroy(&engine->lock.mutex);
    fmq_free(env, engine);
}

void fmq_engine_wake(fmq_engine *engine) {
    if (engine->asleep) {
        engine->asleep = false; /* one wake-up is enough */
        fmq_wakeup_poke(&engine->wake);
    }
}

void fmq_engine_drain(fmq_engine *engine) {
    fmq_lock_take(&engine->lock);
    engine->draining = true;
    while (engine->heap_size > 0) {
        fmq_fetch_fire(engine->heap[0]);
    }
    fmq_engine_wake(engine);
    fmq_lock_give(&engine->lock);
}

uint32_t fmq_engine_unsent(fmq_engine *engine) {
    uint32_t count = 0;
    fmq_lock_take(&engine->lock);
    for (uint32_t i = 0; i < engine->conn_capacity; i++) {
        const fmq_conn *conn = engine->conns[i];
        count += conn != NULL && (conn->slots_head != NULL || conn->out_head != NULL);
    }
    fmq_lock_give(&engine->lock);
    return count;
}

void fmq_engine_counters(fmq_engine *engine, fmq_counters *out) {
    fmq_lock_take(&engine->lock);
    *out = engine->counters;
    out->connections = engine->conn_count;
    out->parked_fetches = engine->heap_size;
    out->fetch_sessions = engine->session_count;
    out->open_files = fmq_files_open_count(engine->files);
    fmq_lock_give(&engine->lock);
}

static const uint32_t latency_limits_us[FMQ_LATENCY_BUCKETS] = {
    50,    100,   250,    500,    1000,   2500,    5000,    10000,
    25000, 50000, 100000, 250000, 500000, 1000000, 5000000, 0,
};

uint32_t fmq_latency_limit_us(int bucket) {
    return latency_limits_us[bucket];
}

void fmq_latency_note(fmq_engine *engine, fmq_latency *latency, int64_t began_ns) {
    int64_t took_ns = engine->env->mono_ns(engine->env->ctx) - began_ns;
    int bucket = 0;
    while (bucket < FMQ_LATENCY_BUCKETS - 1 &&
           took_ns > (int64_t)latency_limits_us[bucket] * 1000) {
        bucket++;
    }
    latency->buckets[bucket]++;
    latency->sum_ns += (uint64_t)took_ns;
}

void fmq_engine_latencies(fmq_engine *engine, fmq_latency *produce, fmq_latency *fetch) {
    fmq_lock_take(&engine->lock);
    *produce = engine->produce_latency;
    *fetch = engine->fetch_latency;
    fmq_lock_give(&engine->lock);
}

/* ---- events ---------------------------------------------------------------------------------*/

int fmq_engine_event_fd(const fmq_engine *engine) {
    return engine->events.read_fd;
}

fmq_event *fmq_event_new(fmq_engine *engine, fmq_event_kind kind, size_t frame_size) {
    fmq_event *event = fmq_alloc(engine->env, sizeof *event + frame_size);
    if (event != NULL) {
        memset(event, 0, sizeof *event);
        event->kind = kind;
        event->frame_size = frame_size;
    }
    return event;
}

void fmq_event_push(fmq_engine *engine, fmq_event *event) {
    if (engine->events_tail == NULL) {
        engine->events_head = event;
        fmq_wakeup_poke(&engine->events);
    } else {
        engine->events_tail->next = event;
    }
    engine->events_tail = event;
}

fmq_event *fmq_engine_take(fmq_engine *engine, uint32_t max) {
    fmq_lock_take(&engine->lock);
    fmq_event *first = engine->events_head;
    fmq_event *last = first;
    for (uint32_t i = 1; last != NULL && i < max && last->next != NULL; i++) {
        last = last->next;
    }
    if (last != NULL) {
        engine->events_head = last->next;
        last->next = NULL;
    }
    if (engine->events_head == NULL) {
        engine->events_tail = NULL;
        fmq_wakeup_clear(&engine->events);
    }
    fmq_lock_give(&engine->lock);
    return first;
}

void fmq_events_free(fmq_engine *engine, fmq_event *events) {
    while (events != NULL) {
        fmq_event *next = events->next;
        fmq_free(engine->env, events);
        events = next;
    }
}

/* ---- topics ---------------------------------------------------------------------------------*/

/* FNV-1a, finished by a multiplication that spreads the high bits down. */
static uint64_t hash_bytes(const uint8_t *data, size_t size) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ data[i]) * 0x100000001b3ull;
    }
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15ull;
}

static uint32_t bucket_of(const fmq_engine *engine, uint64_t hash) {
    return (uint32_t)(hash >> 32) & (engine->topic_buckets - 1);
}

fmq_topic *fmq_topic_by_name(fmq_engine *engine, const uint8_t *name, size_t size) {
    uint64_t hash = hash_bytes(name, size);
    fmq_topic *topic = engine->topics_by_name[bucket_of(engine, hash)];
    while (topic != NULL && (topic->name_hash != hash || topic->name_size != size ||
                             memcmp(topic->name, name, size) != 0)) {
        topic = topic->next_by_name;
    }
    return topic;
}

fmq_topic *fmq_topic_by_id(fmq_engine *engine, const uint8_t *id) {
    uint64_t hash = hash_bytes(id, 16);
    fmq_topic *topic = engine->topics_by_id[bucket_of(engine, hash)];
    while (topic != NULL && memcmp(topic->id, id, 16) != 0) {
        topic = topic->next_by_id;
    }
    return topic;
}

fmq_partition *fmq_topic_partition(const fmq_topic *topic, int32_t index) {
    if (topic == NULL || index < 0 || index >= topic->partition_count) {
        return NULL;
    }
    return topic->partitions[index];
}

static void link_topic(fmq_engine *engine, fmq_topic *topic) {
    uint32_t by_name = bucket_of(engine, topic->name_hash);
    uint32_t by_id = bucket_of(engine, topic->id_hash);
    topic->next_by_name = engine->topics_by_name[by_name];
    engine->topics_by_name[by_name] = topic;
    topic->next_by_id = engine->topics_by_id[by_id];
    engine->topics_by_id[by_id] = topic;
}

static int grow_buckets(fmq_engine *engine) {
    uint32_t old_buckets = engine->topic_buckets;
    size_t bytes = 2 * old_buckets * sizeof(fmq_topic *);
    fmq_topic **by_name = fmq_alloc(engine->env, bytes);
    fmq_topic **by_id = fmq_alloc(engine->env, bytes);
    if (by_name == NULL || by_id == NULL) {
        fmq_free(engine->env, by_name);
        fmq_free(engine->env, by_id);
        return -ENOMEM;
    }
    memset(by_name, 0, bytes);
    memset(by_id, 0, bytes);
    fmq_topic **old_by_name = engine->topics_by_name;
    fmq_free(engine->env, engine->topics_by_id);
    engine->topics_by_name = by_name;
    engine->topics_by_id = by_id;
    engine->topic_buckets = 2 * old_buckets;
    for (uint32_t i = 0; i < old_buckets; i++) {
        for (fmq_topic *topic = old_by_name[i]; topic != NULL;) {
            fmq_topic *next = topic->next_by_name;
            link_topic(engine, topic);
            topic = next;
        }
    }
    fmq_free(engine->env, old_by_name);
    return FMQ_OK;
}

static fmq_topic *topic_create(fmq_engine *engine, const char *name, const uint8_t *id) {
    size_t size = strlen(name);
    if (engine->topic_count >= 2 * engine->topic_buckets && grow_buckets(engine) != FMQ_OK) {
        return NULL;
    }
    fmq_topic *topic = fmq_alloc(engine->env, sizeof *topic + size + 1);
    if (topic == NULL) {
        return NULL;
    }
    memset(topic, 0, sizeof *topic);
    memcpy(topic->name, name, size + 1);
    memcpy(topic->id, id, sizeof topic->id);
    topic->name_size = (uint32_t)size;
    topic->name_hash = hash_bytes((const uint8_t *)name, size);
    topic->id_hash = hash_bytes(id, sizeof topic->id);
    link_topic(engine, topic);
    engine->topic_count++;
    return topic;
}

static void topic_destroy(fmq_engine *engine, fmq_topic *topic) {
    fmq_topic **at = &engine->topics_by_name[bucket_of(engine, topic->name_hash)];
    while (*at != topic) {
        at = &(*at)->next_by_name;
    }
    *at = topic->next_by_name;
    at = &engine->topics_by_id[bucket_of(engine, topic->id_hash)];
    while (*at != topic) {
        at = &(*at)->next_by_id;
    }
    *at = topic->next_by_id;
    engine->topic_count--;
    fmq_free(engine->env, topic->partitions);
    fmq_free(engine->env, topic);
}

static int topic_make_room(fmq_engine *engine, fmq_topic *topic, int32_t index) {
    if (index < topic->partition_count) {
        return topic->partitions[index] == NULL ? FMQ_OK : -EEXIST;
    }
    /* Doubling keeps the registration of thousands of partitions linear. */
    int32_t count = topic->partition_count > 0 ? 2 * topic->partition_count : 1;
    count = count > index ? count : index + 1;
    fmq_partition **partitions =
        fmq_realloc(engine->env, topic->partitions, (size_t)count * sizeof *partitions);
    if (partitions == NULL) {
        return -ENOMEM;
    }
    for (int32_t i = topic->partition_count; i < count; i++) {
        partitions[i] = NULL;
    }
    topic->partitions = partitions;
    topic->partition_count = count;
    return FMQ_OK;
}

/* Whether the path's last name is all that has to be remembered of it. */
static bool is_in_parent_of(fmq_engine *engine, fmq_dir *dir, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t size = slash != NULL ? (size_t)(slash - path) : 0;
    if (size == 0) {
        return false;
    }
    if (dir->parent == NULL) {
        dir->parent = fmq_alloc(engine->env, size + 1);
        if (dir->parent == NULL) {
            return false;
        }
        memcpy(dir->parent, path, size);
        dir->parent[size] = '\0';
    }
    return strlen(dir->parent) == size && memcmp(dir->parent, path, size) == 0;
}

static fmq_partition *partition_create(fmq_engine *engine, const fmq_partition_options *options,
                                       fmq_dir *dir) {
    bool is_in_parent = is_in_parent_of(engine, dir, options->path);
    const char *path = is_in_parent ? options->path + strlen(dir->parent) + 1 : options->path;
    size_t path_size = strlen(path) + 1;
    fmq_partition *partition = fmq_alloc(engine->env, sizeof *partition + path_size);
    if (partition == NULL) {
        return NULL;
    }
    memset(partition, 0, sizeof *partition);
    memcpy(partition->path, path, path_size);
    partition->engine = engine;
    partition->dir = dir;
    partition->is_in_parent = is_in_parent;
    partition->config = options->config;
    fmq_partition_config_ref(options->config);
    partition->log_start = options->log_start;
    partition->recovery_point = options->recovery_point;
    partition->clean = options->clean;
    partition->index = options->index;
    partition->leader_epoch = -1;
    atomic_init(&partition->refs, 1);
    fmq_list_init(&partition->fetch_waits);
    fmq_list_init(&partition->sync_link);
    fmq_list_init(&partition->dirty_link);
    return partition;
}

static int add_partition_locked(fmq_engine *engine, const fmq_partition_options *options,
                                fmq_partition **out) {
    fmq_dir *dir = fmq_dir_get(engine, options->dir_id);
    fmq_topic *topic =
        fmq_topic_by_name(engine, (const uint8_t *)options->topic, strlen(options->topic));
    if (topic != NULL && memcmp(topic->id, options->topic_id, sizeof topic->id) != 0) {
        return -EEXIST; /* an older topic of that name is still here */
    }
    if (topic == NULL) {
        topic = topic_create(engine, options->topic, options->topic_id);
    }
    if (dir == NULL || topic == NULL) {
        return -ENOMEM;
    }
    int rc = topic_make_room(engine, topic, options->index);
    fmq_partition *partition = rc == FMQ_OK ? partition_create(engine, options, dir) : NULL;
    if (partition == NULL) {
        if (topic->used == 0) {
            topic_destroy(engine, topic);
        }
        return rc == FMQ_OK ? -ENOMEM : rc;
    }
    partition->topic = topic;
    topic->partitions[options->index] = partition;
    topic->used++;
    engine->counters.partitions++;
    fmq_partition_ref(partition); /* one for the registry, one for the caller */
    *out = partition;
    return FMQ_OK;
}

int fmq_engine_add_partition(fmq_engine *engine, const fmq_partition_options *options,
                             fmq_partition **out) {
    if (options->index < 0) {
        return -EINVAL;
    }
    if (strlen(options->path) >= FMQ_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    fmq_lock_take(&engine->lock);
    int rc = add_partition_locked(engine, options, out);
    fmq_lock_give(&engine->lock);
    return rc;
}

void fmq_partition_unregister(fmq_partition *partition) {
    fmq_engine *engine = partition->engine;
    fmq_topic *topic = partition->topic;
    if (topic == NULL) {
        return;
    }
    partition->role = FMQ_ROLE_OFFLINE;
    fmq_fetcher_detach(partition);
    topic->partitions[partition->index] = NULL;
    partition->topic = NULL;
    engine->counters.partitions--;
    if (--topic->used == 0) {
        topic_destroy(engine, topic);
    }
    fmq_partition_fail_waits(partition, FMQ_ERR_UNKNOWN_TOPIC_OR_PARTITION);
    fmq_partition_wake_fetches(partition, INT64_MAX);
    fmq_engine_wake(engine);
    fmq_partition_unref(partition); /* the registry's; the caller has one of its own */
}

void fmq_engine_remove_partition(fmq_engine *engine, fmq_partition *partition) {
    fmq_lock_take(&engine->lock);
    fmq_partition_unregister(partition);
    fmq_lock_give(&engine->lock);
    (void)fmq_partition_close(partition, false);
}

fmq_partition *fmq_engine_find(fmq_engine *engine, const char *topic, size_t topic_size,
                               int32_t index) {
    fmq_lock_take(&engine->lock);
    fmq_partition *partition =
        fmq_topic_partition(fmq_topic_by_name(engine, (const uint8_t *)topic, topic_size), index);
    if (partition != NULL) {
        fmq_partition_ref(partition);
    }
    fmq_lock_give(&engine->lock);
    return partition;
}
