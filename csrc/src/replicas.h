/* replicas.h - what the engine keeps of a partition that several brokers have; see replication.h.
 *
 * A partition with one replica has none of this.
 */
#ifndef FMQ_REPLICAS_H
#define FMQ_REPLICAS_H

#include "engine_internal.h"
#include "fastmq/replication.h"

#define FMQ_BYTE_MARKS 16 /* remembered ends of appends */

typedef struct fmq_other {
    int32_t broker_id;
    int32_t standing;     /* fmq_sync_standing */
    int64_t log_end;      /* -1: has not fetched in this epoch */
    int64_t fetched_ns;   /* its last fetch, */
    int64_t fetched_end;  /* and our log end then */
    int64_t caught_up_ns; /* when it last had everything; at first when we began to lead */
    int64_t broker_epoch;
} fmq_other;

typedef struct fmq_replicas {
    fmq_partition *partition;
    fmq_list link;             /* engine->replicated, while we lead */
    fmq_list fetch_waits;      /* fetches of followers: woken by appends, not by the watermark */
    int64_t woken_end;         /* readable end when they were woken last; -1: never */
    fmq_wait_queue sync_waits; /* produces with acks=1 that wait for our own sync only */
    fmq_other *others;
    int32_t count;
    int32_t in_sync;          /* others with standing IN */
    int64_t epoch_start;      /* our log end when we began to lead; -1: log not open then */
    int64_t known_watermark;  /* from the checkpoint, until the log is open; -1: unknown */
    int64_t leader_watermark; /* as our leader told, while we follow; -1: not yet */
    fmq_fetcher *fetcher;     /* that fetches for us; NULL: none */
    int32_t asked_epoch;      /* in the fetch under way */
    int64_t asked_offset;     /* -1: not asked */
    bool paused;              /* in trouble */
    bool in_session;          /* the leader's fetch session has it, with these values: */
    int64_t said_offset;
    int64_t said_log_start;
    int32_t said_epoch;
    int32_t said_last_epoch;
    bool is_said;   /* the request that is being written names it */
    bool throttled; /* followers that are out of sync get no more than the rate */
    uint8_t next_mark;
    struct {
        int64_t offset; /* log end */
        int64_t bytes;  /* `end_bytes` there */
    } marks[FMQ_BYTE_MARKS];
} fmq_replicas;

/* Have the structure; false: no memory. */
bool fmq_replicas_make(fmq_partition *partition);
void fmq_replicas_free(fmq_partition *partition);
/* The partition leads no more, or anew. */
void fmq_replicas_stop(fmq_partition *partition);
/* Enough are in sync for acks=all. */
bool fmq_replicas_are_enough(const fmq_partition *partition);
/* Others have it, and the time is over in which this broker may take itself for the leader. */
bool fmq_replicas_lease_is_over(const fmq_partition *partition);
/* The high watermark, given what this broker has for good. */
int64_t fmq_replicas_watermark(const fmq_partition *partition, int64_t local_end);
/* Remember the log end, and how many bytes had been appended at an offset (at the most). */
void fmq_replicas_mark(fmq_partition *partition);
int64_t fmq_replicas_bytes_at(const fmq_partition *partition, int64_t offset);
/* A follower fetches from `offset`: it has what lies before.  Error when it is none of ours. */
int fmq_replicas_fetched(fmq_partition *partition, int32_t broker_id, int64_t broker_epoch,
                         int64_t offset);
/* throttle.c: this follower has to wait, because throttled ones have had enough for now. */
bool fmq_replicas_must_wait(const fmq_partition *partition, int32_t broker_id);
/* Count what a follower is sent. */
void fmq_replicas_sent(const fmq_partition *partition, int32_t broker_id, uint32_t bytes);
/* What is known of a follower; NULL: it is none of ours. */
fmq_other *fmq_replicas_find(const fmq_replicas *replicas, int32_t broker_id);
/* Up to where a follower may read: what is in the file. */
int64_t fmq_replicas_readable_end(const fmq_partition *partition);

/* follower.c: a sync of a followed partition ended. */
void fmq_fetcher_synced(fmq_fetcher *fetcher);

#endif
