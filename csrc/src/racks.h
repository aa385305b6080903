/* racks.h - which replica a client had better read from; see replication.h. */
#ifndef FMQ_RACKS_H
#define FMQ_RACKS_H

#include "replicas.h"

/* 0 for an empty name. */
uint64_t fmq_rack_hash(const uint8_t *name, size_t size);

/* The in-sync follower in that rack that has the offset, and has most; -1: none, or the leader
 * itself is in the rack. */
int32_t fmq_racks_choose(const fmq_partition *partition, uint64_t rack, int64_t offset);

#endif
