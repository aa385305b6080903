/* fastmq/replication.h - a partition that several brokers keep: its leader's in-sync set, and
 * following another leader.
 *
 * Who is in the assignment, who leads and who is in sync is decided elsewhere and given to the
 * engine; here is the arithmetic that runs per fetch.  The leader's high watermark is the smallest
 * log end of those that count (itself up to what is durable, where `flush` is ACK), and it stands
 * still while fewer than min_insync_replicas are in sync.  It never moves back while one broker
 * leads.  What a follower has is known from the offset that it fetches; a follower whose `flush` is
 * ACK fetches on only after a sync, so its offset means durable bytes.
 *
 * Following is sans-I/O: a fetcher writes Fetch requests for all partitions that follow one broker,
 * and takes the answers.  It keeps offsets and epochs of the leader's batches, and cuts its own log
 * where the leader tells that the two diverge.
 *
 * Functions take the engine's lock and may be called from any thread.
 */
#ifndef FASTMQ_REPLICATION_H
#define FASTMQ_REPLICATION_H

#include "fastmq/engine.h"

/* ---- leading --------------------------------------------------------------------------------*/

typedef enum fmq_sync_standing {
    FMQ_REPLICA_OUT = 0, /* the high watermark does not wait for it */
    FMQ_REPLICA_JOINING =
        1, /* proposed: the watermark waits for it, min.insync does not count it */
    FMQ_REPLICA_IN = 2,
} fmq_sync_standing;

typedef struct fmq_replica {
    int32_t broker_id;
    int32_t standing; /* fmq_sync_standing */
} fmq_replica;

/* Lead with these other replicas (may be none).  A new epoch forgets what followers have and
 * answers waiting produces NOT_LEADER_OR_FOLLOWER; the same epoch changes only who counts.
 * FMQ_OK, FMQ_ERR_FENCED_LEADER_EPOCH for an older epoch, or -ENOMEM (nothing has changed). */
int fmq_partition_lead_replicas(fmq_partition *partition, int32_t leader_epoch,
                                const fmq_replica *others, int32_t count);

typedef struct fmq_replica_view {
    int32_t broker_id;
    int32_t standing;
    int64_t log_end;      /* -1: has not fetched in this epoch */
    int64_t caught_up_ms; /* time since it last had everything; 0 when it has now */
    int64_t broker_epoch; /* as it told with its last fetch, -1: none */
} fmq_replica_view;

/* Up to `room` views; returns how many others there are (0 for a partition without replicas). */
int32_t fmq_partition_replicas(fmq_partition *partition, fmq_replica_view *out, int32_t room);

/* A follower that should change its standing. */
typedef struct fmq_isr_hint {
    uint8_t topic_id[16];
    int32_t index;
    int32_t leader_epoch;
    int32_t broker_id;
    bool caught_up; /* true: out but has everything below the watermark; false: in but lags */
} fmq_isr_hint;

/* Look over all partitions led with replicas.  Those in sync that have not had everything for
 * `lag_max_ms` are reported as lagging.  Returns how many hints were written (at most `room`). */
int32_t fmq_engine_isr_hints(fmq_engine *engine, int64_t lag_max_ms, fmq_isr_hint *out,
                             int32_t room);

/* Until then (fmq_boot_ns, in ms) may this broker take itself for a leader; -1: for ever.
 * Afterwards acks 0 and 1 are refused where others have replicas: one of them may lead already.
 * acks=all goes on, since it needs those others.  A moment and not a duration, so that a process
 * that is stopped on its way here does not believe itself longer for it. */
void fmq_engine_set_lease(fmq_engine *engine, int64_t until_ms);

/* Followers that are out of sync get no more than so many bytes per second, over all partitions
 * that are throttled; -1: no limit.  A follower may get one answer at once, and waits then. */
void fmq_engine_set_throttle(fmq_engine *engine, int64_t bytes_per_s);
/* Whether that holds for this partition; only while it is led. */
void fmq_partition_set_throttled(fmq_partition *partition, bool throttled);

typedef struct fmq_rack {
    int32_t broker_id;
    const char *rack;
    size_t size;
} fmq_rack;

/* Where brokers stand, this one included: consumers that tell their rack are sent to a replica
 * there (KIP-392).  None: all read from leaders.  FMQ_OK or -ENOMEM. */
int fmq_engine_set_racks(fmq_engine *engine, const fmq_rack *racks, int32_t count);

/* Let this connection fetch as a replica; others are closed when they try. */
void fmq_engine_set_peer(fmq_engine *engine, uint64_t conn_id);

/* ---- following ------------------------------------------------------------------------------*/

/* Where the high watermark was at the last stop; before the log is opened.  Without it a replicated
 * log begins at its start, and learns from its leader. */
void fmq_partition_set_watermark(fmq_partition *partition, int64_t high_watermark);

/* Follow: clients are refused (reads up to the high watermark excepted), waiters are answered.
 * FMQ_OK, FMQ_ERR_FENCED_LEADER_EPOCH for an older epoch, or -ENOMEM. */
int fmq_partition_follow(fmq_partition *partition, int32_t leader_epoch);

/* How many offsets a follower is behind the high watermark that its leader told last; -1: it has
 * told none.  0 for others. */
int64_t fmq_partition_lag(fmq_partition *partition);

typedef struct fmq_fetcher fmq_fetcher;

typedef struct fmq_fetcher_options {
    int32_t replica_id;
    int64_t broker_epoch;
    int32_t max_wait_ms;
    int32_t min_bytes;
    int32_t max_bytes;           /* of an answer */
    int32_t partition_max_bytes; /* of one partition in it */
    uint64_t tag;                /* of its events */
} fmq_fetcher_options;

int fmq_fetcher_create(fmq_engine *engine, const fmq_fetcher_options *options, fmq_fetcher **out);
void fmq_fetcher_destroy(fmq_fetcher *fetcher);
/* Fetch a partition from this fetcher's broker, from now on; takes a reference; a partition is in
 * one fetcher at a time and moves when it is added to another.  FMQ_OK or -ENOMEM. */
int fmq_fetcher_add(fmq_fetcher *fetcher, fmq_partition *partition);
void fmq_fetcher_remove(fmq_fetcher *fetcher, fmq_partition *partition);
int32_t fmq_fetcher_count(fmq_fetcher *fetcher);

/* Write a Fetch frame (length prefix included) into `*out`, which belongs to the fetcher and is
 * valid until the next call.  `*out_size` is 0 when nothing may be fetched now: there are no
 * partitions, all are paused, or all wait for a sync; in the last case an event with the tag
 * follows when one has ended.  FMQ_OK or -ENOMEM. */
int fmq_fetcher_request(fmq_fetcher *fetcher, int32_t correlation_id, const uint8_t **out,
                        size_t *out_size);

typedef struct fmq_fetch_trouble {
    uint8_t topic_id[16];
    int32_t index;
    int32_t code; /* Kafka error of the leader or of the append, or -errno */
} fmq_fetch_trouble;

typedef struct fmq_fetch_result {
    int32_t correlation_id;
    int32_t error; /* of the whole answer */
    int64_t bytes; /* appended */
    int32_t truncations;
    int32_t trouble_count;
    const fmq_fetch_trouble *trouble; /* valid until the next call */
} fmq_fetch_result;

/* Take the answer (from the correlation id on).  Partitions in trouble are paused.
 * FMQ_OK, FMQ_ERR_CORRUPT_MESSAGE when the bytes are no Fetch answer, or -ENOMEM. */
int fmq_fetcher_apply(fmq_fetcher *fetcher, const uint8_t *data, size_t size,
                      fmq_fetch_result *out);
/* Fetch a paused partition again. */
void fmq_fetcher_resume(fmq_fetcher *fetcher, fmq_partition *partition);

#endif
