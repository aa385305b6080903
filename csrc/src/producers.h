/* producers.h - what a partition remembers of each producer (KIP-98, KIP-360).
 *
 * Per producer id: the epoch, the last five batches, the open transaction.  A batch that repeats
 * one of the five is a duplicate and is answered with the original's offsets; any other must follow
 * the newest one (sequences wrap from 2^31-1 to 0).  A producer that is not known may begin
 * anywhere.
 *
 * The table changes only through fmq_producers_update, fed with stored batches: append, recovery
 * and truncation are one code path.  Snapshots use Kafka's format, version 1, which keeps only the
 * newest batch; fmq_producers_recall adds the older ones from the log.
 */
#ifndef FMQ_PRODUCERS_H
#define FMQ_PRODUCERS_H

#include "fastmq/batch.h"
#include "fastmq/env.h"
#include "fastmq/log.h"

#define FMQ_PRODUCER_BATCHES 5
/* More are not remembered, so that ids made up by a client cannot fill the memory: then those that
 * wrote longest ago are forgotten, as if they had expired. */
#define FMQ_PRODUCERS_MAX 98304

typedef struct fmq_producer_batch {
    int64_t last_offset;
    int64_t timestamp;
    int32_t last_sequence;
    int32_t offset_delta;
} fmq_producer_batch;

typedef struct fmq_producer {
    int64_t id; /* FMQ_NO_PRODUCER_ID: the slot is free */
    int64_t last_timestamp;
    int64_t txn_first_offset;
    int32_t coordinator_epoch;
    int16_t epoch;
    uint8_t batch_count;
    uint8_t newest; /* index into batches */
    fmq_producer_batch batches[FMQ_PRODUCER_BATCHES];
} fmq_producer;

typedef struct fmq_producers {
    fmq_producer *slots; /* open addressing, linear probing; NULL while empty */
    uint32_t count;
    uint32_t capacity; /* a power of two */
} fmq_producers;

typedef struct fmq_producer_verdict {
    bool duplicate;
    int64_t base_offset; /* of the original, when duplicate */
    int64_t last_offset;
    int64_t timestamp;
} fmq_producer_verdict;

/* The end of a transaction, read from a control batch. */
typedef struct fmq_txn_marker {
    bool is_marker; /* else the batch ends no transaction */
    int32_t coordinator_epoch;
} fmq_txn_marker;

void fmq_producers_free(const fmq_env *env, fmq_producers *producers);
const fmq_producer *fmq_producers_find(const fmq_producers *producers, int64_t id);

/* May a client append this batch?  FMQ_OK (look at `out->duplicate`) or an error with `*reason`. */
int fmq_producers_check(const fmq_producers *producers, const fmq_batch_header *h,
                        fmq_producer_verdict *out, const char **reason);

/* Room for one more producer, so that the update cannot fail. */
int fmq_producers_reserve(const fmq_env *env, fmq_producers *producers);

/* Take over a stored batch (its final offsets).  Batches without producer id change nothing. */
void fmq_producers_update(fmq_producers *producers, const fmq_batch_header *h,
                          const fmq_txn_marker *marker);

/* Put a whole entry in, replacing that of the same id (loading a snapshot). */
void fmq_producers_insert(fmq_producers *producers, const fmq_producer *producer);

/* Take over an older batch behind those known, where it belongs to the same run of sequences. */
void fmq_producers_recall(fmq_producers *producers, const fmq_batch_header *h);

/* Read the marker out of a whole control batch. */
fmq_txn_marker fmq_txn_marker_read(const uint8_t *batch, const fmq_batch_header *h);

int32_t fmq_producers_expire(fmq_producers *producers, int64_t now_ms, int64_t expiration_ms);
void fmq_producers_view(const fmq_producer *producer, fmq_producer_view *out);

/* Write `<dir>/<offset>.snapshot` into the page cache. */
int fmq_producers_save(const fmq_env *env, const fmq_producers *producers, const char *dir,
                       int64_t offset);
/* Replace the table by the file's.  FMQ_ERR_CORRUPT_MESSAGE when the file is not usable (the table
 * is empty then), or -errno. */
int fmq_producers_load(const fmq_env *env, fmq_producers *producers, const char *dir,
                       int64_t offset);

#endif
