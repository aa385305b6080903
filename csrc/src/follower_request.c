/* follower_request.c - what a fetcher asks its leader.
 *
 * The first request names all partitions and opens a fetch session; those after it name what has
 * changed on our side since, and what is not to be sent for now.  When an answer is missing or the
 * leader has lost the session, everything is named again.
 */
#include "follower.h"

#define FETCH_VERSION 18
#define FETCH_HURRIED_WAIT_MS 5 /* while some partitions wait for a sync of ours */

void fmq_fetcher_end_session(fmq_fetcher *fetcher) {
    for (uint32_t i = 0; i < fetcher->count; i++) {
        fetcher->partitions[i]->replicas->in_session = false;
    }
    fetcher->forgotten_count = 0;
    fetcher->session_epoch = 0; /* with the id, so that the leader can let go of the old one */
    fetcher->unanswered = false;
}

void fmq_fetcher_forget(fmq_fetcher *fetcher, fmq_partition *partition) {
    if (!partition->replicas->in_session) {
        return;
    }
    partition->replicas->in_session = false;
    fmq_forgotten *grown =
        fmq_work_room(fetcher->engine->env, fetcher->forgotten, &fetcher->forgotten_capacity,
                      fetcher->forgotten_count, sizeof *grown);
    if (grown == NULL || partition->topic == NULL) {
        fetcher->forgotten = grown != NULL ? grown : fetcher->forgotten;
        fmq_fetcher_end_session(fetcher);
        return;
    }
    fetcher->forgotten = grown;
    memcpy(grown[fetcher->forgotten_count].topic_id, partition->topic->id, 16);
    grown[fetcher->forgotten_count++].index = partition->index;
}

/* ---- the request ----------------------------------------------------------------------------*/

typedef enum fetch_state { FETCH_NOT, FETCH_AFTER_SYNC, FETCH_NOW } fetch_state;

static fetch_state may_fetch(fmq_partition *partition) {
    if (partition->role != FMQ_ROLE_FOLLOWER || partition->replicas->paused) {
        return FETCH_NOT;
    }
    if (fmq_partition_open(partition) != FMQ_OK) {
        return FETCH_NOT; /* its directory is offline, or about to be */
    }
    bool durable = partition->config->flush != FMQ_FLUSH_ACK ||
                   fmq_log_synced(partition->log) >= fmq_log_end(partition->log);
    return durable ? FETCH_NOW : FETCH_AFTER_SYNC;
}

/* Whether the session does not know yet what is asked of the partition. */
static bool is_news(const fmq_partition *partition) {
    const fmq_replicas *replicas = partition->replicas;
    return !replicas->in_session || replicas->said_offset != replicas->asked_offset ||
           replicas->said_epoch != replicas->asked_epoch ||
           replicas->said_last_epoch != fmq_log_last_epoch(partition->log) ||
           replicas->said_log_start != fmq_log_start(partition->log);
}

/* Note in each partition whether, and from where, it is asked for, and whether that has to be said;
 * returns how many are asked for. */
static uint32_t choose(fmq_fetcher *fetcher, bool *hurried) {
    uint32_t asked = 0;
    *hurried = false;
    for (uint32_t i = 0; i < fetcher->count; i++) {
        fmq_partition *partition = fetcher->partitions[i];
        fmq_replicas *replicas = partition->replicas;
        fetch_state state = may_fetch(partition);
        replicas->asked_offset = state == FETCH_NOW ? fmq_log_end(partition->log) : -1;
        replicas->asked_epoch = partition->leader_epoch;
        replicas->is_said = state == FETCH_NOW && is_news(partition);
        if (state != FETCH_NOW) {
            fmq_fetcher_forget(fetcher, partition);
        }
        asked += state == FETCH_NOW;
        *hurried = *hurried || state == FETCH_AFTER_SYNC;
    }
    for (uint32_t i = 0; i < fetcher->count && fetcher->session_epoch == 0; i++) {
        fmq_replicas *replicas = fetcher->partitions[i]->replicas;
        replicas->is_said = replicas->asked_offset >= 0;
    }
    return asked;
}

static void write_partition(fmq_fetcher *fetcher, const fmq_partition *partition) {
    fmq_writer *w = &fetcher->frame;
    fmq_write_i32(w, partition->index);
    fmq_write_i32(w, partition->leader_epoch);
    fmq_write_i64(w, partition->replicas->asked_offset);
    fmq_write_i32(w, fmq_log_last_epoch(partition->log));
    fmq_write_i64(w, fmq_log_start(partition->log));
    fmq_write_i32(w, fetcher->options.partition_max_bytes);
    fmq_write_no_tags(w, true);
}

/* The `i`-th partition from `first` on, or NULL when nothing is said of it. */
static fmq_partition *said_at(const fmq_fetcher *fetcher, uint32_t i) {
    fmq_partition *partition = fetcher->partitions[(fetcher->first + i) % fetcher->count];
    return partition->replicas->is_said ? partition : NULL;
}

/* Call with NULL to count the topics, then to write them. */
static uint32_t walk_topics(fmq_fetcher *fetcher, fmq_writer *w) {
    uint32_t topics = 0;
    for (uint32_t i = 0; i < fetcher->count;) {
        const fmq_partition *partition = said_at(fetcher, i);
        if (partition == NULL) {
            i++;
            continue;
        }
        uint32_t begin = i;
        uint32_t in_topic = 0;
        const fmq_partition *next = partition;
        do {
            in_topic += next != NULL;
            i++;
            next = i < fetcher->count ? said_at(fetcher, i) : NULL;
        } while (i < fetcher->count && (next == NULL || next->topic == partition->topic));
        topics++;
        if (w == NULL) {
            continue;
        }
        fmq_write_raw(w, partition->topic->id, 16);
        fmq_write_count(w, true, in_topic);
        for (uint32_t j = begin; j < i; j++) {
            if (said_at(fetcher, j) != NULL) {
                write_partition(fetcher, said_at(fetcher, j));
            }
        }
        fmq_write_no_tags(w, true);
    }
    return topics;
}

/* It is asked for again, and named in this request. */
static bool is_back(const fmq_fetcher *fetcher, const fmq_forgotten *forgotten) {
    const fmq_topic *topic = fmq_topic_by_id(fetcher->engine, forgotten->topic_id);
    const fmq_partition *partition = fmq_topic_partition(topic, forgotten->index);
    return partition != NULL && partition->replicas != NULL &&
           partition->replicas->fetcher == fetcher && partition->replicas->asked_offset >= 0;
}

static void write_forgotten(fmq_fetcher *fetcher) {
    fmq_writer *w = &fetcher->frame;
    uint32_t count = 0;
    for (uint32_t i = 0; i < fetcher->forgotten_count; i++) {
        if (!is_back(fetcher, &fetcher->forgotten[i])) {
            fetcher->forgotten[count++] = fetcher->forgotten[i];
        }
    }
    fmq_write_count(w, true, count);
    for (uint32_t i = 0; i < count; i++) {
        fmq_write_raw(w, fetcher->forgotten[i].topic_id, 16);
        fmq_write_count(w, true, 1);
        fmq_write_i32(w, fetcher->forgotten[i].index);
        fmq_write_no_tags(w, true);
    }
    fetcher->forgotten_count = 0;
}

/* The leader knows now, unless the request gets lost: then it has another epoch than we. */
static void note_said(fmq_fetcher *fetcher) {
    for (uint32_t i = 0; i < fetcher->count; i++) {
        const fmq_partition *partition = fetcher->partitions[i];
        fmq_replicas *replicas = partition->replicas;
        if (replicas->is_said) {
            replicas->in_session = true;
            replicas->said_offset = replicas->asked_offset;
            replicas->said_epoch = replicas->asked_epoch;
            replicas->said_last_epoch = fmq_log_last_epoch(partition->log);
            replicas->said_log_start = fmq_log_start(partition->log);
        }
    }
    if (fetcher->session_epoch > 0) {
        fetcher->session_epoch =
            fetcher->session_epoch == INT32_MAX ? 1 : fetcher->session_epoch + 1;
    }
    fetcher->unanswered = true;
}

static void write_frame(fmq_fetcher *fetcher, int32_t correlation_id, bool hurried) {
    const fmq_fetcher_options *options = &fetcher->options;
    fmq_writer *w = &fetcher->frame;
    int32_t wait_ms = options->max_wait_ms;
    if (hurried && wait_ms > FETCH_HURRIED_WAIT_MS) {
        wait_ms = FETCH_HURRIED_WAIT_MS;
    }
    w->size = 0;
    fmq_write_i32(w, 0); /* length */
    fmq_write_i16(w, 1); /* Fetch */
    fmq_write_i16(w, FETCH_VERSION);
    fmq_write_i32(w, correlation_id);
    fmq_write_string(w, false, "fastmq-replica", 14); /* client id: never compact */
    fmq_write_no_tags(w, true);
    fmq_write_i32(w, wait_ms);
    fmq_write_i32(w, options->min_bytes);
    fmq_write_i32(w, options->max_bytes);
    fmq_write_i8(w, 0); /* read uncommitted */
    fmq_write_i32(w, fetcher->session_id);
    fmq_write_i32(w, fetcher->session_epoch);
    fmq_write_count(w, true, walk_topics(fetcher, NULL));
    (void)walk_topics(fetcher, w);
    write_forgotten(fetcher);
    fmq_write_string(w, true, "", 0); /* rack */
    fmq_write_uvarint(w, 1);          /* one tag, */
    fmq_write_uvarint(w, 1);          /* the replica state, */
    fmq_write_uvarint(w, 4 + 8 + 1);  /* of that size */
    fmq_write_i32(w, options->replica_id);
    fmq_write_i64(w, options->broker_epoch);
    fmq_write_no_tags(w, true);
    if (!w->failed) {
        fmq_store_be32(w->data, (uint32_t)(w->size - 4));
    }
}

int fmq_fetcher_request(fmq_fetcher *fetcher, int32_t correlation_id, const uint8_t **out,
                        size_t *out_size) {
    *out = NULL;
    *out_size = 0;
    fmq_lock_take(&fetcher->engine->lock);
    bool hurried;
    int rc = FMQ_OK;
    if (fetcher->unanswered) { /* what its answer told is lost */
        fmq_fetcher_end_session(fetcher);
    }
    if (choose(fetcher, &hurried) > 0) {
        fetcher->first = (fetcher->first + 1) % fetcher->count;
        write_frame(fetcher, correlation_id, hurried);
        rc = fetcher->frame.failed ? -ENOMEM : FMQ_OK;
        fetcher->frame.failed = false;
        if (rc != FMQ_OK) {
            fmq_fetcher_end_session(fetcher);
        } else {
            note_said(fetcher);
            *out = fetcher->frame.data;
            *out_size = fetcher->frame.size;
        }
    } else {
        fetcher->starved = hurried;
    }
    fmq_engine_wake(fetcher->engine); /* opening a log may have asked for a sync */
    fmq_lock_give(&fetcher->engine->lock);
    return rc;
}
