/* conn.c - connections: answers in the order of requests, and output.
 *
 * Output goes to the engine's scratch buffer while one connection is being served, so that all
 * answers of one read leave in one send; what the socket does not take moves to a chain of pieces
 * (bytes or file ranges) that goes on once it is writable.  Unfinished answers wait in slots.
 */
#define _GNU_SOURCE
#include "engine_internal.h"
#include "fastmq/replication.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FMQ_OUT_MIN_BYTES 4096u
#define FMQ_SEND_PARTS_MAX 16
#define FMQ_SENDFILE_MAX_BYTES (4u << 20) /* per call: others get a turn */

/* ---- birth and death ------------------------------------------------------------------------*/

fmq_conn *fmq_conn_find(fmq_engine *engine, uint64_t conn_id) {
    uint32_t index = (uint32_t)(conn_id & UINT32_MAX) - 1;
    if (index >= engine->conn_capacity || engine->conns[index] == NULL ||
        engine->conns[index]->id != conn_id) {
        return NULL;
    }
    return engine->conns[index];
}

static int grow_table(fmq_engine *engine) {
    uint32_t capacity = engine->conn_capacity ? 2 * engine->conn_capacity : 64;
    fmq_conn **conns = fmq_realloc(engine->env, engine->conns, capacity * sizeof *conns);
    if (conns == NULL) {
        return -ENOMEM;
    }
    engine->conns = conns;
    uint32_t *generations =
        fmq_realloc(engine->env, engine->generations, capacity * sizeof *generations);
    if (generations == NULL) {
        return -ENOMEM;
    }
    engine->generations = generations;
    for (uint32_t i = engine->conn_capacity; i < capacity; i++) {
        conns[i] = NULL;
        generations[i] = 0;
    }
    engine->conn_capacity = capacity;
    return FMQ_OK;
}

static int find_free_index(fmq_engine *engine, uint32_t *out) {
    if (engine->conn_count == engine->conn_capacity && grow_table(engine) != FMQ_OK) {
        return -ENOMEM;
    }
    uint32_t index = engine->conn_hint;
    while (engine->conns[index % engine->conn_capacity] != NULL) {
        index++;
    }
    *out = index % engine->conn_capacity;
    engine->conn_hint = *out + 1;
    return FMQ_OK;
}

static int add_locked(fmq_engine *engine, fmq_conn *conn, int fd) {
    uint32_t index;
    int rc = find_free_index(engine, &index);
    if (rc != FMQ_OK) {
        return rc;
    }
    conn->id = ((uint64_t)++engine->generations[index] << 32) | (index + 1);
    rc = fmq_poller_add(engine->poller, fd, conn->id);
    if (rc != FMQ_OK) {
        return rc;
    }
    if (FMQ_POLLER_NEEDS_WAKE) {
        fmq_engine_wake(engine);
    }
    conn->fd = fd;
    conn->activity_ns = engine->env->mono_ns(engine->env->ctx);
    engine->conns[index] = conn;
    engine->conn_count++;
    engine->counters.connections_opened++;
    return FMQ_OK;
}

int fmq_engine_add_connection(fmq_engine *engine, int fd, uint64_t tag, uint64_t *out_id) {
    fmq_conn *conn = fmq_alloc(engine->env, sizeof *conn);
    fmq_event *event = fmq_event_new(engine, FMQ_EVENT_CLOSED, 0);
    int rc = -ENOMEM;
    if (conn != NULL && event != NULL) {
        memset(conn, 0, sizeof *conn);
        conn->engine = engine;
        conn->tag = tag;
        conn->closed_event = event;
        conn->heap_index = -1;
        fmq_list_init(&conn->run_link);
        fmq_list_init(&conn->dirty_link);
        fmq_list_init(&conn->disk_link);
        fmq_lock_take(&engine->lock);
        rc = add_locked(engine, conn, fd);
        *out_id = conn->id;
        fmq_lock_give(&engine->lock);
    }
    if (rc != FMQ_OK) {
        fmq_free(engine->env, conn);
        fmq_free(engine->env, event);
        (void)close(fd);
    }
    return rc;
}

uint32_t fmq_engine_connection_count(fmq_engine *engine) {
    fmq_lock_take(&engine->lock);
    uint32_t count = engine->conn_count;
    fmq_lock_give(&engine->lock);
    return count;
}

static void free_out(fmq_engine *engine, fmq_out *out) {
    if (out->segment != NULL) {
        fmq_segment_unpin(out->segment);
        fmq_segment_unref(out->segment);
    }
    fmq_free(engine->env, out);
}

void fmq_slot_uncount(fmq_engine *engine, fmq_slot *slot) {
    engine->counters.buffered_bytes -= slot->frame_size;
    engine->python_bytes -= slot->frame_size;
    slot->frame_size = 0;
}

static void drop_slots(fmq_conn *conn) {
    while (conn->slots_head != NULL) {
        fmq_slot *slot = conn->slots_head;
        conn->slots_head = slot->next;
        slot->conn = NULL; /* its produce waits still point to it and end it */
        fmq_slot_uncount(conn->engine, slot);
        if (slot->waits == 0) {
            fmq_slot_free(conn->engine, slot);
        }
    }
    conn->slots_tail = NULL;
    conn->slot_count = 0;
}

void fmq_conn_close(fmq_conn *conn, const char *reason) {
    if (conn->dead) {
        return;
    }
    fmq_engine *engine = conn->engine;
    conn->dead = true;
    fmq_fetch_stop_waiting(conn);
    fmq_list_remove(&conn->run_link);
    fmq_list_remove(&conn->dirty_link);
    fmq_list_remove(&conn->disk_link);
    if (engine->scratch_owner == conn) {
        engine->scratch_owner = NULL;
        engine->scratch_size = 0;
    }
    drop_slots(conn);
    while (conn->out_head != NULL) {
        fmq_out *out = conn->out_head;
        conn->out_head = out->next;
        free_out(engine, out);
    }
    conn->out_tail = NULL;
    engine->counters.buffered_bytes -= conn->in_capacity;
    fmq_free(engine->env, conn->in);
    conn->in = NULL;
    conn->in_capacity = conn->in_start = conn->in_end = 0;
    fmq_poller_remove(engine->poller, conn->fd);
    (void)close(conn->fd);
    engine->conns[(uint32_t)(conn->id & UINT32_MAX) - 1] = NULL;
    engine->conn_count--;
    engine->counters.connections_closed++;
    fmq_event *event = conn->closed_event;
    event->conn_id = conn->id;
    event->tag = conn->tag;
    event->reason = reason;
    fmq_event_push(engine, event);
    /* The reactor may be inside this connection: it is freed at the end of the turn. */
    conn->next_dead = engine->graveyard;
    engine->graveyard = conn;
}

void fmq_conn_bury(fmq_engine *engine) {
    while (engine->graveyard != NULL) {
        fmq_conn *conn = engine->graveyard;
        engine->graveyard = conn->next_dead;
        fmq_free(engine->env, conn);
    }
}

void fmq_engine_set_peer(fmq_engine *engine, uint64_t conn_id) {
    fmq_lock_take(&engine->lock);
    fmq_conn *conn = fmq_conn_find(engine, conn_id);
    if (conn != NULL) {
        conn->is_peer = true;
    }
    fmq_lock_give(&engine->lock);
}

void fmq_engine_close_connection(fmq_engine *engine, uint64_t conn_id) {
    fmq_lock_take(&engine->lock);
    fmq_conn *conn = fmq_conn_find(engine, conn_id);
    if (conn != NULL) {
        fmq_conn_close(conn, "closed by the broker");
    }
    fmq_lock_give(&engine->lock);
}

/* ---- output ---------------------------------------------------------------------------------*/

static void mark_dirty(fmq_conn *conn) {
    if (fmq_list_empty(&conn->dirty_link)) {
        fmq_list_push(&conn->engine->dirty, &conn->dirty_link);
    }
}

static void chain_push(fmq_conn *conn, fmq_out *out) {
    out->next = NULL;
    if (conn->out_tail == NULL) {
        conn->out_head = out;
    } else {
        conn->out_tail->next = out;
    }
    conn->out_tail = out;
}

static void chain_bytes(fmq_conn *conn, const uint8_t *data, size_t size) {
    fmq_out *tail = conn->out_tail;
    if (tail == NULL || tail->segment != NULL || tail->capacity - tail->size < size) {
        size_t capacity = size > FMQ_OUT_MIN_BYTES ? size : FMQ_OUT_MIN_BYTES;
        tail = fmq_alloc(conn->engine->env, sizeof *tail + capacity);
        if (tail == NULL) {
            fmq_conn_close(conn, "out of memory for an answer");
            return;
        }
        memset(tail, 0, sizeof *tail);
        tail->capacity = capacity;
        chain_push(conn, tail);
    }
    memcpy(tail->data + tail->size, data, size);
    tail->size += size;
    conn->out_bytes += size;
}

/* Move what the scratch buffer holds of this connection to its chain. */
static void spill_scratch(fmq_conn *conn) {
    fmq_engine *engine = conn->engine;
    if (engine->scratch_owner == conn) {
        size_t size = engine->scratch_size;
        engine->scratch_owner = NULL;
        engine->scratch_size = 0;
        chain_bytes(conn, engine->scratch, size);
    }
}

void fmq_conn_write(fmq_conn *conn, const uint8_t *data, size_t size) {
    if (conn->dead || size == 0) {
        return;
    }
    fmq_engine *engine = conn->engine;
    mark_dirty(conn);
    bool mine = engine->scratch_owner == conn;
    bool usable = mine || (engine->scratch_owner == NULL && conn->out_head == NULL);
    if (usable && FMQ_SCRATCH_BYTES - engine->scratch_size >= size) {
        memcpy(engine->scratch + engine->scratch_size, data, size);
        engine->scratch_size += size;
        engine->scratch_owner = conn;
        return;
    }
    spill_scratch(conn);
    if (!conn->dead) {
        chain_bytes(conn, data, size);
    }
    if (conn->out_bytes > FMQ_OUTPUT_HIGH_BYTES) {
        conn->blocked |= FMQ_BLOCKED_OUTPUT;
    }
}

void fmq_conn_write_file(fmq_conn *conn, fmq_slice *slice) {
    fmq_engine *engine = conn->engine;
    fmq_out *out = conn->dead ? NULL : fmq_alloc(engine->env, sizeof *out);
    int rc = out != NULL ? fmq_segment_pin(slice->segment) : -ENOMEM;
    if (rc < 0) {
        /* The length is promised already; the client retries on a new connection. */
        fmq_free(engine->env, out);
        fmq_segment_unref(slice->segment);
        fmq_conn_close(conn, "a log segment could not be opened for a fetch");
        return;
    }
    memset(out, 0, sizeof *out);
    out->segment = slice->segment;
    out->position = slice->position;
    out->size = slice->size;
    spill_scratch(conn);
    if (conn->dead) {
        free_out(engine, out);
        return;
    }
    chain_push(conn, out);
    mark_dirty(conn);
    /* The next frame waits until this answer is on its way. */
    conn->blocked |= FMQ_BLOCKED_OUTPUT;
}

static void pop_out(fmq_conn *conn) {
    fmq_out *out = conn->out_head;
    conn->out_head = out->next;
    if (conn->out_head == NULL) {
        conn->out_tail = NULL;
    }
    free_out(conn->engine, out);
}

/* Result of a send call: true when the caller may go on. */
static bool sent_some(fmq_conn *conn, int64_t sent) {
    if (sent > 0) {
        conn->engine->counters.bytes_out += (uint64_t)sent;
        conn->activity_ns = conn->engine->now_ns;
        return true;
    }
    if (sent == -EAGAIN || sent == 0) {
        conn->send_blocked = true;
        fmq_conn_arm(conn, FMQ_READY_WRITE);
    } else {
        fmq_conn_close(conn, "the peer went away while an answer was sent");
    }
    return false;
}

static void send_file(fmq_conn *conn) {
    fmq_engine *engine = conn->engine;
    fmq_out *out = conn->out_head;
    size_t left = out->size - out->sent;
    if (fmq_segment_truncated_below(out->segment, out->position + (int64_t)out->size)) {
        fmq_conn_close(conn, "the log was truncated under a fetch");
        return;
    }
    int fd = fmq_segment_pin(out->segment); /* is pinned: only asks for the descriptor */
    size_t size = left < FMQ_SENDFILE_MAX_BYTES ? left : FMQ_SENDFILE_MAX_BYTES;
    engine->counters.sendfile_calls++;
    int64_t sent =
        fd < 0 ? fd
               : engine->transport->sendfile(conn->fd, fd, out->position + (int64_t)out->sent, size,
                                             out->next != NULL || size < left);
    fmq_segment_unpin(out->segment);
    if (sent == 0) { /* the file is shorter than its log: never wait for that */
        fmq_conn_close(conn, "a log segment is shorter than its index says");
        return;
    }
    if (sent_some(conn, sent)) {
        out->sent += (size_t)sent;
        engine->counters.record_bytes_out += (uint64_t)sent;
        if (out->sent == out->size) {
            pop_out(conn);
        }
    }
}

static void consume_bytes(fmq_conn *conn, size_t sent) {
    conn->out_bytes -= sent;
    while (sent > 0) {
        fmq_out *out = conn->out_head;
        size_t left = out->size - out->sent;
        size_t part = left < sent ? left : sent;
        out->sent += part;
        sent -= part;
        if (out->sent == out->size) {
            pop_out(conn);
        }
    }
}

static void send_bytes(fmq_conn *conn) {
    struct iovec parts[FMQ_SEND_PARTS_MAX];
    int count = 0;
    fmq_out *out = conn->out_head;
    for (; out != NULL && out->segment == NULL && count < FMQ_SEND_PARTS_MAX; out = out->next) {
        parts[count].iov_base = out->data + out->sent;
        parts[count++].iov_len = out->size - out->sent;
    }
    conn->engine->counters.send_calls++;
    int64_t sent = conn->engine->transport->sendv(conn->fd, parts, count, out != NULL);
    if (sent_some(conn, sent)) {
        consume_bytes(conn, (size_t)sent);
    }
}

static void send_scratch(fmq_conn *conn) {
    fmq_engine *engine = conn->engine;
    size_t size = engine->scratch_size;
    engine->scratch_owner = NULL;
    engine->scratch_size = 0;
    size_t done = 0;
    if (conn->out_head == NULL && !conn->send_blocked) {
        struct iovec part = {engine->scratch, size};
        engine->counters.send_calls++;
        int64_t sent = engine->transport->sendv(conn->fd, &part, 1, false);
        done = sent_some(conn, sent) ? (size_t)sent : 0;
    }
    if (done < size && !conn->dead) {
        chain_bytes(conn, engine->scratch + done, size - done);
    }
}

void fmq_conn_flush(fmq_conn *conn) {
    fmq_list_remove(&conn->dirty_link);
    if (conn->dead) {
        return;
    }
    if (conn->engine->scratch_owner == conn) {
        send_scratch(conn);
    }
    while (!conn->dead && conn->out_head != NULL && !conn->send_blocked) {
        if (conn->out_head->segment != NULL) {
            send_file(conn);
        } else {
            send_bytes(conn);
        }
    }
    if (conn->dead) {
        return;
    }
    bool idle = conn->out_head == NULL;
    if (idle && conn->slots_head == NULL && conn->closing) {
        fmq_conn_close(conn, conn->end_reason);
    } else if (idle && conn->slots_head == NULL && conn->peer_closed) {
        fmq_conn_close(conn, "closed by the client");
    } else if (idle) {
        fmq_conn_unblock(conn, FMQ_BLOCKED_OUTPUT);
    }
}

void fmq_conn_flush_dirty(fmq_engine *engine) {
    while (!fmq_list_empty(&engine->dirty)) {
        fmq_conn_flush(FMQ_ENTRY(engine->dirty.next, fmq_conn, dirty_link));
    }
}

void fmq_conn_end(fmq_conn *conn, const char *reason) {
    if (!conn->closing) {
        conn->closing = true;
        conn->end_reason = reason;
        mark_dirty(conn);
    }
}

/* ---- whose turn it is -----------------------------------------------------------------------*/

void fmq_conn_make_runnable(fmq_conn *conn) {
    if (fmq_list_empty(&conn->run_link) && !conn->dead) {
        fmq_list_push(&conn->engine->runnable, &conn->run_link);
    }
}

void fmq_conn_arm(fmq_conn *conn, uint32_t what) {
    fmq_poller_arm(conn->engine->poller, conn->fd, what);
    if (FMQ_POLLER_NEEDS_WAKE) {
        fmq_engine_wake(conn->engine);
    }
}

void fmq_conn_unblock(fmq_conn *conn, uint8_t bits) {
    if ((conn->blocked & bits) == 0) {
        return;
    }
    conn->blocked &= (uint8_t)~bits;
    if (conn->blocked == 0 && (conn->readable || conn->in_end > conn->in_start)) {
        fmq_conn_make_runnable(conn);
    }
}

/* ---- answers in order -----------------------------------------------------------------------*/

fmq_slot *fmq_slot_push(fmq_conn *conn, fmq_slot_state state, uint32_t waits) {
    fmq_engine *engine = conn->engine;
    fmq_slot *slot =
        fmq_alloc(engine->env, sizeof *slot + (size_t)waits * sizeof slot->produce_waits[0]);
    if (slot == NULL) {
        return NULL;
    }
    memset(slot, 0, sizeof *slot);
    slot->conn = conn;
    slot->state = state;
    if (conn->slots_tail == NULL) {
        conn->slots_head = slot;
    } else {
        conn->slots_tail->next = slot;
    }
    conn->slots_tail = slot;
    if (++conn->slot_count >= engine->options.max_unanswered_frames) {
        conn->blocked |= FMQ_BLOCKED_ANSWERS;
    }
    return slot;
}

void fmq_slot_free(fmq_engine *engine, fmq_slot *slot) {
    fmq_free(engine->env, slot->data);
    fmq_free(engine->env, slot);
}

void fmq_conn_release_slots(fmq_conn *conn) {
    while (conn->slots_head != NULL && conn->slots_head->state == FMQ_SLOT_READY) {
        fmq_slot *slot = conn->slots_head;
        conn->slots_head = slot->next;
        if (conn->slots_head == NULL) {
            conn->slots_tail = NULL;
        }
        conn->slot_count--;
        if (slot->data != NULL) {
            fmq_conn_write(conn, slot->data, slot->size);
        }
        slot->conn = NULL;
        if (slot->waits == 0) {
            fmq_slot_free(conn->engine, slot);
        }
        if (conn->dead) {
            return;
        }
    }
    if (conn->slots_head == NULL) {
        fmq_conn_unblock(conn, FMQ_BLOCKED_ORDER);
        mark_dirty(conn); /* it may have been waiting to close */
    }
    if (conn->slot_count < conn->engine->options.max_unanswered_frames) {
        fmq_conn_unblock(conn, FMQ_BLOCKED_ANSWERS);
    }
}

/* Put an error into the answer: the code, and base offset -1 behind it. */
static void patch_error(fmq_slot *slot, size_t position, int code) {
    fmq_store_be16(slot->data + position, (uint16_t)(int16_t)code);
    fmq_store_be64(slot->data + position + 2, (uint64_t)-1ll);
    slot->conn->engine->counters.produce_errors++;
}

void fmq_slot_wait_done(fmq_engine *engine, fmq_produce_wait *wait, int code) {
    fmq_slot *slot = wait->slot;
    fmq_conn *conn = slot->conn;
    if (conn != NULL && wait->error_position != 0 && code != FMQ_OK) {
        patch_error(slot, wait->error_position, code);
    }
    wait->error_position = 0;
    if (--slot->waits > 0) {
        return;
    }
    if (conn == NULL) { /* the connection is gone, or was told of a time-out */
        fmq_slot_free(engine, slot);
        return;
    }
    slot->state = FMQ_SLOT_READY;
    fmq_latency_note(engine, &engine->produce_latency, slot->began_ns);
    fmq_conn_release_slots(conn);
}

void fmq_conn_expire_slots(fmq_conn *conn, int64_t now_ns) {
    for (fmq_slot *slot = conn->slots_head; slot != NULL; slot = slot->next) {
        if (slot->state != FMQ_SLOT_PRODUCE || slot->deadline_ns > now_ns) {
            continue;
        }
        for (uint32_t i = 0; i < slot->wait_count; i++) {
            if (slot->produce_waits[i].error_position != 0) {
                patch_error(slot, slot->produce_waits[i].error_position, FMQ_ERR_REQUEST_TIMED_OUT);
                slot->produce_waits[i].error_position = 0;
            }
        }
        slot->state = FMQ_SLOT_READY;
    }
    fmq_conn_release_slots(conn);
}

void fmq_answer_set_length(fmq_writer *w, uint64_t extra) {
    fmq_store_be32(w->data, (uint32_t)(w->size - 4 + extra));
}

void fmq_conn_answer(fmq_conn *conn) {
    fmq_writer *w = &conn->engine->response;
    if (w->failed) {
        w->failed = false;
        fmq_conn_close(conn, "out of memory for an answer");
        return;
    }
    if (conn->slots_head == NULL) {
        fmq_conn_write(conn, w->data, w->size);
        return;
    }
    uint8_t *data = fmq_alloc(conn->engine->env, w->size);
    fmq_slot *slot = data != NULL ? fmq_slot_push(conn, FMQ_SLOT_READY, 0) : NULL;
    if (slot == NULL) {
        fmq_free(conn->engine->env, data);
        fmq_conn_close(conn, "out of memory for an answer");
        return;
    }
    memcpy(data, w->data, w->size);
    slot->data = data;
    slot->size = w->size;
}

/* ---- answers from Python --------------------------------------------------------------------*/

static int reply_locked(fmq_engine *engine, fmq_conn *conn, const uint8_t *payload, size_t size,
                        bool close_after) {
    fmq_slot *slot = conn->slots_tail; /* nothing runs behind a frame that is with Python */
    if (slot == NULL || slot->state != FMQ_SLOT_PYTHON) {
        return -EINVAL;
    }
    fmq_slot_uncount(engine, slot);
    if (payload != NULL) {
        slot->data = fmq_alloc(engine->env, size + 4);
        if (slot->data == NULL) {
            fmq_conn_close(conn, "out of memory for an answer");
            return -ENOMEM;
        }
        fmq_store_be32(slot->data, (uint32_t)size);
        memcpy(slot->data + 4, payload, size);
        slot->size = size + 4;
    }
    slot->state = FMQ_SLOT_READY;
    if (close_after) {
        fmq_conn_end(conn, "closed by the broker");
    }
    fmq_conn_release_slots(conn);
    if (!conn->dead) {
        fmq_conn_unblock(conn, FMQ_BLOCKED_PYTHON);
        fmq_conn_flush(conn); /* straight from this thread: no wake-up of the reactor */
    }
    return FMQ_OK;
}

int fmq_engine_reply(fmq_engine *engine, uint64_t conn_id, const uint8_t *payload, size_t size,
                     bool close_after) {
    if (size > INT32_MAX) {
        return -EMSGSIZE;
    }
    fmq_lock_take(&engine->lock);
    fmq_conn *conn = fmq_conn_find(engine, conn_id);
    int rc = conn == NULL ? FMQ_OK : reply_locked(engine, conn, payload, size, close_after);
    if (!fmq_list_empty(&engine->runnable)) {
        fmq_engine_wake(engine);
    }
    fmq_lock_give(&engine->lock);
    return rc;
}
