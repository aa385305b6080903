/* What a log promises beyond plain reads: origins and refusals, sync jobs, pinned slices,
 * retention, truncation, look-ups by time and epoch. */
#include "fixture_life.h"

/* ---- appends --------------------------------------------------------------------------------- */

static void refuses_without_a_trace(void) {
    begin();
    fill(1);
    fmq_append append;
    config.max_message_bytes = 500;
    fmq_log_set_config(log_, &config);
    CHECK_EQ(fixture_append(log_, &(fixture_spec){.padding = 600}, &append),
             FMQ_ERR_MESSAGE_TOO_LARGE);
    CHECK(append.reason != NULL);
    config.max_message_bytes = 1 << 20;
    fmq_log_set_config(log_, &config);
    CHECK_EQ(fixture_append(log_, &(fixture_spec){.padding = 5000}, &append),
             FMQ_ERR_RECORD_LIST_TOO_LARGE);
    CHECK_EQ(fixture_append(log_, &(fixture_spec){.attributes = FMQ_ATTR_CONTROL}, &append),
             FMQ_ERR_INVALID_RECORD);
    static uint8_t buf[4096];
    size_t size = fixture_batch_of(buf, &(fixture_spec){.padding = 9});
    for (size_t at = 0; at < size; at++) {
        uint8_t *copy = check_copy(buf, size);
        copy[at] ^= 0xff;
        append = (fmq_append){.data = copy, .size = size, .now_ms = FIXTURE_NOW_MS};
        append.origin = FMQ_ORIGIN_FOLLOWER;
        bool is_free = at < 8 || (at >= 12 && at < 16); /* offset and epoch: not in the CRC */
        int result = fmq_log_append(log_, &append);
        CHECK(is_free ? result <= FMQ_ERR_OFFSET_OUT_OF_RANGE : result > FMQ_OK);
        CHECK(result == FMQ_OK || append.reason != NULL);
        free(copy);
        if (result == FMQ_OK) {
            CHECK_EQ(fmq_log_truncate_to(log_, 1), FMQ_OK);
        }
        CHECK_EQ(fmq_log_end(log_), 1);
    }
    end();
}

static void writes_the_time_of_the_append(void) {
    begin();
    config.log_append_time = true;
    fmq_log_set_config(log_, &config);
    fmq_append append, again;
    fixture_spec spec = {.timestamp = 5, .producer_id = 7};
    CHECK_EQ(fixture_append(log_, &spec, &append), FMQ_OK);
    CHECK_EQ(append.log_append_time_ms, FIXTURE_NOW_MS);
    CHECK_EQ(fixture_append(log_, &spec, &again), FMQ_OK);
    CHECK(again.duplicate);
    CHECK_EQ(again.base_offset, 0);
    CHECK_EQ(again.log_append_time_ms, FIXTURE_NOW_MS);
    fmq_slice slice = read_at(0);
    uint8_t bytes[512];
    fmq_batch_header h;
    CHECK_EQ(fmq_slice_read(&slice, bytes, true), FMQ_OK);
    CHECK_EQ(fmq_batch_parse(bytes, slice.size, &h), FMQ_OK);
    CHECK_EQ(h.max_timestamp, FIXTURE_NOW_MS);
    CHECK_EQ(h.attributes, FMQ_ATTR_LOG_APPEND_TIME);
    fmq_segment_unref(slice.segment);
    end();
}

static void takes_gaps_from_a_leader(void) {
    begin();
    static uint8_t buf[4096];
    int64_t offsets[] = {0, 5, 6, 20, 1000, 1001, 3000000000, 3000000001};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        fmq_append append = {.data = buf, .origin = FMQ_ORIGIN_FOLLOWER, .leader_epoch = 99};
        append.size = fixture_batch_of(buf, &(fixture_spec){.padding = 900});
        fmq_batch_set_base_offset(buf, offsets[i]);
        fmq_batch_set_leader_epoch(buf, (int32_t)i / 3);
        CHECK_EQ(fmq_log_append(log_, &append), FMQ_OK);
        CHECK_EQ(append.base_offset, offsets[i]);
        fmq_batch_set_base_offset(buf, offsets[i]);
        CHECK_EQ(fmq_log_append(log_, &append), FMQ_ERR_OFFSET_OUT_OF_RANGE);
    }
    CHECK_EQ(fmq_log_last_epoch(log_), 2);
    for (int round = 0; round < 2; round++) {
        size_t i = 0;
        for (int64_t offset = 0; offset < fmq_log_end(log_); i++) {
            fmq_slice slice = read_at(offset);
            CHECK_EQ(slice.base_offset, offsets[i]);
            offset = slice.base_offset + 1;
            fmq_segment_unref(slice.segment);
        }
        CHECK_EQ(i, sizeof offsets / sizeof offsets[0]);
        fmq_slice slice;
        CHECK_EQ(fmq_log_read(log_, 7, 20, 1 << 20, true, &slice), FMQ_OK);
        CHECK_EQ(slice.size, 0);
        CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
        CHECK_EQ(reopen(0, 3000000002, true), FMQ_OK);
    }
    end();
}

/* A snapshot knows one batch of each producer; the log knows the others. */
static void knows_duplicates_after_a_restart(void) {
    for (int how = 0; how < 4; how++) {
        begin();
        fixture_spec spec = {.producer_id = 9, .padding = 500};
        for (int32_t i = 0; i < 12; i++) {
            spec.sequence = i;
            CHECK_EQ(fixture_append(log_, &spec, NULL), FMQ_OK);
            fill(1);
        }
        CHECK(fmq_log_segment_count(log_) > 2);
        bool clean = how % 2 == 0;
        int64_t point = how < 2 ? fmq_log_end(log_) : 0;
        CHECK_EQ(fmq_log_flush(log_), FMQ_OK);
        CHECK_EQ(fmq_log_close(log_, clean), FMQ_OK);
        CHECK_EQ(reopen(0, point, clean), FMQ_OK);
        for (int32_t i = 0; i < 12; i++) {
            fmq_append append;
            spec.sequence = i;
            int result = fixture_append(log_, &spec, &append);
            CHECK_EQ(result, i < 7 ? FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER : FMQ_OK);
            CHECK_EQ(append.duplicate, i >= 7);
            CHECK_EQ(append.base_offset, i >= 7 ? i * 2 : -1);
        }
        spec.sequence = 12;
        CHECK_EQ(fixture_append(log_, &spec, NULL), FMQ_OK);
        end();
    }
}

/* ---- durability ------------------------------------------------------------------------------ */

static void syncs_what_was_there_when_the_job_began(void) {
    begin();
    fmq_sync_job job;
    CHECK(!fmq_log_needs_sync(log_));
    fill(60); /* more segments than a job takes */
    CHECK(fmq_log_segment_count(log_) > 5);
    CHECK(fmq_log_needs_sync(log_));
    CHECK_EQ(fmq_log_synced(log_), 0);
    int jobs = 0;
    while (fmq_log_needs_sync(log_)) {
        CHECK_EQ(fmq_log_sync_begin(log_, &job), FMQ_OK);
        CHECK_EQ(job.sync_dir, jobs == 0);
        CHECK_EQ(fmq_sync_job_run(&job), FMQ_OK);
        int64_t synced = job.end_offset;
        fmq_log_sync_end(log_, &job, FMQ_OK);
        CHECK_EQ(fmq_log_synced(log_), synced);
        jobs++;
    }
    CHECK(jobs >= 2);
    fill(1);
    CHECK_EQ(fmq_log_sync_begin(log_, &job), FMQ_OK);
    fill(1);
    CHECK_EQ(fmq_sync_job_run(&job), FMQ_OK);
    fmq_log_sync_end(log_, &job, FMQ_OK);
    CHECK_EQ(fmq_log_synced(log_), 61);
    /* What was truncated and written anew while the job ran is not durable by it. */
    CHECK_EQ(fmq_log_sync_begin(log_, &job), FMQ_OK);
    CHECK_EQ(fmq_log_truncate_to(log_, 50), FMQ_OK);
    fill(20);
    CHECK_EQ(fmq_sync_job_run(&job), FMQ_OK);
    fmq_log_sync_end(log_, &job, FMQ_OK);
    CHECK_EQ(fmq_log_synced(log_), 50);
    /* A failed sync is final. */
    CHECK_EQ(fmq_log_sync_begin(log_, &job), FMQ_OK);
    fmq_log_sync_end(log_, &job, -EIO);
    CHECK_EQ(fixture_append(log_, &(fixture_spec){0}, NULL), -EIO);
    CHECK_EQ(fmq_log_sync_begin(log_, &job), -EIO);
    end();
}

static bool needs_file(void) {
    uint8_t batch[1024];
    size_t size = fixture_batch_of(batch, &(fixture_spec){.padding = 300});
    return fmq_log_needs_file(log_, batch, size);
}

/* A job makes the file that the next append needs. */
static void make_file(void) {
    fmq_sync_job job;
    while (!needs_file()) {
        fill(1);
    }
    fmq_log_want_file(log_);
    CHECK_EQ(fmq_log_sync_begin(log_, &job), FMQ_OK);
    CHECK_EQ(job.new_base, fmq_log_end(log_));
    CHECK(fmq_log_awaits_file(log_) && needs_file());
    CHECK_EQ(fixture_append(log_, &(fixture_spec){.padding = 300}, NULL), -ENOMEM);
    CHECK_EQ(fmq_sync_job_run(&job), FMQ_OK);
    fmq_log_sync_end(log_, &job, FMQ_OK);
    CHECK(!fmq_log_awaits_file(log_) && !needs_file());
}

static void takes_files_that_jobs_made(void) {
    begin();
    for (int32_t count = 1; count < 6; count++) {
        make_file();
        fill(1); /* it goes into the new file, small as it is */
        CHECK_EQ(fmq_log_segment_count(log_), count);
    }
    int64_t log_end = fmq_log_end(log_);
    for (int32_t clean = 0; clean < 2; clean++) {
        make_file(); /* and nobody takes it */
        log_end = fmq_log_end(log_);
        CHECK_EQ(fmq_log_close(log_, clean != 0), FMQ_OK);
        CHECK_EQ(reopen(0, log_end, clean != 0), FMQ_OK);
        CHECK_EQ(fmq_log_end(log_), log_end);
        fmq_slice last = read_at(log_end - 1);
        CHECK_EQ(last.next_offset, log_end);
        fmq_segment_unref(last.segment);
    }
    make_file();
    CHECK_EQ(fmq_log_truncate_to(log_, 3), FMQ_OK);
    fill(2);
    CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
    CHECK_EQ(reopen(0, 5, true), FMQ_OK);
    CHECK_EQ(fmq_log_end(log_), 5);
    CHECK_EQ(fmq_log_segment_count(log_), 1);
    end();
}

/* ---- slices ---------------------------------------------------------------------------------- */

static void keeps_deleted_segments_readable(void) {
    begin();
    fill(40);
    fmq_slice unpinned = read_at(0), pinned = read_at(12);
    CHECK(pinned.segment != unpinned.segment);
    CHECK(fmq_segment_pin(pinned.segment) >= 0);
    CHECK_EQ(fmq_log_advance_start(log_, 35), FMQ_OK);
    CHECK(memfs_read_file(&fs, FIRST_LOG) == NULL);
    CHECK(memfs_read_file(&fs, FIRST_INDEX) == NULL);
    CHECK(memfs_read_file(&fs, FIRST_LOG ".deleted") != NULL);
    CHECK_EQ(fmq_log_sweep(&fs.env, "mem"), FMQ_OK);
    CHECK(memfs_read_file(&fs, FIRST_LOG ".deleted") == NULL);
    uint8_t bytes[1024];
    CHECK_EQ(fmq_slice_read(&pinned, bytes, true), FMQ_OK);
    CHECK_EQ(fmq_slice_read(&unpinned, bytes, true), FMQ_OK);
    CHECK(!fmq_segment_truncated_below(pinned.segment, pinned.position + pinned.size));
    fmq_segment_unpin(pinned.segment);
    fmq_segment_unref(pinned.segment);
    fmq_slice slice;
    CHECK_EQ(fmq_log_read(log_, 34, 40, 1, true, &slice), FMQ_ERR_OFFSET_OUT_OF_RANGE);
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    CHECK_EQ(fmq_slice_read(&unpinned, bytes, true), FMQ_OK); /* outlives the log */
    fmq_segment_unref(unpinned.segment);
    CHECK_EQ(reopen(35, 0, false), FMQ_OK);
    CHECK_EQ(fmq_log_start(log_), 35);
    end();
}

static void tells_readers_of_a_truncation(void) {
    begin();
    fill(30);
    fmq_slice below = read_at(23), above = read_at(28);
    CHECK(below.segment != NULL && above.segment != NULL);
    CHECK_EQ(fmq_log_truncate_to(log_, 25), FMQ_OK);
    CHECK_EQ(fmq_log_end(log_), 25);
    fill(10);
    CHECK(!fmq_segment_truncated_below(below.segment, below.position + below.size));
    CHECK(fmq_segment_truncated_below(above.segment, above.position + above.size));
    uint8_t bytes[1024];
    CHECK_EQ(fmq_slice_read(&below, bytes, true), FMQ_OK);
    fmq_slice again = read_at(28);
    CHECK(!fmq_segment_truncated_below(again.segment, again.position + again.size));
    fmq_segment_unref(below.segment);
    fmq_segment_unref(above.segment);
    fmq_segment_unref(again.segment);
    again = read_at(0);
    CHECK_EQ(fmq_log_reset(log_, 500), FMQ_OK);
    CHECK(fmq_segment_truncated_below(again.segment, 1));
    fmq_segment_unref(again.segment);
    CHECK_EQ(fmq_log_start(log_), 500);
    CHECK_EQ(fmq_log_end(log_), 500);
    CHECK_EQ(fmq_log_size(log_), 0);
    fill(3);
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    CHECK_EQ(reopen(0, 0, false), FMQ_OK);
    CHECK_EQ(fmq_log_start(log_), 500);
    CHECK_EQ(fmq_log_end(log_), 503);
    end();
}

static void holds_few_files_open(void) {
    begin();
    fill(100);
    CHECK(fmq_log_segment_count(log_) > 8);
    uint64_t seed = 2;
    for (int i = 0; i < 300; i++) {
        fmq_slice slice = read_at((int64_t)(check_random(&seed) % 100));
        uint8_t bytes[1024];
        CHECK_EQ(fmq_slice_read(&slice, bytes, true), FMQ_OK);
        CHECK(fmq_files_open_count(files) <= 3);
        fmq_segment_unref(slice.segment);
    }
    end();
}

static void reads_the_tail_without_io(void) {
    begin();
    config.segment_bytes = 1 << 20;
    fmq_log_set_config(log_, &config);
    for (int i = 0; i < 500; i++) {
        int64_t last = fmq_log_end(log_), calls;
        fill(1);
        calls = fs.calls;
        fmq_slice slice;
        CHECK_EQ(fmq_log_read(log_, last, last + 1, 1 << 20, true, &slice), FMQ_OK);
        CHECK_EQ(slice.next_offset, last + 1);
        CHECK_EQ(fs.calls, calls);
        fmq_segment_unref(slice.segment);
        /* A follower's fetch: the high watermark is one append behind. */
        if (i > 1) {
            CHECK_EQ(fmq_log_read(log_, last - 1, last, 1 << 20, true, &slice), FMQ_OK);
            CHECK_EQ(slice.next_offset, last);
            CHECK_EQ(fs.calls, calls);
            fmq_segment_unref(slice.segment);
        }
    }
    end();
}

/* ---- retention ------------------------------------------------------------------------------- */

static void deletes_by_size_time_and_start(void) {
    begin();
    fill(50);
    int32_t count = fmq_log_segment_count(log_);
    int64_t first = fmq_log_size(log_);
    CHECK_EQ(fmq_log_apply_retention(log_, 50, FIXTURE_NOW_MS), 0);
    config.retention_bytes = fmq_log_size(log_) - 4000;
    config.cleanup_delete = false;
    fmq_log_set_config(log_, &config);
    CHECK_EQ(fmq_log_apply_retention(log_, 50, FIXTURE_NOW_MS), 0);
    config.cleanup_delete = true;
    fmq_log_set_config(log_, &config);
    CHECK_EQ(fmq_log_apply_retention(log_, 3, FIXTURE_NOW_MS), 0); /* above the watermark */
    CHECK_EQ(fmq_log_apply_retention(log_, 50, FIXTURE_NOW_MS), 1);
    CHECK_EQ(fmq_log_segment_count(log_), count - 1);
    CHECK(fmq_log_size(log_) < first && fmq_log_size(log_) >= config.retention_bytes);
    CHECK(fmq_log_start(log_) > 0);
    config.retention_bytes = -1;
    config.retention_ms = 1000;
    fmq_log_set_config(log_, &config);
    CHECK_EQ(fmq_log_apply_retention(log_, 50, FIXTURE_NOW_MS + 1000), 0);
    /* All of it: the active segment is rolled first, offsets go on. */
    CHECK_EQ(fmq_log_apply_retention(log_, 50, FIXTURE_NOW_MS + 1001), count - 1);
    CHECK_EQ(fmq_log_start(log_), 50);
    CHECK_EQ(fmq_log_end(log_), 50);
    CHECK_EQ(fmq_log_size(log_), 0);
    fill(1);
    CHECK_EQ(fmq_log_end(log_), 51);
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    CHECK_EQ(reopen(0, 0, false), FMQ_OK);
    CHECK_EQ(fmq_log_start(log_), 50);
    CHECK_EQ(fmq_log_end(log_), 51);
    end();
}

static void rolls_by_time(void) {
    begin();
    config.segment_ms = 1000;
    fmq_log_set_config(log_, &config);
    fill(1);
    CHECK_EQ(fmq_log_roll_if_due(log_, FIXTURE_NOW_MS + 1000), FMQ_OK);
    CHECK_EQ(fmq_log_segment_count(log_), 1);
    fixture_spec late = {.timestamp = FIXTURE_NOW_MS + 1001};
    CHECK_EQ(fixture_append(log_, &late, NULL), FMQ_OK);
    CHECK_EQ(fmq_log_segment_count(log_), 2);
    CHECK_EQ(fmq_log_roll_if_due(log_, FIXTURE_NOW_MS + 2002), FMQ_OK);
    CHECK_EQ(fmq_log_segment_count(log_), 3);
    CHECK_EQ(fmq_log_roll_if_due(log_, INT64_MAX), FMQ_OK); /* empty: stays */
    CHECK_EQ(fmq_log_segment_count(log_), 3);
    end();
}

static void keeps_the_start_inside_a_segment(void) {
    begin();
    fill(10);
    CHECK_EQ(fmq_log_advance_start(log_, 3), FMQ_OK);
    CHECK_EQ(fmq_log_segment_count(log_), 1);
    CHECK_EQ(fmq_log_advance_start(log_, 11), FMQ_ERR_OFFSET_OUT_OF_RANGE);
    CHECK_EQ(fmq_log_epoch_of(log_, 2), -1);
    CHECK_EQ(fmq_log_epoch_of(log_, 3), 1);
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    CHECK_EQ(reopen(3, 0, false), FMQ_OK);
    CHECK_EQ(fmq_log_start(log_), 3);
    CHECK_EQ(fmq_log_end(log_), 10);
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    CHECK_EQ(reopen(700, 0, false), FMQ_OK); /* all of it is gone, says the checkpoint */
    CHECK_EQ(fmq_log_start(log_), 700);
    CHECK_EQ(fmq_log_end(log_), 700);
    end();
}

/* ---- look-ups -------------------------------------------------------------------------------- */

static void finds_timestamps(void) {
    for (uint64_t round = 1; round <= 4; round++) {
        begin();
        int64_t times[200];
        uint64_t seed = round;
        for (int i = 0; i < 200; i++) {
            times[i] = round == 1 ? 1000 + i / 3 * 10 : 1000 + (int64_t)(check_random(&seed) % 900);
            fixture_spec spec = {.timestamp = times[i], .padding = check_random(&seed) % 300};
            CHECK_EQ(fixture_append(log_, &spec, NULL), FMQ_OK);
        }
        for (int i = 0; i < 600; i++) {
            if (i == 200 || i == 400) {
                CHECK_EQ(fmq_log_close(log_, i == 200), FMQ_OK);
                CHECK_EQ(reopen(0, i == 200 ? 200 : 0, i == 200), FMQ_OK);
                CHECK_EQ(fmq_log_advance_start(log_, i / 10), FMQ_OK);
            }
            int64_t start = fmq_log_start(log_);
            int64_t limit = 200 - (int64_t)(check_random(&seed) % 3) * 60;
            int64_t target = 990 + (int64_t)(check_random(&seed) % 920);
            int64_t found = -1, newest = start;
            for (int64_t j = start; j < limit; j++) {
                found = found < 0 && times[j] >= target ? j : found;
                newest = times[j] > times[newest] ? j : newest;
            }
            fmq_slice slice;
            CHECK_EQ(fmq_log_find_timestamp(log_, target, limit, &slice), FMQ_OK);
            CHECK_EQ(slice.size > 0, found >= 0);
            if (slice.size > 0) {
                CHECK_EQ(slice.base_offset, found);
                fmq_segment_unref(slice.segment);
            }
            CHECK_EQ(fmq_log_find_max_timestamp(log_, limit, &slice), FMQ_OK);
            REQUIRE(slice.size > 0);
            CHECK_EQ(times[slice.base_offset], times[newest]);
            CHECK(slice.base_offset >= start && slice.base_offset < limit);
            fmq_segment_unref(slice.segment);
        }
        end();
    }
}

static void tells_where_epochs_end(void) {
    begin();
    static uint8_t buf[1024];
    int32_t epochs[] = {2, 2, 5, 5, 5, 9};
    for (int i = 0; i < 6; i++) {
        fmq_append append = {.data = buf, .leader_epoch = epochs[i], .now_ms = FIXTURE_NOW_MS};
        append.size = fixture_batch_of(buf, &(fixture_spec){0});
        CHECK_EQ(fmq_log_append(log_, &append), FMQ_OK);
    }
    struct {
        int32_t asked, epoch;
        int64_t offset;
    } table[] = {{-1, -1, -1}, {1, 1, 0}, {2, 2, 2}, {3, 2, 2},
                 {5, 5, 5},    {8, 5, 5}, {9, 9, 6}, {10, -1, -1}};
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
            int32_t epoch;
            int64_t offset;
            fmq_log_epoch_end(log_, table[i].asked, &epoch, &offset);
            CHECK_EQ(epoch, table[i].epoch);
            CHECK_EQ(offset, table[i].offset);
        }
        CHECK_EQ(fmq_log_epoch_of(log_, 4), 5);
        CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
        memfs_inode *file = memfs_read_file(&fs, "leader-epoch-checkpoint");
        static const char text[] = "0\n3\n2 0\n5 2\n9 5\n";
        /* The checksum stands before the end of the last line: 32 spaces and tabs. */
        REQUIRE(file != NULL && file->size == sizeof text - 1 + 32);
        CHECK_EQ(memcmp(file->data, text, sizeof text - 2), 0);
        CHECK_EQ(file->data[file->size - 1], '\n');
        if (round == 1) {
            file->data[0] = 'x'; /* then the batches tell */
        }
        CHECK_EQ(reopen(0, 6, true), FMQ_OK);
    }
    CHECK_EQ(fmq_log_truncate_to(log_, 4), FMQ_OK);
    CHECK_EQ(fmq_log_last_epoch(log_), 5);
    end();
}

int main(void) {
    RUN(refuses_without_a_trace);
    RUN(writes_the_time_of_the_append);
    RUN(takes_gaps_from_a_leader);
    RUN(knows_duplicates_after_a_restart);
    RUN(syncs_what_was_there_when_the_job_began);
    RUN(takes_files_that_jobs_made);
    RUN(keeps_deleted_segments_readable);
    RUN(tells_readers_of_a_truncation);
    RUN(holds_few_files_open);
    RUN(reads_the_tail_without_io);
    RUN(deletes_by_size_time_and_start);
    RUN(rolls_by_time);
    RUN(keeps_the_start_inside_a_segment);
    RUN(finds_timestamps);
    RUN(tells_where_epochs_end);
    return check_report();
}
