/* fastmq/record.h - records inside a batch: bounded iteration, full checks, encoding.
 *
 * Layout (KIP-98): length varint | attributes i8 (unused) | timestamp delta varlong | offset delta
 * varint | key length varint (-1: null), key | value length varint (-1: null), value | header count
 * varint | per header: key length varint, key, value length varint (-1: null), value.
 *
 * Header-only, because the Cython module for batches uses it too and must not link the library.
 * No function here allocates, keeps state or reads outside the block it was given.
 */
#ifndef FASTMQ_RECORD_H
#define FASTMQ_RECORD_H

#include "fastmq/varint.h"

#define FMQ_RECORD_HEADER_SIZE_MIN 2 /* empty key, null value */

/* One record, pointing into the records block. */
typedef struct fmq_record {
    int64_t timestamp_delta;
    int32_t offset_delta;
    const uint8_t *key; /* NULL: null key */
    int32_t key_size;
    const uint8_t *value; /* NULL: null value (tombstone) */
    int32_t value_size;
    const uint8_t *headers; /* raw header array after its count */
    size_t headers_size;
    int32_t header_count;
} fmq_record;

typedef struct fmq_record_iter {
    const uint8_t *at;
    const uint8_t *end;
    int32_t left; /* records still to come */
} fmq_record_iter;

/* Read a length and the bytes after it.  `*bytes` is NULL when the length is -1.
 * False when the length is below -1, badly encoded, or reaches past `end`. */
static inline bool fmq_record_read_bytes(const uint8_t **at, const uint8_t *end,
                                         const uint8_t **bytes, int32_t *size) {
    int used = fmq_varint32_read(*at, end, size);
    if (used <= 0 || *size < -1) {
        return false;
    }
    *at += used;
    if (*size == -1) {
        *bytes = NULL;
        return true;
    }
    if ((ptrdiff_t)*size > end - *at) {
        return false;
    }
    *bytes = *at;
    *at += *size;
    return true;
}

static inline bool fmq_record_read_varint32(const uint8_t **at, const uint8_t *end, int32_t *out) {
    int used = fmq_varint32_read(*at, end, out);
    if (used <= 0) {
        return false;
    }
    *at += used;
    return true;
}

static inline bool fmq_record_read_varint64(const uint8_t **at, const uint8_t *end, int64_t *out) {
    int used = fmq_varint64_read(*at, end, out);
    if (used <= 0) {
        return false;
    }
    *at += used;
    return true;
}

/* Parse the record body [at, end); its headers are bounded but not walked. */
static inline bool fmq_record_read_body(const uint8_t *at, const uint8_t *end, fmq_record *out) {
    if (at == end) {
        return false;
    }
    at++; /* attributes: unused in magic 2 */
    if (!fmq_record_read_varint64(&at, end, &out->timestamp_delta) ||
        !fmq_record_read_varint32(&at, end, &out->offset_delta) ||
        !fmq_record_read_bytes(&at, end, &out->key, &out->key_size) ||
        !fmq_record_read_bytes(&at, end, &out->value, &out->value_size) ||
        !fmq_record_read_varint32(&at, end, &out->header_count)) {
        return false;
    }
    out->headers = at;
    out->headers_size = (size_t)(end - at);
    if (out->header_count <= 0) {
        return out->header_count == 0 && out->headers_size == 0;
    }
    return (size_t)out->header_count <= out->headers_size / FMQ_RECORD_HEADER_SIZE_MIN;
}

/* Iterate over an uncompressed records block.  `next` returns 1 with `*out` filled, 0 at the end,
 * FMQ_ERR_CORRUPT_MESSAGE (2) on malformed bytes, which include bytes after the last record; it
 * never reads past the block.  The headers of a record are bounded, not walked. */
static inline void fmq_record_iter_init(fmq_record_iter *it, const uint8_t *records, size_t size,
                                        int32_t record_count) {
    it->at = records;
    it->end = records + size;
    it->left = record_count;
}

static inline int fmq_record_iter_next(fmq_record_iter *it, fmq_record *out) {
    if (it->left <= 0) {
        return it->at == it->end ? 0 : FMQ_ERR_CORRUPT_MESSAGE;
    }
    const uint8_t *at = it->at;
    int32_t size;
    if (!fmq_record_read_varint32(&at, it->end, &size) || size < 0 ||
        (ptrdiff_t)size > it->end - at || !fmq_record_read_body(at, at + size, out)) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    it->at = at + size;
    it->left--;
    return 1;
}

/* Read the next header of a record: `*at` walks from `record.headers`.  1 / 0 / 2 as above. */
static inline int fmq_record_header_next(const uint8_t **at, const uint8_t *end,
                                         const uint8_t **key, int32_t *key_size,
                                         const uint8_t **value, int32_t *value_size) {
    if (*at >= end) {
        return 0;
    }
    if (!fmq_record_read_bytes(at, end, key, key_size) || *key_size < 0 ||
        !fmq_record_read_bytes(at, end, value, value_size)) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    return 1;
}

static inline bool fmq_record_headers_ok(const fmq_record *record) {
    const uint8_t *at = record->headers;
    const uint8_t *end = at + record->headers_size;
    for (int32_t i = 0; i < record->header_count; i++) {
        const uint8_t *key;
        const uint8_t *value;
        int32_t key_size;
        int32_t value_size;
        if (fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size) != 1) {
            return false;
        }
    }
    return at == end;
}

/* Full check of the records of an uncompressed batch: lengths fill the batch exactly, offset deltas
 * count up from 0, varints well formed, headers in bounds, keys present where `need_key`.
 * For compressed batches pass the inflated records in `records`.  FMQ_OK or FMQ_ERR_INVALID_RECORD,
 * which is final for the client, with `*reason`. */
static inline int fmq_batch_validate_records(const uint8_t *records, size_t size,
                                             int32_t record_count, bool need_key,
                                             const char **reason) {
    *reason = NULL;
    fmq_record_iter it;
    fmq_record_iter_init(&it, records, size, record_count);
    fmq_record record;
    int result;
    for (int32_t i = 0; (result = fmq_record_iter_next(&it, &record)) == 1; i++) {
        if (record.offset_delta != i) {
            *reason = "offset deltas of the records do not count up from 0";
            return FMQ_ERR_INVALID_RECORD;
        }
        if (need_key && record.key == NULL) {
            *reason = "a compacted topic needs a key in every record";
            return FMQ_ERR_INVALID_RECORD;
        }
        if (!fmq_record_headers_ok(&record)) {
            *reason = "malformed record headers";
            return FMQ_ERR_INVALID_RECORD;
        }
    }
    if (result != 0 || record_count < 0) {
        *reason = "malformed records, or not as many as the header says";
        return FMQ_ERR_INVALID_RECORD;
    }
    return FMQ_OK;
}

static inline size_t fmq_record_bytes_size(int32_t size) {
    return fmq_varint_size(size) + (size > 0 ? (size_t)size : 0);
}

static inline size_t fmq_record_body_size(int64_t timestamp_delta, int32_t offset_delta,
                                          int32_t key_size, int32_t value_size, size_t headers_size,
                                          int32_t header_count) {
    return 1 + fmq_varint_size(timestamp_delta) + fmq_varint_size(offset_delta) +
           fmq_record_bytes_size(key_size) + fmq_record_bytes_size(value_size) +
           fmq_varint_size(header_count) + headers_size;
}

/* Bytes one record takes when encoded. */
static inline size_t fmq_record_size(int64_t timestamp_delta, int32_t offset_delta,
                                     int32_t key_size, int32_t value_size, size_t headers_size,
                                     int32_t header_count) {
    size_t body = fmq_record_body_size(timestamp_delta, offset_delta, key_size, value_size,
                                       headers_size, header_count);
    return fmq_varint_size((int64_t)body) + body;
}

static inline uint8_t *fmq_record_write_bytes(uint8_t *out, const uint8_t *bytes, int32_t size) {
    out += fmq_varint32_write(out, size);
    if (size > 0) {
        memcpy(out, bytes, (size_t)size);
        out += size;
    }
    return out;
}

/* Encode a record at `out` (fmq_record_size bytes); returns the bytes written.  key_size or
 * value_size -1 is null. */
static inline size_t fmq_record_write(uint8_t *out, const fmq_record *record) {
    const uint8_t *start = out;
    size_t body =
        fmq_record_body_size(record->timestamp_delta, record->offset_delta, record->key_size,
                             record->value_size, record->headers_size, record->header_count);
    out += fmq_varint64_write(out, (int64_t)body);
    *out++ = 0; /* attributes */
    out += fmq_varint64_write(out, record->timestamp_delta);
    out += fmq_varint32_write(out, record->offset_delta);
    out = fmq_record_write_bytes(out, record->key, record->key_size);
    out = fmq_record_write_bytes(out, record->value, record->value_size);
    out += fmq_varint32_write(out, record->header_count);
    if (record->headers_size > 0) {
        memcpy(out, record->headers, record->headers_size);
        out += record->headers_size;
    }
    return (size_t)(out - start);
}

#endif
