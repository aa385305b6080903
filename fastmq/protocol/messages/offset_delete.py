"""OffsetDelete: forget committed offsets of a group. KIP-496."""

from fastmq.protocol._message import Message, array, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "OffsetDeletePartition",
    "OffsetDeletePartitionResult",
    "OffsetDeleteRequest",
    "OffsetDeleteResponse",
    "OffsetDeleteTopic",
    "OffsetDeleteTopicResult",
]


class OffsetDeletePartition(Message):
    """A partition."""

    partition_index: int = int32("0+")


class OffsetDeleteTopic(Message):
    """Partitions of one topic."""

    name: str = string("0+")
    partitions: list[OffsetDeletePartition] = array(OffsetDeletePartition, "0+")


class OffsetDeleteRequest(Message, api=ApiKey.OFFSET_DELETE):
    """Deletes offsets."""

    group_id: str = string("0+")
    topics: list[OffsetDeleteTopic] = array(OffsetDeleteTopic, "0+")


class OffsetDeletePartitionResult(Message):
    """The result for one partition."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")


class OffsetDeleteTopicResult(Message):
    """The results for one topic."""

    name: str = string("0+")
    partitions: list[OffsetDeletePartitionResult] = array(OffsetDeletePartitionResult, "0+")


class OffsetDeleteResponse(Message, api=ApiKey.OFFSET_DELETE):
    """Results per partition, or one error for all."""

    error_code: int = int16("0+")
    throttle_time_ms: int = int32("0+", ignorable=True)
    topics: list[OffsetDeleteTopicResult] = array(OffsetDeleteTopicResult, "0+")
