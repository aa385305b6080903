"""Bounds of the group coordinator that no setting lifts.

Each keeps one client from making the coordinator's memory, or one record of its log, grow without
end. Kafka has no such bounds; these lie far beyond what its clients do.
"""

__all__ = [
    "GROUPS_PER_SHARD_MAX",
    "GROUP_BYTES_MAX",
    "GROUP_ID_BYTES_MAX",
    "MEMBER_ID_STEM_CHARS_MAX",
    "MEMBER_METADATA_BYTES_MAX",
    "NAME_CHARS_MAX",
    "OFFSETS_PER_GROUP_MAX",
    "PENDING_MEMBERS_MAX",
    "PROTOCOLS_PER_MEMBER_MAX",
    "SUBSCRIBED_TOPICS_MAX",
    "TOMBSTONES_PER_STEP_MAX",
]

# A group id is a string with an int16 length in the log; newer requests could carry longer ones.
GROUP_ID_BYTES_MAX = 32_767

# Names of instances, protocols and protocol types; Kafka's clients allow 249 for an instance.
NAME_CHARS_MAX = 1_024

# How much of the client's own name goes into a member id.
MEMBER_ID_STEM_CHARS_MAX = 249

# Groups that one partition of the offsets topic may hold: 1 KiB each when they are empty.
GROUPS_PER_SHARD_MAX = 10_000

# Member ids of one group that were given out and not used yet.
PENDING_MEMBERS_MAX = 10_000

# Protocols (assignors) that one member may offer, and the bytes of their metadata together.
PROTOCOLS_PER_MEMBER_MAX = 100
MEMBER_METADATA_BYTES_MAX = 1 << 20

# Metadata of all members of a group together, and with their assignments: it is one record.
GROUP_BYTES_MAX = 32 << 20

# Topic-partitions for which one group may keep offsets: deleting the group is one batch.
OFFSETS_PER_GROUP_MAX = 100_000

# Tombstones of offsets in one batch, where they can be spread over several.
TOMBSTONES_PER_STEP_MAX = 1_000

# Topics in one subscription that are looked at; a larger one is taken as unreadable.
SUBSCRIBED_TOPICS_MAX = 100_000
