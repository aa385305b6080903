/* fetch_session.c - fetch sessions (KIP-227): who asks for many partitions names them once.
 *
 * A session remembers what was asked for, and what was told of each partition.  A Fetch that goes
 * on with it names only what has changed, and its answer only what is new: data, an error, or
 * another high watermark or log start.  Sessions belong to no connection.  Their number is bounded
 * (`max.incremental.fetch.session.cache.slots`), and so is their memory; a full cache makes room as
 * Kafka does, see make_room.  Whoever has lost a session is told so, and begins anew.
 */
#include "fetch.h"

#define SESSION_EVICT_NS 120000000000ll /* idle for that long, or that old: may be replaced */

/* Open addressing over indexes of an array that live elsewhere; `slots` hold index + 1. */
typedef struct table {
    uint32_t *slots;
    uint32_t mask; /* of a power of two; 0: nothing allocated */
} table;

typedef struct session_topic {
    uint8_t *key; /* name or id */
    uint32_t size;
    uint32_t hash;
} session_topic;

typedef struct session_part {
    uint32_t topic;
    int32_t index;
    int64_t offset;
    int32_t leader_epoch;
    int32_t last_epoch;
    uint32_t max_bytes;
    bool forgotten;         /* about to go */
    int64_t told_watermark; /* -1: to be told in any case */
    int64_t told_start;
} session_part;

struct fmq_session {
    fmq_session *next; /* in its bucket */
    fmq_list link;     /* engine->sessions, the longest unused first */
    int32_t id;
    int32_t epoch; /* of the request that comes next */
    bool by_id;
    bool is_follower; /* makes room for nobody but followers, until it is old */
    int64_t created_ns;
    int64_t used_ns;
    session_topic *topics;
    uint32_t topic_count, topic_capacity;
    session_part *parts;
    uint32_t part_count, part_capacity;
    uint32_t first; /* of the next answer: who got bytes last comes last */
    table topics_by_key;
    table parts_by_key;
    uint64_t bytes; /* counted in engine->session_bytes */
};

/* ---- tables ---------------------------------------------------------------------------------*/

static uint32_t hash_bytes(const uint8_t *data, size_t size) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ data[i]) * 16777619u;
    }
    return hash;
}

static uint32_t hash_part(uint32_t topic, int32_t index) {
    uint64_t mixed = ((uint64_t)topic << 32 | (uint32_t)index) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(mixed >> 32);
}

static uint32_t hash_of(const fmq_session *session, bool parts, uint32_t at) {
    return parts ? hash_part(session->parts[at].topic, session->parts[at].index)
                 : session->topics[at].hash;
}

static void put(table *t, uint32_t hash, uint32_t index) {
    uint32_t at = hash & t->mask;
    while (t->slots[at] != 0) {
        at = (at + 1) & t->mask;
    }
    t->slots[at] = index + 1;
}

/* Room for `count` elements, at most half full; fills the table anew when it grows, or `anew`. */
static bool fit_table(fmq_engine *engine, fmq_session *session, bool parts, uint32_t count,
                      uint32_t have, bool anew) {
    table *t = parts ? &session->parts_by_key : &session->topics_by_key;
    uint32_t size = t->mask + 1;
    if (t->slots == NULL || count > size / 2) {
        size = size < 16 ? 16 : size;
        while (count > size / 2) {
            size *= 2;
        }
        uint32_t *slots = fmq_alloc(engine->env, size * sizeof *slots);
        if (slots == NULL) {
            return false;
        }
        fmq_free(engine->env, t->slots);
        *t = (table){slots, size - 1};
        anew = true;
    }
    if (anew) {
        memset(t->slots, 0, size * sizeof *t->slots);
        for (uint32_t i = 0; i < have; i++) {
            put(t, hash_of(session, parts, i), i);
        }
    }
    return true;
}

/* ---- what a session holds -------------------------------------------------------------------*/

static void recount(fmq_engine *engine, fmq_session *session) {
    uint64_t bytes = sizeof *session + session->topic_capacity * sizeof *session->topics +
                     session->part_capacity * sizeof *session->parts +
                     ((uint64_t)session->topics_by_key.mask + session->parts_by_key.mask) * 4;
    for (uint32_t i = 0; i < session->topic_count; i++) {
        bytes += session->topics[i].size + 16; /* and what the allocator adds */
    }
    engine->session_bytes += bytes - session->bytes;
    session->bytes = bytes;
}

static session_part *find_part(const fmq_session *session, uint32_t topic, int32_t index) {
    const table *t = &session->parts_by_key;
    for (uint32_t at = hash_part(topic, index) & t->mask; t->slots != NULL && t->slots[at] != 0;
         at = (at + 1) & t->mask) {
        session_part *part = &session->parts[t->slots[at] - 1];
        if (part->topic == topic && part->index == index) {
            return part;
        }
    }
    return NULL;
}

/* Index of the topic, UINT32_MAX when there is none. */
static uint32_t find_topic(const fmq_session *session, fmq_view key, uint32_t hash) {
    const table *t = &session->topics_by_key;
    for (uint32_t at = hash & t->mask; t->slots != NULL && t->slots[at] != 0;
         at = (at + 1) & t->mask) {
        const session_topic *topic = &session->topics[t->slots[at] - 1];
        if (topic->hash == hash && topic->size == key.size &&
            memcmp(topic->key, key.data, key.size) == 0) {
            return t->slots[at] - 1;
        }
    }
    return UINT32_MAX;
}

static uint32_t add_topic(fmq_engine *engine, fmq_session *session, fmq_view key, uint32_t hash) {
    uint32_t count = session->topic_count;
    session_topic *topics = fmq_work_room(engine->env, session->topics, &session->topic_capacity,
                                          count, sizeof *topics);
    session->topics = topics != NULL ? topics : session->topics;
    uint8_t *copy = topics != NULL ? fmq_alloc(engine->env, key.size + 1) : NULL;
    if (copy == NULL || !fit_table(engine, session, false, count + 1, count, false)) {
        fmq_free(engine->env, copy);
        return UINT32_MAX;
    }
    memcpy(copy, key.data, key.size);
    topics[count] = (session_topic){copy, (uint32_t)key.size, hash};
    put(&session->topics_by_key, hash, count);
    session->topic_count++;
    return count;
}

/* The partition of an entry, added when it is new; NULL without memory. */
static session_part *have_part(fmq_engine *engine, fmq_session *session,
                               const fmq_fetch_entry *entry) {
    uint32_t hash = hash_bytes(entry->key.data, entry->key.size);
    uint32_t topic = find_topic(session, entry->key, hash);
    session_part *part = topic != UINT32_MAX ? find_part(session, topic, entry->index) : NULL;
    if (part != NULL) {
        return part;
    }
    if (topic == UINT32_MAX) {
        topic = add_topic(engine, session, entry->key, hash);
    }
    uint32_t count = session->part_count;
    session_part *parts = topic == UINT32_MAX
                              ? NULL
                              : fmq_work_room(engine->env, session->parts, &session->part_capacity,
                                              count, sizeof *parts);
    session->parts = parts != NULL ? parts : session->parts;
    if (parts == NULL || !fit_table(engine, session, true, count + 1, count, false)) {
        return NULL;
    }
    parts[count].topic = topic;
    parts[count].index = entry->index;
    parts[count].told_watermark = parts[count].told_start = -1;
    put(&session->parts_by_key, hash_part(topic, entry->index), count);
    session->part_count++;
    return &parts[count];
}

static bool is_no_partition(const fmq_fetch_entry *entry) {
    return entry->topic != NULL && entry->partition_count == 0;
}

/* Take over what the request's entries ask for. */
static bool update(fmq_engine *engine, fmq_session *session, const fmq_fetch_request *fetch) {
    if (fetch->entry_count == 0) {
        return true;
    }
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        const fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (is_no_partition(entry)) {
            continue;
        }
        session_part *part = have_part(engine, session, entry);
        if (part == NULL) {
            return false;
        }
        part->offset = entry->offset;
        part->leader_epoch = entry->leader_epoch;
        part->last_epoch = entry->last_epoch;
        part->max_bytes = entry->max_bytes;
    }
    recount(engine, session);
    return engine->session_bytes <= FMQ_SESSION_BYTES_MAX;
}

/* Close the gaps that forgotten partitions leave, and drop topics that have none. */
static bool compact(fmq_engine *engine, fmq_session *session) {
    uint32_t kept = 0;
    uint32_t *moved = fmq_alloc(engine->env, (session->topic_count + 1) * sizeof *moved);
    if (moved == NULL) {
        return false;
    }
    memset(moved, 0, (session->topic_count + 1) * sizeof *moved);
    for (uint32_t i = 0; i < session->part_count; i++) {
        if (!session->parts[i].forgotten) {
            moved[session->parts[i].topic] = 1; /* in use */
            session->parts[kept++] = session->parts[i];
        }
    }
    session->part_count = kept;
    session->first = 0;
    kept = 0;
    for (uint32_t i = 0; i < session->topic_count; i++) {
        if (moved[i] != 0) {
            session->topics[kept] = session->topics[i];
            moved[i] = kept++;
        } else {
            fmq_free(engine->env, session->topics[i].key);
        }
    }
    session->topic_count = kept;
    for (uint32_t i = 0; i < session->part_count; i++) {
        session->parts[i].topic = moved[session->parts[i].topic];
    }
    fmq_free(engine->env, moved);
    recount(engine, session);
    return fit_table(engine, session, true, session->part_count, session->part_count, true) &&
           fit_table(engine, session, false, kept, kept, true);
}

static bool forget(fmq_engine *engine, fmq_session *session, const fmq_request *request,
                   fmq_reader r) {
    bool found = false;
    uint32_t topics = fmq_read_count(&r, request->flexible, 3);
    for (uint32_t i = 0; i < topics; i++) {
        fmq_view key;
        uint32_t count = fmq_fetch_read_forgotten(request, &r, &key);
        uint32_t topic = key.data != NULL ? find_topic(session, key, hash_bytes(key.data, key.size))
                                          : UINT32_MAX;
        for (uint32_t j = 0; j < count; j++) {
            int32_t index = fmq_read_i32(&r);
            session_part *part = topic != UINT32_MAX ? find_part(session, topic, index) : NULL;
            if (part != NULL) {
                part->forgotten = found = true;
            }
        }
        fmq_skip_tags(&r, request->flexible);
    }
    return !found || compact(engine, session);
}

/* ---- the cache ------------------------------------------------------------------------------*/

static fmq_session *find_session(const fmq_engine *engine, int32_t id) {
    fmq_session *session = engine->sessions_by_id[(uint32_t)id % FMQ_SESSION_BUCKETS];
    while (session != NULL && session->id != id) {
        session = session->next;
    }
    return session;
}

static void drop(fmq_engine *engine, fmq_session *session) {
    if (session->id != 0) {
        fmq_session **at = &engine->sessions_by_id[(uint32_t)session->id % FMQ_SESSION_BUCKETS];
        while (*at != session) {
            at = &(*at)->next;
        }
        *at = session->next;
        engine->session_count--;
    }
    fmq_list_remove(&session->link);
    engine->session_bytes -= session->bytes;
    for (uint32_t i = 0; i < session->topic_count; i++) {
        fmq_free(engine->env, session->topics[i].key);
    }
    fmq_free(engine->env, session->topics);
    fmq_free(engine->env, session->parts);
    fmq_free(engine->env, session->topics_by_key.slots);
    fmq_free(engine->env, session->parts_by_key.slots);
    fmq_free(engine->env, session);
}

void fmq_sessions_free(fmq_engine *engine) {
    while (!fmq_list_empty(&engine->sessions)) {
        drop(engine, FMQ_ENTRY(engine->sessions.next, fmq_session, link));
    }
}

static int compare_worth(const fmq_session *a, const fmq_session *b) {
    if (a->is_follower != b->is_follower) {
        return a->is_follower ? 1 : -1;
    }
    return a->part_count != b->part_count ? (a->part_count > b->part_count ? 1 : -1) : 0;
}

/* A slot for a new session: free, that of one which was not used for two minutes, or that of a less
 * worthy one.  Followers are worth more than clients, many partitions more than few; a client
 * replaces only what is two minutes old, a follower any client's. */
static bool make_room(fmq_engine *engine, const fmq_session *wanted) {
    if (engine->session_count < engine->options.fetch_sessions) {
        return true;
    }
    if (engine->session_count == 0) {
        return false;
    }
    fmq_session *victim = FMQ_ENTRY(engine->sessions.next, fmq_session, link);
    if (engine->now_ns - victim->used_ns <= SESSION_EVICT_NS) {
        victim = NULL;
        for (fmq_list *at = engine->sessions.next; at != &engine->sessions; at = at->next) {
            fmq_session *session = FMQ_ENTRY(at, fmq_session, link);
            bool is_old = engine->now_ns - session->created_ns > SESSION_EVICT_NS;
            bool may_go = is_old || (wanted->is_follower && !session->is_follower);
            if (may_go && (victim == NULL || compare_worth(session, victim) < 0)) {
                victim = session;
            }
        }
        if (victim == NULL || compare_worth(wanted, victim) < 0) {
            return false;
        }
    }
    drop(engine, victim);
    engine->counters.fetch_sessions_evicted++;
    return true;
}

/* Not to be guessed by counting: whoever knows an id can disturb the session. */
static int32_t new_id(fmq_engine *engine) {
    for (;;) {
        uint64_t z = engine->session_seed +=
            0x9e3779b97f4a7c15ull ^ (uint64_t)engine->env->mono_ns(engine->env->ctx);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        int32_t id = (int32_t)((z ^ (z >> 31)) & INT32_MAX);
        if (id != 0 && find_session(engine, id) == NULL) {
            return id;
        }
    }
}

static void touch(fmq_engine *engine, fmq_session *session) {
    session->used_ns = engine->now_ns;
    fmq_list_remove(&session->link);
    fmq_list_push(&engine->sessions, &session->link);
}

/* The session that a full fetch asks for.  NULL when there is no room: it goes on without. */
static fmq_session *create(fmq_engine *engine, const fmq_request *request,
                           const fmq_fetch_request *fetch) {
    if (engine->options.fetch_sessions == 0 || fetch->entry_count == 0) {
        return NULL;
    }
    fmq_session *session = fmq_alloc(engine->env, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    *session = (fmq_session){.by_id = request->api_version >= FETCH_TOPIC_IDS,
                             .is_follower = fetch->replica_id >= 0,
                             .created_ns = engine->now_ns,
                             .epoch = 1};
    fmq_list_init(&session->link);
    if (!update(engine, session, fetch) || session->part_count == 0 ||
        !make_room(engine, session)) {
        drop(engine, session);
        return NULL;
    }
    session->id = new_id(engine);
    fmq_session **bucket = &engine->sessions_by_id[(uint32_t)session->id % FMQ_SESSION_BUCKETS];
    session->next = *bucket;
    *bucket = session;
    engine->session_count++;
    touch(engine, session);
    return session;
}

/* ---- a request that goes on with a session --------------------------------------------------*/

/* The entries of the request become all those of the session. */
static int load(fmq_engine *engine, const fmq_session *session, fmq_fetch_request *fetch) {
    fmq_topic *topic = NULL;
    uint32_t looked_up = UINT32_MAX;
    fetch->entry_count = 0;
    fetch->slow = false;
    for (uint32_t i = 0; i < session->part_count; i++) {
        const session_part *part = &session->parts[(session->first + i) % session->part_count];
        const session_topic *name = &session->topics[part->topic];
        fmq_fetch_entry *entry = fmq_fetch_add_entry(engine, fetch->entry_count);
        if (entry == NULL) {
            return -ENOMEM;
        }
        if (part->topic != looked_up) {
            topic = session->by_id ? fmq_topic_by_id(engine, name->key)
                                   : fmq_topic_by_name(engine, name->key, name->size);
            looked_up = part->topic;
        }
        entry->key = (fmq_view){name->key, name->size};
        entry->index = part->index;
        entry->partition = fmq_topic_partition(topic, part->index);
        entry->offset = part->offset;
        entry->leader_epoch = part->leader_epoch;
        entry->last_epoch = part->last_epoch;
        entry->max_bytes = part->max_bytes;
        entry->told_watermark = part->told_watermark;
        fmq_fetch_note_slow(engine, entry, fetch);
        fetch->entry_count++;
    }
    return FMQ_OK;
}

static int go_on(fmq_conn *conn, const fmq_request *request, fmq_fetch_request *fetch) {
    fmq_engine *engine = conn->engine;
    fmq_session *session = find_session(engine, fetch->session_id);
    if (session == NULL) {
        return FMQ_ERR_FETCH_SESSION_ID_NOT_FOUND;
    }
    if (session->by_id != (request->api_version >= FETCH_TOPIC_IDS)) {
        return FMQ_ERR_FETCH_SESSION_TOPIC_ID_ERROR;
    }
    if (conn->fetch_began_ns == 0) { /* not when it has waited and is executed anew */
        if (session->epoch != fetch->session_epoch) {
            return FMQ_ERR_INVALID_FETCH_SESSION_EPOCH;
        }
        if (!update(engine, session, fetch) ||
            !forget(engine, session, request, fetch->forgotten)) {
            drop(engine, session);
            return FMQ_ERR_FETCH_SESSION_ID_NOT_FOUND;
        }
        session->epoch = session->epoch == INT32_MAX ? 1 : session->epoch + 1;
        touch(engine, session);
    }
    int rc = load(engine, session, fetch);
    bool is_slow = fetch->slow && fetch->replica_id < 0; /* Python knows of no sessions */
    if (rc != FMQ_OK || is_slow) {
        drop(engine, session);
        return rc != FMQ_OK ? rc : FMQ_ERR_FETCH_SESSION_ID_NOT_FOUND;
    }
    if (session->part_count == 0) { /* nothing is left of it */
        drop(engine, session);
        return FMQ_OK;
    }
    fetch->session = session;
    fetch->answer_session = session->id;
    return FMQ_OK;
}

int fmq_session_begin(fmq_conn *conn, const fmq_request *request, fmq_fetch_request *fetch) {
    if (fetch->session_epoch > 0) {
        return go_on(conn, request, fetch);
    }
    fmq_session *old =
        fetch->session_id != 0 ? find_session(conn->engine, fetch->session_id) : NULL;
    if (old != NULL) {
        drop(conn->engine, old);
    }
    return FMQ_OK;
}

/* ---- the answer -----------------------------------------------------------------------------*/

/* Remember what this answer tells of the partition; false when it has nothing to tell. */
static bool tell(session_part *part, const fmq_fetch_entry *entry) {
    if (entry->error != FMQ_OK || entry->diverging_end >= 0) {
        part->told_watermark = -1; /* told again when it is over */
        return true;
    }
    int64_t watermark = entry->partition->high_watermark;
    int64_t start = fmq_log_start(entry->partition->log);
    bool is_news = entry->slice.size > 0 || entry->preferred_replica >= 0 ||
                   watermark != part->told_watermark || start != part->told_start;
    part->told_watermark = watermark;
    part->told_start = start;
    return is_news;
}

/* Neighbours of one topic go into the answer together. */
static void group(fmq_engine *engine, fmq_fetch_request *fetch) {
    fmq_fetch_entry *head = NULL;
    fetch->topic_count = 0;
    for (uint32_t i = 0; i < fetch->entry_count; i++) {
        fmq_fetch_entry *entry = &engine->fetch_entries[i];
        if (entry->omitted) {
            continue;
        }
        if (head == NULL || head->topic != entry->key.data) {
            head = entry;
            head->topic = entry->key.data;
            head->topic_size = (uint32_t)entry->key.size;
            head->partition_count = 0;
            fetch->topic_count++;
        }
        head->partition_count++;
    }
}

void fmq_session_end(fmq_engine *engine, const fmq_request *request, fmq_fetch_request *fetch) {
    if (fetch->session_epoch == 0 && request->api_version >= 7) {
        fmq_session *session = create(engine, request, fetch);
        if (session == NULL) {
            return;
        }
        fetch->answer_session = session->id;
        for (uint32_t i = 0; i < fetch->entry_count; i++) {
            const fmq_fetch_entry *entry = &engine->fetch_entries[i];
            if (is_no_partition(entry)) {
                continue;
            }
            session_part *part = have_part(engine, session, entry); /* it is there */
            (void)tell(part, entry);
            if (entry->slice.size > 0) {
                session->first = (uint32_t)(part - session->parts + 1) % session->part_count;
            }
        }
    } else if (fetch->session_epoch > 0) {
        fmq_session *session = fetch->session;
        uint32_t first = session != NULL ? session->first : 0;
        for (uint32_t i = 0; session != NULL && i < fetch->entry_count; i++) {
            fmq_fetch_entry *entry = &engine->fetch_entries[i];
            uint32_t at = (first + i) % session->part_count;
            entry->omitted = !tell(&session->parts[at], entry);
            if (entry->slice.size > 0) {
                session->first = (at + 1) % session->part_count;
            }
        }
        group(engine, fetch);
    }
}
