/* produce.c - the Produce request, versions 3 to 13.
 *
 * Two passes: the first reads the whole frame and looks every partition up, so that a malformed
 * frame appends nothing and a partition that needs Python is seen before anything is done; the
 * second appends in order and writes the answer.  Batches are patched in place and written from the
 * receive buffer with one pwrite each.
 *
 * The answer is complete after the second pass.  Where a partition still has to become durable or
 * replicated, the answer waits in a slot; a failure meanwhile overwrites that partition's error
 * code.
 */
#include "replicas.h"

#define PRODUCE_FLEXIBLE 9
#define PRODUCE_TOPIC_IDS 13

typedef struct fmq_produce_entry {
    const uint8_t *topic; /* name or id, in the frame; NULL: same topic as the entry before */
    uint32_t topic_size;
    uint32_t partition_count; /* of the topic, where `topic` is set */
    int32_t index;
    fmq_partition *partition; /* NULL: unknown */
    const uint8_t *records;
    uint32_t records_size;
    size_t error_position;
    int64_t required; /* high watermark to wait for; -1: answered */
} fmq_produce_entry;

typedef struct produce_request {
    bool transactional;
    int16_t acks;
    int32_t timeout_ms;
    uint32_t topic_count;
    uint32_t entry_count;
    bool slow;
} produce_request;

static fmq_produce_entry *add_entry(fmq_engine *engine, uint32_t index) {
    fmq_produce_entry *entries = fmq_work_room(engine->env, engine->produce_entries,
                                               &engine->produce_capacity, index, sizeof *entries);
    if (entries == NULL) {
        return NULL;
    }
    engine->produce_entries = entries;
    entries[index].required = -1;
    return &entries[index];
}

/* One topic of the frame; false when memory ran out. */
static bool parse_topic(fmq_engine *engine, fmq_request *request, produce_request *out) {
    fmq_reader *r = &request->body;
    bool flexible = request->flexible;
    bool by_id = request->api_version >= PRODUCE_TOPIC_IDS;
    fmq_view name = {NULL, 0};
    if (by_id) {
        name.data = fmq_read_raw(r, 16);
        name.size = 16;
    } else {
        name = fmq_read_string(r, flexible);
    }
    uint32_t count = fmq_read_count(r, flexible, 5);
    if (!fmq_reader_ok(r) || name.data == NULL) {
        r->bad = true;
        return true;
    }
    fmq_topic *topic = by_id ? fmq_topic_by_id(engine, name.data)
                             : fmq_topic_by_name(engine, name.data, name.size);
    for (uint32_t i = 0; i < count && fmq_reader_ok(r); i++) {
        fmq_produce_entry *entry = add_entry(engine, out->entry_count);
        if (entry == NULL) {
            return false;
        }
        out->entry_count++;
        if (i == 0) {
            entry->topic = name.data;
            entry->topic_size = name.size;
            entry->partition_count = count;
        }
        entry->index = fmq_read_i32(r);
        fmq_view records = fmq_read_bytes(r, flexible);
        fmq_skip_tags(r, flexible);
        entry->records = records.data;
        entry->records_size = records.size;
        entry->partition = fmq_topic_partition(topic, entry->index);
        out->slow = out->slow || (entry->partition == NULL
                                      ? engine->options.has_peers
                                      : (entry->partition->config->flags & FMQ_SLOW_PRODUCE) != 0);
    }
    if (count == 0) { /* keeps the topic in the answer */
        fmq_produce_entry *entry = add_entry(engine, out->entry_count);
        if (entry == NULL) {
            return false;
        }
        out->entry_count++;
        entry->topic = name.data;
        entry->topic_size = name.size;
    }
    fmq_skip_tags(r, flexible);
    return true;
}

static bool parse(fmq_engine *engine, fmq_request *request, produce_request *out) {
    fmq_reader *r = &request->body;
    memset(out, 0, sizeof *out);
    out->transactional = fmq_read_string(r, request->flexible).data != NULL;
    out->acks = fmq_read_i16(r);
    out->timeout_ms = fmq_read_i32(r);
    out->topic_count = fmq_read_count(r, request->flexible, 3);
    for (uint32_t i = 0; i < out->topic_count && fmq_reader_ok(r); i++) {
        if (!parse_topic(engine, request, out)) {
            return false;
        }
    }
    fmq_skip_tags(r, request->flexible);
    return true;
}

/* ---- second pass ----------------------------------------------------------------------------*/

/* What a batch is refused for before the log looks at it. */
static int precheck(const fmq_request *request, const produce_request *produce,
                    const fmq_produce_entry *entry, const char **reason) {
    if (produce->acks < -1 || produce->acks > 1) {
        *reason = "acks must be 0, 1 or -1";
        return FMQ_ERR_INVALID_REQUIRED_ACKS;
    }
    if (entry->partition == NULL) {
        return request->api_version >= PRODUCE_TOPIC_IDS ? FMQ_ERR_UNKNOWN_TOPIC_ID
                                                         : FMQ_ERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (produce->acks == -1 && entry->partition->role == FMQ_ROLE_LEADER &&
        !fmq_replicas_are_enough(entry->partition)) {
        *reason = "fewer replicas are in sync than min.insync.replicas";
        return FMQ_ERR_NOT_ENOUGH_REPLICAS;
    }
    if (produce->acks != -1 && fmq_replicas_lease_is_over(entry->partition)) {
        *reason = "this broker does not know whether it still leads";
        return FMQ_ERR_NOT_LEADER_OR_FOLLOWER;
    }
    if (entry->records == NULL || entry->records_size == 0) {
        *reason = "the request has no records for this partition";
        return FMQ_ERR_INVALID_RECORD;
    }
    fmq_batch_header header;
    if (fmq_batch_parse(entry->records, entry->records_size, &header) != FMQ_OK) {
        return FMQ_OK; /* the log says what is wrong with it */
    }
    if (produce->transactional || (header.attributes & FMQ_ATTR_TRANSACTIONAL) != 0) {
        *reason = "this broker has no transactions; use an idempotent producer without a "
                  "transactional.id";
        return FMQ_ERR_INVALID_TXN_STATE;
    }
    if ((header.attributes & FMQ_ATTR_CODEC_MASK) == 4 && request->api_version < 7) {
        *reason = "zstd needs Produce version 7 or newer";
        return FMQ_ERR_UNSUPPORTED_COMPRESSION_TYPE;
    }
    return FMQ_OK;
}

static void write_partition(fmq_writer *w, const fmq_request *request, fmq_produce_entry *entry,
                            int rc, const fmq_append *append, int64_t log_start) {
    int16_t version = request->api_version;
    bool ok = rc == FMQ_OK;
    fmq_write_i32(w, entry->index);
    entry->error_position = w->size;
    fmq_write_i16(w, fmq_error_code(rc));
    fmq_write_i64(w, ok ? append->base_offset : -1);
    fmq_write_i64(w, ok ? append->log_append_time_ms : -1);
    if (version >= 5) {
        fmq_write_i64(w, ok ? log_start : -1);
    }
    if (version >= 8) {
        fmq_write_count(w, request->flexible, 0); /* record_errors */
        fmq_write_nullable_text(w, request->flexible, append->reason);
    }
    fmq_write_no_tags(w, request->flexible);
}

static int append_entry(fmq_engine *engine, fmq_request *request, const produce_request *produce,
                        fmq_produce_entry *entry) {
    fmq_append append = {.log_append_time_ms = -1};
    int rc = precheck(request, produce, entry, &append.reason);
    int64_t log_start = -1;
    if (rc == FMQ_OK) {
        /* The frame is ours alone and is forgotten afterwards: patch it in place. */
        append.data = (uint8_t *)(uintptr_t)entry->records;
        append.size = entry->records_size;
        append.now_ms = engine->env->wall_ms(engine->env->ctx);
        rc = fmq_partition_do_append(entry->partition, &append);
    }
    if (rc == FMQ_OK) {
        fmq_partition *partition = entry->partition;
        log_start = fmq_log_start(partition->log);
        if (append.last_offset + 1 > fmq_partition_ack_level(partition, produce->acks)) {
            entry->required = append.last_offset + 1;
        }
    } else {
        engine->counters.produce_errors++;
    }
    write_partition(&engine->response, request, entry, rc, &append, log_start);
    return rc;
}

static void write_topic(fmq_writer *w, const fmq_request *request, const fmq_produce_entry *entry) {
    if (request->api_version >= PRODUCE_TOPIC_IDS) {
        fmq_write_raw(w, entry->topic, 16);
    } else {
        fmq_write_string(w, request->flexible, entry->topic, entry->topic_size);
    }
    fmq_write_count(w, request->flexible, entry->partition_count);
}

/* Append everything and write the answer.  Returns the number of partitions to wait for, -1 when
 * something failed and nobody is to be answered (acks=0). */
static int64_t execute(fmq_engine *engine, fmq_request *request, const produce_request *produce) {
    fmq_writer *w = &engine->response;
    w->size = 0;
    fmq_write_i32(w, 0); /* length */
    fmq_write_i32(w, request->correlation_id);
    fmq_write_no_tags(w, request->flexible); /* response header v1 */
    fmq_write_count(w, request->flexible, produce->topic_count);
    int64_t waits = 0;
    bool failed = false;
    uint32_t left = 0; /* partitions of the current topic still to come */
    for (uint32_t i = 0; i < produce->entry_count; i++) {
        fmq_produce_entry *entry = &engine->produce_entries[i];
        if (entry->topic != NULL) {
            write_topic(w, request, entry);
            left = entry->partition_count;
        }
        if (left > 0) {
            left--;
            failed = append_entry(engine, request, produce, entry) != FMQ_OK || failed;
            waits += entry->required >= 0;
        }
        if (left == 0) {
            fmq_write_no_tags(w, request->flexible); /* end of the topic */
        }
    }
    fmq_write_i32(w, 0); /* throttle_time_ms */
    fmq_write_no_tags(w, request->flexible);
    if (!w->failed) {
        fmq_answer_set_length(w, 0);
    }
    return failed && produce->acks == 0 ? -1 : waits;
}

/* Let the answer wait in a slot until every partition has caught up. */
static fmq_verdict wait_for_acks(fmq_conn *conn, const produce_request *produce, uint32_t waits) {
    fmq_engine *engine = conn->engine;
    fmq_writer *w = &engine->response;
    uint8_t *data = w->failed ? NULL : fmq_alloc(engine->env, w->size);
    fmq_slot *slot = data != NULL ? fmq_slot_push(conn, FMQ_SLOT_PRODUCE, waits) : NULL;
    if (slot == NULL) {
        w->failed = false;
        fmq_free(engine->env, data);
        return FMQ_FRAME_BAD; /* out of memory: the client retries, the log knows duplicates */
    }
    memcpy(data, w->data, w->size);
    slot->data = data;
    slot->size = w->size;
    slot->waits = slot->wait_count = waits;
    slot->began_ns = engine->now_ns;
    slot->deadline_ns = engine->now_ns + (int64_t)produce->timeout_ms * 1000000;
    uint32_t at = 0;
    for (uint32_t i = 0; i < produce->entry_count && at < waits; i++) {
        fmq_produce_entry *entry = &engine->produce_entries[i];
        if (entry->required >= 0) {
            fmq_produce_wait *wait = &slot->produce_waits[at++];
            *wait = (fmq_produce_wait){
                .slot = slot,
                .required = entry->required,
                .error_position = entry->error_position,
            };
        }
    }
    at = 0;
    for (uint32_t i = 0; i < produce->entry_count && at < waits; i++) {
        fmq_produce_entry *entry = &engine->produce_entries[i];
        if (entry->required >= 0) {
            fmq_partition_add_wait(entry->partition, &slot->produce_waits[at++], produce->acks);
        }
    }
    return FMQ_FRAME_DONE;
}

/* Too much waits to be written, or a file to be created: the frame waits, rather than the whole
 * reactor.  A disk that
 * does not answer at all is no reason to wait: appends are refused then. */
static bool wait_for_disk(fmq_conn *conn, const produce_request *produce) {
    fmq_engine *engine = conn->engine;
    for (uint32_t i = 0; i < produce->entry_count; i++) {
        const fmq_produce_entry *entry = &engine->produce_entries[i];
        fmq_partition *partition = entry->partition;
        if (partition == NULL) {
            continue;
        }
        bool is_full = partition->dir->unwritten > FMQ_UNWRITTEN_MAX_BYTES &&
                       !fmq_dir_is_stalled(partition->dir);
        if (is_full || fmq_partition_awaits_file(partition, entry->records, entry->records_size)) {
            conn->blocked |= FMQ_BLOCKED_DISK;
            fmq_list_push(&engine->disk_waiters, &conn->disk_link);
            return true;
        }
    }
    return false;
}

fmq_verdict fmq_execute_produce(fmq_conn *conn, fmq_request *request) {
    fmq_engine *engine = conn->engine;
    request->flexible = request->api_version >= PRODUCE_FLEXIBLE;
    fmq_skip_tags(&request->body, request->flexible); /* request header v2 */
    produce_request produce;
    if (!parse(engine, request, &produce) || !fmq_reader_ok(&request->body)) {
        return FMQ_FRAME_BAD;
    }
    if (produce.slow) {
        return FMQ_FRAME_PYTHON;
    }
    if (wait_for_disk(conn, &produce)) {
        return FMQ_FRAME_WAITS;
    }
    engine->counters.produce_requests++;
    int64_t waits = execute(engine, request, &produce);
    if (waits < 0) {
        return FMQ_FRAME_BAD;
    }
    if (produce.acks == 0) {
        return FMQ_FRAME_DONE; /* no answer at all */
    }
    if (waits > 0) {
        return wait_for_acks(conn, &produce, (uint32_t)waits);
    }
    fmq_conn_answer(conn);
    fmq_latency_note(engine, &engine->produce_latency, engine->now_ns);
    return FMQ_FRAME_DONE;
}
