/* fixture_life.h - one log in a file system in memory, opened, filled and read. */
#ifndef FIXTURE_LIFE_H
#define FIXTURE_LIFE_H

#include "fixture_log.h"
#include "fixture_memfs.h"

#define FIRST_LOG "00000000000000000000.log"
#define FIRST_INDEX "00000000000000000000.index"
#define FIRST_TIMEINDEX "00000000000000000000.timeindex"

static memfs fs;
static fmq_files *files;
static fmq_log *log_;
static fmq_log_config config;
static fmq_recovery recovery;

static int reopen(int64_t log_start, int64_t recovery_point, bool clean) {
    fmq_log_open_options options = {.dir = "mem",
                                    .log_start = log_start,
                                    .recovery_point = recovery_point,
                                    .clean = clean,
                                    .config = config};
    return fmq_log_open(&fs.env, files, &options, &log_, &recovery);
}

static void begin(void) {
    memfs_init(&fs);
    config = fixture_config();
    config.segment_bytes = 4000;
    config.index_interval_bytes = 400;
    CHECK_EQ(fmq_files_create(fmq_env_system(), 3, &files), FMQ_OK);
    CHECK_EQ(reopen(0, 0, false), FMQ_OK);
}

static void end(void) {
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    CHECK_EQ(fmq_files_open_count(files), 0);
    fmq_files_destroy(files);
    for (int fd = 0; fd < MEMFS_FDS; fd++) {
        CHECK_EQ(fs.fds[fd], 0);
    }
    memfs_free(&fs);
}

static void fill(int count) {
    for (int i = 0; i < count; i++) {
        CHECK_EQ(fixture_append(log_, &(fixture_spec){.padding = 300}, NULL), FMQ_OK);
    }
}

static fmq_slice read_at(int64_t offset) {
    fmq_slice slice;
    CHECK_EQ(fmq_log_read(log_, offset, fmq_log_end(log_), 1, true, &slice), FMQ_OK);
    CHECK(slice.segment != NULL);
    return slice;
}

#endif
