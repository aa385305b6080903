/* tests/fixture_log.h - a log in a directory of its own, and batches to fill it with. */
#ifndef FASTMQ_TESTS_FIXTURE_LOG_H
#define FASTMQ_TESTS_FIXTURE_LOG_H

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fastmq/log.h"
#include "fixture_batch.h"

#define FIXTURE_PATH_MAX 512

/* A new empty directory; prefers memory to a disk. */
static inline void fixture_dir(char *out) {
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(out, FIXTURE_PATH_MAX, "%s/fastmq-test-XXXXXX", root);
    if (mkdtemp(out) == NULL) {
        abort();
    }
}

/* Remove the files of a directory; with `self` the directory too. */
static inline void fixture_clear(const char *dir, bool self) {
    DIR *stream = opendir(dir);
    struct dirent *entry;
    char path[FIXTURE_PATH_MAX * 2];
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
            unlink(path);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
    if (self) {
        rmdir(dir);
    }
}

static inline fmq_log_config fixture_config(void) {
    return (fmq_log_config){.segment_bytes = 1 << 20,
                            .segment_ms = INT64_MAX,
                            .retention_ms = -1,
                            .retention_bytes = -1,
                            .producer_id_expiration_ms = 86400000,
                            .index_interval_bytes = 4096,
                            .segment_index_bytes = 10 << 20,
                            .max_message_bytes = 1 << 20,
                            .timestamp_before_max_ms = INT64_MAX,
                            .timestamp_after_max_ms = INT64_MAX,
                            .cleanup_delete = true};
}

/* What a test varies in a batch. */
typedef struct fixture_spec {
    int32_t count;       /* records; 0 means 1 */
    size_t padding;      /* bytes of value in the last record */
    int64_t timestamp;   /* 0 means FIXTURE_NOW_MS */
    int64_t producer_id; /* 0 means none */
    int16_t epoch;
    int32_t sequence;
    int16_t attributes;
} fixture_spec;

/* Write a batch into `out`, which has room for 256 bytes, 32 per record and the padding. */
static inline size_t fixture_batch_of(uint8_t *out, const fixture_spec *spec) {
    int32_t count = spec->count > 0 ? spec->count : 1;
    fmq_batch_header h = fixture_header(count);
    h.attributes = spec->attributes;
    h.base_timestamp = h.max_timestamp = spec->timestamp != 0 ? spec->timestamp : FIXTURE_NOW_MS;
    if (spec->producer_id != 0) {
        h.producer_id = spec->producer_id;
        h.producer_epoch = spec->epoch;
        h.base_sequence = spec->sequence;
    }
    /* Noise: a sector that was lost, and reads as zeros, must not look like the real one. */
    static uint8_t value[1 << 20];
    for (uint64_t seed = 1, i = 0; value[0] == 0 && i < sizeof value; i++) {
        value[sizeof value - 1 - i] = (uint8_t)(check_random(&seed) | 1);
    }
    size_t size = FMQ_BATCH_HEADER_SIZE;
    for (int32_t i = 0; i < count; i++) {
        fmq_record record = {.offset_delta = i,
                             .key_size = -1,
                             .value = value,
                             .value_size = i == count - 1 ? (int32_t)spec->padding : 4};
        size += fmq_record_write(out + size, &record);
    }
    fmq_batch_write_header(out, size, &h);
    return size;
}

/* Append one batch; the result, with the numbers in `*append` (may be NULL). */
static inline int fixture_append(fmq_log *log, const fixture_spec *spec, fmq_append *append) {
    static uint8_t buf[2 << 20];
    fmq_append own;
    append = append != NULL ? append : &own;
    *append = (fmq_append){.data = buf, .leader_epoch = 1, .now_ms = FIXTURE_NOW_MS};
    append->size = fixture_batch_of(buf, spec);
    return fmq_log_append(log, append);
}

static inline int fixture_open(const fmq_env *env, fmq_files *files, const char *dir,
                               const fmq_log_config *config, int64_t recovery_point, bool clean,
                               fmq_log **out, fmq_recovery *recovery) {
    fmq_recovery own;
    fmq_log_open_options options = {
        .dir = dir, .recovery_point = recovery_point, .clean = clean, .config = *config};
    return fmq_log_open(env, files, &options, out, recovery != NULL ? recovery : &own);
}

#endif
