"""Bounds of the group coordinator that no setting lifts.

Each keeps one client from making the coordinator's memory, or one record of its log, grow without
end. Kafka has no such bounds; these lie far beyond what its clients do.
"""

__all__ = [
    "EXPIRED_PER_STEP_MAX",
    "GROUPS_PER_SHARD_MAX",
    "MEMBER_METADATA_BYTES_MAX",
    "OFFSETS_PER_GROUP_MAX",
    "PENDING_MEMBERS_MAX",
    "PROTOCOLS_PER_MEMBER_MAX",
    "SUBSCRIBED_TOPICS_MAX",
]

# Groups that one partition of the offsets topic may hold.
GROUPS_PER_SHARD_MAX = 100_000

# Member ids of one group that were given out and not used yet.
PENDING_MEMBERS_MAX = 10_000

# Protocols (assignors) that one member may offer, and the bytes of their metadata together.
PROTOCOLS_PER_MEMBER_MAX = 100
MEMBER_METADATA_BYTES_MAX = 4 << 20

# Topic-partitions for which one group may keep offsets: deleting the group is one batch.
OFFSETS_PER_GROUP_MAX = 100_000

# Tombstones of expired offsets in one batch.
EXPIRED_PER_STEP_MAX = 1_000

# Topics in one subscription that are looked at; a larger one is taken as unreadable.
SUBSCRIBED_TOPICS_MAX = 100_000
