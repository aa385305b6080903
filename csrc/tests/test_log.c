/* Append, read, roll, look up, sync, close: against a plain list of what was appended. */
#include "fixture_log.h"

#define BATCHES_MAX 4096

/* The oracle: every batch, in order. */
typedef struct model_batch {
    int64_t base_offset;
    int64_t next_offset;
    size_t size;
    int64_t timestamp;
} model_batch;

static char dir[FIXTURE_PATH_MAX];
static fmq_files *files;
static model_batch model[BATCHES_MAX];
static int model_count;

static void set_up(void) {
    fixture_dir(dir);
    model_count = 0;
    if (fmq_files_create(fmq_env_system(), 4, &files) != FMQ_OK) {
        abort();
    }
}

static void tear_down(void) {
    CHECK_EQ(fmq_files_open_count(files), 0);
    fmq_files_destroy(files);
    fixture_clear(dir, true);
}

static void append_random(fmq_log *log, uint64_t *seed) {
    fixture_spec spec = {.count = 1 + (int32_t)(check_random(seed) % 5),
                         .padding = check_random(seed) % 8 == 0 ? check_random(seed) % 9000
                                                                : check_random(seed) % 400,
                         .timestamp = FIXTURE_NOW_MS + (int64_t)(check_random(seed) % 100000)};
    fmq_append append;
    CHECK_EQ(fixture_append(log, &spec, &append), FMQ_OK);
    model[model_count++] = (model_batch){.base_offset = append.base_offset,
                                         .next_offset = append.last_offset + 1,
                                         .size = append.size,
                                         .timestamp = spec.timestamp};
}

/* What fmq_log_read must give, but for the end of a segment. */
static void check_read(fmq_log *log, int64_t offset, int64_t limit, uint32_t max_bytes,
                       bool min_one) {
    fmq_slice slice;
    int result = fmq_log_read(log, offset, limit, max_bytes, min_one, &slice);
    if (offset < fmq_log_start(log) || offset > fmq_log_end(log)) {
        CHECK_EQ(result, FMQ_ERR_OFFSET_OUT_OF_RANGE);
        return;
    }
    CHECK_EQ(result, FMQ_OK);
    int first = 0;
    while (first < model_count && model[first].next_offset <= offset) {
        first++;
    }
    size_t size = 0;
    int i = first;
    for (; i < model_count && model[i].next_offset <= limit && offset < limit; i++) {
        if (size + model[i].size > max_bytes && !(i == first && min_one)) {
            break;
        }
        size += model[i].size;
    }
    if (i == first) {
        CHECK_EQ(slice.size, 0);
        CHECK(slice.segment == NULL);
        return;
    }
    REQUIRE(slice.segment != NULL);
    CHECK_EQ(slice.base_offset, model[first].base_offset);
    uint8_t *bytes = malloc(slice.size);
    CHECK_EQ(fmq_slice_read(&slice, bytes, true), FMQ_OK);
    /* Shorter only where the segment ends: then what follows begins at a position 0. */
    int j = first;
    for (size_t at = 0; at < slice.size; j++) {
        fmq_batch_header h;
        CHECK_EQ(fmq_batch_parse(bytes + at, slice.size - at, &h), FMQ_OK);
        CHECK_EQ(h.base_offset, model[j].base_offset);
        CHECK_EQ(h.size, model[j].size);
        at += h.size;
    }
    free(bytes);
    CHECK_EQ(slice.next_offset, model[j - 1].next_offset);
    fmq_segment_unref(slice.segment);
    if (j < i) {
        CHECK_EQ(fmq_log_read(log, slice.next_offset, limit, UINT32_MAX, true, &slice), FMQ_OK);
        CHECK_EQ(slice.position, 0);
        if (slice.segment != NULL) {
            fmq_segment_unref(slice.segment);
        }
    } else {
        CHECK_EQ(j, i);
    }
}

static void check_random_reads(fmq_log *log, uint64_t *seed, int count) {
    int64_t end = fmq_log_end(log);
    for (int i = 0; i < count; i++) {
        int64_t offset = (int64_t)(check_random(seed) % (uint64_t)(end + 2));
        int64_t limit = end;
        if (check_random(seed) % 2 == 0 && model_count > 0) {
            limit = model[check_random(seed) % (uint64_t)model_count].next_offset;
        }
        uint32_t max_bytes = (uint32_t)(check_random(seed) % 30000);
        check_read(log, offset, limit, max_bytes, check_random(seed) % 2 == 0);
    }
}

static void reads_what_was_appended(void) {
    for (uint64_t round = 1; round <= 6; round++) {
        set_up();
        uint64_t seed = round;
        fmq_log_config config = fixture_config();
        config.segment_bytes = 30000 << (round % 3);
        config.index_interval_bytes = round % 2 == 0 ? 512 : 4096;
        fmq_log *log;
        CHECK_EQ(fixture_open(fmq_env_system(), files, dir, &config, 0, false, &log, NULL), 0);
        for (int i = 0; i < 400; i++) {
            append_random(log, &seed);
            check_random_reads(log, &seed, 4);
            check_read(log, model[model_count - 1].base_offset, fmq_log_end(log), 1 << 20, true);
        }
        CHECK(fmq_log_segment_count(log) > 2);
        for (int i = 0; i < 3; i++) {
            int64_t end = fmq_log_end(log);
            bool clean = i != 1;
            CHECK_EQ(fmq_log_close(log, clean), FMQ_OK);
            fmq_recovery recovery;
            CHECK_EQ(fixture_open(fmq_env_system(), files, dir, &config, 0, clean, &log, &recovery),
                     0);
            CHECK_EQ(recovery.recovered, !clean);
            CHECK_EQ(recovery.truncated_at, -1);
            CHECK_EQ(fmq_log_end(log), end);
            CHECK_EQ(fmq_log_last_epoch(log), 1);
            check_random_reads(log, &seed, 200);
            append_random(log, &seed);
        }
        CHECK_EQ(fmq_log_close(log, false), FMQ_OK);
        tear_down();
    }
}

/* On the real file system: the directory gets its new name, a held slice can still be read. */
/* Large slices may end a little early, but at a batch, and what follows begins there. */
static void large_reads_end_at_batches(void) {
    set_up();
    uint64_t seed = 3;
    fmq_log_config config = fixture_config();
    config.segment_bytes = 400000;
    fmq_log *log;
    CHECK_EQ(fixture_open(fmq_env_system(), files, dir, &config, 0, false, &log, NULL), 0);
    for (int i = 0; i < 1500; i++) {
        append_random(log, &seed);
    }
    const uint32_t max_bytes = 100000;
    int64_t end = fmq_log_end(log);
    int next = 0, short_of = 0, slices = 0;
    for (int64_t offset = 0; offset < end; slices++) {
        fmq_slice slice;
        CHECK_EQ(fmq_log_read(log, offset, end, max_bytes, true, &slice), FMQ_OK);
        REQUIRE(slice.segment != NULL);
        CHECK_EQ(slice.base_offset, offset);
        CHECK(slice.size <= max_bytes);
        size_t size = 0;
        while (size < slice.size) {
            size += model[next++].size;
        }
        CHECK_EQ(size, slice.size);
        CHECK_EQ(slice.next_offset, model[next - 1].next_offset);
        short_of += slice.size < max_bytes - max_bytes / 8;
        offset = slice.next_offset;
        fmq_segment_unref(slice.segment);
    }
    CHECK_EQ(next, model_count);
    CHECK(short_of <= fmq_log_segment_count(log)); /* only where a segment ends */
    CHECK(slices > short_of);
    CHECK_EQ(fmq_log_close(log, true), FMQ_OK);
    tear_down();
}

static void deletes_with_a_rename(void) {
    set_up();
    fmq_log_config config = fixture_config();
    config.preallocate = true;
    fmq_log *log;
    CHECK_EQ(fixture_open(fmq_env_system(), files, dir, &config, 0, false, &log, NULL), 0);
    CHECK_EQ(fixture_append(log, &(fixture_spec){.padding = 100}, NULL), FMQ_OK);
    fmq_slice slice;
    CHECK_EQ(fmq_log_read(log, 0, 1, 1000, true, &slice), FMQ_OK);
    char renamed[FIXTURE_PATH_MAX + 16];
    snprintf(renamed, sizeof renamed, "%s-delete", dir);
    CHECK_EQ(fmq_log_delete(log, renamed), FMQ_OK);
    CHECK(access(dir, F_OK) != 0);
    CHECK(access(renamed, F_OK) == 0);
    uint8_t bytes[512];
    CHECK_EQ(fmq_slice_read(&slice, bytes, true), FMQ_OK);
    fmq_segment_unref(slice.segment);
    fixture_clear(renamed, true);
    tear_down();
}

/* 10,000 partitions must cost little while nothing happens in them. */
static size_t allocated;

static void *count_realloc(void *ctx, void *memory, size_t size) {
    (void)ctx;
    size_t *block = memory != NULL ? (size_t *)memory - 2 : NULL;
    allocated += size - (block != NULL ? *block : 0);
    block = realloc(block, size + 2 * sizeof *block);
    if (block == NULL) {
        abort();
    }
    *block = size;
    return block + 2;
}

static void *count_alloc(void *ctx, size_t size) {
    return count_realloc(ctx, NULL, size);
}

static void count_free(void *ctx, void *memory) {
    (void)ctx;
    if (memory != NULL) {
        allocated -= *((size_t *)memory - 2);
        free((size_t *)memory - 2);
    }
}

static void holds_little_memory_when_idle(void) {
    set_up();
    fmq_env env = *fmq_env_system();
    env.alloc = count_alloc;
    env.realloc = count_realloc;
    env.free = count_free;
    fmq_log_config config = fixture_config();
    fmq_log *log;
    CHECK_EQ(fixture_open(&env, files, dir, &config, 0, false, &log, NULL), FMQ_OK);
    CHECK(allocated < 1024);
    CHECK_EQ(fixture_append(log, &(fixture_spec){.producer_id = 1}, NULL), FMQ_OK);
    CHECK(allocated < 2048);
    CHECK_EQ(fmq_log_close(log, true), FMQ_OK);
    CHECK_EQ(allocated, 0);
    CHECK_EQ(fixture_open(&env, files, dir, &config, 1, true, &log, NULL), FMQ_OK);
    CHECK_EQ(fmq_files_open_count(files), 0);
    CHECK(allocated < 2048);
    CHECK_EQ(fmq_log_close(log, false), FMQ_OK);
    CHECK_EQ(allocated, 0);
    tear_down();
}

int main(void) {
    RUN(deletes_with_a_rename);
    RUN(holds_little_memory_when_idle);
    RUN(large_reads_end_at_batches);
    RUN(reads_what_was_appended);
    return check_report();
}
