/* tests/fixture_session.h - a scripted life of a log, and what must be true of it after a failure.
 *
 * The session keeps, as its caller would, what was acknowledged: the recovery point, the log start
 * and the offset known to be durable; and every batch with the steps of its birth and its
 * truncation.
 */
#ifndef FASTMQ_TESTS_FIXTURE_SESSION_H
#define FASTMQ_TESTS_FIXTURE_SESSION_H

#include "fixture_log.h"
#include "fixture_memfs.h"

#define SESSION_BATCHES 4096
#define SESSION_STEPS 1024
#define SESSION_PRODUCERS 4

typedef struct session_batch {
    int64_t base_offset;
    int64_t next_offset;
    uint32_t crc;
    int32_t epoch;
    int born;
    int died; /* INT32_MAX while it lives */
} session_batch;

/* What the caller knows after a step. */
typedef struct session_mark {
    int op_count;           /* of the recorded trace */
    int64_t durable;        /* offsets below were reported durable */
    int64_t recovery_point; /* as checkpointed */
    int64_t log_start;
} session_mark;

typedef struct session {
    memfs *fs;
    fmq_files *files;
    fmq_log *log; /* NULL after a failure */
    fmq_log_config config;
    uint64_t padding; /* largest, of a batch */
    uint64_t seed;
    int step;
    int32_t epoch;
    session_mark now;
    session_mark marks[SESSION_STEPS];
    session_batch batches[SESSION_BATCHES];
    int batch_count;
    int32_t sequences[SESSION_PRODUCERS];
    fmq_flush_job job;
    bool is_flushing;
    bool deferred; /* appends are written by the next job */
    int error;     /* the first result that was not FMQ_OK */
} session;

/* Many small segments, or a few that are large enough to have index files while they are active. */
static inline fmq_log_config session_config(bool is_large) {
    fmq_log_config config = fixture_config();
    config.segment_bytes = is_large ? 140000 : 6000;
    config.index_interval_bytes = is_large ? 4096 : 300;
    config.retention_bytes = is_large ? 300000 : 20000;
    return config;
}

static inline int session_open(session *s, bool clean, fmq_recovery *recovery) {
    fmq_log_open_options options = {.dir = "mem",
                                    .log_start = s->now.log_start,
                                    .recovery_point = s->now.recovery_point,
                                    .clean = clean,
                                    .config = s->config};
    return fmq_log_open(&s->fs->env, s->files, &options, &s->log, recovery);
}

static inline void session_note(session *s, int result) {
    if (result < 0 && s->error == 0) {
        s->error = result;
    }
}

static inline void session_append(session *s) {
    fixture_spec spec = {.count = 1 + (int32_t)(check_random(&s->seed) % 4),
                         .padding = check_random(&s->seed) % s->padding,
                         .timestamp = FIXTURE_NOW_MS + s->batch_count};
    int producer = (int)(check_random(&s->seed) % (SESSION_PRODUCERS * 2));
    if (producer < SESSION_PRODUCERS) {
        spec.producer_id = 1000 + producer;
        spec.sequence = s->sequences[producer];
    }
    static uint8_t buf[16384];
    fmq_append append = {.data = buf,
                         .leader_epoch = s->epoch,
                         .deferred = s->deferred && check_random(&s->seed) % 4 != 0,
                         .now_ms = FIXTURE_NOW_MS};
    append.size = fixture_batch_of(buf, &spec);
    int64_t size = fmq_log_size(s->log), end = fmq_log_end(s->log);
    int result = fmq_log_append(s->log, &append);
    session_note(s, result);
    if (result != FMQ_OK) {
        CHECK(result < 0);
        CHECK_EQ(fmq_log_size(s->log), size);
        CHECK_EQ(fmq_log_end(s->log), end);
        return;
    }
    CHECK(!append.duplicate);
    CHECK_EQ(append.base_offset, end);
    if (producer < SESSION_PRODUCERS) {
        s->sequences[producer] += spec.count;
    }
    s->batches[s->batch_count++] = (session_batch){.base_offset = append.base_offset,
                                                   .next_offset = append.last_offset + 1,
                                                   .crc = fmq_load_be32(buf + 17),
                                                   .epoch = s->epoch,
                                                   .born = s->step,
                                                   .died = INT32_MAX};
}

static inline void session_sync(session *s) {
    fmq_sync_job job;
    int result = fmq_log_sync_begin(s->log, &job);
    if (result == FMQ_OK) {
        result = fmq_sync_job_run(&job);
        fmq_log_sync_end(s->log, &job, result);
    }
    session_note(s, result);
    if (result == FMQ_OK) {
        CHECK_EQ(fmq_log_synced(s->log), job.end_offset);
        s->now.durable = fmq_log_synced(s->log);
    }
}

/* Producers begin anew after a truncation: their sequences are what the log says. */
static inline void session_take_sequences(session *s) {
    fmq_producer_view views[SESSION_PRODUCERS];
    memset(s->sequences, 0, sizeof s->sequences);
    int32_t count = fmq_log_producers(s->log, views, SESSION_PRODUCERS);
    for (int32_t i = 0; i < count; i++) {
        s->sequences[views[i].producer_id - 1000] = views[i].last_sequence + 1;
    }
}

/* As a caller must, the recovery point goes down before the log does. */
static inline void session_truncate(session *s) {
    int64_t end = fmq_log_end(s->log);
    int64_t offset = end - (int64_t)(check_random(&s->seed) % 40);
    offset = offset < fmq_log_start(s->log) ? fmq_log_start(s->log) : offset;
    s->now.durable = s->now.durable < offset ? s->now.durable : offset;
    for (int i = 0; i < s->batch_count; i++) {
        session_batch *batch = &s->batches[i];
        if (batch->died == INT32_MAX && batch->next_offset > offset) {
            batch->died = s->step;
            s->now.durable =
                s->now.durable < batch->base_offset ? s->now.durable : batch->base_offset;
        }
    }
    if (s->now.recovery_point > s->now.durable) {
        s->now.recovery_point = s->now.durable;
    }
    int result = fmq_log_truncate_to(s->log, offset);
    session_note(s, result);
    if (result == FMQ_OK) {
        CHECK(fmq_log_end(s->log) <= offset);
        session_take_sequences(s);
        s->epoch++;
    }
}

static inline void session_retain(session *s) {
    int64_t limit = s->now.durable;
    int result = check_random(&s->seed) % 2 == 0
                     ? fmq_log_apply_retention(s->log, limit, FIXTURE_NOW_MS)
                     : fmq_log_advance_start(s->log, limit < fmq_log_start(s->log) + 3
                                                         ? fmq_log_start(s->log)
                                                         : fmq_log_start(s->log) + 3);
    session_note(s, result);
    if (check_random(&s->seed) % 2 == 0) {
        (void)fmq_log_sweep(&s->fs->env, "mem"); /* what fails is left to the next time */
    }
    s->now.log_start = fmq_log_start(s->log);
}

/* End the flush job under way. */
static inline void session_end_flush(session *s) {
    if (s->is_flushing) {
        s->is_flushing = false;
        int result = fmq_log_flush_end(s->log, &s->job, fmq_flush_job_run(&s->job));
        session_note(s, result);
        if (result == FMQ_OK) {
            s->now.durable = fmq_log_synced(s->log);
            s->now.recovery_point = s->job.sync.end_offset;
        }
    }
}

/* Begin a flush, or end the one under way: other steps come in between. */
static inline void session_flush(session *s) {
    if (s->is_flushing) {
        session_end_flush(s);
    } else {
        int result = fmq_log_flush_begin(s->log, &s->job);
        session_note(s, result);
        s->is_flushing = result == FMQ_OK;
    }
}

static inline void session_reopen(session *s) {
    int result = fmq_log_close(s->log, true);
    bool clean = result == FMQ_OK;
    s->log = NULL;
    session_note(s, result);
    if (clean) {
        fmq_recovery recovery;
        int64_t end = s->batch_count > 0 ? s->now.durable : 0;
        (void)end;
        result = session_open(s, true, &recovery);
        session_note(s, result);
        if (result == FMQ_OK) {
            CHECK(!recovery.recovered);
            s->now.durable = s->now.recovery_point = fmq_log_end(s->log);
        }
    }
}

/* One step at random. */
static inline void session_step(session *s) {
    s->step++;
    uint64_t draw = check_random(&s->seed) % 100;
    if (draw < 60) {
        session_append(s);
    } else if (draw < 73) {
        session_sync(s);
    } else if (draw < 84) {
        session_flush(s);
    } else if (draw < 90) {
        session_retain(s);
    } else if (draw < 94) {
        session_truncate(s);
    } else if (draw < 96) {
        s->epoch++;
    } else if (draw < 98 && s->is_flushing) {
        session_end_flush(s);
    } else if (draw < 98) {
        session_reopen(s);
    } else {
        session_note(s, fmq_log_roll_if_due(s->log, FIXTURE_NOW_MS));
    }
    s->now.op_count = s->fs->op_count;
    s->marks[s->step] = s->now;
}

static inline void session_begin(session *s, memfs *fs, fmq_files *files, uint64_t seed) {
    memset(s, 0, sizeof *s);
    s->fs = fs;
    s->files = files;
    s->config = session_config(seed % 2 == 0);
    s->padding = seed % 2 == 0 ? 12000 : 700;
    s->seed = seed;
    s->epoch = 1;
    s->deferred = seed / 2 % 2 == 0;
    fmq_recovery recovery;
    session_note(s, session_open(s, false, &recovery));
}

/* ---- what must hold -------------------------------------------------------------------------- */

/* The batch at `base` that may be there when a failure came in step `step`. */
static inline const session_batch *session_find(const session *s, int64_t base, uint32_t crc,
                                                int step) {
    for (int i = 0; i < s->batch_count; i++) {
        const session_batch *batch = &s->batches[i];
        if (batch->base_offset == base && batch->crc == crc && batch->born <= step &&
            batch->died >= step) {
            return batch;
        }
    }
    return NULL;
}

static inline void session_check_producers(fmq_log *log, const int64_t *last_offsets,
                                           const int32_t *last_sequences, int64_t first_offset) {
    fmq_producer_view views[SESSION_PRODUCERS * 2];
    int32_t count = fmq_log_producers(log, views, SESSION_PRODUCERS * 2);
    for (int p = 0; p < SESSION_PRODUCERS; p++) {
        bool found = false;
        for (int32_t i = 0; i < count; i++) {
            if (views[i].producer_id == 1000 + p) {
                found = true;
                if (last_offsets[p] >= 0) {
                    CHECK_EQ(views[i].last_offset, last_offsets[p]);
                    CHECK_EQ(views[i].last_sequence, last_sequences[p]);
                } else {
                    CHECK(views[i].last_offset < first_offset);
                }
            }
        }
        CHECK(found || last_offsets[p] < 0);
    }
}

/* Every batch that may be read can be: deferred ones when they are durable. */
static inline void session_read_all(fmq_log *log) {
    int64_t offset = fmq_log_start(log);
    int64_t end = fmq_log_unwritten(log) > 0 ? fmq_log_synced(log) : fmq_log_end(log);
    while (offset < end && !check_current_failed) {
        fmq_slice slice;
        REQUIRE(fmq_log_read(log, offset, end, 1, true, &slice) == FMQ_OK);
        REQUIRE(slice.size > 0);
        uint8_t *bytes = malloc(slice.size);
        CHECK_EQ(fmq_slice_read(&slice, bytes, true), FMQ_OK);
        free(bytes);
        offset = slice.next_offset;
        fmq_segment_unref(slice.segment);
    }
}

/* The log holds a run of batches without a hole that were appended and not truncated, up to
 * `durable` at least; it can be looked up; epochs and producers fit. */
static inline void session_check(const session *s, fmq_log *log, int64_t durable, int step) {
    int64_t offset = fmq_log_start(log), end = fmq_log_end(log), first = offset;
    int64_t last_offsets[SESSION_PRODUCERS];
    int32_t last_sequences[SESSION_PRODUCERS] = {0};
    memset(last_offsets, -1, sizeof last_offsets);
    CHECK(end >= durable);
    CHECK_EQ(fmq_log_synced(log), end);
    while (offset < end && !check_current_failed) {
        fmq_slice slice;
        REQUIRE(fmq_log_read(log, offset, end, 1, true, &slice) == FMQ_OK);
        REQUIRE(slice.size > 0);
        uint8_t *bytes = malloc(slice.size);
        CHECK_EQ(fmq_slice_read(&slice, bytes, true), FMQ_OK);
        fmq_batch_header h;
        CHECK_EQ(fmq_batch_parse(bytes, slice.size, &h), FMQ_OK);
        const session_batch *batch = session_find(s, h.base_offset, h.crc, step);
        CHECK(batch != NULL);
        CHECK(h.base_offset <= offset);
        CHECK_EQ(slice.next_offset, fmq_batch_last_offset(&h) + 1);
        if (batch != NULL) {
            CHECK_EQ(h.leader_epoch, batch->epoch);
            CHECK_EQ(fmq_log_epoch_of(log, offset), batch->epoch);
        }
        if (h.producer_id >= 1000) {
            last_offsets[h.producer_id - 1000] = fmq_batch_last_offset(&h);
            last_sequences[h.producer_id - 1000] = h.base_sequence + h.last_offset_delta;
        }
        first = h.base_offset < first ? h.base_offset : first;
        offset = slice.next_offset;
        fmq_segment_unref(slice.segment);
        free(bytes);
    }
    session_check_producers(log, last_offsets, last_sequences, first);
}

#endif
