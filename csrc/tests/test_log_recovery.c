/* R8: after any torn or damaged tail the log opens as the longest valid prefix, with indexes and
 * producer state as if built from scratch, and a second recovery changes nothing.  Exhaustive over
 * every cut and every flipped byte of a 64 KiB segment. */
#include "fixture_log.h"
#include "fixture_memfs.h"

#define SEGMENT_SIZE 65536
#define SEGMENT_NAME "00000000000000000000.log"
#define BATCHES_MAX 512

static uint8_t segment[SEGMENT_SIZE + 4096];
static int64_t segment_size;
static int64_t positions[BATCHES_MAX + 1]; /* of batch i; the last is the end */
static int64_t offsets[BATCHES_MAX + 1];
static int batch_count;
static fmq_files *files;

static int open_log(memfs *fs, fmq_log **log, fmq_recovery *recovery) {
    fmq_log_config config = fixture_config();
    return fixture_open(&fs->env, files, "mem", &config, 0, false, log, recovery);
}

/* A segment of about 200 batches, half of them of idempotent producers. */
static void build_segment(void) {
    static memfs fs;
    uint64_t seed = 8;
    int32_t sequences[4] = {0};
    fmq_log *log;
    fmq_recovery recovery;
    memfs_init(&fs);
    CHECK_EQ(open_log(&fs, &log, &recovery), FMQ_OK);
    while (fmq_log_size(log) < SEGMENT_SIZE - 600) {
        fixture_spec spec = {.count = 1 + (int32_t)(check_random(&seed) % 4),
                             .padding = check_random(&seed) % 400,
                             .timestamp = FIXTURE_NOW_MS + batch_count};
        if (check_random(&seed) % 2 == 0) {
            int producer = (int)(check_random(&seed) % 4);
            spec.producer_id = 1000 + producer;
            spec.sequence = sequences[producer];
            sequences[producer] += spec.count;
        }
        positions[batch_count] = fmq_log_size(log);
        offsets[batch_count++] = fmq_log_end(log);
        CHECK_EQ(fixture_append(log, &spec, NULL), FMQ_OK);
    }
    positions[batch_count] = segment_size = fmq_log_size(log);
    offsets[batch_count] = fmq_log_end(log);
    CHECK_EQ(fmq_log_close(log, false), FMQ_OK);
    memcpy(segment, memfs_read_file(&fs, SEGMENT_NAME)->data, (size_t)segment_size);
    memfs_free(&fs);
}

/* The number of batches at the front that hold, found without any code under test but the CRC. */
static int count_valid(const uint8_t *data, int64_t size, int64_t *end_offset) {
    int64_t at = 0;
    int count = 0;
    *end_offset = 0;
    while (size - at >= FMQ_BATCH_HEADER_SIZE) {
        const uint8_t *b = data + at;
        int64_t base = (int64_t)fmq_load_be64(b);
        int64_t length = (int32_t)fmq_load_be32(b + 8);
        int32_t delta = (int32_t)fmq_load_be32(b + 23);
        int32_t records = (int32_t)fmq_load_be32(b + 57);
        fmq_batch_header h = {.size = (uint32_t)(length + 12), .crc = fmq_load_be32(b + 17)};
        if (length < 49 || length + 12 > size - at || b[16] != 2 || base < *end_offset ||
            delta < 0 || records < 0 || base > INT32_MAX - delta || !fmq_batch_crc_ok(b, &h)) {
            break;
        }
        *end_offset = base + delta + 1;
        at += length + 12;
        count++;
    }
    return count;
}

static void check_producers(fmq_log *log, const uint8_t *data, int64_t size) {
    fmq_producer_view views[8];
    int32_t count = fmq_log_producers(log, views, 8);
    int64_t last_offsets[4] = {-1, -1, -1, -1};
    int32_t last_sequences[4] = {-1, -1, -1, -1}, expected = 0;
    for (int64_t at = 0; at < size;) {
        fmq_batch_header h;
        CHECK_EQ(fmq_batch_parse(data + at, (size_t)(size - at), &h), FMQ_OK);
        if (h.producer_id >= 1000) {
            int i = (int)(h.producer_id - 1000);
            expected += last_offsets[i] < 0;
            last_offsets[i] = fmq_batch_last_offset(&h);
            last_sequences[i] = h.base_sequence + h.last_offset_delta;
        }
        at += h.size;
    }
    CHECK_EQ(count, expected);
    for (int32_t i = 0; i < count; i++) {
        int p = (int)(views[i].producer_id - 1000);
        CHECK_EQ(views[i].last_offset, last_offsets[p]);
        CHECK_EQ(views[i].last_sequence, last_sequences[p]);
    }
}

/* Recover `data` and compare with the oracle; then once more. */
static void recover(const uint8_t *data, int64_t size) {
    static memfs fs, again;
    fmq_log *log;
    fmq_recovery recovery;
    int64_t end;
    memfs_init(&fs);
    memfs_write_file(&fs, SEGMENT_NAME, data, size);
    int valid = count_valid(data, size, &end);
    int64_t valid_size = positions[valid];
    CHECK_EQ(open_log(&fs, &log, &recovery), FMQ_OK);
    CHECK_EQ(fmq_log_end(log), end);
    CHECK_EQ(fmq_log_size(log), valid_size);
    CHECK_EQ(recovery.bytes_truncated, size - valid_size);
    CHECK_EQ(recovery.truncated_at, valid_size < size ? end : -1);
    CHECK_EQ(recovery.reason != NULL, valid_size < size);
    check_producers(log, data, valid_size);
    CHECK_EQ(memfs_read_file(&fs, SEGMENT_NAME)->size, valid_size);
    CHECK_EQ(fmq_log_close(log, false), FMQ_OK);
    memfs_copy(&again, &fs);
    CHECK_EQ(open_log(&again, &log, &recovery), FMQ_OK);
    CHECK_EQ(recovery.truncated_at, -1);
    CHECK_EQ(recovery.bytes_truncated, 0);
    CHECK_EQ(fmq_log_close(log, false), FMQ_OK);
    CHECK(memfs_equal(&fs, &again));
    memfs_free(&fs);
    memfs_free(&again);
}

static void recovers_from_a_cut_at_every_byte(void) {
    for (int64_t size = 0; size <= segment_size && !check_current_failed; size++) {
        recover(segment, size);
    }
}

static void recovers_from_a_flip_of_every_byte(void) {
    for (int64_t at = 0; at < segment_size && !check_current_failed; at++) {
        uint8_t mask = (uint8_t)(1U << (at % 8));
        segment[at] ^= mask;
        recover(segment, segment_size);
        segment[at] ^= mask;
    }
}

int main(void) {
    if (fmq_files_create(fmq_env_system(), 4, &files) != FMQ_OK) {
        abort();
    }
    build_segment();
    RUN(recovers_from_a_cut_at_every_byte);
    RUN(recovers_from_a_flip_of_every_byte);
    fmq_files_destroy(files);
    return check_report();
}
