/* R9: whatever a power cut leaves of a session - any part of the changes that were not yet synced -
 * the log opens, holds everything reported durable, nothing that was never there, and no hole. */
#include "fixture_session.h"

#define SESSIONS 8
#define STEPS 90
#define CUTS_PER_OP 3

static fmq_files *files;
static int image_count;

/* Life goes on after the recovery: write, flush, die without notice, and look again. */
static void check_next_life(session *s, memfs *image, fmq_log *log, int step) {
    session_mark now = s->now;
    int batch_count = s->batch_count;
    memfs *fs = s->fs;
    s->fs = image;
    s->log = log;
    s->step = step;
    s->now.log_start = fmq_log_start(log);
    session_take_sequences(s);
    for (int i = 0; i < 25; i++) {
        session_append(s);
    }
    session_flush(s);
    session_append(s);
    session_end_flush(s);
    session_append(s);
    CHECK_EQ(fmq_log_close(s->log, false), FMQ_OK);
    fmq_recovery recovery;
    CHECK_EQ(session_open(s, false, &recovery), FMQ_OK);
    session_check(s, s->log, s->now.durable, step);
    CHECK_EQ(fmq_log_close(s->log, false), FMQ_OK);
    s->fs = fs;
    s->batch_count = batch_count;
    s->now = now;
}

static void check_image(session *s, memfs *image, int end, uint64_t seed, int mode) {
    /* The step that op `end - 1` belongs to; what was promised before it still holds. */
    int step = 1;
    while (s->marks[step].op_count < end) {
        step++;
    }
    session_mark mark = s->marks[step - 1];
    if (s->marks[step].durable < mark.durable) {
        mark.durable = s->marks[step].durable;
    }
    if (s->marks[step].recovery_point < mark.recovery_point) {
        mark.recovery_point = s->marks[step].recovery_point;
    }
    fmq_log *log;
    fmq_recovery recovery;
    fmq_log_open_options options = {.dir = "mem",
                                    .log_start = mark.log_start,
                                    .recovery_point = mark.recovery_point,
                                    .config = s->config};
    int result = fmq_log_open(&image->env, files, &options, &log, &recovery);
    CHECK_EQ(result, FMQ_OK);
    if (result == FMQ_OK) {
        session_check(s, log, mark.durable, step);
        int64_t log_end = fmq_log_end(log);
        CHECK_EQ(fmq_log_close(log, false), FMQ_OK);
        CHECK_EQ(fmq_log_open(&image->env, files, &options, &log, &recovery), FMQ_OK);
        CHECK_EQ(recovery.truncated_at, -1);
        CHECK_EQ(fmq_log_end(log), log_end);
        check_next_life(s, image, log, step);
    }
    if (check_current_failed) {
        printf("session %llu, step %d, op %d, mode %d\n", (unsigned long long)seed, step, end,
               mode);
    }
    image_count++;
}

static void opens_after_any_power_cut(void) {
    static memfs fs, image;
    static session s;
    for (uint64_t seed = 1; seed <= SESSIONS && !check_current_failed; seed++) {
        memfs_init(&fs);
        fs.recording = true;
        session_begin(&s, &fs, files, seed);
        while (s.step < STEPS) {
            session_step(&s);
        }
        CHECK_EQ(s.error, 0);
        int op_count = s.now.op_count; /* what follows is not in the marks */
        session_end_flush(&s);
        CHECK_EQ(fmq_log_close(s.log, false), FMQ_OK);
        uint64_t random = seed;
        for (int end = 1; end <= op_count && !check_current_failed; end++) {
            for (int cut = 0; cut < CUTS_PER_OP && !check_current_failed; cut++) {
                int mode = cut == 0 ? end % 2 : 2 + (cut + end) % 2;
                memfs_crash(&fs, end, mode, &random, &image);
                check_image(&s, &image, end, seed, mode);
                memfs_free(&image);
            }
        }
        memfs_free(&fs);
    }
    CHECK(image_count >= 2000);
}

int main(void) {
    if (fmq_files_create(fmq_env_system(), 4, &files) != FMQ_OK) {
        abort();
    }
    RUN(opens_after_any_power_cut);
    fmq_files_destroy(files);
    printf("%d images: ", image_count);
    return check_report();
}
