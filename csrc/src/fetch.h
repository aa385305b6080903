/* fetch.h - the inside of a Fetch, for the files that serve it.
 *
 *   fetch_parse.c    reading the request       fetch.c       looking up, answering
 *   fetch_session.c  what clients left unsaid  fetch_wait.c  waiting for data
 */
#ifndef FMQ_FETCH_H
#define FMQ_FETCH_H

#include "replicas.h"

#define FETCH_FLEXIBLE 12
#define FETCH_TOPIC_IDS 13

typedef struct fmq_session fmq_session;

typedef struct fmq_fetch_entry {
    const uint8_t *topic; /* set on the first partition of a topic, as in produce.c */
    uint32_t topic_size;
    uint32_t partition_count;
    fmq_view key; /* name or id of the topic, of every entry */
    int32_t index;
    fmq_partition *partition;
    int64_t offset;
    int32_t leader_epoch; /* as the client knows it, -1: no check */
    int32_t last_epoch;   /* followers: of the last batch they have, -1: none */
    uint32_t max_bytes;
    int error;
    int64_t told_watermark;    /* by the session, -1: not yet */
    int32_t preferred_replica; /* where the client had better read, -1 */
    int32_t diverging_epoch;   /* followers: their log leaves ours at the end of this epoch, */
    int64_t diverging_end;     /* here; -1: it does not */
    fmq_slice slice;
    size_t cut;     /* position in the answer where the file range belongs; 0: none */
    bool omitted;   /* the answer says nothing of it */
    bool throttled; /* a follower that has to wait; no append wakes it */
} fmq_fetch_entry;

typedef struct fmq_fetch_request {
    int32_t replica_id; /* -1: a client */
    int64_t broker_epoch;
    int32_t max_wait_ms;
    int32_t min_bytes;
    int32_t max_bytes;
    int8_t isolation;
    int32_t session_id;
    int32_t session_epoch;
    uint64_t rack;          /* of the client, hashed; 0: not told */
    bool has_news;          /* of a high watermark that this follower does not know */
    fmq_session *session;   /* that this goes on with, or NULL */
    int32_t answer_session; /* id that the answer names, 0: no session */
    fmq_reader forgotten;   /* at the topics that are to be forgotten */
    uint32_t topic_count;
    uint32_t entry_count;
    bool slow;
} fmq_fetch_request;

/* Read the request into engine->fetch_entries; the caller looks whether the reader is ok.
 * False without memory. */
bool fmq_fetch_parse(fmq_engine *engine, fmq_request *request, fmq_fetch_request *out);
/* Read the head of a forgotten topic; returns how many indexes follow, tags after them. */
uint32_t fmq_fetch_read_forgotten(const fmq_request *request, fmq_reader *r, fmq_view *topic);
/* Room for entry `index`, zeroed; NULL without memory. */
fmq_fetch_entry *fmq_fetch_add_entry(fmq_engine *engine, uint32_t index);
/* Give back the slice of an entry, if it has one. */
void fmq_fetch_give_back(fmq_fetch_entry *entry);
/* Listen to the partitions; slices are given back.  False without memory. */
bool fmq_fetch_start_waiting(fmq_conn *conn, const fmq_fetch_request *fetch, int64_t have);

/* Note when Python has to serve the entry. */
void fmq_fetch_note_slow(const fmq_engine *engine, const fmq_fetch_entry *entry,
                         fmq_fetch_request *fetch);

/* Before anything is looked up: the entries become those of the session that the request goes on
 * with.  FMQ_OK, a Kafka error of the whole request, or -ENOMEM. */
int fmq_session_begin(fmq_conn *conn, const fmq_request *request, fmq_fetch_request *fetch);
/* Before the answer is written: what it need not say is omitted, and a session that was asked for
 * is made, when there is room. */
void fmq_session_end(fmq_engine *engine, const fmq_request *request, fmq_fetch_request *fetch);

#endif
