/* R11, R12 in process: each I/O call and each allocation of a session fails once.  An error that
 * passes (no space, no memory, no descriptor) leaves the log as it was and usable, unless the bytes
 * could not be cut off again; any other stops it for good.  Either way nothing that was reported
 * durable is missing after the next open. */
#include "fixture_session.h"

#define STEPS 70
#define SESSIONS 4
#define PLENTY 1000000

static fmq_files *files;
static memfs fs, image;
static session s;
static int fired_count;
static uint64_t seed;

static bool passes(int error) {
    return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM || error == -EMFILE;
}

/* Everything is refused, nothing hangs, nothing is touched. */
static void check_refused(fmq_log *log) {
    fmq_slice slice;
    fmq_sync_job job;
    int64_t calls = fs.calls;
    CHECK_EQ(fixture_append(log, &(fixture_spec){0}, NULL), -EIO);
    CHECK_EQ(fmq_log_read(log, fmq_log_start(log), fmq_log_end(log), 1, true, &slice), -EIO);
    CHECK_EQ(fmq_log_sync_begin(log, &job), -EIO);
    CHECK_EQ(fmq_log_flush(log), -EIO);
    CHECK_EQ(fmq_log_truncate_to(log, 0), -EIO);
    CHECK_EQ(fmq_log_apply_retention(log, INT64_MAX, INT64_MAX), -EIO);
    CHECK(!fmq_log_needs_sync(log));
    CHECK_EQ(fs.calls, calls);
}

/* Open what is there, and what a power cut would leave, and compare with the promises. */
static void check_reopened(void) {
    fmq_recovery recovery;
    fs.fail_at = fs.fail_alloc_at = 0;
    if (s.log != NULL) {
        session_end_flush(&s);
        CHECK_EQ(fmq_log_close(s.log, false), FMQ_OK);
    }
    uint64_t unused = 1;
    memfs_crash(&fs, fs.op_count, 1, &unused, &image);
    CHECK_EQ(session_open(&s, false, &recovery), FMQ_OK);
    session_check(&s, s.log, s.now.durable, s.step);
    CHECK_EQ(fmq_log_close(s.log, false), FMQ_OK);
    s.fs = &image;
    CHECK_EQ(session_open(&s, false, &recovery), FMQ_OK);
    session_check(&s, s.log, s.now.durable, s.step);
    CHECK_EQ(fmq_log_close(s.log, false), FMQ_OK);
    memfs_free(&image);
}

/* One session with one failure.  False when it was over before the failure came. */
static bool run_session(int64_t fail_at, int64_t fail_alloc_at, int fail_with) {
    memfs_init(&fs);
    fs.recording = true;
    fs.fail_at = fail_at;
    fs.fail_with = fail_with;
    fs.fail_alloc_at = fail_alloc_at;
    session_begin(&s, &fs, files, seed);
    bool stopped = s.log == NULL;
    while (s.step < STEPS && !stopped) {
        session_step(&s);
        if (s.error != 0 && s.log != NULL && !stopped) {
            /* Does it still take writes? */
            int error = s.error;
            s.error = 0;
            if (fmq_log_is_usable(s.log)) {
                session_sync(&s); /* deferred appends found no room: they do now */
            }
            session_append(&s);
            stopped = s.error != 0;
            if (stopped) {
                CHECK_EQ(s.error, -EIO);
                check_refused(s.log);
            } else {
                /* A read that failed says nothing of what is on the disk. */
                CHECK(passes(error) || fs.was_read);
                session_read_all(s.log);
            }
        }
        stopped = stopped || s.log == NULL;
    }
    bool fired = fs.fired;
    fired_count += fired;
    check_reopened();
    memfs_free(&fs);
    return fired;
}

static void fail_each_call(int fail_with) {
    for (int64_t n = 1; n < PLENTY && !check_current_failed; n++) {
        bool fired = run_session(n, 0, fail_with);
        if (check_current_failed) {
            printf("session %llu: call %lld fails with %d in step %d\n", (unsigned long long)seed,
                   (long long)n, fail_with, s.step);
        }
        if (!fired) {
            break;
        }
    }
}

static void survives_io_errors(void) {
    fail_each_call(-EIO);
}

static void survives_a_full_disk(void) {
    fail_each_call(-ENOSPC);
    fail_each_call(-EDQUOT);
}

static void survives_short_writes(void) {
    fail_each_call(0);
}

static void survives_a_lack_of_descriptors(void) {
    fail_each_call(-EMFILE);
}

static void survives_a_read_only_disk(void) {
    fail_each_call(-EROFS);
}

static void survives_a_lack_of_memory(void) {
    for (int64_t n = 1; n < PLENTY && !check_current_failed; n++) {
        bool fired = run_session(0, n, 0);
        if (check_current_failed) {
            printf("session %llu: allocation %lld fails\n", (unsigned long long)seed, (long long)n);
        }
        if (!fired) {
            break;
        }
    }
}

int main(void) {
    if (fmq_files_create(fmq_env_system(), 4, &files) != FMQ_OK) {
        abort();
    }
    for (seed = 1; seed <= SESSIONS; seed++) {
        RUN(survives_io_errors);
        RUN(survives_a_full_disk);
        RUN(survives_short_writes);
        RUN(survives_a_lack_of_descriptors);
        RUN(survives_a_read_only_disk);
        RUN(survives_a_lack_of_memory);
    }
    fmq_files_destroy(files);
    printf("%d failures: ", fired_count);
    return check_report();
}
