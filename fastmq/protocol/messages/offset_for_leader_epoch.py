"""OffsetForLeaderEpoch: where the log of a leader epoch ends. KIP-101, KIP-279, KIP-320."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "OffsetForLeaderEpochPartition",
    "OffsetForLeaderEpochRequest",
    "OffsetForLeaderEpochResponse",
    "OffsetForLeaderEpochResult",
    "OffsetForLeaderEpochTopic",
    "OffsetForLeaderEpochTopicResult",
]


class OffsetForLeaderEpochPartition(Message):
    """A partition and the epoch in question."""

    partition: int = int32("0+")
    current_leader_epoch: int = int32("2+", default=-1, ignorable=True)
    leader_epoch: int = int32("0+")


class OffsetForLeaderEpochTopic(Message):
    """Partitions of one topic."""

    topic: str = string("0+")
    partitions: list[OffsetForLeaderEpochPartition] = array(OffsetForLeaderEpochPartition, "0+")


class OffsetForLeaderEpochRequest(Message, api=ApiKey.OFFSET_FOR_LEADER_EPOCH):
    """Asks for end offsets; `replica_id` is -1 for a consumer, -2 for an unnamed replica."""

    replica_id: int = int32("3+", default=-2, ignorable=True)
    topics: list[OffsetForLeaderEpochTopic] = array(OffsetForLeaderEpochTopic, "0+")


class OffsetForLeaderEpochResult(Message):
    """The largest epoch that is not above the one asked for, and its end; -1 when unknown."""

    error_code: int = int16("0+")
    partition: int = int32("0+")
    leader_epoch: int = int32("1+", default=-1, ignorable=True)
    end_offset: int = int64("0+", default=-1)


class OffsetForLeaderEpochTopicResult(Message):
    """The results for one topic."""

    topic: str = string("0+")
    partitions: list[OffsetForLeaderEpochResult] = array(OffsetForLeaderEpochResult, "0+")


class OffsetForLeaderEpochResponse(Message, api=ApiKey.OFFSET_FOR_LEADER_EPOCH):
    """Results per partition."""

    throttle_time_ms: int = int32("2+", ignorable=True)
    topics: list[OffsetForLeaderEpochTopicResult] = array(OffsetForLeaderEpochTopicResult, "0+")
