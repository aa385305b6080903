"""TxnOffsetCommit: commit offsets as part of a transaction. KIP-98, KIP-447."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "TxnOffsetCommitPartition",
    "TxnOffsetCommitPartitionResponse",
    "TxnOffsetCommitRequest",
    "TxnOffsetCommitResponse",
    "TxnOffsetCommitTopic",
    "TxnOffsetCommitTopicResponse",
]


class TxnOffsetCommitPartition(Message):
    """The offset of the next record to read, and a note."""

    partition_index: int = int32("0+")
    committed_offset: int = int64("0+")
    committed_leader_epoch: int = int32("2+", default=-1, ignorable=True)
    committed_metadata: str | None = string("0+", nullable="0+")


class TxnOffsetCommitTopic(Message):
    """Partitions of one topic."""

    name: str = string("0+")
    partitions: list[TxnOffsetCommitPartition] = array(TxnOffsetCommitPartition, "0+")


class TxnOffsetCommitRequest(Message, api=ApiKey.TXN_OFFSET_COMMIT):
    """Commits offsets that count when the transaction does."""

    transactional_id: str = string("0+")
    group_id: str = string("0+")
    producer_id: int = int64("0+")
    producer_epoch: int = int16("0+")
    generation_id: int = int32("3+", default=-1)
    member_id: str = string("3+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None)
    topics: list[TxnOffsetCommitTopic] = array(TxnOffsetCommitTopic, "0+")


class TxnOffsetCommitPartitionResponse(Message):
    """The result for one partition."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")


class TxnOffsetCommitTopicResponse(Message):
    """The results for one topic."""

    name: str = string("0+")
    partitions: list[TxnOffsetCommitPartitionResponse] = array(
        TxnOffsetCommitPartitionResponse, "0+"
    )


class TxnOffsetCommitResponse(Message, api=ApiKey.TXN_OFFSET_COMMIT):
    """Results per partition."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    topics: list[TxnOffsetCommitTopicResponse] = array(TxnOffsetCommitTopicResponse, "0+")
