/* log_impl.h - the inside of a log, for the files that implement log.h. */
#ifndef FMQ_LOG_IMPL_H
#define FMQ_LOG_IMPL_H

#include "epochs.h"
#include "fastmq/log.h"
#include "pending.h"
#include "producers.h"
#include "segment.h"

/* Batch starts that readers will ask for next; a power of two. */
#define FMQ_RECENT_APPENDS 8
#define FMQ_RECENT_READS 4

typedef struct fmq_boundary {
    fmq_segment *segment; /* NULL: free */
    int64_t offset;       /* of the first record of the batch that starts at `position` */
    int64_t position;
} fmq_boundary;

struct fmq_log {
    const fmq_env *env;
    fmq_files *files;
    char *dir;
    fmq_log_config config;
    fmq_segment **segments; /* by base offset; the last one is appended to; never empty */
    int32_t segment_count;
    int32_t segment_capacity;
    int64_t start_offset;
    int64_t end_offset;
    int64_t synced_offset;
    int64_t size;
    int64_t flushed_offset;    /* everything below, indexes and snapshots included, is durable */
    int64_t snapshot_offset;   /* newest producer snapshot, -1 when there is none */
    int64_t snapshot_unsynced; /* offset of one written at a roll and not durable, or -1 */
    fmq_producers producers;
    fmq_epochs epochs;
    fmq_boundary recent_appends[FMQ_RECENT_APPENDS];
    fmq_boundary recent_reads[FMQ_RECENT_READS];
    uint8_t next_append, next_read;
    bool failed;         /* an I/O error made the disk state unknown: everything is refused */
    uint32_t dir_change; /* counts files created and removed */
    uint32_t dir_change_synced; /* the last one that is durable */
    fmq_sync_job *jobs;         /* under way */
    fmq_pending_list pending;   /* deferred appends that no job has taken */
    bool no_room;               /* the last job could not write them */
    bool file_wanted;           /* the next job creates the file of a segment at the log end */
    bool file_under_way;        /* a job is doing it: nothing may be appended until it has ended */
    bool file_failed;           /* it could not: the append tries for itself, once */
    int64_t file_ready;         /* base offset of the empty file that a job created, or -1 */
};

static inline fmq_segment *fmq_log_active(const fmq_log *log) {
    return log->segments[log->segment_count - 1];
}

/* Note the error and hand it back: after one that does not pass, the log refuses everything. */
static inline int fmq_log_failed(fmq_log *log, int result) {
    if (result < 0 && !fmq_is_passing_error(result)) {
        log->failed = true;
    }
    return result;
}

/* Index of the segment with the largest base offset <= `offset`, 0 when all are larger. */
int32_t fmq_log_find_segment(const fmq_log *log, int64_t offset);

/* Close the active segment and begin a new one at `base_offset`. */
int fmq_log_roll(fmq_log *log, int64_t base_offset);

/* Remove the file that a job created and no append has taken. */
int fmq_log_drop_ready_file(fmq_log *log);

/* Put `segment` behind the others. */
int fmq_log_push_segment(fmq_log *log, fmq_segment *segment);

/* Forget remembered batch starts (segments went, or offsets were skipped). */
void fmq_log_forget_boundaries(fmq_log *log);

/* Delete the oldest segment / the newest one with its files; the others move up.  Truncation says
 * so to readers who hold it. */
int fmq_log_drop_oldest(fmq_log *log);
int fmq_log_drop_newest(fmq_log *log);

/* Free memory; segments are let go. */
void fmq_log_free(fmq_log *log);

/* Have index and statistics of the active segment, as appending needs them. */
int fmq_log_ready_active(fmq_log *log);

/* A batch start. */
typedef struct fmq_location {
    fmq_segment *segment;
    int64_t position;
    int64_t base_offset; /* of the batch there */
} fmq_location;

/* The first batch whose last offset is >= `offset`.  1 when found, 0 when there is none, 2 on bad
 * bytes, -errno. */
int fmq_log_locate(fmq_log *log, int64_t offset, fmq_location *out);

/* ---- opening, in part also used by truncation
 * ------------------------------------------------------*/

/* Names in the partition directory. */
typedef struct fmq_dir_list {
    int64_t *bases; /* of .log files, ascending */
    int32_t base_count;
    int64_t *snapshots; /* ascending */
    int32_t snapshot_count;
    int64_t *indexes; /* of offset and time indexes, ascending, some twice */
    int32_t index_count;
} fmq_dir_list;

bool fmq_dir_list_has(const int64_t *values, int32_t count, int64_t value);
void fmq_dir_list_free(const fmq_env *env, fmq_dir_list *list);
/* Read the directory; with `clean_up` leftovers (`.deleted`, `.tmp`, indexes without a log) are
 * unlinked. */
int fmq_dir_list_read(const fmq_env *env, const char *dir, bool clean_up, fmq_dir_list *out);

/* Unlink snapshots at offsets > `above` or < `below`. */
int fmq_drop_snapshots(const fmq_env *env, const char *dir, fmq_dir_list *list, int64_t below,
                       int64_t above);

/* How far before a snapshot the older batches of its producers are looked for: what may have been
 * in flight when the broker was killed, and after a stop that waited for the answers. */
#define FMQ_RECALL_BYTES (1024 * 1024)
#define FMQ_RECALL_BYTES_CLEAN (64 * 1024)

/* Producer state at `offset`: the newest usable snapshot of the list at or below it, the batches of
 * `window` bytes before it, and a replay of headers behind it. */
int fmq_log_load_producers(fmq_log *log, const fmq_dir_list *list, int64_t offset, int64_t window);
/* The same, reading the directory. */
int fmq_log_reload_producers(fmq_log *log, int64_t offset);

/* Epochs of the batches below `offset`: from the file, else from the batches. */
int fmq_log_load_epochs(fmq_log *log, int64_t offset);

/* Recover everything that the recovery point does not cover; `log->end_offset` is right then. */
int fmq_log_recover(fmq_log *log, fmq_dir_list *list, int64_t recovery_point, fmq_recovery *report);

#endif
