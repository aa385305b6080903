/* fetch_parse.c - reading a Fetch request. */
#include "fetch.h"
#include "racks.h"

#define FETCH_TAG_REPLICA_STATE 1

/* ---- reading the request --------------------------------------------------------------------*/

fmq_fetch_entry *fmq_fetch_add_entry(fmq_engine *engine, uint32_t index) {
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
    entry->told_watermark = -1;
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

void fmq_fetch_note_slow(const fmq_engine *engine, const fmq_fetch_entry *entry,
                         fmq_fetch_request *fetch) {
    fetch->slow = fetch->slow || (entry->partition == NULL
                                      ? engine->options.has_peers
                                      : (entry->partition->config->flags & FMQ_SLOW_FETCH) != 0);
}

static bool parse_topic(fmq_engine *engine, fmq_request *request, fmq_fetch_request *out) {
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
        fmq_fetch_entry *entry = fmq_fetch_add_entry(engine, out->entry_count);
        if (entry == NULL) {
            return false;
        }
        out->entry_count++;
        entry->key = name;
        if (i == 0) {
            entry->topic = name.data;
            entry->topic_size = name.size;
            entry->partition_count = count;
        }
        if (count > 0) {
            parse_partition(request, entry);
            entry->partition = fmq_topic_partition(topic, entry->index);
            fmq_fetch_note_slow(engine, entry, out);
        }
        if (!fmq_reader_ok(r)) {
            return true;
        }
    }
    fmq_skip_tags(r, request->flexible);
    return true;
}

/* Tags of the request: the replica state holds what replica_id was before version 15. */
static void parse_tags(fmq_request *request, fmq_fetch_request *out) {
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

uint32_t fmq_fetch_read_forgotten(const fmq_request *request, fmq_reader *r, fmq_view *topic) {
    if (request->api_version >= FETCH_TOPIC_IDS) {
        *topic = (fmq_view){fmq_read_raw(r, 16), 16};
    } else {
        *topic = fmq_read_string(r, request->flexible);
    }
    uint32_t count = fmq_read_count(r, request->flexible, 4);
    return fmq_reader_ok(r) && topic->data != NULL ? count : 0;
}

bool fmq_fetch_parse(fmq_engine *engine, fmq_request *request, fmq_fetch_request *out) {
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
    if (version >= 7) {
        out->forgotten = *r;
        uint32_t topics = fmq_read_count(r, flexible, 3);
        for (uint32_t i = 0; i < topics && fmq_reader_ok(r); i++) {
            fmq_view topic;
            uint32_t count = fmq_fetch_read_forgotten(request, r, &topic);
            (void)fmq_read_raw(r, 4 * (size_t)count);
            fmq_skip_tags(r, flexible);
        }
    }
    if (version >= 11) {
        fmq_view rack = fmq_read_string(r, flexible);
        out->rack = rack.data != NULL ? fmq_rack_hash(rack.data, rack.size) : 0;
    }
    parse_tags(request, out);
    return true;
}
