"""Schemas of the records of `__consumer_offsets`. The version of a key is its kind.

Source: Kafka's OffsetCommitKey, OffsetCommitValue, GroupMetadataKey, GroupMetadataValue.
"""

from fastmq.protocol._message import Message, array, int32, int64, raw, string, uuid

__all__ = [
    "GroupMetadataKey",
    "GroupMetadataMember",
    "GroupMetadataValue",
    "OffsetCommitKey",
    "OffsetCommitValue",
]


class OffsetCommitKey(Message, versions="0-1"):
    """Key of a committed offset."""

    group: str = string("0+")
    topic: str = string("0+")
    partition: int = int32("0+")


class OffsetCommitValue(Message, versions="0-4", flexible="4+"):
    """A committed offset."""

    offset: int = int64("0+")
    leader_epoch: int = int32("3+", default=-1, ignorable=True)
    metadata: str = string("0+")
    commit_timestamp: int = int64("0+")
    expire_timestamp: int = int64("1", default=-1, ignorable=True)
    topic_id: bytes = uuid("4+", tag=0, ignorable=True)


class GroupMetadataKey(Message, versions="2"):
    """Key of the metadata of a classic group."""

    group: str = string("2")


class GroupMetadataMember(Message):
    """A member of the last generation."""

    member_id: str = string("0+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)
    client_id: str = string("0+")
    client_host: str = string("0+")
    rebalance_timeout: int = int32("1+", default=-1, ignorable=True)
    session_timeout: int = int32("0+")
    subscription: bytes = raw("0+")
    assignment: bytes = raw("0+")


class GroupMetadataValue(Message, versions="0-4", flexible="4+"):
    """The last generation of a classic group; no members when it is Empty."""

    protocol_type: str = string("0+")
    generation: int = int32("0+")
    protocol: str | None = string("0+", nullable="0+", default=None)
    leader: str | None = string("0+", nullable="0+", default=None)
    current_state_timestamp: int = int64("2+", default=-1, ignorable=True)
    members: list[GroupMetadataMember] = array(GroupMetadataMember, "0+")
