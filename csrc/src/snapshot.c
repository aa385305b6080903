/* Producer snapshots, Kafka's format version 1: version i16 | crc u32 | count i32 | entries.  The
 * CRC-32C covers everything after itself. */
#include <fcntl.h>

#include "fastmq/crc32c.h"
#include "paths.h"
#include "producers.h"
#include "scan.h"

#define VERSION 1
#define CRC_START 6
#define HEADER_SIZE 10
#define ENTRY_SIZE 46

static void encode(const fmq_producer *producer, uint8_t *at) {
    fmq_producer_view view;
    fmq_producers_view(producer, &view);
    const fmq_producer_batch *newest = &producer->batches[producer->newest];
    bool has_batch = producer->batch_count > 0;
    fmq_store_be64(at, (uint64_t)view.producer_id);
    fmq_store_be16(at + 8, (uint16_t)view.producer_epoch);
    fmq_store_be32(at + 10, (uint32_t)view.last_sequence);
    fmq_store_be64(at + 14, (uint64_t)view.last_offset);
    fmq_store_be32(at + 22, has_batch ? (uint32_t)newest->offset_delta : 0);
    fmq_store_be64(at + 26, (uint64_t)view.last_timestamp);
    fmq_store_be32(at + 34, (uint32_t)view.coordinator_epoch);
    fmq_store_be64(at + 38, (uint64_t)view.txn_first_offset);
}

static void decode(const uint8_t *at, fmq_producer *out) {
    *out = (fmq_producer){.id = (int64_t)fmq_load_be64(at),
                          .epoch = (int16_t)fmq_load_be16(at + 8),
                          .last_timestamp = (int64_t)fmq_load_be64(at + 26),
                          .coordinator_epoch = (int32_t)fmq_load_be32(at + 34),
                          .txn_first_offset = (int64_t)fmq_load_be64(at + 38)};
    int32_t last_sequence = (int32_t)fmq_load_be32(at + 10);
    if (last_sequence >= 0) {
        out->batch_count = 1;
        out->batches[0] = (fmq_producer_batch){.last_sequence = last_sequence,
                                               .last_offset = (int64_t)fmq_load_be64(at + 14),
                                               .offset_delta = (int32_t)fmq_load_be32(at + 22),
                                               .timestamp = out->last_timestamp};
    }
}

static int write_file(const fmq_env *env, const char *path, const uint8_t *data, size_t size) {
    int fd = env->open(env->ctx, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        return fd;
    }
    int64_t wrote = env->pwrite(env->ctx, fd, data, size, 0);
    int result = wrote == (int64_t)size ? FMQ_OK : wrote < 0 ? (int)wrote : -ENOSPC;
    int closed = env->close(env->ctx, fd);
    result = result != FMQ_OK ? result : closed;
    if (result != FMQ_OK) {
        env->unlink(env->ctx, path);
    }
    return result;
}

int fmq_producers_save(const fmq_env *env, const fmq_producers *producers, const char *dir,
                       int64_t offset) {
    size_t size = HEADER_SIZE + (size_t)producers->count * ENTRY_SIZE;
    uint8_t *data = fmq_alloc(env, size);
    if (data == NULL) {
        return -ENOMEM;
    }
    uint8_t *at = data + HEADER_SIZE;
    for (uint32_t i = 0; i < producers->capacity; i++) {
        if (producers->slots[i].id != FMQ_NO_PRODUCER_ID) {
            encode(&producers->slots[i], at);
            at += ENTRY_SIZE;
        }
    }
    fmq_store_be16(data, VERSION);
    fmq_store_be32(data + CRC_START, producers->count);
    fmq_store_be32(data + 2, fmq_crc32c(0, data + CRC_START, size - CRC_START));
    char path[FMQ_PATH_MAX];
    fmq_path(path, dir, offset, FMQ_SUFFIX_SNAPSHOT);
    int result = write_file(env, path, data, size);
    fmq_free(env, data);
    return result;
}

static int take_over(const fmq_env *env, fmq_producers *producers, const uint8_t *data,
                     size_t size) {
    if (size < HEADER_SIZE || fmq_load_be16(data) != VERSION ||
        fmq_load_be32(data + 2) != fmq_crc32c(0, data + CRC_START, size - CRC_START) ||
        (uint64_t)fmq_load_be32(data + CRC_START) * ENTRY_SIZE != size - HEADER_SIZE) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    for (const uint8_t *at = data + HEADER_SIZE; at < data + size; at += ENTRY_SIZE) {
        fmq_producer producer;
        decode(at, &producer);
        int result =
            producer.id < 0 ? FMQ_ERR_CORRUPT_MESSAGE : fmq_producers_reserve(env, producers);
        if (result != FMQ_OK) {
            return result;
        }
        fmq_producers_insert(producers, &producer);
    }
    return FMQ_OK;
}

int fmq_producers_load(const fmq_env *env, fmq_producers *producers, const char *dir,
                       int64_t offset) {
    char path[FMQ_PATH_MAX];
    fmq_path(path, dir, offset, FMQ_SUFFIX_SNAPSHOT);
    fmq_producers_free(env, producers);
    int fd = env->open(env->ctx, path, O_RDONLY, 0);
    if (fd < 0) {
        return fd == -ENOENT ? FMQ_ERR_CORRUPT_MESSAGE : fd;
    }
    uint8_t *data = NULL;
    int64_t size = env->file_size(env->ctx, fd);
    int result = size < 0 ? (int)size : FMQ_OK;
    if (result == FMQ_OK && (size < HEADER_SIZE || size > INT32_MAX)) {
        result = FMQ_ERR_CORRUPT_MESSAGE;
    }
    if (result == FMQ_OK) {
        data = fmq_alloc(env, (size_t)size);
        result = data == NULL ? -ENOMEM : fmq_read_exact(env, fd, data, (size_t)size, 0);
    }
    env->close(env->ctx, fd);
    if (result == FMQ_OK) {
        result = take_over(env, producers, data, (size_t)size);
    }
    fmq_free(env, data);
    if (result != FMQ_OK) {
        fmq_producers_free(env, producers);
    }
    return result;
}
