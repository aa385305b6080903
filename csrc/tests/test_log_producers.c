/* The producer table: rules of KIP-98 one by one, a random walk against a plain list, and Kafka's
 * snapshot format byte for byte. */
#include "../src/producers.h"
#include "fastmq/crc32c.h"
#include "fixture_log.h"
#include "fixture_memfs.h"

static fmq_producers table;

static fmq_batch_header header(int64_t id, int16_t epoch, int32_t sequence, int32_t count,
                               int64_t base_offset) {
    fmq_batch_header h = fixture_header(count);
    h.producer_id = id;
    h.producer_epoch = epoch;
    h.base_sequence = sequence;
    h.base_offset = base_offset;
    return h;
}

static int check(const fmq_batch_header *h, fmq_producer_verdict *verdict) {
    const char *reason = NULL;
    int result = fmq_producers_check(&table, h, verdict, &reason);
    CHECK_EQ(result != FMQ_OK, reason != NULL);
    return result;
}

static void store(const fmq_batch_header *h) {
    const fmq_txn_marker none = {0};
    CHECK_EQ(fmq_producers_reserve(fmq_env_system(), &table), FMQ_OK);
    fmq_producers_update(&table, h, &none);
}

/* Check as a client's batch and store it when it may be. */
static int append(int64_t id, int16_t epoch, int32_t sequence, int32_t count, int64_t base_offset) {
    fmq_producer_verdict verdict;
    fmq_batch_header h = header(id, epoch, sequence, count, base_offset);
    int result = check(&h, &verdict);
    if (result == FMQ_OK && !verdict.duplicate) {
        store(&h);
    }
    return result;
}

static void clear(void) {
    fmq_producers_free(fmq_env_system(), &table);
}

static void answers_the_last_five_as_duplicates(void) {
    for (int i = 0; i < 7; i++) {
        CHECK_EQ(append(1, 0, i * 10, 10, 100 + i * 10), FMQ_OK);
    }
    for (int i = 0; i < 7; i++) {
        fmq_producer_verdict verdict;
        fmq_batch_header h = header(1, 0, i * 10, 10, 0);
        int result = check(&h, &verdict);
        if (i < 2) {
            CHECK_EQ(result, FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
        } else {
            CHECK_EQ(result, FMQ_OK);
            CHECK(verdict.duplicate);
            CHECK_EQ(verdict.base_offset, 100 + i * 10);
            CHECK_EQ(verdict.last_offset, 109 + i * 10);
        }
        h = header(1, 0, i * 10, 9, 0); /* another batch with the same beginning */
        CHECK_EQ(check(&h, &verdict), FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    clear();
}

static void wraps_sequences_to_zero(void) {
    CHECK_EQ(append(1, 0, INT32_MAX - 1, 2, 0), FMQ_OK); /* ends at 2^31-1 */
    CHECK_EQ(append(1, 0, 1, 1, 2), FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    CHECK_EQ(append(1, 0, 0, 5, 2), FMQ_OK);
    CHECK_EQ(append(2, 0, INT32_MAX - 1, 5, 7), FMQ_OK); /* passes it: ends at 2 */
    CHECK_EQ(append(2, 0, 3, 1, 12), FMQ_OK);
    fmq_producer_verdict verdict;
    fmq_batch_header h = header(2, 0, INT32_MAX - 1, 5, 0);
    CHECK_EQ(check(&h, &verdict), FMQ_OK);
    CHECK(verdict.duplicate);
    CHECK_EQ(verdict.base_offset, 7);
    clear();
}

static void begins_an_epoch_at_zero(void) {
    CHECK_EQ(append(1, 3, 77, 1, 0), FMQ_OK); /* not known: any sequence */
    CHECK_EQ(append(1, 2, 78, 1, 1), FMQ_ERR_INVALID_PRODUCER_EPOCH);
    CHECK_EQ(append(1, 4, 78, 1, 1), FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    CHECK_EQ(append(1, 4, 0, 1, 1), FMQ_OK);
    CHECK_EQ(append(1, 3, 78, 1, 2), FMQ_ERR_INVALID_PRODUCER_EPOCH);
    CHECK_EQ(append(1, 4, 1, 1, 2), FMQ_OK);
    clear();
}

static void keeps_transactions_apart(void) {
    fmq_producer_verdict verdict;
    fmq_batch_header h = header(9, 0, 0, 2, 40);
    h.attributes = FMQ_ATTR_TRANSACTIONAL;
    CHECK_EQ(check(&h, &verdict), FMQ_OK);
    store(&h);
    CHECK_EQ(fmq_producers_find(&table, 9)->txn_first_offset, 40);
    CHECK_EQ(append(9, 0, 2, 1, 42), FMQ_ERR_INVALID_TXN_STATE);
    CHECK_EQ(fmq_producers_expire(&table, INT64_MAX, 0), 0); /* an open transaction is kept */
    h = header(9, 0, FMQ_NO_SEQUENCE, 1, 42);
    h.attributes = FMQ_ATTR_TRANSACTIONAL | FMQ_ATTR_CONTROL;
    fmq_producers_update(&table, &h, &(fmq_txn_marker){.is_marker = true, .coordinator_epoch = 6});
    CHECK_EQ(fmq_producers_find(&table, 9)->txn_first_offset, -1);
    CHECK_EQ(fmq_producers_find(&table, 9)->coordinator_epoch, 6);
    CHECK_EQ(append(9, 0, 2, 1, 43), FMQ_OK);
    clear();
}

static void reads_markers(void) {
    static const uint8_t key[] = {0, 0, 0, 1}, value[] = {0, 0, 0, 0, 0, 7};
    uint8_t batch[128];
    fmq_batch_header h = header(9, 1, FMQ_NO_SEQUENCE, 1, 0);
    h.attributes = FMQ_ATTR_TRANSACTIONAL | FMQ_ATTR_CONTROL;
    fmq_record record = {
        .key = key, .key_size = sizeof key, .value = value, .value_size = sizeof value};
    size_t size = FMQ_BATCH_HEADER_SIZE;
    size += fmq_record_write(batch + size, &record);
    fmq_batch_write_header(batch, size, &h);
    fmq_txn_marker marker = fmq_txn_marker_read(batch, &h);
    CHECK(marker.is_marker);
    CHECK_EQ(marker.coordinator_epoch, 7);
    for (size_t i = FMQ_BATCH_HEADER_SIZE; i < size; i++) {
        uint8_t *copy = check_copy(batch, size);
        copy[i] ^= 0x80;
        fmq_txn_marker_read(copy, &h); /* must stay in bounds */
        free(copy);
    }
    clear();
}

static void expires_what_is_old(void) {
    for (int64_t id = 1; id <= 500; id++) {
        fmq_batch_header h = header(id, 0, 0, 1, id);
        h.max_timestamp = id % 3 == 0 ? 1000 : 5000;
        store(&h);
    }
    CHECK_EQ(fmq_producers_expire(&table, 1999, 1000), 0);
    CHECK_EQ(fmq_producers_expire(&table, 2000, 1000), 166);
    for (int64_t id = 1; id <= 500; id++) {
        CHECK_EQ(fmq_producers_find(&table, id) != NULL, id % 3 != 0);
    }
    CHECK_EQ(table.count, 334);
    CHECK_EQ(fmq_producers_expire(&table, INT64_MAX, 1000), 334);
    CHECK_EQ(table.count, 0);
    clear();
}

static void forgets_the_oldest_of_too_many(void) {
    for (int64_t id = 0; id < 3 * FMQ_PRODUCERS_MAX; id++) {
        fmq_batch_header h = header(id, 0, 0, 1, id);
        h.max_timestamp = id;
        store(&h);
        CHECK(table.count <= FMQ_PRODUCERS_MAX);
    }
    CHECK(table.count > FMQ_PRODUCERS_MAX / 4);
    for (int64_t id = 3 * FMQ_PRODUCERS_MAX - 1000; id < 3 * FMQ_PRODUCERS_MAX; id++) {
        CHECK(fmq_producers_find(&table, id) != NULL);
    }
    clear();
}

/* ---- a random walk --------------------------------------------------------------------------- */

typedef struct model_producer {
    int16_t epoch;
    int count; /* batches of this epoch */
    struct {
        int32_t first, last;
        int64_t base_offset;
    } batches[256];
} model_producer;

/* What KAFKA-PROTOCOL 3.5 says, from the whole history. */
static int model_check(const model_producer *p, int16_t epoch, int32_t first, int32_t last,
                       int64_t *duplicate_of) {
    *duplicate_of = -1;
    if (p->epoch < 0) {
        return FMQ_OK;
    }
    if (epoch < p->epoch) {
        return FMQ_ERR_INVALID_PRODUCER_EPOCH;
    }
    if (epoch > p->epoch) {
        return first == 0 ? FMQ_OK : FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    }
    for (int i = p->count - 1; i >= 0 && i >= p->count - 5; i--) {
        if (p->batches[i].first == first && p->batches[i].last == last) {
            *duplicate_of = p->batches[i].base_offset;
            return FMQ_OK;
        }
    }
    int64_t next = (int64_t)p->batches[p->count - 1].last + 1;
    return first == (next > INT32_MAX ? 0 : next) ? FMQ_OK : FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
}

static void agrees_with_the_rules_at_random(void) {
    static model_producer model[40];
    uint64_t seed = 3;
    memset(model, 0, sizeof model);
    for (int i = 0; i < 40; i++) {
        model[i].epoch = -1;
    }
    int64_t offset = 0;
    for (int round = 0; round < 60000 && !check_current_failed; round++) {
        int id = (int)(check_random(&seed) % 40);
        model_producer *p = &model[id];
        int32_t count = 1 + (int32_t)(check_random(&seed) % 3);
        int16_t epoch = p->epoch < 0 ? 0 : p->epoch;
        uint64_t draw = check_random(&seed) % 100;
        int32_t first = p->epoch < 0 ? INT32_MAX - 50 : 0;
        if (draw < 2 || p->count > 250) {
            epoch = (int16_t)(epoch + 1);
        } else if (draw < 4 && epoch > 0) {
            epoch = (int16_t)(epoch - 1);
        } else if (p->epoch >= 0) {
            int back = draw < 60 ? 0 : (int)(check_random(&seed) % 8);
            int32_t last = p->batches[p->count > back ? p->count - 1 - back : 0].last;
            first = last == INT32_MAX ? 0 : last + 1;
            first = draw == 99 && first < INT32_MAX ? first + 1 : first;
        }
        int64_t wrapped = (int64_t)first + count - 1;
        int32_t last = (int32_t)(wrapped > INT32_MAX ? wrapped - INT32_MAX - 1 : wrapped);
        int64_t duplicate_of;
        int expected = model_check(p, epoch, first, last, &duplicate_of);
        fmq_producer_verdict verdict;
        fmq_batch_header h = header(id, epoch, first, count, offset);
        CHECK_EQ(check(&h, &verdict), expected);
        if (expected == FMQ_OK) {
            CHECK_EQ(verdict.duplicate, duplicate_of >= 0);
            CHECK_EQ(verdict.base_offset, duplicate_of);
        }
        if (expected == FMQ_OK && duplicate_of < 0) {
            if (epoch != p->epoch) {
                p->epoch = epoch;
                p->count = 0;
            }
            p->batches[p->count].first = first;
            p->batches[p->count].last = last;
            p->batches[p->count++].base_offset = offset;
            store(&h);
            offset += count;
        }
    }
    CHECK_EQ(table.count, 40);
    clear();
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static void writes_snapshots_as_kafka_does(void) {
    static memfs fs;
    memfs_init(&fs);
    fmq_batch_header h = header(0x0102030405060708, 0x090a, 0x0b0c0d0e, 3, 0x1112131415161718);
    h.max_timestamp = 0x2122232425262728;
    store(&h);
    CHECK_EQ(fmq_producers_save(&fs.env, &table, "mem", 77), FMQ_OK);
    static const uint8_t expected[] = {
        0,    1,                                         /* version */
        0,    0,    0,    0,                             /* CRC, below */
        0,    0,    0,    1,                             /* entries */
        1,    2,    3,    4,    5,    6,    7,    8,     /* producer id */
        9,    0x0a,                                      /* epoch */
        0x0b, 0x0c, 0x0d, 0x10,                          /* last sequence */
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x1a,  /* last offset */
        0,    0,    0,    2,                             /* offset delta */
        0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28,  /* timestamp */
        0xff, 0xff, 0xff, 0xff,                          /* coordinator epoch */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}; /* first offset of the transaction */
    memfs_inode *file = memfs_read_file(&fs, "00000000000000000077.snapshot");
    REQUIRE(file != NULL);
    CHECK_EQ(file->size, sizeof expected);
    CHECK_EQ(memcmp(file->data, expected, 2), 0);
    CHECK_EQ(fmq_load_be32(file->data + 2), fmq_crc32c(0, expected + 6, sizeof expected - 6));
    CHECK_EQ(memcmp(file->data + 6, expected + 6, sizeof expected - 6), 0);

    fmq_producers loaded = {0};
    CHECK_EQ(fmq_producers_load(&fs.env, &loaded, "mem", 77), FMQ_OK);
    const fmq_producer *producer = fmq_producers_find(&loaded, h.producer_id);
    REQUIRE(producer != NULL);
    CHECK_EQ(producer->epoch, h.producer_epoch);
    CHECK_EQ(producer->batch_count, 1);
    CHECK_EQ(producer->batches[producer->newest].last_offset, h.base_offset + 2);
    fmq_producers_free(&fs.env, &loaded);
    memfs_free(&fs);
    clear();
}

static void refuses_damaged_snapshots(void) {
    static memfs fs;
    memfs_init(&fs);
    for (int64_t id = 1; id <= 20; id++) {
        CHECK_EQ(append(id, 0, 0, 1, id), FMQ_OK);
    }
    CHECK_EQ(fmq_producers_save(&fs.env, &table, "mem", 5), FMQ_OK);
    memfs_inode *file = memfs_read_file(&fs, "00000000000000000005.snapshot");
    REQUIRE(file != NULL);
    fmq_producers loaded = {0};
    for (int64_t at = 0; at < file->size; at++) {
        file->data[at] ^= 0x10;
        CHECK_EQ(fmq_producers_load(&fs.env, &loaded, "mem", 5), FMQ_ERR_CORRUPT_MESSAGE);
        CHECK_EQ(loaded.count, 0);
        file->data[at] ^= 0x10;
    }
    for (int64_t size = file->size - 1; size >= 0; size--) {
        file->size = size;
        CHECK_EQ(fmq_producers_load(&fs.env, &loaded, "mem", 5), FMQ_ERR_CORRUPT_MESSAGE);
    }
    CHECK_EQ(fmq_producers_load(&fs.env, &loaded, "mem", 6), FMQ_ERR_CORRUPT_MESSAGE);
    memfs_free(&fs);
    clear();
}

static void recalls_older_batches_behind_a_snapshot(void) {
    static memfs fs;
    memfs_init(&fs);
    for (int i = 0; i < 9; i++) {
        CHECK_EQ(append(1, 0, i, 1, i), FMQ_OK);
    }
    fmq_producers loaded = {0};
    CHECK_EQ(fmq_producers_save(&fs.env, &table, "mem", 9), FMQ_OK);
    CHECK_EQ(fmq_producers_load(&fs.env, &loaded, "mem", 9), FMQ_OK);
    for (int i = 0; i < 9; i++) {
        fmq_batch_header h = header(1, 0, i, 1, i);
        fmq_producers_recall(&loaded, &h);
    }
    clear();
    table = loaded;
    for (int i = 0; i < 9; i++) {
        fmq_producer_verdict verdict;
        fmq_batch_header h = header(1, 0, i, 1, 0);
        CHECK_EQ(check(&h, &verdict), i < 4 ? FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER : FMQ_OK);
        CHECK_EQ(verdict.duplicate, i >= 4);
        CHECK_EQ(verdict.base_offset, i >= 4 ? i : -1);
    }
    CHECK_EQ(append(1, 0, 9, 1, 9), FMQ_OK);
    memfs_free(&fs);
    clear();
}

int main(void) {
    RUN(answers_the_last_five_as_duplicates);
    RUN(wraps_sequences_to_zero);
    RUN(begins_an_epoch_at_zero);
    RUN(keeps_transactions_apart);
    RUN(reads_markers);
    RUN(expires_what_is_old);
    RUN(forgets_the_oldest_of_too_many);
    RUN(agrees_with_the_rules_at_random);
    RUN(writes_snapshots_as_kafka_does);
    RUN(refuses_damaged_snapshots);
    RUN(recalls_older_batches_behind_a_snapshot);
    return check_report();
}
