/* epochs.h - which leader epoch began at which offset (KIP-101), and its checkpoint file. */
#ifndef FMQ_EPOCHS_H
#define FMQ_EPOCHS_H

#include "fastmq/base.h"
#include "fastmq/env.h"

typedef struct fmq_epoch {
    int64_t start_offset;
    int32_t epoch;
} fmq_epoch;

/* Both fields strictly increase from entry to entry. */
typedef struct fmq_epochs {
    fmq_epoch *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t saves; /* counts fmq_epochs_save */
    bool dirty;     /* the file does not hold what is here */
} fmq_epochs;

void fmq_epochs_free(const fmq_env *env, fmq_epochs *epochs);
int32_t fmq_epochs_last(const fmq_epochs *epochs);
/* Room for one more entry, so that the next assign cannot fail. */
int fmq_epochs_reserve(const fmq_env *env, fmq_epochs *epochs);
/* A batch of `epoch` was stored at `offset`.  An epoch that is not newer than the last, or
 * negative, changes nothing. */
void fmq_epochs_assign(fmq_epochs *epochs, int32_t epoch, int64_t offset);
/* A batch of `epoch` is stored at `offset`, in the middle of the log: take it in where it was not
 * known.  Epochs that are larger and began before it are forgotten.  False when a smaller one
 * begins behind it. */
bool fmq_epochs_learn(const fmq_env *env, fmq_epochs *epochs, int32_t epoch, int64_t offset);
/* Forget epochs that began at or after `offset`. */
void fmq_epochs_truncate_end(fmq_epochs *epochs, int64_t offset);
/* Forget epochs that ended at or before `offset`; the one current there begins there now. */
void fmq_epochs_truncate_start(fmq_epochs *epochs, int64_t offset);
/* Index of the last entry with epoch <= `epoch` / start <= `offset`; -1 when none. */
int32_t fmq_epochs_floor_epoch(const fmq_epochs *epochs, int32_t epoch);
int32_t fmq_epochs_floor_offset(const fmq_epochs *epochs, int64_t offset);

/* Write `<dir>/leader-epoch-checkpoint<suffix>` into the page cache. */
int fmq_epochs_write(const fmq_env *env, fmq_epochs *epochs, const char *dir, const char *suffix);
/* Sync that file and rename it over the old one; any thread.  The directory is the caller's to
 * sync. */
int fmq_epochs_install(const fmq_env *env, const char *dir, const char *suffix);
/* Both in one. */
int fmq_epochs_save(const fmq_env *env, fmq_epochs *epochs, const char *dir);
/* FMQ_OK; FMQ_ERR_CORRUPT_MESSAGE when missing or damaged (empty then); -errno. */
int fmq_epochs_load(const fmq_env *env, fmq_epochs *epochs, const char *dir);

#endif
