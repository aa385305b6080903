"""DeleteRecords: move the start of logs. KIP-107."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DeleteRecordsPartition",
    "DeleteRecordsPartitionResult",
    "DeleteRecordsRequest",
    "DeleteRecordsResponse",
    "DeleteRecordsTopic",
    "DeleteRecordsTopicResult",
]


class DeleteRecordsPartition(Message):
    """Records below `offset` go; -1 means the high watermark."""

    partition_index: int = int32("0+")
    offset: int = int64("0+")


class DeleteRecordsTopic(Message):
    """Partitions of one topic."""

    name: str = string("0+")
    partitions: list[DeleteRecordsPartition] = array(DeleteRecordsPartition, "0+")


class DeleteRecordsRequest(Message, api=ApiKey.DELETE_RECORDS):
    """Deletes the oldest records of partitions."""

    topics: list[DeleteRecordsTopic] = array(DeleteRecordsTopic, "0+")
    timeout_ms: int = int32("0+")


class DeleteRecordsPartitionResult(Message):
    """The first offset that is left."""

    partition_index: int = int32("0+")
    low_watermark: int = int64("0+")
    error_code: int = int16("0+")


class DeleteRecordsTopicResult(Message):
    """The results for one topic."""

    name: str = string("0+")
    partitions: list[DeleteRecordsPartitionResult] = array(DeleteRecordsPartitionResult, "0+")


class DeleteRecordsResponse(Message, api=ApiKey.DELETE_RECORDS):
    """Results per partition."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    topics: list[DeleteRecordsTopicResult] = array(DeleteRecordsTopicResult, "0+")
