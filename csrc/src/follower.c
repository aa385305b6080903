/* follower.c - following: Fetch requests for what one broker leads, and taking its answers.
 *
 * The request is of version 18, by topic id.  An answer counts only for partitions that still
 * follow in the epoch, and end at the offset, that the request was written with; so a change of the
 * leader while an answer is under way cannot mix two logs.
 */
#include "follower.h"

int fmq_fetcher_create(fmq_engine *engine, const fmq_fetcher_options *options, fmq_fetcher **out) {
    fmq_fetcher *fetcher = fmq_alloc(engine->env, sizeof *fetcher);
    if (fetcher == NULL) {
        return -ENOMEM;
    }
    memset(fetcher, 0, sizeof *fetcher);
    fetcher->engine = engine;
    fetcher->options = *options;
    fmq_writer_init(&fetcher->frame, engine->env);
    *out = fetcher;
    return FMQ_OK;
}

/* ---- which partitions -----------------------------------------------------------------------*/

static bool comes_before(const fmq_partition *a, const fmq_partition *b) {
    if (a->topic != b->topic) {
        return (uintptr_t)a->topic < (uintptr_t)b->topic;
    }
    return a->index < b->index;
}

static uint32_t find_slot(const fmq_fetcher *fetcher, const fmq_partition *partition) {
    uint32_t low = 0;
    uint32_t high = fetcher->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (comes_before(fetcher->partitions[middle], partition)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void fmq_fetcher_detach(fmq_partition *partition) {
    fmq_fetcher *fetcher = partition->replicas != NULL ? partition->replicas->fetcher : NULL;
    if (fetcher == NULL) {
        return;
    }
    fmq_fetcher_forget(fetcher, partition);
    uint32_t at = find_slot(fetcher, partition);
    fetcher->count--;
    memmove(&fetcher->partitions[at], &fetcher->partitions[at + 1],
            (fetcher->count - at) * sizeof *fetcher->partitions);
    partition->replicas->fetcher = NULL;
    partition->replicas->asked_offset = -1;
    fmq_partition_unref(partition);
}

static int add_locked(fmq_fetcher *fetcher, fmq_partition *partition) {
    if (!fmq_replicas_make(partition)) {
        return -ENOMEM;
    }
    if (partition->topic == NULL || partition->replicas->fetcher == fetcher) {
        return FMQ_OK;
    }
    if (fetcher->count == fetcher->capacity) {
        uint32_t capacity = fetcher->capacity ? 2 * fetcher->capacity : 16;
        fmq_partition **grown =
            fmq_realloc(fetcher->engine->env, fetcher->partitions, capacity * sizeof *grown);
        if (grown == NULL) {
            return -ENOMEM;
        }
        fetcher->partitions = grown;
        fetcher->capacity = capacity;
    }
    fmq_partition_ref(partition);
    fmq_fetcher_detach(partition);
    uint32_t at = find_slot(fetcher, partition);
    memmove(&fetcher->partitions[at + 1], &fetcher->partitions[at],
            (fetcher->count - at) * sizeof *fetcher->partitions);
    fetcher->partitions[at] = partition;
    fetcher->count++;
    partition->replicas->fetcher = fetcher;
    partition->replicas->paused = false;
    return FMQ_OK;
}

int fmq_fetcher_add(fmq_fetcher *fetcher, fmq_partition *partition) {
    fmq_lock_take(&fetcher->engine->lock);
    int rc = add_locked(fetcher, partition);
    fmq_lock_give(&fetcher->engine->lock);
    return rc;
}

void fmq_fetcher_remove(fmq_fetcher *fetcher, fmq_partition *partition) {
    fmq_lock_take(&fetcher->engine->lock);
    if (partition->replicas != NULL && partition->replicas->fetcher == fetcher) {
        fmq_fetcher_detach(partition);
    }
    fmq_lock_give(&fetcher->engine->lock);
}

int32_t fmq_fetcher_count(fmq_fetcher *fetcher) {
    fmq_lock_take(&fetcher->engine->lock);
    int32_t count = (int32_t)fetcher->count;
    fmq_lock_give(&fetcher->engine->lock);
    return count;
}

void fmq_fetcher_resume(fmq_fetcher *fetcher, fmq_partition *partition) {
    fmq_lock_take(&fetcher->engine->lock);
    if (partition->replicas != NULL && partition->replicas->fetcher == fetcher) {
        partition->replicas->paused = false;
    }
    fmq_lock_give(&fetcher->engine->lock);
}

void fmq_fetcher_destroy(fmq_fetcher *fetcher) {
    fmq_engine *engine = fetcher->engine;
    fmq_lock_take(&engine->lock);
    while (fetcher->count > 0) {
        fmq_fetcher_detach(fetcher->partitions[fetcher->count - 1]);
    }
    fmq_lock_give(&engine->lock);
    fmq_writer_free(&fetcher->frame);
    fmq_free(engine->env, fetcher->partitions);
    fmq_free(engine->env, fetcher->forgotten);
    fmq_free(engine->env, fetcher->trouble);
    fmq_free(engine->env, fetcher);
}

void fmq_fetcher_synced(fmq_fetcher *fetcher) {
    if (!fetcher->starved) {
        return;
    }
    fmq_event *event = fmq_event_new(fetcher->engine, FMQ_EVENT_FETCHER, 0);
    if (event != NULL) {
        fetcher->starved = false;
        event->tag = fetcher->options.tag;
        fmq_event_push(fetcher->engine, event);
    }
}

/* ---- the answer -----------------------------------------------------------------------------*/

/* What the leader says of one partition. */
typedef struct fetched {
    int16_t error;
    int64_t high_watermark;
    int64_t log_start;
    int32_t diverging_epoch; /* -1: the logs agree */
    int64_t diverging_end;
    fmq_view records;
} fetched;

static void read_tags(fmq_reader *r, fetched *out) {
    uint32_t count = fmq_read_uvarint(r);
    while (count-- > 0 && fmq_reader_ok(r)) {
        uint32_t tag = fmq_read_uvarint(r);
        uint32_t size = fmq_read_uvarint(r);
        const uint8_t *data = fmq_read_raw(r, size);
        if (tag == 0 && data != NULL && size >= 12) {
            out->diverging_epoch = (int32_t)fmq_load_be32(data);
            out->diverging_end = (int64_t)fmq_load_be64(data + 4);
        }
    }
}

static int32_t read_partition(fmq_reader *r, fetched *out) {
    *out = (fetched){.diverging_epoch = -1};
    int32_t index = fmq_read_i32(r);
    out->error = fmq_read_i16(r);
    out->high_watermark = fmq_read_i64(r);
    (void)fmq_read_i64(r); /* last stable offset */
    out->log_start = fmq_read_i64(r);
    uint32_t aborted = fmq_read_count(r, true, 17);
    for (uint32_t i = 0; i < aborted && fmq_reader_ok(r); i++) {
        (void)fmq_read_raw(r, 16);
        fmq_skip_tags(r, true);
    }
    (void)fmq_read_i32(r); /* preferred read replica */
    out->records = fmq_read_bytes(r, true);
    read_tags(r, out);
    return index;
}

static int append_all(fmq_partition *partition, const fmq_view *records, int64_t *appended) {
    fmq_engine *engine = partition->engine;
    const uint8_t *at = records->data;
    size_t left = records->size;
    int rc = FMQ_OK;
    while (rc == FMQ_OK && left > 0) {
        fmq_batch_header header;
        rc = fmq_batch_parse(at, left, &header);
        if (rc != FMQ_OK || (size_t)header.size > left) {
            return rc > 0 ? rc : FMQ_ERR_CORRUPT_MESSAGE; /* leaders send whole batches */
        }
        fmq_append append = {.data = (uint8_t *)(uintptr_t)at, /* read only for this origin */
                             .size = (size_t)header.size,
                             .origin = FMQ_ORIGIN_FOLLOWER,
                             .now_ms = engine->env->wall_ms(engine->env->ctx)};
        rc = fmq_log_append(partition->log, &append);
        if (rc == FMQ_OK) {
            fmq_partition_note_append(partition, &append);
            *appended += header.size;
        }
        at += header.size;
        left -= (size_t)header.size;
    }
    return rc < 0 ? fmq_partition_note_failure(partition, rc) : rc;
}

/* Cut what the leader does not have.  The next fetch tells whether that was enough. */
static int cut(fmq_partition *partition, const fetched *got) {
    int32_t epoch;
    int64_t end;
    fmq_log_epoch_end(partition->log, got->diverging_epoch, &epoch, &end);
    if (end < 0 || end > got->diverging_end) {
        end = got->diverging_end;
    }
    return fmq_partition_cut(partition, end);
}

/* The leader does not have the offset that comes next here. */
static int find_place(fmq_partition *partition, const fetched *got) {
    if (got->log_start > fmq_log_end(partition->log)) { /* it has deleted it */
        return fmq_partition_restart(partition, got->log_start);
    }
    /* It has not got there, and no epoch tells where the logs part: what is committed is common. */
    if (got->log_start >= 0 && got->high_watermark >= got->log_start) {
        return fmq_partition_cut(partition, got->high_watermark);
    }
    return got->error;
}

static int take_partition(fmq_partition *partition, const fetched *got, fmq_fetch_result *out) {
    fmq_replicas *replicas = partition->replicas;
    bool is_cut = got->error == FMQ_ERR_OFFSET_OUT_OF_RANGE || got->diverging_epoch >= 0 ||
                  (got->error == FMQ_OK && got->log_start > fmq_log_start(partition->log));
    if (is_cut && fmq_dir_is_slow(partition->dir)) {
        return FMQ_ERR_KAFKA_STORAGE_ERROR; /* not now, or the reactor hangs with the disk */
    }
    if (got->error == FMQ_ERR_OFFSET_OUT_OF_RANGE) {
        out->truncations++;
        return find_place(partition, got);
    }
    if (got->error != FMQ_OK) {
        return got->error;
    }
    if (got->diverging_epoch >= 0) {
        out->truncations++;
        return cut(partition, got);
    }
    int rc = append_all(partition, &got->records, &out->bytes);
    if (got->high_watermark > replicas->leader_watermark) {
        replicas->leader_watermark = got->high_watermark;
    }
    fmq_partition_advance(partition, partition->end_bytes);
    if (rc == FMQ_OK && got->log_start > fmq_log_start(partition->log) &&
        got->log_start <= fmq_log_end(partition->log)) {
        rc = fmq_partition_note_failure(partition,
                                        fmq_log_advance_start(partition->log, got->log_start));
    }
    return rc;
}

static bool note_trouble(fmq_fetcher *fetcher, fmq_fetch_result *out, fmq_partition *partition,
                         int code) {
    fmq_fetch_trouble *grown =
        fmq_work_room(fetcher->engine->env, fetcher->trouble, &fetcher->trouble_capacity,
                      (uint32_t)out->trouble_count, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    fetcher->trouble = grown;
    fmq_fetch_trouble *trouble = &grown[out->trouble_count++];
    memcpy(trouble->topic_id, partition->topic->id, sizeof trouble->topic_id);
    trouble->index = partition->index;
    trouble->code = code;
    partition->replicas->paused = true;
    return true;
}

/* The partition as it was when the request was written, or NULL. */
static fmq_partition *find_asked(const fmq_fetcher *fetcher, const fmq_topic *topic,
                                 int32_t index) {
    fmq_partition *partition = fmq_topic_partition(topic, index);
    const fmq_replicas *replicas = partition != NULL ? partition->replicas : NULL;
    if (replicas == NULL || replicas->fetcher != fetcher || partition->log == NULL ||
        partition->role != FMQ_ROLE_FOLLOWER || partition->dir->error != 0 ||
        replicas->asked_epoch != partition->leader_epoch ||
        replicas->asked_offset != fmq_log_end(partition->log)) {
        return NULL;
    }
    return partition;
}

static int take_topics(fmq_fetcher *fetcher, fmq_reader *r, fmq_fetch_result *out) {
    uint32_t topics = fmq_read_count(r, true, 18);
    for (uint32_t i = 0; i < topics && fmq_reader_ok(r); i++) {
        const uint8_t *id = fmq_read_raw(r, 16);
        uint32_t count = fmq_read_count(r, true, 36);
        for (uint32_t j = 0; j < count && fmq_reader_ok(r); j++) {
            fetched got;
            int32_t index = read_partition(r, &got);
            if (!fmq_reader_ok(r)) {
                break;
            }
            fmq_topic *topic = fmq_topic_by_id(fetcher->engine, id);
            fmq_partition *partition = find_asked(fetcher, topic, index);
            if (partition == NULL) {
                continue;
            }
            partition->replicas->asked_offset = -1;
            int rc = take_partition(partition, &got, out);
            if (rc != FMQ_OK && !note_trouble(fetcher, out, partition, rc)) {
                return -ENOMEM;
            }
            fmq_lock_pause(&fetcher->engine->lock);
        }
        fmq_skip_tags(r, true);
    }
    return fmq_reader_ok(r) ? FMQ_OK : FMQ_ERR_CORRUPT_MESSAGE;
}

/* What the answer says of the session. */
static void note_session(fmq_fetcher *fetcher, int32_t session_id, fmq_fetch_result *out) {
    bool is_lost = out->error == FMQ_ERR_FETCH_SESSION_ID_NOT_FOUND ||
                   out->error == FMQ_ERR_INVALID_FETCH_SESSION_EPOCH ||
                   out->error == FMQ_ERR_FETCH_SESSION_TOPIC_ID_ERROR;
    fetcher->unanswered = false;
    if (is_lost) {
        out->error = FMQ_OK; /* the next request names everything */
    }
    if (out->error != FMQ_OK || session_id <= 0 || is_lost) {
        fmq_fetcher_end_session(fetcher);
        fetcher->session_id = is_lost ? fetcher->session_id : 0;
    } else if (fetcher->session_epoch == 0) {
        fetcher->session_id = session_id;
        fetcher->session_epoch = 1;
    }
}

int fmq_fetcher_apply(fmq_fetcher *fetcher, const uint8_t *data, size_t size,
                      fmq_fetch_result *out) {
    memset(out, 0, sizeof *out);
    fmq_reader r;
    fmq_reader_init(&r, data, size);
    out->correlation_id = fmq_read_i32(&r);
    fmq_skip_tags(&r, true); /* response header v1 */
    (void)fmq_read_i32(&r);  /* throttle_time_ms */
    out->error = fmq_read_i16(&r);
    int32_t session_id = fmq_read_i32(&r);
    fmq_lock_take(&fetcher->engine->lock);
    note_session(fetcher, session_id, out);
    int rc = take_topics(fetcher, &r, out);
    fmq_engine_wake(fetcher->engine);
    fmq_lock_give(&fetcher->engine->lock);
    out->trouble = fetcher->trouble;
    return rc;
}
