/* fetch_wait.c - fetches that wait for data: a heap by deadline, and links in their partitions. */
#include "fetch.h"

#define FETCH_WAIT_MAX_MS 3600000

/* ---- waiting --------------------------------------------------------------------------------*/

static void heap_swap(fmq_engine *engine, uint32_t a, uint32_t b) {
    fmq_conn *conn = engine->heap[a];
    engine->heap[a] = engine->heap[b];
    engine->heap[b] = conn;
    engine->heap[a]->heap_index = (int32_t)a;
    engine->heap[b]->heap_index = (int32_t)b;
}

static bool heap_less(const fmq_engine *engine, uint32_t a, uint32_t b) {
    return engine->heap[a]->fetch_deadline_ns < engine->heap[b]->fetch_deadline_ns;
}

static void heap_up(fmq_engine *engine, uint32_t at) {
    while (at > 0 && heap_less(engine, at, (at - 1) / 2)) {
        heap_swap(engine, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void heap_down(fmq_engine *engine, uint32_t at) {
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < engine->heap_size && heap_less(engine, child + 1, child)) {
            child++;
        }
        if (child >= engine->heap_size || !heap_less(engine, child, at)) {
            return;
        }
        heap_swap(engine, at, child);
        at = child;
    }
}

static bool heap_push(fmq_engine *engine, fmq_conn *conn) {
    if (engine->heap_size == engine->heap_capacity) {
        uint32_t capacity = engine->heap_capacity ? 2 * engine->heap_capacity : 64;
        fmq_conn **heap = fmq_realloc(engine->env, engine->heap, capacity * sizeof *heap);
        if (heap == NULL) {
            return false;
        }
        engine->heap = heap;
        engine->heap_capacity = capacity;
    }
    conn->heap_index = (int32_t)engine->heap_size;
    engine->heap[engine->heap_size++] = conn;
    heap_up(engine, (uint32_t)conn->heap_index);
    return true;
}

static void heap_remove(fmq_engine *engine, fmq_conn *conn) {
    uint32_t at = (uint32_t)conn->heap_index;
    uint32_t last = --engine->heap_size;
    if (at != last) {
        heap_swap(engine, at, last);
        heap_up(engine, at);
        heap_down(engine, at);
    }
    conn->heap_index = -1;
}

int64_t fmq_fetch_next_deadline(const fmq_engine *engine) {
    return engine->heap_size > 0 ? engine->heap[0]->fetch_deadline_ns : INT64_MAX;
}

void fmq_fetch_stop_waiting(fmq_conn *conn) {
    if (conn->heap_index < 0) {
        return;
    }
    heap_remove(conn->engine, conn);
    for (uint32_t i = 0; i < conn->fetch_wait_count; i++) {
        fmq_list_remove(&conn->fetch_waits[i].link);
    }
    fmq_free(conn->engine->env, conn->fetch_waits);
    conn->fetch_waits = NULL;
    conn->fetch_wait_count = 0;
}

void fmq_fetch_fire(fmq_conn *conn) {
    fmq_fetch_stop_waiting(conn);
    conn->fetch_due = true;
    fmq_conn_unblock(conn, FMQ_BLOCKED_FETCH);
}

void fmq_fetch_fire_due(fmq_engine *engine) {
    while (engine->heap_size > 0 && engine->heap[0]->fetch_deadline_ns <= engine->now_ns) {
        fmq_fetch_fire(engine->heap[0]);
    }
}

bool fmq_fetch_start_waiting(fmq_conn *conn, const fmq_fetch_request *fetch, int64_t have) {
    fmq_engine *engine = conn->engine;
    fmq_fetch_wait *waits =
        fmq_alloc(engine->env, (fetch->entry_count + 1) * sizeof *conn->fetch_waits);
    int64_t wait_ms =
        fetch->max_wait_ms < FETCH_WAIT_MAX_MS ? fetch->max_wait_ms : FETCH_WAIT_MAX_MS;
    conn->fetch_deadline_ns = engine->now_ns + wait_ms * 1000000;
    if (waits == NULL || !heap_push(engine, conn)) {
        fmq_free(engine->env, waits);
        return false;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (entry->partition != NULL && !entry->throttled) {
            waits[count].conn = conn;
            bool follows = fetch->replica_id >= 0 && entry->partition->replicas != NULL;
            fmq_list *list =
                follows ? &entry->partition->replicas->fetch_waits : &entry->partition->fetch_waits;
            fmq_list_push(list, &waits[count++].link);
        }
        fmq_fetch_give_back(entry);
    }
    conn->fetch_waits = waits;
    conn->fetch_wait_count = count;
    conn->fetch_missing = fetch->min_bytes - have;
    conn->blocked |= FMQ_BLOCKED_FETCH;
    engine->counters.fetch_parked++;
    return true;
}
