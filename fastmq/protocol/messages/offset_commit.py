"""OffsetCommit: store the positions of a group. KIP-211, KIP-320, KIP-345, KIP-848."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string, uuid
from fastmq.protocol.api import ApiKey

__all__ = [
    "OffsetCommitPartition",
    "OffsetCommitPartitionResponse",
    "OffsetCommitRequest",
    "OffsetCommitResponse",
    "OffsetCommitTopic",
    "OffsetCommitTopicResponse",
]


class OffsetCommitPartition(Message):
    """The offset of the next record to read, and a note."""

    partition_index: int = int32("0+")
    committed_offset: int = int64("0+")
    committed_leader_epoch: int = int32("6+", default=-1, ignorable=True)
    committed_metadata: str | None = string("0+", nullable="0+")


class OffsetCommitTopic(Message):
    """A topic, by name before version 10 and by id since."""

    name: str = string("0-9", ignorable=True)
    topic_id: bytes = uuid("10+", ignorable=True)
    partitions: list[OffsetCommitPartition] = array(OffsetCommitPartition, "0+")


class OffsetCommitRequest(Message, api=ApiKey.OFFSET_COMMIT):
    """Commits offsets; a generation of -1 comes from outside of the group."""

    group_id: str = string("0+")
    generation_id_or_member_epoch: int = int32("1+", default=-1, ignorable=True)
    member_id: str = string("1+", ignorable=True)
    group_instance_id: str | None = string("7+", nullable="7+", default=None)
    retention_time_ms: int = int64("2-4", default=-1, ignorable=True)
    topics: list[OffsetCommitTopic] = array(OffsetCommitTopic, "0+")


class OffsetCommitPartitionResponse(Message):
    """The result for one partition."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")


class OffsetCommitTopicResponse(Message):
    """The results for one topic."""

    name: str = string("0-9", ignorable=True)
    topic_id: bytes = uuid("10+", ignorable=True)
    partitions: list[OffsetCommitPartitionResponse] = array(OffsetCommitPartitionResponse, "0+")


class OffsetCommitResponse(Message, api=ApiKey.OFFSET_COMMIT):
    """Results per partition."""

    throttle_time_ms: int = int32("3+", ignorable=True)
    topics: list[OffsetCommitTopicResponse] = array(OffsetCommitTopicResponse, "0+")
