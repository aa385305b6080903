/* index.h - the sparse offset index and time index of one segment.
 *
 * Both tables are held in memory exactly as they lie in the file, so that saving is one write and
 * loading one read.  Offset entries are (relative last offset of a batch u32, position of its first
 * byte u32), both strictly increasing.  Time entries are (timestamp i64, relative offset u32) with
 * strictly increasing timestamps: everything newer than the timestamp lies after the offset.
 * (Kafka's formats.)
 */
#ifndef FMQ_INDEX_H
#define FMQ_INDEX_H

#include "fastmq/base.h"
#include "fastmq/env.h"

#define FMQ_OFFSET_ENTRY_SIZE 8
#define FMQ_TIME_ENTRY_SIZE 12

/* A growing array of file entries. */
typedef struct fmq_entries {
    uint8_t *data;
    uint32_t count;
    uint32_t capacity;
    uint32_t saved; /* the first so many are in the file */
} fmq_entries;

typedef struct fmq_index {
    fmq_entries offsets;
    fmq_entries times;
    bool loaded; /* the tables are complete; else both are empty and the files count */
    bool dirty;  /* the files do not hold what the tables do */
} fmq_index;

/* Forget everything in memory. */
void fmq_index_free(const fmq_env *env, fmq_index *index);

/* Room for one entry in each table, so that the adds below cannot fail. */
int fmq_index_reserve(const fmq_env *env, fmq_index *index);
void fmq_index_add_offset(fmq_index *index, uint32_t relative, uint32_t position);
/* Does nothing unless `timestamp` is newer than the last entry's. */
void fmq_index_add_time(fmq_index *index, int64_t timestamp, uint32_t relative);

/* An entry of the offset index; zeros stand for the beginning of the segment. */
typedef struct fmq_index_entry {
    uint32_t relative;
    uint32_t position;
} fmq_index_entry;

/* Where to start when looking for `relative`: the last entry at or below it. */
fmq_index_entry fmq_index_floor(const fmq_index *index, uint32_t relative);
/* The last batch start that lies at or before `position_max` and whose batch ends below
 * `relative_limit`. */
fmq_index_entry fmq_index_boundary(const fmq_index *index, int64_t position_max,
                                   int64_t relative_limit);
/* Relative offset to start from when looking for a record with a timestamp >= `timestamp`. */
uint32_t fmq_index_time_floor(const fmq_index *index, int64_t timestamp);

void fmq_index_offset_at(const fmq_index *index, uint32_t i, uint32_t *relative,
                         uint32_t *position);
void fmq_index_time_at(const fmq_index *index, uint32_t i, int64_t *timestamp, uint32_t *relative);

/* Drop entries of batches at or after `position` / offsets at or after `relative`. */
void fmq_index_truncate(fmq_index *index, uint32_t position, uint32_t relative);

/* Write what the files lack (`<dir>/<base>.index`, `.timeindex`); `sync` also makes it durable.
 * A table without entries gets no file unless one may exist. */
int fmq_index_save(const fmq_env *env, fmq_index *index, const char *dir, int64_t base, bool sync);

/* The last entry of each table; zeros and timestamp -1 where it is empty. */
typedef struct fmq_index_end {
    uint32_t relative;
    uint32_t position;
    int64_t timestamp;
    uint32_t timestamp_relative;
} fmq_index_end;

void fmq_index_get_end(const fmq_index *index, fmq_index_end *out);
/* The same from the files, without reading the rest of them.  Errors as below. */
int fmq_index_read_end(const fmq_env *env, const char *dir, int64_t base, fmq_index_end *out);

/* Read both files.  FMQ_OK; FMQ_ERR_CORRUPT_MESSAGE when one is missing, cut or not increasing or
 * points past `size` (the tables are empty then); -errno. */
int fmq_index_load(const fmq_env *env, fmq_index *index, const char *dir, int64_t base,
                   int64_t size);

#endif
