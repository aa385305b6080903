#include "wire.h"

#include "bench.h"
#include "fastmq/base.h"
#include "fastmq/crc32c.h"

#include <stdlib.h>
#include <time.h>

#define CLIENT_ID "perf"
#define BATCH_HEAD_BYTES 61
#define BATCH_CRC_AT 17
#define API_PRODUCE 0
#define API_FETCH 1
#define PARTITION_BYTES_MIN 65536 /* of a fetch; a partition's share is at least one batch */

/* ------------------------------------------------------------------------------------- writing */

static uint8_t *put(wire_buffer *out, size_t size) {
    if (out->size + size > out->capacity) {
        out->capacity = (out->size + size) * 2;
        out->data = realloc(out->data, out->capacity);
        if (out->data == NULL) {
            bench_die("out of memory");
        }
    }
    uint8_t *at = out->data + out->size;
    out->size += size;
    return at;
}

static void put_i8(wire_buffer *out, int value) {
    *put(out, 1) = (uint8_t)value;
}

static void put_i16(wire_buffer *out, int value) {
    fmq_store_be16(put(out, 2), (uint16_t)value);
}

static void put_i32(wire_buffer *out, int64_t value) {
    fmq_store_be32(put(out, 4), (uint32_t)value);
}

static void put_i64(wire_buffer *out, int64_t value) {
    fmq_store_be64(put(out, 8), (uint64_t)value);
}

static void put_bytes(wire_buffer *out, const void *data, size_t size) {
    memcpy(put(out, size), data, size);
}

static void put_uvarint(wire_buffer *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
        put_i8(out, (int)(value & 0x7f) | 0x80);
    }
    put_i8(out, (int)value);
}

static void put_varint(wire_buffer *out, int64_t value) {
    put_uvarint(out, ((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

static void put_compact_string(wire_buffer *out, const char *text) {
    put_uvarint(out, strlen(text) + 1);
    put_bytes(out, text, strlen(text));
}

static void put_head(wire_buffer *out, int api_key, int api_version) {
    out->size = 0;
    put_i32(out, 0); /* length, set at the end */
    put_i16(out, api_key);
    put_i16(out, api_version);
    put_i32(out, 0); /* correlation id, set per send */
    put_i16(out, (int)strlen(CLIENT_ID));
    put_bytes(out, CLIENT_ID, strlen(CLIENT_ID));
    put_i8(out, 0); /* tagged fields */
}

static void finish(wire_buffer *out) {
    fmq_store_be32(out->data, (uint32_t)(out->size - 4));
}

static void put_record(wire_buffer *out, int offset_delta, const uint8_t *value,
                       const wire_batch *what) {
    size_t size = what->record_bytes;
    wire_buffer body = {0};
    put_i8(&body, 0); /* attributes */
    put_varint(&body, 0);
    put_varint(&body, offset_delta);
    put_varint(&body, what->key_bytes ? (int64_t)what->key_bytes : -1);
    put_bytes(&body, value, what->key_bytes);
    put_varint(&body, (int64_t)size);
    size_t value_at = body.size;
    put_bytes(&body, value, size);
    put_varint(&body, 0); /* no headers */
    put_varint(out, (int64_t)body.size);
    if (offset_delta == 0) {
        out->value_at = out->size + value_at;
    }
    put_bytes(out, body.data, body.size);
    free(body.data);
}

static void put_batch(wire_buffer *out, const wire_batch *what) {
    int records = what->records;
    wire_buffer batch = {0};
    int64_t now_ms = (int64_t)time(NULL) * 1000;
    put_i64(&batch, 0);  /* base offset */
    put_i32(&batch, 0);  /* length */
    put_i32(&batch, -1); /* leader epoch */
    put_i8(&batch, 2);   /* magic */
    put_i32(&batch, 0);  /* CRC */
    put_i16(&batch, 0);  /* attributes */
    put_i32(&batch, records - 1);
    put_i64(&batch, now_ms);
    put_i64(&batch, now_ms);
    put_i64(&batch, -1); /* producer id, epoch, sequence */
    put_i16(&batch, -1);
    put_i32(&batch, -1);
    put_i32(&batch, records);
    size_t value_bytes = what->record_bytes + what->key_bytes; /* the key is a part of it */
    uint8_t *value = bench_alloc(value_bytes + 1);
    for (int i = 0; i < records; i++) {
        bench_fill_random(value, value_bytes, (uint64_t)i + 1);
        put_record(&batch, i, value, what);
    }
    free(value);
    fmq_store_be32(batch.data + 8, (uint32_t)(batch.size - 12));
    uint32_t crc = fmq_crc32c(0, batch.data + BATCH_CRC_AT + 4, batch.size - BATCH_CRC_AT - 4);
    fmq_store_be32(batch.data + BATCH_CRC_AT, crc);
    put_uvarint(out, batch.size + 1);
    out->batch_at = out->size;
    out->batch_size = batch.size;
    out->value_at = batch.value_at;
    put_bytes(out, batch.data, batch.size);
    free(batch.data);
}

void wire_set_partition(wire_buffer *out, int partition) {
    fmq_store_be32(out->data + out->partition_at, (uint32_t)partition);
}

void wire_set_stamp(wire_buffer *out, uint64_t stamp) {
    uint8_t *batch = out->data + out->batch_at;
    size_t covered = BATCH_CRC_AT + 4;
    fmq_store_be64(batch + out->value_at, stamp);
    fmq_store_be32(batch + BATCH_CRC_AT, fmq_crc32c(0, batch + covered, out->batch_size - covered));
}

void wire_produce(wire_buffer *out, const char *topic, int partition, int acks,
                  const wire_batch *batch) {
    put_head(out, API_PRODUCE, 9);
    put_uvarint(out, 0); /* no transactional id */
    put_i16(out, acks);
    put_i32(out, 30000);
    put_uvarint(out, 2); /* one topic */
    put_compact_string(out, topic);
    put_uvarint(out, 2); /* one partition */
    out->partition_at = out->size;
    put_i32(out, partition);
    put_batch(out, batch);
    put_bytes(out, "\0\0\0", 3); /* tagged fields of partition, topic, request */
    finish(out);
}

void wire_fetch(wire_buffer *out, const char *topic, int first, int count, const int64_t *offsets,
                int max_bytes, int max_wait_ms) {
    put_head(out, API_FETCH, 12);
    put_i32(out, -1); /* an ordinary consumer */
    put_i32(out, max_wait_ms);
    put_i32(out, 1); /* min bytes */
    put_i32(out, max_bytes);
    put_i8(out, 1);   /* read_committed, librdkafka's default */
    put_i32(out, 0);  /* no session */
    put_i32(out, -1); /* session epoch */
    put_uvarint(out, 2);
    put_compact_string(out, topic);
    put_uvarint(out, (uint64_t)count + 1);
    for (int i = 0; i < count; i++) {
        put_i32(out, first + i);
        put_i32(out, -1); /* leader epoch */
        put_i64(out, offsets[i]);
        put_i32(out, -1); /* last fetched epoch */
        put_i64(out, -1); /* log start */
        put_i32(out,
                max_bytes / count > PARTITION_BYTES_MIN ? max_bytes / count : PARTITION_BYTES_MIN);
        put_i8(out, 0);
    }
    put_i8(out, 0);
    put_uvarint(out, 1);         /* nothing forgotten */
    put_compact_string(out, ""); /* rack */
    put_i8(out, 0);
    finish(out);
}

/* ------------------------------------------------------------------------------------- reading */

typedef struct {
    const uint8_t *at, *end;
    bool bad;
} reader;

static const uint8_t *take(reader *in, uint64_t size) {
    static const uint8_t zeros[16];
    if (in->bad || (uint64_t)(in->end - in->at) < size) {
        in->bad = true;
        return zeros;
    }
    const uint8_t *at = in->at;
    in->at += size;
    return at;
}

static int get_i16(reader *in) {
    return (int16_t)fmq_load_be16(take(in, 2));
}

static int32_t get_i32(reader *in) {
    return (int32_t)fmq_load_be32(take(in, 4));
}

static uint64_t get_uvarint(reader *in) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = *take(in, 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    in->bad = true;
    return 0;
}

static void skip_tags(reader *in) {
    for (uint64_t left = get_uvarint(in); left > 0 && !in->bad; left--) {
        get_uvarint(in);
        uint64_t size = get_uvarint(in);
        if (size > 0) {
            take(in, size);
        }
    }
}

static void skip_compact(reader *in) {
    uint64_t size = get_uvarint(in);
    if (size > 1) {
        take(in, size - 1);
    }
}

int wire_produce_error(const uint8_t *answer, size_t size, const char *topic) {
    /* correlation id, tags, topics, name, partitions, index: then the error. */
    size_t at = 4 + 1 + 1 + 1 + strlen(topic) + 1 + 4;
    return at + 2 <= size ? (int16_t)fmq_load_be16(answer + at) : -1;
}

void (*wire_on_batch)(const uint8_t *batch, size_t size);

/* Counts whole batches; a piece of one at the end is left for the next fetch. */
static void walk_batches(reader *in, uint64_t size, int64_t *offset, wire_fetched *found) {
    const uint8_t *at = in->at;
    const uint8_t *end = at + size;
    take(in, size);
    if (in->bad) {
        return;
    }
    while (end - at >= BATCH_HEAD_BYTES) {
        uint64_t batch = (uint64_t)fmq_load_be32(at + 8) + 12;
        if ((uint64_t)(end - at) < batch) {
            return;
        }
        if (wire_on_batch) {
            wire_on_batch(at, batch);
        }
        *offset = (int64_t)fmq_load_be64(at) + (int32_t)fmq_load_be32(at + 23) + 1;
        found->records += fmq_load_be32(at + 57);
        found->record_bytes += batch;
        at += batch;
    }
}

static void walk_partition(reader *in, int first, int count, int64_t *offsets,
                           wire_fetched *found) {
    int index = get_i32(in) - first;
    int error = get_i16(in);
    take(in, 8); /* high watermark */
    take(in, 8); /* last stable offset */
    take(in, 8); /* log start */
    for (uint64_t aborted = get_uvarint(in); aborted > 1 && !in->bad; aborted--) {
        take(in, 16);
        skip_tags(in);
    }
    take(in, 4); /* preferred replica */
    uint64_t size = get_uvarint(in);
    if (in->bad || index < 0 || index >= count) {
        in->bad = true;
        return;
    }
    if (error && !found->error) {
        found->error = error;
    }
    if (size > 1) {
        walk_batches(in, size - 1, &offsets[index], found);
    }
    skip_tags(in);
}

wire_fetched wire_fetch_answer(const uint8_t *answer, size_t size, int first, int count,
                               int64_t *offsets) {
    reader in = {answer, answer + size, false};
    wire_fetched found = {0};
    get_i32(&in); /* correlation id */
    skip_tags(&in);
    get_i32(&in); /* throttle time */
    found.error = get_i16(&in);
    get_i32(&in); /* session */
    for (uint64_t topics = get_uvarint(&in); topics > 1 && !in.bad; topics--) {
        skip_compact(&in);
        for (uint64_t left = get_uvarint(&in); left > 1 && !in.bad; left--) {
            walk_partition(&in, first, count, offsets, &found);
        }
        skip_tags(&in);
    }
    if (in.bad) {
        found.error = -1;
    }
    return found;
}
