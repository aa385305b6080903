/* fastmq/varint.h - unsigned varints and zigzag varints with an end pointer, always.
 *
 * Readers return the bytes consumed (1..5 or 1..10), 0 when the input ends too early, -1 when the
 * encoding is too long for the type.  Writers return the bytes written; the caller has room for 5
 * or 10.
 */
#ifndef FASTMQ_VARINT_H
#define FASTMQ_VARINT_H

#include "fastmq/base.h"

static inline int fmq_uvarint32_read(const uint8_t *at, const uint8_t *end, uint32_t *out) {
    uint32_t value = 0;
    for (int i = 0; i < 5; i++) {
        if (at + i >= end) {
            return 0;
        }
        uint8_t byte = at[i];
        if (i == 4 && byte > 0x0f) {
            return -1;
        }
        value |= (uint32_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            return i + 1;
        }
    }
    return -1;
}

static inline int fmq_uvarint64_read(const uint8_t *at, const uint8_t *end, uint64_t *out) {
    uint64_t value = 0;
    for (int i = 0; i < 10; i++) {
        if (at + i >= end) {
            return 0;
        }
        uint8_t byte = at[i];
        if (i == 9 && byte > 0x01) {
            return -1;
        }
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            return i + 1;
        }
    }
    return -1;
}

static inline int fmq_varint32_read(const uint8_t *at, const uint8_t *end, int32_t *out) {
    uint32_t raw;
    int used = fmq_uvarint32_read(at, end, &raw);
    if (used > 0) {
        *out = (int32_t)((raw >> 1) ^ (0U - (raw & 1)));
    }
    return used;
}

static inline int fmq_varint64_read(const uint8_t *at, const uint8_t *end, int64_t *out) {
    uint64_t raw;
    int used = fmq_uvarint64_read(at, end, &raw);
    if (used > 0) {
        *out = (int64_t)((raw >> 1) ^ (0U - (raw & 1)));
    }
    return used;
}

static inline int fmq_uvarint64_write(uint8_t *out, uint64_t value) {
    int i = 0;
    while (value >= 0x80) {
        out[i++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[i++] = (uint8_t)value;
    return i;
}

static inline int fmq_uvarint32_write(uint8_t *out, uint32_t value) {
    return fmq_uvarint64_write(out, value);
}

static inline int fmq_varint64_write(uint8_t *out, int64_t value) {
    return fmq_uvarint64_write(out, ((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

static inline int fmq_varint32_write(uint8_t *out, int32_t value) {
    return fmq_uvarint64_write(out, ((uint32_t)value << 1) ^ (uint32_t)(value >> 31));
}

static inline size_t fmq_uvarint_size(uint64_t value) {
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static inline size_t fmq_varint_size(int64_t value) {
    return fmq_uvarint_size(((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

#endif
