/* fastmq/base.h - return codes, byte order and checked arithmetic shared by every C file.
 *
 * Return convention of the whole library: 0 is success, a positive number is a Kafka protocol
 * error code (`FMQ_ERR_*`), a negative number is `-errno` of a failed system call.  Functions that
 * return a size use `int64_t` with the same sign rule for errors.
 *
 * Nothing here allocates, blocks or keeps state; every function is thread safe.
 */
#ifndef FASTMQ_BASE_H
#define FASTMQ_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FMQ_OK 0

#define FMQ_PATH_MAX 4096 /* bytes of a path, with its end */

/* Kafka error codes that C code returns (protocol guide, "Error Codes"). */
#define FMQ_ERR_OFFSET_OUT_OF_RANGE 1
#define FMQ_ERR_CORRUPT_MESSAGE 2
#define FMQ_ERR_UNKNOWN_TOPIC_OR_PARTITION 3
#define FMQ_ERR_LEADER_NOT_AVAILABLE 5
#define FMQ_ERR_NOT_LEADER_OR_FOLLOWER 6
#define FMQ_ERR_REQUEST_TIMED_OUT 7
#define FMQ_ERR_MESSAGE_TOO_LARGE 10
#define FMQ_ERR_INVALID_TOPIC 17
#define FMQ_ERR_RECORD_LIST_TOO_LARGE 18
#define FMQ_ERR_NOT_ENOUGH_REPLICAS 19
#define FMQ_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND 20
#define FMQ_ERR_INVALID_REQUIRED_ACKS 21
#define FMQ_ERR_INVALID_TIMESTAMP 32
#define FMQ_ERR_UNSUPPORTED_VERSION 35
#define FMQ_ERR_INVALID_REQUEST 42
#define FMQ_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT 43
#define FMQ_ERR_POLICY_VIOLATION 44
#define FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER 45
#define FMQ_ERR_INVALID_PRODUCER_EPOCH 47
#define FMQ_ERR_INVALID_TXN_STATE 48
#define FMQ_ERR_KAFKA_STORAGE_ERROR 56
#define FMQ_ERR_FETCH_SESSION_ID_NOT_FOUND 70
#define FMQ_ERR_INVALID_FETCH_SESSION_EPOCH 71
#define FMQ_ERR_FENCED_LEADER_EPOCH 74
#define FMQ_ERR_UNKNOWN_LEADER_EPOCH 75
#define FMQ_ERR_UNSUPPORTED_COMPRESSION_TYPE 76
#define FMQ_ERR_OFFSET_NOT_AVAILABLE 78
#define FMQ_ERR_INVALID_RECORD 87
#define FMQ_ERR_UNKNOWN_TOPIC_ID 100
#define FMQ_ERR_INCONSISTENT_TOPIC_ID 103
#define FMQ_ERR_FETCH_SESSION_TOPIC_ID_ERROR 106

/* Big-endian loads and stores; `p` need not be aligned. */
static inline uint16_t fmq_load_be16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}

static inline uint32_t fmq_load_be32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t fmq_load_be64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

static inline void fmq_store_be16(uint8_t *p, uint16_t v) {
    v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof v);
}

static inline void fmq_store_be32(uint8_t *p, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}

static inline void fmq_store_be64(uint8_t *p, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "fastmq is written for little-endian machines (x86-64, aarch64)"
#endif

#endif
