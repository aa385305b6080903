/* reactor.c - the loop: receiving, cutting frames, deadlines.
 *
 * All sockets are registered once, edge-triggered for both directions, so that no connection ever
 * costs another system call for it.  A turn waits, notes the edges, takes over finished syncs,
 * fires fetches whose time is up, serves every runnable connection once, and sends.
 *
 * Frames are cut from one shared buffer.  What is left of an incomplete frame moves to a buffer of
 * the connection; once more than DIRECT_BYTES of a large frame have really arrived, the rest is
 * received straight into that buffer.  Memory therefore grows with what was received, never with
 * what was announced.
 */
#define _GNU_SOURCE
#include "engine_internal.h"

#define FRAME_MIN_BYTES 8 /* api key, version, correlation id */
#define INPUT_MIN_BYTES 256u
#define DIRECT_BYTES (64u << 10) /* of a frame are here: receive the rest in place */
#define SWEEP_MAX_WAIT_MS 500
#define IDLE_BUFFER_NS 1000000000ll /* input buffers of quiet connections are given back */
#define FRAME_BYTES_PER_MS 100      /* a large frame may take longer: at least 100 kB/s */

/* ---- input buffers --------------------------------------------------------------------------*/

static size_t input_size(const fmq_conn *conn) {
    return conn->in_end - conn->in_start;
}

static void compact(fmq_conn *conn) {
    if (conn->in_start > 0) {
        memmove(conn->in, conn->in + conn->in_start, input_size(conn));
        conn->in_end -= conn->in_start;
        conn->in_start = 0;
    }
}

/* Make room for `extra` bytes behind the input; false when memory or the budget is used up. */
static bool make_room(fmq_conn *conn, size_t extra) {
    fmq_engine *engine = conn->engine;
    if (conn->in_capacity - conn->in_end >= extra) {
        return true;
    }
    compact(conn);
    size_t need = conn->in_end + extra;
    if (conn->in_capacity >= need) {
        return true;
    }
    size_t capacity = conn->in_capacity ? conn->in_capacity : INPUT_MIN_BYTES;
    while (capacity < need) {
        capacity *= 2;
    }
    uint64_t grown = engine->counters.buffered_bytes + (capacity - conn->in_capacity);
    uint8_t *in = grown <= engine->options.max_buffered_bytes
                      ? fmq_realloc(engine->env, conn->in, capacity)
                      : NULL;
    if (in == NULL) {
        return false;
    }
    engine->counters.buffered_bytes = grown;
    conn->in = in;
    conn->in_capacity = capacity;
    return true;
}

static void give_buffer_back(fmq_conn *conn) {
    conn->engine->counters.buffered_bytes -= conn->in_capacity;
    fmq_free(conn->engine->env, conn->in);
    conn->in = NULL;
    conn->in_capacity = conn->in_start = conn->in_end = 0;
    conn->frame_hint = 0;
}

static bool keep_input(fmq_conn *conn, const uint8_t *data, size_t size) {
    if (size == 0) {
        return true;
    }
    if (!make_room(conn, size)) {
        /* These bytes have left the kernel and cannot be put back. */
        fmq_conn_close(conn, "the memory for requests in flight is used up");
        return false;
    }
    memcpy(conn->in + conn->in_end, data, size);
    conn->in_end += size;
    return true;
}

/* ---- frames ---------------------------------------------------------------------------------*/

/* Python gets a copy, which counts as long as it has it.  A large one waits while others take up
 * the memory; it is tried again at the next sweep. */
static bool must_wait_for_memory(const fmq_conn *conn, size_t size) {
    const fmq_engine *engine = conn->engine;
    return size > DIRECT_BYTES && engine->python_bytes > 0 &&
           engine->counters.buffered_bytes + size > engine->options.max_buffered_bytes;
}

static bool hand_to_python(fmq_conn *conn, const fmq_request *request, const uint8_t *frame,
                           size_t size) {
    fmq_engine *engine = conn->engine;
    if (must_wait_for_memory(conn, size)) {
        conn->blocked |= FMQ_BLOCKED_MEMORY;
        return false;
    }
    fmq_event *event = fmq_event_new(engine, FMQ_EVENT_FRAME, size);
    fmq_slot *slot = event != NULL ? fmq_slot_push(conn, FMQ_SLOT_PYTHON, 0) : NULL;
    if (slot == NULL) {
        fmq_free(engine->env, event);
        fmq_conn_close(conn, "out of memory for a request");
        return false;
    }
    event->conn_id = conn->id;
    event->api_key = request->api_key;
    event->api_version = request->api_version;
    event->correlation_id = request->correlation_id;
    memcpy(event->frame, frame, size);
    fmq_event_push(engine, event);
    slot->frame_size = size;
    engine->python_bytes += size;
    engine->counters.buffered_bytes += size;
    conn->blocked |= FMQ_BLOCKED_PYTHON;
    engine->counters.other_requests++;
    return true;
}

static fmq_verdict dispatch(fmq_conn *conn, fmq_request *request) {
    bool produce = request->api_key == 0 && request->api_version >= 3 && request->api_version <= 13;
    bool fetch = request->api_key == 1 && request->api_version >= 4 && request->api_version <= 18;
    if (!produce && !fetch) {
        return FMQ_FRAME_PYTHON;
    }
    (void)fmq_read_view(&request->body, false, false); /* client id: int16 in every header */
    return produce ? fmq_execute_produce(conn, request) : fmq_execute_fetch(conn, request);
}

/* A Fetch with file ranges goes straight to the output, so nothing may be waiting before it. */
static bool must_wait_in_order(const fmq_conn *conn, int16_t api_key) {
    return api_key == 1 && conn->slots_head != NULL;
}

/* Execute one frame; false when it was not consumed. */
static bool execute_frame(fmq_conn *conn, uint8_t *frame, size_t size) {
    fmq_request request = {
        .api_key = (int16_t)fmq_load_be16(frame),
        .api_version = (int16_t)fmq_load_be16(frame + 2),
        .correlation_id = (int32_t)fmq_load_be32(frame + 4),
    };
    if (must_wait_in_order(conn, request.api_key)) {
        conn->blocked |= FMQ_BLOCKED_ORDER;
        return false;
    }
    fmq_reader_init(&request.body, frame + FRAME_MIN_BYTES, size - FRAME_MIN_BYTES);
    conn->frame_hint = size >= DIRECT_BYTES ? size + 4 : 0;
    switch (dispatch(conn, &request)) {
    case FMQ_FRAME_DONE:
        return true;
    case FMQ_FRAME_PYTHON:
        return hand_to_python(conn, &request, frame, size);
    case FMQ_FRAME_WAITS:
        return false;
    case FMQ_FRAME_BAD:
        break;
    }
    /* What was asked before it has been done, and is answered. */
    fmq_conn_end(conn, "a malformed request, or one that failed without an answer (acks=0)");
    return false;
}

static bool may_execute(const fmq_conn *conn) {
    bool stopped = conn->closing || (conn->engine->draining && !conn->fetch_due);
    return !conn->dead && conn->blocked == 0 && !stopped;
}

/* Execute whole frames of [data, data + size); returns the bytes consumed. */
static size_t execute_frames(fmq_conn *conn, uint8_t *data, size_t size) {
    fmq_engine *engine = conn->engine;
    size_t at = 0;
    while (may_execute(conn) && size - at >= 4) {
        uint32_t length = fmq_load_be32(data + at);
        if (length < FRAME_MIN_BYTES || length > engine->options.max_request_bytes) {
            fmq_conn_end(conn, "a request with an impossible length (not Kafka's protocol, or "
                               "larger than socket.request.max.bytes)");
            break;
        }
        if (size - at - 4 < length) {
            break;
        }
        if (!execute_frame(conn, data + at + 4, length)) {
            break;
        }
        at += 4 + (size_t)length;
        fmq_lock_pause(&engine->lock);
    }
    return at;
}

/* Note since when an incomplete frame is being waited for. */
static void note_progress(fmq_conn *conn, size_t consumed) {
    bool incomplete = conn->blocked == 0 && input_size(conn) > 0;
    if (!incomplete) {
        conn->frame_started_ns = 0;
    } else if (consumed > 0 || conn->frame_started_ns == 0) {
        conn->frame_started_ns = conn->engine->now_ns;
    }
}

static void run_input(fmq_conn *conn) {
    size_t consumed = execute_frames(conn, conn->in + conn->in_start, input_size(conn));
    if (conn->dead) {
        return;
    }
    conn->in_start += consumed;
    if (conn->in_start == conn->in_end) {
        conn->in_start = conn->in_end = 0;
        if ((conn->blocked & FMQ_BLOCKED_PYTHON) != 0 && conn->in_capacity > DIRECT_BYTES) {
            give_buffer_back(conn); /* Python has a copy */
        }
    }
    note_progress(conn, consumed);
}

/* ---- receiving ------------------------------------------------------------------------------*/

/* Where to receive to: the rest of a large frame goes straight into the connection's buffer. */
static size_t direct_size(fmq_conn *conn) {
    size_t have = input_size(conn);
    if (have == 0) {
        return conn->frame_hint > 0 && conn->in_capacity >= conn->frame_hint ? conn->frame_hint : 0;
    }
    if (have < DIRECT_BYTES) {
        return 0;
    }
    size_t need = 4 + (size_t)fmq_load_be32(conn->in + conn->in_start);
    size_t missing = need > have ? need - have : 0;
    size_t room = conn->in_capacity - conn->in_end;
    if (missing > room) { /* double what has arrived */
        size_t extra = missing < have ? missing : have;
        if (!make_room(conn, extra)) {
            conn->blocked |= FMQ_BLOCKED_MEMORY;
            return 0;
        }
        room = conn->in_capacity - conn->in_end;
    }
    return missing < room ? missing : room;
}

static void note_received(fmq_conn *conn, int64_t got, size_t asked) {
    fmq_engine *engine = conn->engine;
    engine->counters.recv_calls++;
    if (got > 0) {
        engine->counters.bytes_in += (uint64_t)got;
        conn->activity_ns = engine->now_ns;
        /* A short read has emptied the socket, unless the end of the stream is still to be read. */
        conn->readable = (size_t)got == asked || conn->hung_up;
        if (!conn->readable) {
            fmq_conn_arm(conn, FMQ_READY_READ);
        }
    } else if (got == -EAGAIN) {
        conn->readable = false;
        fmq_conn_arm(conn, FMQ_READY_READ);
    } else if (got == 0) {
        conn->readable = false;
        conn->peer_closed = true;
        if (conn->slots_head == NULL && conn->out_head == NULL &&
            conn->engine->scratch_owner != conn) {
            fmq_conn_close(conn, "closed by the client");
        }
    } else {
        fmq_conn_close(conn, "the connection broke while a request was received");
    }
}

/* One recv and what it brings; returns the bytes received, 0 when there is nothing more. */
static size_t receive(fmq_conn *conn) {
    fmq_engine *engine = conn->engine;
    size_t direct = direct_size(conn);
    if (conn->blocked != 0) {
        return 0;
    }
    if (direct > 0) {
        int64_t got = engine->transport->recv(conn->fd, conn->in + conn->in_end, direct);
        note_received(conn, got, direct);
        if (got <= 0) {
            return 0;
        }
        conn->in_end += (size_t)got;
        run_input(conn);
        return (size_t)got;
    }
    size_t asked = FMQ_RECEIVE_BUFFER_BYTES;
    int64_t got = engine->transport->recv(conn->fd, engine->receive_buffer, asked);
    note_received(conn, got, asked);
    if (got <= 0) {
        return 0;
    }
    size_t size = (size_t)got;
    if (input_size(conn) > 0) {
        if (keep_input(conn, engine->receive_buffer, size)) {
            run_input(conn);
        }
        return size;
    }
    size_t consumed = execute_frames(conn, engine->receive_buffer, size);
    if (!conn->dead && keep_input(conn, engine->receive_buffer + consumed, size - consumed)) {
        note_progress(conn, consumed);
    }
    return size;
}

static void serve(fmq_conn *conn) {
    if (input_size(conn) > 0 && may_execute(conn)) {
        run_input(conn);
    }
    size_t budget = FMQ_TURN_BYTES;
    while (conn->readable && may_execute(conn) && budget > 0) {
        size_t got = receive(conn);
        budget = got < budget ? budget - got : 0;
    }
    if (conn->readable && may_execute(conn)) {
        fmq_conn_make_runnable(conn); /* others first */
    }
}

static void serve_runnable(fmq_engine *engine) {
    fmq_list turn = engine->runnable;
    if (fmq_list_empty(&engine->runnable)) {
        return;
    }
    turn.next->prev = &turn;
    turn.prev->next = &turn;
    fmq_list_init(&engine->runnable);
    while (!fmq_list_empty(&turn)) {
        fmq_conn *conn = FMQ_ENTRY(turn.next, fmq_conn, run_link);
        fmq_list_remove(&conn->run_link);
        serve(conn);
        if (!conn->dead) {
            fmq_conn_flush(conn);
        }
        fmq_lock_pause(&engine->lock);
    }
}

/* ---- deadlines ------------------------------------------------------------------------------*/

static void sweep_conn(fmq_conn *conn, int64_t now_ns) {
    const fmq_engine_options *options = &conn->engine->options;
    if (conn->slots_head != NULL) {
        fmq_conn_expire_slots(conn, now_ns);
    }
    if (conn->dead) {
        return;
    }
    if ((conn->blocked & FMQ_BLOCKED_DISK) != 0) { /* the disk may have stalled */
        fmq_list_remove(&conn->disk_link);
    }
    bool is_starved = (conn->blocked & FMQ_BLOCKED_MEMORY) != 0;
    if (is_starved && conn->hung_up) { /* and holds what others wait for */
        fmq_conn_close(conn, "closed by the client");
        return;
    }
    fmq_conn_unblock(conn, FMQ_BLOCKED_MEMORY | FMQ_BLOCKED_DISK);
    /* Requests that keep each other from being received get no time for their size. */
    int64_t frame_ms =
        options->frame_timeout_ms + (is_starved ? 0 : (int64_t)(conn->in_end / FRAME_BYTES_PER_MS));
    bool waiting =
        (conn->blocked & (FMQ_BLOCKED_PYTHON | FMQ_BLOCKED_FETCH | FMQ_BLOCKED_COLD)) != 0;
    if (conn->frame_started_ns > 0 && now_ns - conn->frame_started_ns > frame_ms * 1000000) {
        fmq_conn_close(conn, "a request was begun and not finished in time");
    } else if (!waiting && conn->slots_head == NULL &&
               now_ns - conn->activity_ns > options->idle_timeout_ms * 1000000) {
        fmq_conn_close(conn, "idle for connections.max.idle.ms");
    } else if (conn->in_capacity > 0 && input_size(conn) == 0 &&
               now_ns - conn->activity_ns > IDLE_BUFFER_NS) {
        give_buffer_back(conn);
    }
}

/* What one huge request needed is not kept for the next. */
static void give_working_space_back(fmq_engine *engine) {
    if (engine->fetch_capacity > FMQ_WORK_KEEP_ENTRIES) {
        fmq_free(engine->env, engine->fetch_entries);
        engine->fetch_entries = NULL;
        engine->fetch_capacity = 0;
    }
    if (engine->produce_capacity > FMQ_WORK_KEEP_ENTRIES) {
        fmq_free(engine->env, engine->produce_entries);
        engine->produce_entries = NULL;
        engine->produce_capacity = 0;
    }
    if (engine->response.capacity > FMQ_WORK_KEEP_BYTES) {
        fmq_writer_free(&engine->response);
    }
}

static void sweep(fmq_engine *engine) {
    if (engine->now_ns < engine->next_sweep_ns) {
        return;
    }
    engine->next_sweep_ns = engine->now_ns + FMQ_SWEEP_NS;
    give_working_space_back(engine);
    for (uint32_t i = 0; i < engine->conn_capacity; i++) {
        if (engine->conns[i] != NULL) {
            sweep_conn(engine->conns[i], engine->now_ns);
        }
    }
}

/* How long the reactor may sleep, in ms, rounded up. */
static int sleep_ms(const fmq_engine *engine, int timeout_ms) {
    if (!fmq_list_empty(&engine->runnable) || !fmq_list_empty(&engine->dirty) ||
        engine->sync_done_head != NULL || engine->cold_done != NULL || engine->held_since_ns != 0 ||
        (engine->cold_queue_head != NULL && engine->cold_thread_count == 0) ||
        atomic_load(&engine->stop)) {
        return 0;
    }
    int64_t until = engine->now_ns + SWEEP_MAX_WAIT_MS * 1000000ll;
    int64_t fetch = fmq_fetch_next_deadline(engine);
    until = fetch < until ? fetch : until;
    if (!fmq_list_empty(&engine->unsynced)) {
        const fmq_partition *first =
            FMQ_ENTRY(engine->unsynced.next, const fmq_partition, dirty_link);
        int64_t due = first->dirty_since_ns + engine->options.flush_interval_ms * 1000000;
        until = due < until ? due : until;
    }
    int64_t wait_ms = (until - engine->now_ns + 999999) / 1000000;
    wait_ms = wait_ms > 0 ? wait_ms : 0;
    return timeout_ms >= 0 && timeout_ms < wait_ms ? timeout_ms : (int)wait_ms;
}

/* ---- the turn -------------------------------------------------------------------------------*/

static void on_event(fmq_engine *engine, const fmq_ready *event) {
    if (event->key == 0) {
        fmq_wakeup_clear(&engine->wake);
        fmq_poller_arm(engine->poller, engine->wake.read_fd, FMQ_READY_READ);
        return;
    }
    fmq_conn *conn = fmq_conn_find(engine, event->key);
    if (conn == NULL) {
        return;
    }
    if ((event->what & FMQ_READY_WRITE) != 0 && conn->send_blocked) {
        conn->send_blocked = false;
        fmq_conn_flush(conn);
    }
    if (conn->dead || (event->what & (FMQ_READY_READ | FMQ_READY_GONE)) == 0) {
        return;
    }
    bool gone = (event->what & FMQ_READY_GONE) != 0;
    conn->hung_up = conn->hung_up || gone;
    if (gone && (conn->blocked & FMQ_BLOCKED_FETCH) != 0) {
        fmq_conn_close(conn, "closed by the client");
        return;
    }
    conn->readable = true;
    if (conn->blocked == 0) {
        fmq_conn_make_runnable(conn);
    }
}

/* Tell fmq_engine_vitals that a turn goes on: the wait for the lock belongs to it. */
static void note_turn(fmq_engine *engine, bool goes_on) {
    int64_t began_ns = goes_on ? engine->env->mono_ns(engine->env->ctx) : 0;
    atomic_store_explicit(&engine->turn_began_ns, began_ns, memory_order_relaxed);
}

int fmq_engine_run_once(fmq_engine *engine, int timeout_ms) {
    note_turn(engine, true);
    fmq_lock_take(&engine->lock);
    engine->now_ns = engine->env->mono_ns(engine->env->ctx);
    int wait_ms = sleep_ms(engine, timeout_ms);
    engine->asleep = wait_ms != 0;
    int failure = fmq_poller_prepare(engine->poller);
    fmq_lock_give(&engine->lock);

    if (failure == FMQ_OK) {
        note_turn(engine, false);
        failure = fmq_poller_wait(engine->poller, wait_ms);
    }

    note_turn(engine, true);
    fmq_lock_take(&engine->lock);
    engine->asleep = false;
    engine->counters.reactor_turns++;
    engine->now_ns = engine->env->mono_ns(engine->env->ctx);
    engine->in_turn = true;
    bool idle = fmq_list_empty(&engine->runnable) && engine->sync_done_head == NULL;
    fmq_ready event;
    while (fmq_poller_next(engine->poller, &event)) {
        idle = false;
        on_event(engine, &event);
    }
    fmq_sync_collect(engine);
    fmq_cold_collect(engine);
    fmq_fetch_fire_due(engine);
    serve_runnable(engine);
    fmq_sync_due(engine);
    sweep(engine);
    fmq_conn_flush_dirty(engine);
    fmq_conn_bury(engine);
    engine->in_turn = false;
    fmq_sync_let_go(engine, idle);
    fmq_lock_give(&engine->lock);
    note_turn(engine, false);
    return failure;
}

int fmq_engine_poll_fd(const fmq_engine *engine) {
    return fmq_poller_fd(engine->poller);
}

const char *fmq_engine_poller(void) {
    return fmq_poller_name();
}

int fmq_engine_next_timeout_ms(fmq_engine *engine) {
    fmq_lock_take(&engine->lock);
    engine->now_ns = engine->env->mono_ns(engine->env->ctx);
    int wait_ms = sleep_ms(engine, -1);
    engine->asleep = wait_ms != 0; /* from now on others wake the loop through the descriptor */
    fmq_lock_give(&engine->lock);
    return wait_ms;
}

int fmq_engine_run(fmq_engine *engine) {
    int rc = FMQ_OK;
    while (rc == FMQ_OK && !atomic_load(&engine->stop)) {
        rc = fmq_engine_run_once(engine, -1);
    }
    return rc;
}

void fmq_engine_stop(fmq_engine *engine) {
    atomic_store(&engine->stop, true);
    fmq_lock_take(&engine->lock);
    fmq_engine_wake(engine);
    fmq_lock_give(&engine->lock);
}

/* How long ago that was, in ms; 0 for never. */
static int64_t age_ms(const fmq_engine *engine, _Atomic int64_t *began_ns) {
    int64_t at = atomic_load_explicit(began_ns, memory_order_relaxed);
    int64_t age_ns = at == 0 ? 0 : engine->env->mono_ns(engine->env->ctx) - at;
    return age_ns > 0 ? age_ns / 1000000 : 0;
}

void fmq_engine_vitals(fmq_engine *engine, fmq_vitals *out) {
    out->turn_ms = age_ms(engine, &engine->turn_began_ns);
    out->sync_ms = age_ms(engine, &engine->oldest_sync_ns);
}
