#include "producers.h"

#define FIRST_CAPACITY 4

void fmq_producers_free(const fmq_env *env, fmq_producers *producers) {
    fmq_free(env, producers->slots);
    *producers = (fmq_producers){0};
}

static uint32_t home_slot(const fmq_producers *producers, int64_t id) {
    uint64_t hash = (uint64_t)id * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 32) & (producers->capacity - 1);
}

/* The slot that holds `id`, or the free one where it would go. */
static fmq_producer *probe(const fmq_producers *producers, int64_t id) {
    uint32_t mask = producers->capacity - 1;
    uint32_t i = home_slot(producers, id);
    while (producers->slots[i].id != FMQ_NO_PRODUCER_ID && producers->slots[i].id != id) {
        i = (i + 1) & mask;
    }
    return &producers->slots[i];
}

const fmq_producer *fmq_producers_find(const fmq_producers *producers, int64_t id) {
    if (producers->count == 0 || id < 0) {
        return NULL;
    }
    const fmq_producer *slot = probe(producers, id);
    return slot->id == id ? slot : NULL;
}

/* Free a slot and move up those that a probe would no longer reach. */
static void remove_slot(fmq_producers *producers, uint32_t hole) {
    uint32_t mask = producers->capacity - 1;
    producers->slots[hole].id = FMQ_NO_PRODUCER_ID;
    producers->count--;
    for (uint32_t i = (hole + 1) & mask; producers->slots[i].id != FMQ_NO_PRODUCER_ID;
         i = (i + 1) & mask) {
        uint32_t home = home_slot(producers, producers->slots[i].id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            producers->slots[hole] = producers->slots[i];
            producers->slots[i].id = FMQ_NO_PRODUCER_ID;
            hole = i;
        }
    }
}

/* Forget the half that wrote longest ago, by the mean of their last timestamps. */
static void forget_oldest(fmq_producers *producers) {
    double sum = 0;
    for (uint32_t i = 0; i < producers->capacity; i++) {
        if (producers->slots[i].id != FMQ_NO_PRODUCER_ID) {
            sum += (double)producers->slots[i].last_timestamp;
        }
    }
    double mean = sum / producers->count;
    for (uint32_t i = 0; i < producers->capacity;) {
        const fmq_producer *slot = &producers->slots[i];
        if (slot->id != FMQ_NO_PRODUCER_ID && slot->txn_first_offset < 0 &&
            (double)slot->last_timestamp <= mean) {
            remove_slot(producers, i);
        } else {
            i++;
        }
    }
}

int fmq_producers_reserve(const fmq_env *env, fmq_producers *producers) {
    if (producers->count >= FMQ_PRODUCERS_MAX) {
        forget_oldest(producers);
    }
    /* At most three quarters full, so that a probe always meets a free slot. */
    if (producers->capacity > 0 && producers->count + 1 <= producers->capacity / 4 * 3) {
        return FMQ_OK;
    }
    if (producers->capacity > UINT32_MAX / 4) {
        return -ENOMEM;
    }
    fmq_producers grown = {.count = producers->count,
                           .capacity =
                               producers->capacity ? producers->capacity * 2 : FIRST_CAPACITY};
    grown.slots = fmq_alloc(env, grown.capacity * sizeof(fmq_producer));
    if (grown.slots == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < grown.capacity; i++) {
        grown.slots[i].id = FMQ_NO_PRODUCER_ID;
    }
    for (uint32_t i = 0; i < producers->capacity; i++) {
        if (producers->slots[i].id != FMQ_NO_PRODUCER_ID) {
            *probe(&grown, producers->slots[i].id) = producers->slots[i];
        }
    }
    fmq_free(env, producers->slots);
    *producers = grown;
    return FMQ_OK;
}

/* ---- sequences -------------------------------------------------------------------------------*/

static int32_t sequence_add(int32_t sequence, int32_t delta) {
    return (int32_t)(((uint32_t)sequence + (uint32_t)delta) & INT32_MAX);
}

static int32_t first_sequence(const fmq_producer_batch *batch) {
    return (int32_t)(((uint32_t)batch->last_sequence - (uint32_t)batch->offset_delta) & INT32_MAX);
}

/* `age` 0 is the newest batch. */
static const fmq_producer_batch *batch_at(const fmq_producer *producer, uint32_t age) {
    uint32_t i = (producer->newest + FMQ_PRODUCER_BATCHES - age) % FMQ_PRODUCER_BATCHES;
    return &producer->batches[i];
}

static bool find_duplicate(const fmq_producer *producer, const fmq_batch_header *h,
                           fmq_producer_verdict *out) {
    for (uint32_t age = 0; age < producer->batch_count; age++) {
        const fmq_producer_batch *batch = batch_at(producer, age);
        if (batch->offset_delta == h->last_offset_delta &&
            first_sequence(batch) == h->base_sequence) {
            out->duplicate = true;
            out->base_offset = batch->last_offset - batch->offset_delta;
            out->last_offset = batch->last_offset;
            out->timestamp = batch->timestamp;
            return true;
        }
    }
    return false;
}

int fmq_producers_check(const fmq_producers *producers, const fmq_batch_header *h,
                        fmq_producer_verdict *out, const char **reason) {
    *out = (fmq_producer_verdict){.base_offset = -1, .last_offset = -1, .timestamp = -1};
    const fmq_producer *producer = fmq_producers_find(producers, h->producer_id);
    if (producer == NULL) {
        return FMQ_OK;
    }
    if (h->producer_epoch < producer->epoch) {
        *reason = "the producer epoch is older than the newest one seen";
        return FMQ_ERR_INVALID_PRODUCER_EPOCH;
    }
    int32_t expected = 0;
    if (h->producer_epoch == producer->epoch) {
        if (find_duplicate(producer, h, out)) {
            return FMQ_OK;
        }
        if (producer->batch_count > 0) {
            expected = sequence_add(batch_at(producer, 0)->last_sequence, 1);
        }
    }
    if (h->base_sequence != expected) {
        *reason = "the sequence number does not follow the last one of the producer";
        return FMQ_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    }
    if (producer->txn_first_offset >= 0 && (h->attributes & FMQ_ATTR_TRANSACTIONAL) == 0) {
        *reason = "the producer has an open transaction on the partition";
        return FMQ_ERR_INVALID_TXN_STATE;
    }
    return FMQ_OK;
}

/* ---- changes ---------------------------------------------------------------------------------*/

static void push_batch(fmq_producer *producer, const fmq_producer_batch *batch) {
    producer->newest = (uint8_t)((producer->newest + 1) % FMQ_PRODUCER_BATCHES);
    producer->batches[producer->newest] = *batch;
    if (producer->batch_count < FMQ_PRODUCER_BATCHES) {
        producer->batch_count++;
    }
}

static fmq_producer *find_or_add(fmq_producers *producers, int64_t id, int16_t epoch) {
    fmq_producer *producer = probe(producers, id);
    if (producer->id != id) {
        assert(producers->count + 1 <= producers->capacity / 4 * 3);
        producers->count++;
        *producer = (fmq_producer){.id = id,
                                   .epoch = epoch,
                                   .last_timestamp = FMQ_NO_TIMESTAMP,
                                   .txn_first_offset = -1,
                                   .coordinator_epoch = -1};
    }
    return producer;
}

void fmq_producers_insert(fmq_producers *producers, const fmq_producer *producer) {
    *find_or_add(producers, producer->id, producer->epoch) = *producer;
}

void fmq_producers_update(fmq_producers *producers, const fmq_batch_header *h,
                          const fmq_txn_marker *marker) {
    if (h->producer_id < 0) {
        return;
    }
    bool is_control = (h->attributes & FMQ_ATTR_CONTROL) != 0;
    if (is_control && !marker->is_marker) {
        return;
    }
    fmq_producer *producer = find_or_add(producers, h->producer_id, h->producer_epoch);
    if (producer->epoch != h->producer_epoch) {
        producer->epoch = h->producer_epoch;
        producer->batch_count = 0;
    }
    producer->last_timestamp = h->max_timestamp;
    if (is_control) {
        producer->txn_first_offset = -1;
        producer->coordinator_epoch = marker->coordinator_epoch;
        return;
    }
    if (h->base_sequence >= 0) {
        push_batch(producer, &(fmq_producer_batch){.last_offset = fmq_batch_last_offset(h),
                                                   .timestamp = h->max_timestamp,
                                                   .last_sequence = sequence_add(
                                                       h->base_sequence, h->last_offset_delta),
                                                   .offset_delta = h->last_offset_delta});
    }
    if ((h->attributes & FMQ_ATTR_TRANSACTIONAL) != 0 && producer->txn_first_offset < 0) {
        producer->txn_first_offset = h->base_offset;
    }
}

void fmq_producers_recall(fmq_producers *producers, const fmq_batch_header *h) {
    fmq_producer *producer = (fmq_producer *)fmq_producers_find(producers, h->producer_id);
    if (producer == NULL || producer->epoch != h->producer_epoch || h->base_sequence < 0 ||
        (h->attributes & FMQ_ATTR_CONTROL) != 0 || producer->batch_count == 0 ||
        fmq_batch_last_offset(h) >= batch_at(producer, 0)->last_offset) {
        return;
    }
    /* Batches come oldest first: each goes right behind the newest one and pushes out the oldest.
     */
    fmq_producer_batch newest = *batch_at(producer, 0);
    if (producer->batch_count == FMQ_PRODUCER_BATCHES) {
        producer->batch_count--;
    }
    producer->batches[producer->newest] =
        (fmq_producer_batch){.last_offset = fmq_batch_last_offset(h),
                             .timestamp = h->max_timestamp,
                             .last_sequence = sequence_add(h->base_sequence, h->last_offset_delta),
                             .offset_delta = h->last_offset_delta};
    push_batch(producer, &newest);
}

fmq_txn_marker fmq_txn_marker_read(const uint8_t *batch, const fmq_batch_header *h) {
    fmq_txn_marker marker = {.is_marker = false, .coordinator_epoch = -1};
    fmq_record_iter it;
    fmq_record record;
    fmq_record_iter_init(&it, batch + FMQ_BATCH_HEADER_SIZE, h->size - FMQ_BATCH_HEADER_SIZE,
                         h->record_count);
    if ((h->attributes & FMQ_ATTR_CODEC_MASK) != 0 || fmq_record_iter_next(&it, &record) != 1) {
        return marker;
    }
    /* Key: version i16, type i16 (0 abort, 1 commit).  Value: version i16, coordinator epoch i32.
     */
    if (record.key != NULL && record.key_size >= 4 && fmq_load_be16(record.key + 2) <= 1) {
        marker.is_marker = true;
        if (record.value != NULL && record.value_size >= 6) {
            marker.coordinator_epoch = (int32_t)fmq_load_be32(record.value + 2);
        }
    }
    return marker;
}

static bool is_expired(const fmq_producer *producer, int64_t now_ms, int64_t expiration_ms) {
    return producer->txn_first_offset < 0 && producer->last_timestamp < now_ms &&
           now_ms - producer->last_timestamp >= expiration_ms;
}

int32_t fmq_producers_expire(fmq_producers *producers, int64_t now_ms, int64_t expiration_ms) {
    int32_t expired = 0;
    for (uint32_t i = 0; i < producers->capacity;) {
        /* A removal may move another one into this slot: look again. */
        if (producers->slots[i].id != FMQ_NO_PRODUCER_ID &&
            is_expired(&producers->slots[i], now_ms, expiration_ms)) {
            remove_slot(producers, i);
            expired++;
        } else {
            i++;
        }
    }
    return expired;
}

void fmq_producers_view(const fmq_producer *producer, fmq_producer_view *out) {
    const fmq_producer_batch *newest = producer->batch_count > 0 ? batch_at(producer, 0) : NULL;
    *out = (fmq_producer_view){.producer_id = producer->id,
                               .producer_epoch = producer->epoch,
                               .last_sequence =
                                   newest != NULL ? newest->last_sequence : FMQ_NO_SEQUENCE,
                               .last_offset = newest != NULL ? newest->last_offset : -1,
                               .last_timestamp = producer->last_timestamp,
                               .coordinator_epoch = producer->coordinator_epoch,
                               .txn_first_offset = producer->txn_first_offset};
}
