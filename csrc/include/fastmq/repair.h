/* fastmq/repair.h - put another replica's batches in the place of damaged ones.
 *
 * Below the high watermark the logs of all replicas hold the same batches, byte for byte.  So a
 * repair begins at a batch whose place is certain, takes what another replica has from there on,
 * and goes over file and batches in step: the sizes of the good batches tell where each one lies,
 * whatever the damaged headers say.  Bytes that are no valid batch are overwritten; a valid batch
 * with other content is not, and ends the repair.
 *
 * The file is written in place: what is overwritten is of no use to anybody, a write that is cut
 * short leaves a batch that does not fit its CRC, as before, and readers who hold the file get
 * bytes only after a check.  When a call returns, what it wrote is durable.
 */
#ifndef FASTMQ_REPAIR_H
#define FASTMQ_REPAIR_H

#include "fastmq/engine.h"

typedef struct fmq_damage {
    int64_t begin; /* offsets [begin, end) */
    int64_t end;
} fmq_damage;

/* Known damage, up to `room` ranges; returns how many there are.  Takes the lock; any thread. */
int32_t fmq_partition_damage(fmq_partition *partition, fmq_damage *out, int32_t room);

/* How far a repair has come. */
typedef struct fmq_repair {
    int64_t segment_base; /* of the file that is repaired */
    int64_t position;     /* in it, of the next batch */
    int64_t offset;       /* to ask the other replica for */
    bool is_certain;      /* a batch begins at the position, by what was compared */
    bool has_reached_end; /* of the file */
    bool ends_in_good;    /* the last batch that was compared was as it should be */
    int32_t replaced;     /* batches, by the last call */
    int64_t replaced_bytes;
    const char *reason; /* static text, why the last call failed */
} fmq_repair;

/* Begin at the last indexed batch that ends below `offset`, and below `before`: where a repair from
 * one is refused as not certain, begin again before it.  FMQ_OK, FMQ_ERR_OFFSET_OUT_OF_RANGE,
 * -errno. */
int fmq_partition_repair_begin(fmq_partition *partition, int64_t offset, int64_t before,
                               fmq_repair *out);

/* Go on with whole batches that another replica, in the epoch of this one, has at `repair->offset`.
 * Batches that are not committed here are left alone.  Reads and syncs the disk without the lock.
 * FMQ_OK, with the repair moved on, perhaps not at all (more is needed at once);
 * FMQ_ERR_CORRUPT_MESSAGE: the place is not certain; FMQ_ERR_INVALID_RECORD: these batches cannot
 * stand here; FMQ_ERR_FENCED_LEADER_EPOCH; -EAGAIN: the log was changed, or the disk is slow;
 * -errno. */
int fmq_partition_repair(fmq_partition *partition, int32_t leader_epoch, fmq_repair *repair,
                         const uint8_t *data, size_t size);

/* What lies in offsets [begin, end) was repaired: readers may try it again. */
int fmq_partition_repaired(fmq_partition *partition, int64_t begin, int64_t end);

/* Read and check what is stored from `offset` on, at most about `max_bytes`; `*next` is where to go
 * on, at the log end the offset itself.  FMQ_OK; FMQ_ERR_CORRUPT_MESSAGE: damage at `*next`, which
 * is fenced off; other errors as of a read. */
int fmq_partition_scrub(fmq_partition *partition, int64_t offset, uint32_t max_bytes,
                        int64_t *next);

#endif
