/* segment.h - one `.log` file with its index, and the LRU of open files. */
#ifndef FMQ_SEGMENT_H
#define FMQ_SEGMENT_H

#include "fastmq/log.h"
#include "index.h"
#include "scan.h"

/* Files up to this size are read whole instead of trusting an index; the active segment's index is
 * not written before it is larger. */
#define FMQ_SMALL_SEGMENT (64 * 1024)

struct fmq_segment {
    const fmq_env *env;
    fmq_files *files;
    const char *dir;            /* borrowed from the log; NULL once the log has let go */
    fmq_segment *newer, *older; /* in the LRU, while open and not pinned */
    int64_t base_offset;
    int64_t end_offset;      /* first offset after it: base of the next segment, or the log end */
    int64_t size;            /* bytes that count */
    int64_t unwritten_from;  /* bytes from here on are not in the file yet; INT64_MAX: all are */
    int64_t cut_position;    /* bytes from here on were truncated away; INT64_MAX when none were */
    int64_t first_timestamp; /* largest one of the first batch; -1 while not known */
    int64_t max_timestamp;   /* -1 when there is none */
    uint32_t max_timestamp_last; /* relative last offset of the first batch that has it */
    uint32_t unindexed_bytes;    /* since the last index entry */
    fmq_index index;
    fmq_trust trust; /* what may be served without a check */
    uint32_t refs;
    uint32_t pins;
    int fd;
    bool file_exists;
    bool sealed;          /* no longer appended to; the last time entry is the largest timestamp */
    bool end_unknown;     /* being opened: a walk to the end finds end_offset */
    bool stats_known;     /* first and max timestamp are filled in */
    bool has_index_files; /* of whatever content */
    bool index_unsynced;  /* written at a roll, not yet made durable */
    bool in_lru;
};

struct fmq_files {
    const fmq_env *env;
    uint32_t max_open;
    uint32_t open_count;
    fmq_segment *newest, *oldest;
};

/* Close every file that is not pinned. */
void fmq_files_close_all(fmq_files *files);

/* Lack of something that may be had again: the log stays usable. */
static inline bool fmq_is_passing_error(int result) {
    return result == -ENOSPC || result == -EDQUOT || result == -ENOMEM || result == -EMFILE ||
           result == -ENFILE;
}

/* A segment that the log holds the first reference of.  NULL when memory is exhausted. */
fmq_segment *fmq_segment_new(const fmq_env *env, fmq_files *files, const char *dir,
                             int64_t base_offset);

/* The log gives up its reference, because the file is gone, cut or closed.  Those who still hold
 * one can read on: the file is opened now, while it has its name.  `cut_position` as in the struct.
 */
void fmq_segment_detach(fmq_segment *segment, int64_t cut_position);

/* Create the file (the name must be free or empty) and preallocate `preallocate` bytes when > 0. */
int fmq_segment_create_file(fmq_segment *segment, int64_t preallocate);
/* Take over an empty file that is there already. */
int fmq_segment_take_file(fmq_segment *segment);

/* Take the batch `h` that is now stored at `position` into index and statistics.
 * The caller has called fmq_index_reserve. */
void fmq_segment_index_batch(fmq_segment *segment, const fmq_batch_header *h, int64_t position,
                             int32_t index_interval_bytes);

/* Walk over headers from `*position`, where index and statistics are as they were when the batch
 * there was stored, and take each into them.  1 at the first batch with a base offset >=
 * `stop_offset`, 0 at the end of the file, 2 at bad bytes, with `*position` there and `*end_offset`
 * the offset after the last batch taken (untouched when there was none); -errno. */
int fmq_segment_walk(fmq_segment *segment, int64_t *position, int64_t stop_offset,
                     int32_t index_interval_bytes, int64_t *end_offset);

/* Read first_timestamp from the first header. */
int fmq_segment_load_first(fmq_segment *segment);

/* Up to where the file may be read. */
static inline int64_t fmq_segment_readable(const fmq_segment *segment) {
    return segment->size < segment->unwritten_from ? segment->size : segment->unwritten_from;
}

/* No batch follows: close the time index with the largest timestamp. */
int fmq_segment_seal(fmq_segment *segment);

/* Build index and statistics anew by a walk over the headers.  Bad bytes end the walk, then
 * `*whole` is false.  FMQ_OK or -errno. */
int fmq_segment_rebuild(fmq_segment *segment, int32_t index_interval_bytes, bool *whole);

/* Write the index files; `sync` makes them durable. */
int fmq_segment_save_index(fmq_segment *segment, bool sync);

/* Have the index in memory: from its files, or rebuilt when they are missing or damaged; `*whole`
 * as above.  FMQ_OK or -errno. */
int fmq_segment_load_index(fmq_segment *segment, int32_t index_interval_bytes, bool *whole);

/* fmq_scan_peek for readers: offsets that do not belong into the segment are bad bytes, too. */
int fmq_segment_peek(const fmq_segment *segment, fmq_scan *scan, fmq_batch_header *out);

/* Is there a batch at `entry->position` that ends at its offset?  1, 0, -errno.  `header`, if
 * given, becomes the batch's, unless the entry is that of the first one. */
int fmq_segment_check_entry(fmq_segment *segment, const fmq_index_entry *entry,
                            fmq_batch_header *header);

/* Position of a batch start from which a walk comes to `offset`.  An index that lies is rebuilt.
 * FMQ_OK or -errno. */
int fmq_segment_seek(fmq_segment *segment, int32_t index_interval_bytes, int64_t offset,
                     int64_t *position);

/* Without loading the index: first_timestamp and max_timestamp, and end_offset of a segment that is
 * not sealed, in which
 * `*whole` is false when the headers behind the last index entry are bad.  FMQ_OK or -errno. */
int fmq_segment_load_stats(fmq_segment *segment, int32_t index_interval_bytes, bool *whole);

/* Rename the files to `*.deleted`, log first; fmq_log_sweep unlinks them.  Without `strict`, index
 * files may stay behind when space is short: the next open removes those that have no log.  The
 * directory is the caller's to sync. */
int fmq_segment_delete_files(fmq_segment *segment, bool strict);

#endif
