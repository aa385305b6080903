/* A log's files: index formats as Kafka has them, damaged indexes, leftovers, damage in segments
 * that is cut or not. */
#include "fixture_life.h"

/* ---- formats --------------------------------------------------------------------------------- */

static void writes_indexes_as_kafka_does(void) {
    begin();
    static int64_t positions[64], times[64];
    int count = 0;
    while (fmq_log_segment_count(log_) == 1) {
        positions[count] = fmq_log_size(log_);
        times[count] = FIXTURE_NOW_MS + (count * 7) % 5;
        fixture_spec spec = {.count = 2, .padding = 100, .timestamp = times[count]};
        CHECK_EQ(fixture_append(log_, &spec, NULL), FMQ_OK);
        count++;
    }
    count--; /* the last one went into the second segment */
    memfs_inode *index = memfs_read_file(&fs, FIRST_INDEX);
    memfs_inode *timeindex = memfs_read_file(&fs, FIRST_TIMEINDEX);
    REQUIRE(index != NULL && timeindex != NULL);
    int64_t since = 0, newest = -1, newest_offset = 0, at = 0, time_at = 0, last_time = -1;
    for (int i = 0; i <= count; i++) {
        /* An entry is made before the batch that passes the interval; the last one at the roll. */
        if (i == count || since > config.index_interval_bytes) {
            if (i < count) {
                REQUIRE(at + 8 <= index->size);
                CHECK_EQ(fmq_load_be32(index->data + at), i * 2 + 1);
                CHECK_EQ(fmq_load_be32(index->data + at + 4), positions[i]);
                at += 8;
            }
            if (newest > last_time) {
                REQUIRE(time_at + 12 <= timeindex->size);
                CHECK_EQ(fmq_load_be64(timeindex->data + time_at), newest);
                CHECK_EQ(fmq_load_be32(timeindex->data + time_at + 8), newest_offset);
                time_at += 12;
                last_time = newest;
            }
            since = 0;
        }
        if (i < count) {
            since += positions[i + 1] > positions[i] ? positions[i + 1] - positions[i] : 0;
            if (times[i] > newest) {
                newest = times[i];
                newest_offset = i * 2 + 1;
            }
        }
    }
    CHECK_EQ(index->size, at);
    CHECK_EQ(timeindex->size, time_at);
    CHECK(at >= 5 * 8);
    end();
}

static void rebuilds_damaged_indexes(void) {
    begin();
    fill(60);
    CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
    static memfs good;
    memfs_copy(&good, &fs);
    memfs_inode *original = memfs_read_file(&good, FIRST_INDEX);
    for (int damage = 0; damage < 5; damage++) {
        memfs_inode *index = memfs_read_file(&fs, FIRST_INDEX);
        memfs_inode *timeindex = memfs_read_file(&fs, FIRST_TIMEINDEX);
        switch (damage) {
        case 0:
            index->size -= 3;
            break;
        case 1:
            memset(index->data, 0xff, 8);
            break;
        case 2:
            fmq_store_be32(index->data + index->size - 4, 1 << 30);
            break;
        case 3:
            timeindex->size -= 1;
            break;
        default:
            memfs_find(&fs, FIRST_INDEX)->name[0] = '\0';
            break;
        }
        CHECK_EQ(reopen(0, 60, true), FMQ_OK);
        for (int64_t offset = 0; offset < 60; offset++) {
            fmq_slice slice = read_at(offset);
            CHECK_EQ(slice.base_offset, offset);
            fmq_segment_unref(slice.segment);
        }
        CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
        memfs_write_file(&fs, FIRST_INDEX, original->data, original->size);
        memfs_inode *original_time = memfs_read_file(&good, FIRST_TIMEINDEX);
        memfs_write_file(&fs, FIRST_TIMEINDEX, original_time->data, original_time->size);
    }
    /* Recovery of everything makes the same files. */
    CHECK_EQ(reopen(0, 0, false), FMQ_OK);
    CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
    CHECK(memfs_equal(&fs, &good));
    memfs_free(&good);
    CHECK_EQ(reopen(0, 60, true), FMQ_OK);
    end();
}

static void removes_leftovers(void) {
    begin();
    fill(2);
    CHECK_EQ(fmq_log_close(log_, true), FMQ_OK);
    static const char *const names[] = {
        "00000000000000000007.log.deleted", "00000000000000000009.index",
        "00000000000000000009.timeindex", "leader-epoch-checkpoint.tmp"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        memfs_write_file(&fs, names[i], "x", 1);
    }
    memfs_write_file(&fs, "partition.metadata", "x", 1);
    memfs_write_file(&fs, "0000000000000000000x.log", "x", 1);
    CHECK_EQ(reopen(0, 2, true), FMQ_OK);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK(memfs_read_file(&fs, names[i]) == NULL);
    }
    CHECK(memfs_read_file(&fs, "partition.metadata") != NULL);
    CHECK(memfs_read_file(&fs, "0000000000000000000x.log") != NULL);
    end();
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Flip a byte of batch `victim` of 40 after a flush at `point`; what is left to read. */
static void damage(int64_t victim, int64_t point, size_t byte) {
    begin();
    config.segment_bytes = 1 << 20;
    fmq_log_set_config(log_, &config);
    fill(40);
    fmq_slice slice = read_at(victim);
    int64_t position = slice.position, size = fmq_log_size(log_);
    fmq_segment_unref(slice.segment);
    CHECK_EQ(fmq_log_close(log_, false), FMQ_OK);
    memfs_read_file(&fs, FIRST_LOG)->data[position + (int64_t)byte] ^= 0x40;
    CHECK_EQ(reopen(0, point, false), FMQ_OK);
    CHECK(recovery.recovered);
    CHECK(recovery.reason != NULL);
    if (victim >= point) {
        CHECK_EQ(recovery.truncated_at, victim);
        CHECK_EQ(fmq_log_end(log_), victim);
        end();
        return;
    }
    CHECK_EQ(recovery.truncated_at, -1);
    CHECK_EQ(recovery.bytes_truncated, 0);
    CHECK_EQ(fmq_log_size(log_), size);
    CHECK_EQ(fmq_log_end(log_), 40);
    fill(5);
    for (int64_t offset = 0; offset < 45; offset++) {
        int result = fmq_log_read(log_, offset, 45, 1, true, &slice);
        if (offset == victim && result != FMQ_OK) {
            CHECK_EQ(result, FMQ_ERR_CORRUPT_MESSAGE);
            continue;
        }
        CHECK_EQ(result, FMQ_OK);
        REQUIRE(slice.size > 0 && slice.size < 1000);
        uint8_t bytes[1024];
        result = fmq_slice_read(&slice, bytes, true);
        CHECK(result == FMQ_OK || offset == victim);
        CHECK(slice.base_offset == offset || offset == victim);
        fmq_segment_unref(slice.segment);
    }
    end();
}

static void cuts_only_behind_the_recovery_point(void) {
    static const size_t bytes[] = {9, 16, 20, 30, 70, 200};
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        damage(20, 10, bytes[i]);
        damage(20, 20, bytes[i]);
        damage(20, 30, bytes[i]);
        damage(20, 21, bytes[i]);
        damage(39, 40, bytes[i]);
        damage(0, 40, bytes[i]);
    }
}

int main(void) {
    RUN(writes_indexes_as_kafka_does);
    RUN(rebuilds_damaged_indexes);
    RUN(removes_leftovers);
    RUN(cuts_only_behind_the_recovery_point);
    return check_report();
}
