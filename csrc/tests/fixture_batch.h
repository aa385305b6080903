/* tests/fixture_batch.h - valid batches for tests. */
#ifndef FASTMQ_TESTS_FIXTURE_BATCH_H
#define FASTMQ_TESTS_FIXTURE_BATCH_H

#include "fastmq/batch.h"

#define FIXTURE_NOW_MS 1700000000000

/* A header as an ordinary, not idempotent, producer sends it. */
static inline fmq_batch_header fixture_header(int32_t record_count) {
    return (fmq_batch_header){
        .leader_epoch = -1,
        .last_offset_delta = record_count - 1,
        .base_timestamp = FIXTURE_NOW_MS,
        .max_timestamp = FIXTURE_NOW_MS,
        .producer_id = FMQ_NO_PRODUCER_ID,
        .producer_epoch = -1,
        .base_sequence = FMQ_NO_SEQUENCE,
        .record_count = record_count,
    };
}

/* Records key "k", value "value", one header ("h", "v"); returns the bytes written. */
static inline size_t fixture_records(uint8_t *out, int32_t count) {
    static const uint8_t headers[] = {2, 'h', 2, 'v'};
    size_t size = 0;
    for (int32_t i = 0; i < count; i++) {
        const fmq_record record = {
            .offset_delta = i,
            .key = (const uint8_t *)"k",
            .key_size = 1,
            .value = (const uint8_t *)"value",
            .value_size = 5,
            .headers = headers,
            .headers_size = sizeof headers,
            .header_count = 1,
        };
        size += fmq_record_write(out + size, &record);
    }
    return size;
}

/* A whole batch of `header->record_count` fixture records (17 bytes each); returns its size. */
static inline size_t fixture_batch(uint8_t *out, fmq_batch_header *header) {
    size_t size = FMQ_BATCH_HEADER_SIZE;
    size += fixture_records(out + size, header->record_count);
    fmq_batch_write_header(out, size, header);
    return size;
}

#endif
