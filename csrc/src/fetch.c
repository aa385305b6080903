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
#include "fetch.h"
#include "racks.h"

#define FETCH_COPY_TOTAL_BYTES (256u << 10) /* copied per answer; more goes by sendfile */
#define FETCH_CHECKS_MAX 3                  /* of the bytes of one Fetch, before it is given up */

/* ---- looking the data up --------------------------------------------------------------------*/

/* Clients that know of racks may read from followers, too. */
static bool may_read(const fmq_request *request, const fmq_fetch_request *fetch,
                     const fmq_partition *partition) {
    return fetch->replica_id < 0 && request->api_version >= 11 &&
           partition->role == FMQ_ROLE_FOLLOWER && partition->dir->error == 0;
}

static int check_leader(const fmq_request *request, const fmq_fetch_request *fetch,
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
static int note_follower(const fmq_fetch_request *fetch, fmq_fetch_entry *entry, int64_t *limit) {
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
static int look_up(const fmq_request *request, fmq_fetch_request *fetch, fmq_fetch_entry *entry,
                   uint64_t room, bool min_one) {
    entry->diverging_end = -1;
    entry->preferred_replica = -1;
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
    if (partition->engine->rack_count > 0) {
        fetch->has_news =
            fetch->has_news || (fetch->replica_id >= 0 && entry->told_watermark >= 0 &&
                                entry->told_watermark < partition->high_watermark);
        if (fetch->replica_id < 0 && entry->offset <= limit &&
            entry->offset >= fmq_log_start(partition->log)) {
            entry->preferred_replica = fmq_racks_choose(partition, fetch->rack, entry->offset);
        }
        if (entry->preferred_replica >= 0) {
            return FMQ_OK;
        }
    }
    rc = fmq_corrupt_check(partition, entry->offset, &limit);
    if (rc != FMQ_OK) {
        return rc;
    }
    if (entry->offset >= limit) { /* at the end, or not acknowledged yet: nothing, no error */
        if (entry->offset <= fmq_log_end(partition->log)) {
            return FMQ_OK;
        }
        /* Who may have been replaced cannot say that there is no such offset: consumers would
         * begin elsewhere. */
        return fmq_replicas_lease_is_over(partition) ? FMQ_ERR_NOT_LEADER_OR_FOLLOWER
                                                     : FMQ_ERR_OFFSET_OUT_OF_RANGE;
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
                           fmq_fetch_request *fetch) {
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
        failed = failed || entry->diverging_end >= 0 || entry->preferred_replica >= 0;
        if (entry->error != FMQ_OK) {
            failed = true;
            engine->counters.fetch_errors++;
        }
        total += entry->slice.size;
    }
    return failed ? -1 : (int64_t)total;
}

void fmq_fetch_give_back(fmq_fetch_entry *entry) {
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
    fmq_fetch_give_back(entry);
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
                            const fmq_fetch_request *fetch, fmq_fetch_entry *entry,
                            size_t *copied) {
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
        fmq_write_i32(w, entry->preferred_replica);
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

static void write_head(fmq_writer *w, const fmq_request *request, const fmq_fetch_request *fetch,
                       int error) {
    w->size = 0;
    fmq_write_i32(w, 0); /* length */
    fmq_write_i32(w, request->correlation_id);
    fmq_write_no_tags(w, request->flexible);
    fmq_write_i32(w, 0); /* throttle_time_ms */
    if (request->api_version >= 7) {
        fmq_write_i16(w, (int16_t)error);
        fmq_write_i32(w, fetch->answer_session);
    }
    fmq_write_count(w, request->flexible, fetch->topic_count);
}

static void write_answer(fmq_engine *engine, const fmq_request *request,
                         const fmq_fetch_request *fetch) {
    fmq_writer *w = &engine->response;
    size_t copied = 0;
    uint32_t left = 0;
    write_head(w, request, fetch, FMQ_OK);
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (entry->omitted) {
            continue;
        }
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
static void send_answer(fmq_conn *conn, const fmq_fetch_request *fetch) {
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
            fmq_fetch_give_back(entry);
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

/* ---- bytes that may not be served yet -------------------------------------------------------*/

static void refuse_slice(fmq_fetch_entry *entry, int error) {
    fmq_fetch_give_back(entry);
    entry->error = error;
}

/* What this process has not written is checked before it leaves, and checked again once it has left
 * the page cache: by a thread, so that the reactor never waits for a disk.  True when the Fetch is
 * to be executed anew afterwards; otherwise all slices that are left may be served. */
static bool check_first(fmq_conn *conn, const fmq_fetch_request *fetch) {
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
        fmq_fetch_give_back(&engine->fetch_entries[i]);
    }
    fmq_cold_job_start(job);
    return true;
}

/* ---- the request ----------------------------------------------------------------------------*/

/* An error of the whole request. */
static fmq_verdict refuse(fmq_conn *conn, const fmq_request *request, int error) {
    fmq_engine *engine = conn->engine;
    const fmq_fetch_request nothing = {0};
    write_head(&engine->response, request, &nothing, fmq_error_code(error));
    fmq_write_no_tags(&engine->response, request->flexible);
    fmq_answer_set_length(&engine->response, 0);
    fmq_conn_answer(conn);
    conn->fetch_due = conn->fetch_corrupt = false;
    conn->fetch_checks = 0;
    conn->fetch_began_ns = 0;
    return FMQ_FRAME_DONE;
}

fmq_verdict fmq_execute_fetch(fmq_conn *conn, fmq_request *request) {
    fmq_engine *engine = conn->engine;
    request->flexible = request->api_version >= FETCH_FLEXIBLE;
    fmq_skip_tags(&request->body, request->flexible); /* request header v2 */
    fmq_fetch_request fetch;
    if (!fmq_fetch_parse(engine, request, &fetch) || !fmq_reader_ok(&request->body)) {
        return FMQ_FRAME_BAD;
    }
    if (fetch.replica_id >= 0 && !conn->is_peer) {
        return FMQ_FRAME_BAD; /* nobody but another broker may pose as a replica */
    }
    if (fetch.slow && fetch.replica_id < 0 && fetch.session_epoch <= 0) {
        return FMQ_FRAME_PYTHON;
    }
    int error = fmq_session_begin(conn, request, &fetch);
    if (error != FMQ_OK) {
        return refuse(conn, request, error);
    }
    if (conn->fetch_began_ns == 0) {
        conn->fetch_began_ns = engine->now_ns;
    }
    int64_t have = look_up_all(engine, request, &fetch);
    bool answer = have < 0 || fetch.has_news || have >= fetch.min_bytes || fetch.max_wait_ms <= 0 ||
                  conn->fetch_due || engine->draining ||
                  (fetch.entry_count == 0 && fetch.session_epoch > 0);
    if (!answer && fmq_fetch_start_waiting(conn, &fetch, have)) {
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
    fmq_session_end(engine, request, &fetch);
    write_answer(engine, request, &fetch);
    send_answer(conn, &fetch);
    fmq_latency_note(engine, &engine->fetch_latency, conn->fetch_began_ns);
    conn->fetch_began_ns = 0;
    return FMQ_FRAME_DONE;
}
