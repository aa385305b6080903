/* follower.h - the inside of a fetcher, for follower.c and follower_request.c. */
#ifndef FMQ_FOLLOWER_H
#define FMQ_FOLLOWER_H

#include "replicas.h"

typedef struct fmq_forgotten {
    uint8_t topic_id[16];
    int32_t index;
} fmq_forgotten;

struct fmq_fetcher {
    fmq_engine *engine;
    fmq_fetcher_options options;
    fmq_partition **partitions; /* by topic and index, so that a topic's stand together */
    uint32_t count;
    uint32_t capacity;
    uint32_t first; /* of the next request: who is first is served first */
    bool starved;   /* an event is owed when a sync has ended */
    fmq_writer frame;
    int32_t session_id;       /* that the leader keeps for us (KIP-227), 0: none */
    int32_t session_epoch;    /* of the next request, 0: it names everything */
    bool unanswered;          /* a request is under way */
    fmq_forgotten *forgotten; /* in the session and no longer asked for */
    uint32_t forgotten_count;
    uint32_t forgotten_capacity;
    fmq_fetch_trouble *trouble;
    uint32_t trouble_capacity;
};

/* The next request names everything: the leader has lost the session, or may not be where we are.
 */
void fmq_fetcher_end_session(fmq_fetcher *fetcher);
/* The partition is asked for no more, or not now. */
void fmq_fetcher_forget(fmq_fetcher *fetcher, fmq_partition *partition);

#endif
