/* fetch.c - the Fetch request, versions 4 to 18, and fetches that wait for data.
 *
 * A Fetch is read as a whole, then every partition is looked up and asked for whole batches below
 * its high watermark.  With enough bytes, an error, or no time to wait it is answered: small slices
 * are copied into the answer, larger ones are queued as file ranges and leave by sendfile.
 *
 * Otherwise the frame stays at the head of the connection's input, the connection listens to its
 * partitions, and the request is executed anew, and then answered in any case, when min_bytes have
 * become readable, a partition changes its role, or max_wait is over.  The last stable offset is
 * the high watermark: no batch is transactional (produce.c refuses them).
 */
#include "replicas.h"

#define FETCH_FLEXIBLE 12
#define FETCH_TOPIC_IDS 13
#define FETCH_COPY_TOTAL_BYTES (256u << 10) /* copied per answer; more goes by sendfile */
#define FETCH_TAG_REPLICA_STATE 1
#define FETCH_WAIT_MAX_MS 3600000
#define FETCH_CHECKS_MAX 3 /* of the bytes of one Fetch, before it is given up */

typedef struct fmq_fetch_entry {
    const uint8_t *topic; /* set on the first partition of a topic, as in produce.c */
    uint32_t topic_size;
    uint32_t partition_count;
    int32_t index;
    fmq_partition *partition;
    int64_t offset;
    int32_t leader_epoch; /* as the client knows it, -1: no check */
    int32_t last_epoch;   /* followers: of the last batch they have, -1: none */
    uint32_t max_bytes;
    int error;
    int32_t diverging_epoch; /* followers: their log leaves ours at the end of this epoch, */
    int64_t diverging_end;   /* here; -1: it does not */
    fmq_slice slice;
    size_t cut;     /* position in the answer where the file range belongs; 0: none */
    bool throttled; /* a follower that has to wait; no append wakes it */
} fmq_fetch_entry;

typedef struct fetch_request {
    int32_t replica_id; /* -1: a client */
    int64_t broker_epoch;
    int32_t max_wait_ms;
    int32_t min_bytes;
    int32_t max_bytes;
    int8_t isolation;
    int32_t session_id;
    int32_t session_epoch;
    uint32_t topic_count;
    uint32_t entry_count;
    bool slow;
} fetch_request;

/* ---- reading the request --------------------------------------------------------------------*/

static fmq_fetch_entry *add_entry(fmq_engine *engine, uint32_t index) {
    fmq_fetch_entry *entries = fmq_work_room(engine->env, engine->fetch_entries,
                                             &engine->fetch_capacity, index, sizeof *entries);
    if (entries == NULL) {
        return NULL;
    }
    engine->fetch_entries = entries;
    return &entries[index];
}

static void parse_partition(fmq_request *request, fmq_fetch_entry *entry) {
    fmq_reader *r = &request->body;
    int16_t version = request->api_version;
    entry->index = fmq_read_i32(r);
    entry->leader_epoch = version >= 9 ? fmq_read_i32(r) : -1;
    entry->offset = fmq_read_i64(r);
    entry->last_epoch = version >= 12 ? fmq_read_i32(r) : -1;
    if (version >= 5) {
        (void)fmq_read_i64(r); /* log_start_offset: followers */
    }
    int32_t max_bytes = fmq_read_i32(r);
    entry->max_bytes = max_bytes > 0 ? (uint32_t)max_bytes : 0;
    fmq_skip_tags(r, request->flexible);
}

static bool parse_topic(fmq_engine *engine, fmq_request *request, fetch_request *out) {
    fmq_reader *r = &request->body;
    bool by_id = request->api_version >= FETCH_TOPIC_IDS;
    fmq_view name = {NULL, 0};
    if (by_id) {
        name.data = fmq_read_raw(r, 16);
        name.size = 16;
    } else {
        name = fmq_read_string(r, request->flexible);
    }
    uint32_t count = fmq_read_count(r, request->flexible, 16);
    if (!fmq_reader_ok(r) || name.data == NULL) {
        r->bad = true;
        return true;
    }
    fmq_topic *topic = by_id ? fmq_topic_by_id(engine, name.data)
                             : fmq_topic_by_name(engine, name.data, name.size);
    for (uint32_t i = 0; i < count || i == 0; i++) {
        fmq_fetch_entry *entry = add_entry(engine, out->entry_count);
        if (entry == NULL) {
            return false;
        }
        out->entry_count++;
        if (i == 0) {
            entry->topic = name.data;
            entry->topic_size = name.size;
            entry->partition_count = count;
        }
        if (count > 0) {
            parse_partition(request, entry);
            entry->partition = fmq_topic_partition(topic, entry->index);
            out->slow =
                out->slow || (entry->partition == NULL
                                  ? engine->options.has_peers
                                  : (entry->partition->config->flags & FMQ_SLOW_FETCH) != 0);
        }
        if (!fmq_reader_ok(r)) {
            return true;
        }
    }
    fmq_skip_tags(r, request->flexible);
    return true;
}

/* Tags of the request: the replica state holds what replica_id was before version 15. */
static void parse_tags(fmq_request *request, fetch_request *out) {
    fmq_reader *r = &request->body;
    if (!request->flexible) {
        return;
    }
    uint32_t count = fmq_read_uvarint(r);
    while (count-- > 0 && fmq_reader_ok(r)) {
        uint32_t tag = fmq_read_uvarint(r);
        uint32_t size = fmq_read_uvarint(r);
        const uint8_t *data = fmq_read_raw(r, size);
        if (tag == FETCH_TAG_REPLICA_STATE && data != NULL && size >= 4) {
            out->replica_id = (int32_t)fmq_load_be32(data);
            out->broker_epoch = size >= 12 ? (int64_t)fmq_load_be64(data + 4) : -1;
        }
    }
}

static bool parse(fmq_engine *engine, fmq_request *request, fetch_request *out) {
    fmq_reader *r = &request->body;
    bool flexible = request->flexible;
    int16_t version = request->api_version;
    memset(out, 0, sizeof *out);
    out->broker_epoch = -1;
    out->replica_id = version <= 14 ? fmq_read_i32(r) : -1;
    out->max_wait_ms = fmq_read_i32(r);
    out->min_bytes = fmq_read_i32(r);
    out->max_bytes = fmq_read_i32(r);
    out->isolation = fmq_read_i8(r);
    out->session_epoch = -1;
    if (version >= 7) {
        out->session_id = fmq_read_i32(r);
        out->session_epoch = fmq_read_i32(r);
    }
    out->topic_count = fmq_read_count(r, flexible, 3);
    for (uint32_t i = 0; i < out->topic_count && fmq_reader_ok(r); i++) {
        if (!parse_topic(engine, request, out)) {
            return false;
        }
    }
    if (version >= 7) { /* forgotten topics: nothing is remembered */
        uint32_t topics = fmq_read_count(r, flexible, 3);
        for (uint32_t i = 0; i < topics && fmq_reader_ok(r); i++) {
            if (version >= FETCH_TOPIC_IDS) {
                (void)fmq_read_raw(r, 16);
            } else {
                (void)fmq_read_string(r, flexible);
            }
            (void)fmq_read_raw(r, 4 * (size_t)fmq_read_count(r, flexible, 4));
            fmq_skip_tags(r, flexible);
        }
    }
    if (version >= 11) {
        (void)fmq_read_string(r, flexible); /* rack_id */
    }
    parse_tags(request, out);
    return true;
}

/* ---- looking the data up --------------------------------------------------------------------*/

/* Clients that know of racks may read from followers, too. */
static bool may_read(const fmq_request *request, const fetch_request *fetch,
                     const fmq_partition *partition) {
    return fetch->replica_id < 0 && request->api_version >= 11 &&
           partition->role == FMQ_ROLE_FOLLOWER && partition->dir->error == 0;
}

static int check_leader(const fmq_request *request, const fetch_request *fetch,
                        const fmq_fetch_entry *entry) {
    const fmq_partition *partition = entry->partition;
    if (partition == NULL) {
        return request->api_version >= FETCH_TOPIC_IDS ? FMQ_ERR_UNKNOWN_TOPIC_ID
                                                       : FMQ_ERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    int rc = may_read(request, fetch, partition) ? FMQ_OK : fmq_partition_writable(partition);
    if (rc != FMQ_OK || entry->leader_epoch < 0 || entry->leader_epoch == partition->leader_epoch) {
        return rc;
    }
    return entry->leader_epoch < partition->leader_epoch ? FMQ_ERR_FENCED_LEADER_EPOCH
                                                         : FMQ_ERR_UNKNOWN_LEADER_EPOCH;
}

/* A follower tells by its fetch what it has.  `*limit` becomes what it may read. */
static int note_follower(const fetch_request *fetch, fmq_fetch_entry *entry, int64_t *limit) {
    fmq_partition *partition = entry->partition;
    *limit = fmq_replicas_readable_end(partition);
    if (entry->last_epoch >= 0) {
        int32_t epoch;
        int64_t end;
        fmq_partition_find_epoch_end(partition, entry->last_epoch, &epoch, &end);
        if (end >= 0 && (epoch < entry->last_epoch || end < entry->offset)) {
            entry->diverging_epoch = epoch;
            entry->diverging_end = end;
            *limit = 0;
            return FMQ_OK;
        }
    }
    int rc = fmq_replicas_fetched(partition, fetch->replica_id, fetch->broker_epoch, entry->offset);
    entry->throttled = rc == FMQ_OK && fmq_replicas_must_wait(partition, fetch->replica_id);
    if (entry->throttled) {
        *limit = entry->offset;
    }
    return rc;
}

/* Find the slice of one partition; `room` is what the answer may still take. */
static int look_up(const fmq_request *request, const fetch_request *fetch, fmq_fetch_entry *entry,
                   uint64_t room, bool min_one) {
    entry->diverging_end = -1;
    entry->throttled = false;
    int rc = check_leader(request, fetch, entry);
    if (rc == FMQ_OK) {
        rc = fmq_partition_open(entry->partition);
    }
    if (rc != FMQ_OK) {
        return rc;
    }
    const fmq_partition *partition = entry->partition;
    int64_t limit = partition->high_watermark;
    if (fetch->replica_id >= 0) {
        rc = note_follower(fetch, entry, &limit);
    }
    if (rc != FMQ_OK || entry->diverging_end >= 0) {
        return rc;
    }
    rc = fmq_corrupt_check(partition, entry->offset, &limit);
    if (rc != FMQ_OK) {
        return rc;
    }
    if (entry->offset >= limit) { /* at the end, or not acknowledged yet: nothing, no error */
        return entry->offset <= fmq_log_end(partition->log) ? FMQ_OK : FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    uint32_t max_bytes = entry->max_bytes < room ? entry->max_bytes : (uint32_t)room;
    if (max_bytes == 0 && !min_one) {
        return entry->offset >= fmq_log_start(partition->log) ? FMQ_OK
                                                              : FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    rc = fmq_log_read(partition->log, entry->offset, limit, max_bytes, min_one, &entry->slice);
    if (rc == FMQ_ERR_CORRUPT_MESSAGE) {
        fmq_corrupt_note(entry->partition, entry->offset, entry->offset + 1);
    }
    return rc;
}

/* Look everything up.  Returns the bytes found, -1 when some partition has an error. */
static int64_t look_up_all(fmq_engine *engine, const fmq_request *request,
                           const fetch_request *fetch) {
    uint64_t limit = engine->options.fetch_max_bytes;
    if (fetch->max_bytes >= 0 && (uint64_t)fetch->max_bytes < limit) {
        limit = (uint64_t)fetch->max_bytes;
    }
    uint64_t total = 0;
    bool failed = false;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (entry->topic != NULL && entry->partition_count == 0) {
            continue;
        }
        uint64_t room = total < limit ? limit - total : 0;
        entry->error = look_up(request, fetch, entry, room, total == 0);
        failed = failed || entry->diverging_end >= 0;
        if (entry->error != FMQ_OK) {
            failed = true;
            engine->counters.fetch_errors++;
        }
        total += entry->slice.size;
    }
    return failed ? -1 : (int64_t)total;
}

static void give_back(fmq_fetch_entry *entry) {
    if (entry->slice.segment != NULL) {
        fmq_segment_unref(entry->slice.segment);
        memset(&entry->slice, 0, sizeof entry->slice);
    }
}

/* ---- answering ------------------------------------------------------------------------------*/

/* Copy a small slice into the answer; false when it has to go as a file range. */
static bool copy_slice(fmq_engine *engine, fmq_fetch_entry *entry, size_t *copied) {
    fmq_writer *w = &engine->response;
    size_t size = entry->slice.size;
    if (size > FMQ_COPY_SLICE_BYTES || *copied + size > FETCH_COPY_TOTAL_BYTES) {
        return false;
    }
    uint8_t *at = fmq_writer_reserve(w, size);
    int rc = at == NULL ? -ENOMEM : fmq_segment_pin(entry->slice.segment);
    if (rc >= 0) {
        rc = fmq_slice_read(&entry->slice, at, false);
        fmq_segment_unpin(entry->slice.segment);
    }
    if (rc != FMQ_OK) {
        w->failed = true; /* the length is written already: the connection is given up */
    }
    *copied += size;
    engine->counters.record_bytes_out += size;
    give_back(entry);
    return true;
}

/* Tags of a partition: the one that tells a follower to cut.  Only versions with tags ask. */
static void write_diverging_epoch(fmq_writer *w, const fmq_fetch_entry *entry) {
    fmq_write_uvarint(w, 1);         /* one tag, */
    fmq_write_uvarint(w, 0);         /* of this number, */
    fmq_write_uvarint(w, 4 + 8 + 1); /* and size */
    fmq_write_i32(w, entry->diverging_epoch);
    fmq_write_i64(w, entry->diverging_end);
    fmq_write_no_tags(w, true);
}

static void write_partition(fmq_engine *engine, const fmq_request *request,
                            const fetch_request *fetch, fmq_fetch_entry *entry, size_t *copied) {
    fmq_writer *w = &engine->response;
    int16_t version = request->api_version;
    const fmq_partition *partition = entry->partition;
    bool ok = entry->error == FMQ_OK;
    fmq_write_i32(w, entry->index);
    fmq_write_i16(w, fmq_error_code(entry->error));
    /* A follower whose offset is not in our log cuts or begins anew by these. */
    bool tells = ok || (fetch->replica_id >= 0 && partition != NULL && partition->log != NULL);
    fmq_write_i64(w, tells ? partition->high_watermark : -1);
    fmq_write_i64(w, tells ? partition->high_watermark : -1); /* last stable offset */
    if (version >= 5) {
        fmq_write_i64(w, tells ? fmq_log_start(partition->log) : -1);
    }
    /* Aborted transactions: none; null for read_uncommitted. */
    fmq_write_length(w, request->flexible, true, ok && fetch->isolation == 1 ? 0 : -1);
    if (version >= 11) {
        fmq_write_i32(w, -1); /* preferred_read_replica */
    }
    fmq_write_length(w, request->flexible, true, (int32_t)entry->slice.size);
    if (fetch->replica_id >= 0 && entry->slice.size > 0) {
        fmq_replicas_sent(partition, fetch->replica_id, (uint32_t)entry->slice.size);
    }
    if (entry->slice.size > 0 && !copy_slice(engine, entry, copied)) {
        entry->cut = w->size;
    }
    if (entry->diverging_end >= 0) {
        write_diverging_epoch(w, entry);
    } else {
        fmq_write_no_tags(w, request->flexible);
    }
}

static void write_head(fmq_writer *w, const fmq_request *request, int error, uint32_t topic_count) {
    w->size = 0;
    fmq_write_i32(w, 0); /* length */
    fmq_write_i32(w, request->correlation_id);
    fmq_write_no_tags(w, request->flexible);
    fmq_write_i32(w, 0); /* throttle_time_ms */
    if (request->api_version >= 7) {
        fmq_write_i16(w, (int16_t)error);
        fmq_write_i32(w, 0); /* session_id: no session, the next fetch is a full one */
    }
    fmq_write_count(w, request->flexible, topic_count);
}

static void write_answer(fmq_engine *engine, const fmq_request *request,
                         const fetch_request *fetch) {
    fmq_writer *w = &engine->response;
    size_t copied = 0;
    uint32_t left = 0;
    write_head(w, request, FMQ_OK, fetch->topic_count);
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (entry->topic != NULL) {
            if (request->api_version >= FETCH_TOPIC_IDS) {
                fmq_write_raw(w, entry->topic, 16);
            } else {
                fmq_write_string(w, request->flexible, entry->topic, entry->topic_size);
            }
            fmq_write_count(w, request->flexible, entry->partition_count);
            left = entry->partition_count;
        }
        if (left > 0) {
            left--;
            write_partition(engine, request, fetch, entry, &copied);
        }
        if (left == 0) {
            fmq_write_no_tags(w, request->flexible);
        }
    }
    fmq_write_no_tags(w, request->flexible);
}

/* Send the answer: its bytes, interrupted by file ranges at the cuts. */
static void send_answer(fmq_conn *conn, const fetch_request *fetch) {
    fmq_engine *engine = conn->engine;
    fmq_writer *w = &engine->response;
    uint64_t extra = 0;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        extra += engine->fetch_entries[i].cut ? engine->fetch_entries[i].slice.size : 0;
    }
    if (w->failed || extra == 0) {
        if (!w->failed) {
            fmq_answer_set_length(w, 0);
        }
        fmq_conn_answer(conn);
        extra = 0;
    } else {
        fmq_answer_set_length(w, extra);
    }
    size_t sent = 0;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (extra == 0 || entry->cut == 0) {
            give_back(entry);
            continue;
        }
        fmq_conn_write(conn, w->data + sent, entry->cut - sent);
        sent = entry->cut;
        fmq_conn_write_file(conn, &entry->slice); /* takes the reference, dead or alive */
    }
    if (extra > 0) {
        fmq_conn_write(conn, w->data + sent, w->size - sent);
    }
}

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

static bool start_waiting(fmq_conn *conn, const fetch_request *fetch, int64_t have) {
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
        give_back(entry);
    }
    conn->fetch_waits = waits;
    conn->fetch_wait_count = count;
    conn->fetch_missing = fetch->min_bytes - have;
    conn->blocked |= FMQ_BLOCKED_FETCH;
    engine->counters.fetch_parked++;
    return true;
}

/* ---- bytes that may not be served yet -------------------------------------------------------*/

static void refuse_slice(fmq_fetch_entry *entry, int error) {
    give_back(entry);
    entry->error = error;
}

/* What this process has not written is checked before it leaves, and checked again once it has left
 * the page cache: by a thread, so that the reactor never waits for a disk.  True when the Fetch is
 * to be executed anew afterwards; otherwise all slices that are left may be served. */
static bool check_first(fmq_conn *conn, const fetch_request *fetch) {
    fmq_engine *engine = conn->engine;
    fmq_cold_job *job = NULL;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (entry->slice.size == 0) {
            continue;
        }
        if (!conn->fetch_warm) {
            fmq_slice_probe(&entry->slice);
        }
        if (fmq_slice_is_trusted(&entry->slice)) {
            continue;
        }
        if (conn->fetch_checks == FETCH_CHECKS_MAX) { /* damage misleads the look-up */
            if (conn->fetch_corrupt) {
                fmq_corrupt_note(entry->partition, entry->offset, entry->offset + 1);
            }
            refuse_slice(entry, conn->fetch_corrupt ? FMQ_ERR_CORRUPT_MESSAGE : -EAGAIN);
            continue;
        }
        job = job == NULL ? fmq_cold_job_new(conn, fetch->entry_count) : job;
        int rc = job == NULL ? -ENOMEM : fmq_cold_job_add(job, entry->partition, &entry->slice);
        if (rc != FMQ_OK) {
            refuse_slice(entry, rc);
        }
    }
    conn->fetch_warm = false;
    if (job == NULL || fmq_cold_job_is_empty(job)) {
        fmq_free(engine->env, job);
        return false;
    }
    conn->fetch_checks++;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        give_back(&engine->fetch_entries[i]);
    }
    fmq_cold_job_start(job);
    return true;
}

/* ---- the request ----------------------------------------------------------------------------*/

fmq_verdict fmq_execute_fetch(fmq_conn *conn, fmq_request *request) {
    fmq_engine *engine = conn->engine;
    request->flexible = request->api_version >= FETCH_FLEXIBLE;
    fmq_skip_tags(&request->body, request->flexible); /* request header v2 */
    fetch_request fetch;
    if (!parse(engine, request, &fetch) || !fmq_reader_ok(&request->body)) {
        return FMQ_FRAME_BAD;
    }
    if (fetch.replica_id >= 0 && !conn->is_peer) {
        return FMQ_FRAME_BAD; /* nobody but another broker may pose as a replica */
    }
    if (fetch.slow && fetch.replica_id < 0) {
        return FMQ_FRAME_PYTHON;
    }
    if (fetch.session_epoch > 0) { /* continues a session, and there are none */
        write_head(&engine->response, request, FMQ_ERR_FETCH_SESSION_ID_NOT_FOUND, 0);
        fmq_write_no_tags(&engine->response, request->flexible);
        fmq_answer_set_length(&engine->response, 0);
        fmq_conn_answer(conn);
        return FMQ_FRAME_DONE;
    }
    if (conn->fetch_began_ns == 0) {
        conn->fetch_began_ns = engine->now_ns;
    }
    int64_t have = look_up_all(engine, request, &fetch);
    bool answer = have < 0 || have >= fetch.min_bytes || fetch.max_wait_ms <= 0 ||
                  conn->fetch_due || engine->draining;
    if (!answer && start_waiting(conn, &fetch, have)) {
        return FMQ_FRAME_WAITS;
    }
    if (have != 0 && check_first(conn, &fetch)) {
        conn->fetch_due = true; /* whatever happens meanwhile, it is answered then */
        return FMQ_FRAME_WAITS;
    }
    conn->fetch_due = false;
    conn->fetch_checks = 0;
    conn->fetch_corrupt = false;
    engine->counters.fetch_requests++;
    write_answer(engine, request, &fetch);
    send_answer(conn, &fetch);
    fmq_latency_note(engine, &engine->fetch_latency, conn->fetch_began_ns);
    conn->fetch_began_ns = 0;
    return FMQ_FRAME_DONE;
}
