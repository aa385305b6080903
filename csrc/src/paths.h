/* paths.h - names of the files of a partition. */
#ifndef FMQ_PATHS_H
#define FMQ_PATHS_H

#include <inttypes.h>
#include <stdio.h>

#include "fastmq/base.h"

#define FMQ_OFFSET_DIGITS 20

#define FMQ_SUFFIX_LOG ".log"
#define FMQ_SUFFIX_INDEX ".index"
#define FMQ_SUFFIX_TIMEINDEX ".timeindex"
#define FMQ_SUFFIX_SNAPSHOT ".snapshot"
#define FMQ_SUFFIX_DELETED ".deleted"
#define FMQ_SUFFIX_TMP ".tmp"

/* Longest name after the directory, so that a directory is checked once, at open. */
#define FMQ_NAME_ROOM 64

/* `<dir>/<offset, 20 digits><suffix>` into `out` (FMQ_PATH_MAX bytes). */
static inline void fmq_path(char *out, const char *dir, int64_t offset, const char *suffix) {
    int size = snprintf(out, FMQ_PATH_MAX, "%s/%020" PRId64 "%s", dir, offset, suffix);
    assert(size > 0 && size < FMQ_PATH_MAX);
    (void)size;
}

static inline void fmq_path_name(char *out, const char *dir, const char *name, const char *suffix) {
    int size = snprintf(out, FMQ_PATH_MAX, "%s/%s%s", dir, name, suffix);
    assert(size > 0 && size < FMQ_PATH_MAX);
    (void)size;
}

#endif
