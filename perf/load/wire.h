/* perf/load/wire.h - the little of Kafka's protocol that a load generator needs.
 *
 * Produce version 9 and Fetch version 12: the last ones that name topics, flexible, served by every
 * broker of today.  Frames are built once and patched per send.
 */
#ifndef FASTMQ_PERF_WIRE_H
#define FASTMQ_PERF_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_CORRELATION_AT 8 /* in a request frame, its length included */
#define WIRE_PARTITIONS_MAX 128

typedef struct {
    uint8_t *data;
    size_t size, capacity;
    /* Where things stand in a Produce request, to patch them before it is sent again. */
    size_t partition_at, batch_at, batch_size;
    size_t value_at; /* value of the first record, from the beginning of the batch */
} wire_buffer;

/* What a batch holds: `records` random values, with keys of `key_bytes` (0: none). */
typedef struct {
    int records;
    size_t record_bytes, key_bytes;
} wire_batch;

/* A Produce request for one partition with one batch. */
void wire_produce(wire_buffer *out, const char *topic, int partition, int acks,
                  const wire_batch *batch);
/* Sends it to another partition. */
void wire_set_partition(wire_buffer *out, int partition);
/* Writes eight bytes to the beginning of the first value, and the CRC that goes with them. */
void wire_set_stamp(wire_buffer *out, uint64_t stamp);
/* The error code of an answer to it (from the correlation id on), -1 when it is too short. */
int wire_produce_error(const uint8_t *answer, size_t size, const char *topic);

/* A Fetch request for partitions [first, first + count) at `offsets`. */
void wire_fetch(wire_buffer *out, const char *topic, int first, int count, const int64_t *offsets,
                int max_bytes, int max_wait_ms);

typedef struct {
    uint64_t record_bytes; /* of batches, their headers included */
    uint64_t records;
    int error; /* the first one that is not 0; -1 for an answer that makes no sense */
} wire_fetched;

/* Walks an answer (from the correlation id on); moves `offsets` behind what was received and calls
 * `on_batch`, where it is set, for each whole batch. */
wire_fetched wire_fetch_answer(const uint8_t *answer, size_t size, int first, int count,
                               int64_t *offsets);
extern void (*wire_on_batch)(const uint8_t *batch, size_t size);

#endif
