/* Any bytes as the files of a partition: opened, read at every offset, written to, cut, closed and
 * opened again.  Input: flags, recovery point, then files (kind u8, size u16, bytes).  CRCs are put
 * right when the flags say so, so that mutations get past them. */
#include "../tests/fixture_memfs.h"
#include "expect.h"
#include "fastmq/batch.h"
#include "fastmq/crc32c.h"
#include "fastmq/log.h"

#define FLAG_CLEAN 1
#define FLAG_FIX_CRC 2
#define READS_MAX 64
#define FILES_MAX 16

static const char *const names[] = {
    "00000000000000000000.log",      "00000000000000000000.index", "00000000000000000000.timeindex",
    "00000000000000000003.log",      "00000000000000000003.index", "00000000000000000003.timeindex",
    "00000000000000000003.snapshot", "leader-epoch-checkpoint"};
#define NAME_COUNT (sizeof names / sizeof names[0])

static memfs fs;
static fmq_files *files;

static void fix_segment(uint8_t *data, size_t size) {
    fmq_batch_header h;
    for (size_t at = 0; fmq_batch_parse(data + at, size - at, &h) == FMQ_OK; at += h.size) {
        if (h.size > size - at) {
            break;
        }
        fmq_batch_write_header(data + at, h.size, &h);
    }
}

static void add_file(size_t kind, const uint8_t *data, size_t size, bool fix) {
    uint8_t *copy = check_copy(data, size);
    const char *name = names[kind % NAME_COUNT];
    if (fix && strstr(name, ".log") != NULL) {
        fix_segment(copy, size);
    } else if (fix && strstr(name, ".snapshot") != NULL && size >= 6) {
        fmq_store_be32(copy + 2, fmq_crc32c(0, copy + 6, size - 6));
    }
    memfs_write_file(&fs, name, copy, (int64_t)size);
    free(copy);
}

static void add_files(const uint8_t *data, size_t size, bool fix) {
    for (int i = 0; i < FILES_MAX && size >= 3; i++) {
        size_t bytes = (size_t)fmq_load_be16(data + 1);
        bytes = bytes < size - 3 ? bytes : size - 3;
        add_file(data[0], data + 3, bytes, fix);
        data += 3 + bytes;
        size -= 3 + bytes;
    }
}

static int open_log(int64_t recovery_point, bool clean, fmq_log **log) {
    fmq_recovery recovery;
    fmq_log_open_options options = {.dir = "mem",
                                    .recovery_point = recovery_point,
                                    .clean = clean,
                                    .config = {.segment_bytes = 4096,
                                               .segment_ms = INT64_MAX,
                                               .retention_ms = -1,
                                               .retention_bytes = -1,
                                               .producer_id_expiration_ms = INT64_MAX,
                                               .index_interval_bytes = 64,
                                               .segment_index_bytes = 4096,
                                               .max_message_bytes = 4096,
                                               .timestamp_before_max_ms = INT64_MAX,
                                               .timestamp_after_max_ms = INT64_MAX}};
    return fmq_log_open(&fs.env, files, &options, log, &recovery);
}

static void give_back(fmq_log *log, const fmq_slice *slice) {
    if (slice->segment != NULL) {
        EXPECT(slice->size > 0 && slice->position >= 0);
        EXPECT(slice->position + slice->size <= fmq_log_size(log));
        uint8_t *bytes = malloc(slice->size);
        EXPECT(bytes != NULL);
        fmq_slice_read(slice, bytes, true);
        free(bytes);
        fmq_segment_unref(slice->segment);
    }
}

static void read_everywhere(fmq_log *log) {
    int64_t end = fmq_log_end(log), offset = fmq_log_start(log);
    fmq_slice slice;
    for (int i = 0; i < READS_MAX && offset <= end; i++) {
        int result = fmq_log_read(log, offset, end, 100, i % 2 == 0, &slice);
        EXPECT(result == FMQ_OK || result == FMQ_ERR_CORRUPT_MESSAGE);
        EXPECT(slice.size == 0 || (slice.next_offset > offset && slice.next_offset <= end));
        offset = slice.size > 0 && i % 3 > 0 ? slice.next_offset : offset + 1;
        give_back(log, &slice);
    }
    fmq_log_find_timestamp(log, 1700000000001, end, &slice);
    give_back(log, &slice);
    fmq_log_find_max_timestamp(log, end, &slice);
    give_back(log, &slice);
    for (int32_t epoch = -1; epoch < 4; epoch++) {
        int32_t found;
        int64_t found_end;
        fmq_log_epoch_end(log, epoch, &found, &found_end);
        EXPECT(found <= epoch && found_end <= end);
    }
}

static void write_more(fmq_log *log) {
    uint8_t batch[FMQ_BATCH_HEADER_SIZE + 16];
    fmq_record record = {.key_size = -1, .value = (const uint8_t *)"x", .value_size = 1};
    fmq_batch_header h = {.producer_id = 4000, .producer_epoch = 1, .base_sequence = 0};
    h.record_count = 1;
    size_t size = FMQ_BATCH_HEADER_SIZE + fmq_record_write(batch + FMQ_BATCH_HEADER_SIZE, &record);
    fmq_batch_write_header(batch, size, &h);
    fmq_append append = {.data = batch, .size = size, .leader_epoch = 3};
    int64_t end = fmq_log_end(log);
    if (fmq_log_append(log, &append) == FMQ_OK && !append.duplicate) {
        EXPECT(append.base_offset == end && fmq_log_end(log) == end + 1);
        fmq_slice slice;
        EXPECT(fmq_log_read(log, end, end + 1, 1 << 20, true, &slice) == FMQ_OK);
        EXPECT(slice.size == size);
        fmq_segment_unref(slice.segment);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    bool clean = (data[0] & FLAG_CLEAN) != 0;
    int64_t recovery_point = data[1] % 16;
    memfs_init(&fs);
    if (files == NULL) {
        EXPECT(fmq_files_create(fmq_env_system(), 2, &files) == FMQ_OK);
    }
    add_files(data + 2, size - 2, (data[0] & FLAG_FIX_CRC) != 0);
    fmq_log *log;
    int result = open_log(recovery_point, clean, &log);
    EXPECT(result == FMQ_OK);
    EXPECT(fmq_log_start(log) <= fmq_log_end(log) && fmq_log_size(log) >= 0);
    read_everywhere(log);
    write_more(log);
    int64_t end = fmq_log_end(log), bytes = fmq_log_size(log);
    EXPECT(fmq_log_close(log, true) == FMQ_OK);
    EXPECT(open_log(end, true, &log) == FMQ_OK);
    /* A last offset that is damaged upwards looks like a hole before it. */
    EXPECT(fmq_log_end(log) >= end && fmq_log_size(log) >= bytes);
    end = fmq_log_end(log);
    read_everywhere(log);
    int64_t cut = fmq_log_start(log) + (end - fmq_log_start(log)) / 2;
    result = fmq_log_truncate_to(log, cut);
    EXPECT(result == FMQ_OK ? fmq_log_end(log) <= cut || cut == end : result < 0);
    fmq_log_close(log, false);
    EXPECT(fmq_files_open_count(files) == 0);
    memfs_free(&fs);
    return 0;
}
