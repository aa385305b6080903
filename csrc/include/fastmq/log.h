/* fastmq/log.h - one partition's log on disk: segments, indexes, producer state, leader epochs.
 *
 * Kafka's layout and formats, in `topic-partition/`:
 *   <base offset, 20 digits>.log        record batches, back to back
 *   <base offset>.index                 sparse offset index: 8-byte entries (relative offset u32,
 *                                       position u32)
 *   <base offset>.timeindex             12-byte entries (timestamp i64, relative offset u32)
 *   <offset>.snapshot                   producer state up to <offset>
 *   leader-epoch-checkpoint             text: version 0, count, "epoch start_offset" lines
 *   partition.metadata                  text: version: 0, topic_id: <base64 uuid>
 *
 * Ownership and threads.  A log is touched by one thread at a time (the caller holds the engine's
 * lock); the exceptions say so: running a sync job, and reading through a pinned segment.  No
 * function takes a lock of its own.  All I/O goes through `fmq_env`.
 *
 * What is true on disk after what: an append is in the page cache when fmq_log_append returns, and
 * durable when a sync job that began later has ended well.  Index entries of the active segment are
 * kept in memory and written when the segment is rolled, the log is flushed or closed; recovery
 * rebuilds them.  A descriptor is opened at first use and given back by the LRU of `fmq_files`, so
 * an idle log holds none.
 */
#ifndef FASTMQ_LOG_H
#define FASTMQ_LOG_H

#include "fastmq/base.h"
#include "fastmq/batch.h"
#include "fastmq/env.h"

/* ---- open files, bounded --------------------------------------------------------------------*/

/* An LRU of open segment files shared by all logs of an engine.  Not thread safe. */
typedef struct fmq_files fmq_files;

int fmq_files_create(const fmq_env *env, uint32_t max_open, fmq_files **out);
void fmq_files_destroy(fmq_files *files); /* no log may still be open */
uint32_t fmq_files_open_count(const fmq_files *files);

/* ---- a segment, seen from outside -----------------------------------------------------------*/

/* Reference counted: a slice pins its segment, so that retention and truncation may unlink the file
 * while it is still being sent. */
typedef struct fmq_segment fmq_segment;

void fmq_segment_ref(fmq_segment *segment);
/* Gives the reference back; the last one closes the file. Same thread rule as the log. */
void fmq_segment_unref(fmq_segment *segment);
/* The descriptor to sendfile or pread from, opened when needed; stays open while `pins` > 0.
 * Returns fd or -errno.  Each pin is paired with an unpin. */
int fmq_segment_pin(fmq_segment *segment);
void fmq_segment_unpin(fmq_segment *segment);
/* True once the bytes were cut away by a truncation after the slice was taken: the sender must
 * drop the connection instead of sending what is there now. */
bool fmq_segment_truncated_below(const fmq_segment *segment, int64_t position_end);

/* Whole stored batches inside one segment. */
typedef struct fmq_slice {
    fmq_segment *segment; /* a reference that the receiver gives back; NULL when size is 0 */
    int64_t position;     /* of the first byte in the file */
    uint32_t size;        /* bytes */
    int64_t base_offset;  /* of the first batch */
    int64_t next_offset;  /* first offset after the last batch */
    bool end_is_cached;   /* its last byte was in the page cache when it was looked up */
} fmq_slice;

/* ---- the log --------------------------------------------------------------------------------*/

typedef struct fmq_log_config {
    int64_t segment_bytes;     /* segment.bytes, 1 MiB .. 2^31-1; tests may go lower */
    int64_t segment_ms;        /* segment.ms */
    int64_t segment_jitter_ms; /* subtracted at random is the caller's business: already in */
    int64_t retention_ms;      /* -1: no limit */
    int64_t retention_bytes;   /* -1: no limit */
    int64_t producer_id_expiration_ms; /* producer.id.expiration.ms */
    int32_t index_interval_bytes;      /* index.interval.bytes */
    int32_t segment_index_bytes; /* segment.index.bytes: roll when the index would be larger */
    int32_t max_message_bytes;   /* max.message.bytes */
    int64_t timestamp_before_max_ms;
    int64_t timestamp_after_max_ms;
    bool log_append_time; /* message.timestamp.type=LogAppendTime */
    bool preallocate;
    bool cleanup_delete; /* cleanup.policy has "delete": retention applies */
} fmq_log_config;

typedef struct fmq_log fmq_log;

/* What recovery found and did; strings are static. */
typedef struct fmq_recovery {
    bool recovered; /* some segment was scanned */
    int64_t bytes_scanned;
    int64_t bytes_truncated;  /* cut at the first bad byte */
    int64_t truncated_at;     /* offset of the cut, -1 when none */
    int32_t segments_deleted; /* segments after the cut, removed */
    int32_t indexes_rebuilt;
    const char *reason; /* why the cut was made, or NULL */
} fmq_recovery;

typedef struct fmq_log_open_options {
    const char *dir;        /* partition directory, exists */
    int64_t log_start;      /* from log-start-offset-checkpoint; 0 when unknown */
    int64_t recovery_point; /* offsets below were synced; 0 when unknown */
    bool clean;             /* the directory was shut down cleanly: trust the tail, no scan */
    fmq_log_config config;
} fmq_log_open_options;

/* Open or create the log in `options->dir`, recovering what is not trusted: every batch at or after
 * the recovery point is checked (length, CRC, offsets going up), the log is cut at the first bad
 * byte, later segments are removed, indexes are rebuilt and producer state is replayed from the
 * newest usable snapshot.  Bytes below the recovery point are never cut: damage there is found by
 * readers and reported.  Safe to call from any thread before the log is shared.
 * Returns FMQ_OK or -errno; `*recovery` is filled in either case. */
int fmq_log_open(const fmq_env *env, fmq_files *files, const fmq_log_open_options *options,
                 fmq_log **out, fmq_recovery *recovery);

/* Close.  `clean`: write indexes and a producer snapshot at the log end and sync everything first
 * (returns the first error, the log is closed all the same); otherwise write nothing. */
int fmq_log_close(fmq_log *log, bool clean);

void fmq_log_set_config(fmq_log *log, const fmq_log_config *config);
const fmq_log_config *fmq_log_get_config(const fmq_log *log);

typedef enum fmq_origin {
    FMQ_ORIGIN_CLIENT = 0, /* validate, check sequences, assign offsets */
    FMQ_ORIGIN_COORDINATOR =
        1,                   /* trusted: assign offsets, no time limits, control batches allowed */
    FMQ_ORIGIN_FOLLOWER = 2, /* keep offsets and epochs, check CRC and that offsets go up */
} fmq_origin;

typedef struct fmq_append {
    /* in */
    uint8_t *data; /* exactly one batch (followers: one too); patched in place */
    size_t size;   /* bytes */
    fmq_origin origin;
    int32_t leader_epoch; /* written into the batch unless it comes from a leader */
    bool deferred;        /* only copy: the next sync or flush job writes it */
    int64_t now_ms;       /* wall clock */
    /* out */
    int64_t base_offset; /* of this batch, or of the original of a duplicate */
    int64_t last_offset;
    int64_t log_append_time_ms; /* -1 for CreateTime */
    bool duplicate;             /* the producer sent it before: nothing was written */
    const char *reason;         /* static text when refused, else NULL */
} fmq_append;

/* Validate, number and write one batch with one pwrite (rolling the segment first when due), or
 * keep a copy for the next job when it is `deferred`; then only offsets below fmq_log_synced may be
 * read. Returns FMQ_OK, a Kafka error (nothing was written), or -errno of the write: a short write
 * is cut off again, so the log is as before; after any error but -ENOSPC/-EDQUOT, or when the cut
 * fails, the log refuses everything with -EIO until reopened. */
int fmq_log_append(fmq_log *log, fmq_append *append);

/* Find whole batches for a reader.  The slice begins with the batch that contains `offset` (or the
 * first after it), ends at or before `limit_offset` (exclusive: high watermark, last stable offset
 * or log end; always a batch boundary) and within `max_bytes`; with `min_one` the first batch is
 * returned even when it is larger.  One slice never spans segments.  A slice of 64 KiB or more may
 * end where the index knows a batch, up to an eighth before `max_bytes`.  At `limit_offset`: FMQ_OK
 * with size 0.  Returns FMQ_ERR_OFFSET_OUT_OF_RANGE outside [log start, log end];
 * FMQ_ERR_CORRUPT_MESSAGE when the header of the first batch is damaged (damage behind it ends the
 * slice before); -errno. */
int fmq_log_read(fmq_log *log, int64_t offset, int64_t limit_offset, uint32_t max_bytes,
                 bool min_one, fmq_slice *out);

/* Whether the slice may be served as it is: this process wrote it or has checked it, and has not
 * met it outside of the page cache since. */
bool fmq_slice_is_trusted(const fmq_slice *slice);
/* Ask whether it is in the page cache, at its ends; when it is not, it is no longer trusted. */
void fmq_slice_probe(const fmq_slice *slice);
/* The bytes up to `position_end` were found good. */
void fmq_slice_trust(const fmq_slice *slice, int64_t position_end);

/* What tells whether offsets and epochs of a slice are right, which no CRC covers: the batches
 * around it. */
typedef struct fmq_chain {
    int64_t position;   /* of the batch to begin with: the slice's first, or one before */
    int64_t expected;   /* its base offset; -1: its end is what the index says */
    int64_t readable;   /* end of what may be read of the file */
    int64_t offset_end; /* no batch of the segment ends behind it */
    int32_t last_epoch; /* of the log */
} fmq_chain;

/* The slice was just returned by fmq_log_read.  FMQ_OK or -errno. */
int fmq_log_chain(fmq_log *log, const fmq_slice *slice, fmq_chain *out);

/* Plain snapshots, O(1). */
int64_t fmq_log_start(const fmq_log *log);
int64_t fmq_log_end(const fmq_log *log);
int64_t fmq_log_size(const fmq_log *log); /* bytes in all segments */
int32_t fmq_log_segment_count(const fmq_log *log);
int64_t fmq_log_synced(const fmq_log *log);     /* offsets below are durable */
int32_t fmq_log_last_epoch(const fmq_log *log); /* -1 when empty */

/* ---- syncing: begin and end under the caller's lock, run anywhere ---------------------------*/

typedef struct fmq_sync_job fmq_sync_job;

/* Lives at one address from begin to end: a truncation meanwhile lowers `end_offset`. */
struct fmq_sync_job {
    fmq_segment *segments[4]; /* pinned; unsynced segments, oldest first */
    int32_t segment_count;
    bool sync_dir;      /* a file was created since the last sync */
    const char *dir;    /* borrowed from the log, which outlives the job */
    int64_t end_offset; /* durable up to here when the job ends well */
    const fmq_env *env;
    uint32_t dir_change; /* of the directory, that a sync of it covers */
    fmq_sync_job *next;  /* of the log's jobs under way */
    struct {             /* deferred appends, to be written before the sync */
        struct fmq_pending *head;
        struct fmq_pending *tail;
        int64_t bytes;
    } writes;
    bool write_failed; /* nothing was synced, because not everything could be written */
    int64_t new_base;  /* of a segment whose file is to be created, or -1 */
    int new_result;    /* how that went */
};

/* Whether appending this batch would create a file: the first of the log, or that of a roll.  Who
 * must not wait for a disk asks for it (fmq_log_want_file), appends nothing until the next sync job
 * has ended, and finds the file made; a failure is met by the append then. */
bool fmq_log_needs_file(fmq_log *log, const uint8_t *data, size_t size);
void fmq_log_want_file(fmq_log *log);
/* A job is creating the file: an append has to wait until it has ended. */
bool fmq_log_awaits_file(const fmq_log *log);

/* Bytes of deferred appends that may not be in the file yet. */
int64_t fmq_log_unwritten(const fmq_log *log);
/* False once the log refuses everything. */
bool fmq_log_is_usable(const fmq_log *log);
/* Write deferred appends now, so that all of the log may be read.  FMQ_OK or -errno. */
int fmq_log_write_pending(fmq_log *log);
/* True when something is not durable yet. */
bool fmq_log_needs_sync(const fmq_log *log);
/* Take what is unsynced now.  The log must not be closed before the job has ended.  After an error
 * the job is empty; ending it with that error is allowed and makes the log refuse everything. */
int fmq_log_sync_begin(fmq_log *log, fmq_sync_job *job);
/* fdatasync the files (and the directory); blocks; any thread, no lock.  FMQ_OK or -errno. */
int fmq_sync_job_run(fmq_sync_job *job);
/* Give the pins back and take over the result.  After a failed run the log refuses everything:
 * a failed fsync is never retried (the page cache may have forgotten the bytes).  Only when
 * deferred appends found no room on the disk, they are kept for the next job, and appends get
 * -ENOSPC until one ends well. */
void fmq_log_sync_end(fmq_log *log, fmq_sync_job *job, int result);

/* A flush in three steps, so that nobody waits for the disk under the lock.  The same rules as for
 * a sync job; the log has one flush job at a time. */
typedef struct fmq_flush_job {
    fmq_sync_job sync;
    int64_t index_bases[16]; /* segments whose index files are to be synced */
    int32_t index_count;
    int64_t snapshot_offset;   /* of the snapshot to be synced, or -1 */
    int64_t obsolete_snapshot; /* to be removed afterwards, or -1 */
    bool has_epochs;           /* a new epoch file is to be installed */
    uint32_t epoch_saves;      /* to notice that another one was, meanwhile */
    bool is_needed;            /* false: everything is durable already */
} fmq_flush_job;

/* Write what is missing of the files, into the page cache.  After an error there is no job: do not
 * end it. */
int fmq_log_flush_begin(fmq_log *log, fmq_flush_job *job);
/* Sync them; any thread, no lock.  FMQ_OK or -errno. */
int fmq_flush_job_run(fmq_flush_job *job);
/* Take over the result: FMQ_OK when the recovery point may move to `job->sync.end_offset`. */
int fmq_log_flush_end(fmq_log *log, fmq_flush_job *job, int result);

/* ---- rare operations ------------------------------------------------------------------------*/

/* Unlink the files that retention, DeleteRecords, truncation and reset renamed to `*.deleted`.  To
 * free a large file takes the file system 0.3 s per GiB: any thread, no lock.  What is left is
 * removed when the log is opened next.  FMQ_OK or -errno. */
int fmq_log_sweep(const fmq_env *env, const char *dir);
/* Move the log start up (DeleteRecords): whole segments below are renamed, see fmq_log_sweep.
 * `offset` <= log end. */
int fmq_log_advance_start(fmq_log *log, int64_t offset);
/* Delete whole sealed segments that break retention and lie below `limit_offset` (the high
 * watermark); the active one is rolled first when all of it has expired by time.
 * Returns the number of segments deleted or -errno. */
int fmq_log_apply_retention(fmq_log *log, int64_t limit_offset, int64_t now_ms);
/* Roll the active segment when segment.ms has passed since its first record. */
int fmq_log_roll_if_due(fmq_log *log, int64_t now_ms);
/* Write indexes, a producer snapshot and the epoch file, sync all, so that the recovery point may
 * move to the log end.  Blocks on the disk: begin, run and end of a flush job in one. */
int fmq_log_flush(fmq_log *log);
/* Followers: cut everything at and after `offset`; reloads producer state. */
int fmq_log_truncate_to(fmq_log *log, int64_t offset);
/* Followers: drop everything and begin anew at `offset`. */
int fmq_log_reset(fmq_log *log, int64_t offset);
/* Forget producers that wrote nothing for producer_id_expiration_ms; returns how many. */
int32_t fmq_log_expire_producers(fmq_log *log, int64_t now_ms);
/* Rename the directory to `<dir>.<uuid>-delete` style name given, closing the log without writing.
 * The caller unlinks the content later. */
int fmq_log_delete(fmq_log *log, const char *renamed_dir);
/* The same in two steps, for callers that rename the directory between them while others may read
 * segments: nothing else may be called with the log after the first. */
void fmq_log_begin_delete(fmq_log *log);
void fmq_log_end_delete(fmq_log *log);

/* ---- look-ups -------------------------------------------------------------------------------*/

/* End offset of `epoch` as OffsetForLeaderEpoch defines it: epoch newer than known => -1, -1;
 * otherwise the largest epoch <= asked and the start of the next one (or the log end).  An epoch
 * older than all known is answered with itself and the start of the first, as Kafka does. */
void fmq_log_epoch_end(const fmq_log *log, int32_t epoch, int32_t *out_epoch, int64_t *out_offset);
/* Epoch that was current when `offset` was written, -1 when unknown. */
int32_t fmq_log_epoch_of(const fmq_log *log, int64_t offset);

/* The first batch at or after the log start whose max timestamp is >= `timestamp_ms` and that
 * begins below `limit_offset`.  The caller searches inside (`fmq_record_iter`, inflating when
 * compressed).  FMQ_OK with out->size 0 when there is none. */
int fmq_log_find_timestamp(fmq_log *log, int64_t timestamp_ms, int64_t limit_offset,
                           fmq_slice *out);
/* The batch with the largest max timestamp below `limit_offset` (ListOffsets -3). */
int fmq_log_find_max_timestamp(fmq_log *log, int64_t limit_offset, fmq_slice *out);

/* Copy a slice into `buf` (slice->size bytes) and check every batch's CRC when `verify`.
 * FMQ_OK, FMQ_ERR_CORRUPT_MESSAGE, or -errno. */
int fmq_slice_read(const fmq_slice *slice, uint8_t *buf, bool verify);

/* One active producer, for DescribeProducers and tests. */
typedef struct fmq_producer_view {
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t last_sequence;
    int64_t last_offset;
    int64_t last_timestamp;
    int32_t coordinator_epoch;
    int64_t txn_first_offset; /* -1: none */
} fmq_producer_view;

/* Copy up to `max` producers; returns how many there are in all. */
int32_t fmq_log_producers(const fmq_log *log, fmq_producer_view *out, int32_t max);

#endif
