/* fastmq/wire.h - bounds-checked reader and growing writer for Kafka's primitive types.
 *
 * Reader: a cursor that turns sticky on the first violation.  After any number of reads check
 * `fmq_reader_ok`; reads after a violation return zeros and never move.  Nothing is copied.
 * Writer: appends to a heap buffer; sticky as well when memory runs out.
 */
#ifndef FASTMQ_WIRE_H
#define FASTMQ_WIRE_H

#include "fastmq/base.h"
#include "fastmq/env.h"
#include "fastmq/varint.h"

/* ---- reader ---------------------------------------------------------------------------------*/

typedef struct fmq_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
} fmq_reader;

/* A string or byte field inside the frame; `data` NULL is Kafka's null. */
typedef struct fmq_view {
    const uint8_t *data;
    uint32_t size;
} fmq_view;

static inline void fmq_reader_init(fmq_reader *r, const uint8_t *data, size_t size) {
    r->at = data;
    r->end = data + size;
    r->bad = false;
}

static inline bool fmq_reader_ok(const fmq_reader *r) {
    return !r->bad;
}

static inline size_t fmq_reader_left(const fmq_reader *r) {
    return (size_t)(r->end - r->at);
}

static inline const uint8_t *fmq_read_raw(fmq_reader *r, size_t size) {
    if (r->bad || fmq_reader_left(r) < size) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += size;
    return at;
}

static inline int8_t fmq_read_i8(fmq_reader *r) {
    const uint8_t *at = fmq_read_raw(r, 1);
    return at ? (int8_t)*at : 0;
}

static inline int16_t fmq_read_i16(fmq_reader *r) {
    const uint8_t *at = fmq_read_raw(r, 2);
    return at ? (int16_t)fmq_load_be16(at) : 0;
}

static inline int32_t fmq_read_i32(fmq_reader *r) {
    const uint8_t *at = fmq_read_raw(r, 4);
    return at ? (int32_t)fmq_load_be32(at) : 0;
}

static inline int64_t fmq_read_i64(fmq_reader *r) {
    const uint8_t *at = fmq_read_raw(r, 8);
    return at ? (int64_t)fmq_load_be64(at) : 0;
}

static inline uint32_t fmq_read_uvarint(fmq_reader *r) {
    uint32_t value = 0;
    int used = r->bad ? -1 : fmq_uvarint32_read(r->at, r->end, &value);
    if (used <= 0) {
        r->bad = true;
        return 0;
    }
    r->at += used;
    return value;
}

/* Length of a string, byte field or array: -1 is null.  `flexible` picks the compact form. */
static inline int32_t fmq_read_length(fmq_reader *r, bool flexible, bool wide) {
    if (flexible) {
        uint32_t raw = fmq_read_uvarint(r);
        if (raw > (uint32_t)INT32_MAX) {
            r->bad = true;
            return -1;
        }
        return (int32_t)raw - 1;
    }
    return wide ? fmq_read_i32(r) : fmq_read_i16(r);
}

static inline fmq_view fmq_read_view(fmq_reader *r, bool flexible, bool wide) {
    fmq_view view = {NULL, 0};
    int32_t length = fmq_read_length(r, flexible, wide);
    if (length >= 0) {
        view.data = fmq_read_raw(r, (size_t)length);
        view.size = view.data ? (uint32_t)length : 0;
    } else if (length < -1) {
        r->bad = true;
    }
    return view;
}

/* A string (int16 or compact length). */
static inline fmq_view fmq_read_string(fmq_reader *r, bool flexible) {
    return fmq_read_view(r, flexible, false);
}

/* A byte field (int32 or compact length). */
static inline fmq_view fmq_read_bytes(fmq_reader *r, bool flexible) {
    return fmq_read_view(r, flexible, true);
}

/* Count of an array whose elements take at least `min_size` bytes each; null counts as 0.  A count
 * that the rest of the frame cannot hold is a violation, so callers may trust it for a loop. */
static inline uint32_t fmq_read_count(fmq_reader *r, bool flexible, size_t min_size) {
    int32_t count = fmq_read_length(r, flexible, true);
    if (r->bad || count < -1 || (count > 0 && (size_t)count > fmq_reader_left(r) / min_size)) {
        r->bad = true;
        return 0;
    }
    return count < 0 ? 0 : (uint32_t)count;
}

/* Skip a tagged-field section of a flexible version. */
static inline void fmq_skip_tags(fmq_reader *r, bool flexible) {
    if (!flexible) {
        return;
    }
    uint32_t count = fmq_read_uvarint(r);
    while (count-- > 0 && !r->bad) {
        (void)fmq_read_uvarint(r);
        (void)fmq_read_raw(r, fmq_read_uvarint(r));
    }
}

/* ---- writer ---------------------------------------------------------------------------------*/

typedef struct fmq_writer {
    const fmq_env *env;
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed; /* out of memory */
} fmq_writer;

static inline void fmq_writer_init(fmq_writer *w, const fmq_env *env) {
    *w = (fmq_writer){.env = env};
}

static inline void fmq_writer_free(fmq_writer *w) {
    fmq_free(w->env, w->data);
    w->data = NULL;
    w->size = w->capacity = 0;
}

static inline uint8_t *fmq_writer_reserve(fmq_writer *w, size_t extra) {
    if (w->failed) {
        return NULL;
    }
    if (w->capacity - w->size < extra) {
        size_t capacity = w->capacity ? w->capacity : 256;
        while (capacity - w->size < extra) {
            capacity *= 2;
        }
        uint8_t *data = fmq_realloc(w->env, w->data, capacity);
        if (data == NULL) {
            w->failed = true;
            return NULL;
        }
        w->data = data;
        w->capacity = capacity;
    }
    uint8_t *at = w->data + w->size;
    w->size += extra;
    return at;
}

static inline void fmq_write_raw(fmq_writer *w, const void *data, size_t size) {
    uint8_t *at = fmq_writer_reserve(w, size);
    if (at != NULL && size > 0) {
        memcpy(at, data, size);
    }
}

static inline void fmq_write_i8(fmq_writer *w, int8_t value) {
    uint8_t *at = fmq_writer_reserve(w, 1);
    if (at != NULL) {
        *at = (uint8_t)value;
    }
}

static inline void fmq_write_i16(fmq_writer *w, int16_t value) {
    uint8_t *at = fmq_writer_reserve(w, 2);
    if (at != NULL) {
        fmq_store_be16(at, (uint16_t)value);
    }
}

static inline void fmq_write_i32(fmq_writer *w, int32_t value) {
    uint8_t *at = fmq_writer_reserve(w, 4);
    if (at != NULL) {
        fmq_store_be32(at, (uint32_t)value);
    }
}

static inline void fmq_write_i64(fmq_writer *w, int64_t value) {
    uint8_t *at = fmq_writer_reserve(w, 8);
    if (at != NULL) {
        fmq_store_be64(at, (uint64_t)value);
    }
}

static inline void fmq_write_uvarint(fmq_writer *w, uint32_t value) {
    uint8_t bytes[5];
    fmq_write_raw(w, bytes, (size_t)fmq_uvarint32_write(bytes, value));
}

/* Length of a byte field or array, -1 for null. */
static inline void fmq_write_length(fmq_writer *w, bool flexible, bool wide, int32_t length) {
    if (flexible) {
        fmq_write_uvarint(w, (uint32_t)(length + 1));
    } else if (wide) {
        fmq_write_i32(w, length);
    } else {
        fmq_write_i16(w, (int16_t)length);
    }
}

static inline void fmq_write_count(fmq_writer *w, bool flexible, uint32_t count) {
    fmq_write_length(w, flexible, true, (int32_t)count);
}

static inline void fmq_write_string(fmq_writer *w, bool flexible, const void *data, size_t size) {
    fmq_write_length(w, flexible, false, (int32_t)size);
    fmq_write_raw(w, data, size);
}

/* NULL is null. */
static inline void fmq_write_nullable_text(fmq_writer *w, bool flexible, const char *text) {
    if (text == NULL) {
        fmq_write_length(w, flexible, false, -1);
    } else {
        fmq_write_string(w, flexible, text, strlen(text));
    }
}

static inline void fmq_write_no_tags(fmq_writer *w, bool flexible) {
    if (flexible) {
        fmq_write_i8(w, 0);
    }
}

#endif
