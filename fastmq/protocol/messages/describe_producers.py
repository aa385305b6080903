"""DescribeProducers: the producers that a partition remembers. KIP-664."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeProducersPartition",
    "DescribeProducersRequest",
    "DescribeProducersResponse",
    "DescribeProducersTopic",
    "DescribeProducersTopicResponse",
    "ProducerState",
]


class DescribeProducersTopic(Message):
    """Partitions of one topic."""

    name: str = string("0+")
    partition_indexes: list[int] = array(int32, "0+")


class DescribeProducersRequest(Message, api=ApiKey.DESCRIBE_PRODUCERS):
    """Asks for partitions."""

    topics: list[DescribeProducersTopic] = array(DescribeProducersTopic, "0+")


class ProducerState(Message):
    """A producer; -1 for what it has not."""

    producer_id: int = int64("0+")
    producer_epoch: int = int32("0+")
    last_sequence: int = int32("0+", default=-1)
    last_timestamp: int = int64("0+", default=-1)
    coordinator_epoch: int = int32("0+")
    current_txn_start_offset: int = int64("0+", default=-1)


class DescribeProducersPartition(Message):
    """The producers of one partition."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", default=None)
    active_producers: list[ProducerState] = array(ProducerState, "0+")


class DescribeProducersTopicResponse(Message):
    """The producers of one topic."""

    name: str = string("0+")
    partitions: list[DescribeProducersPartition] = array(DescribeProducersPartition, "0+")


class DescribeProducersResponse(Message, api=ApiKey.DESCRIBE_PRODUCERS):
    """Producers per partition."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    topics: list[DescribeProducersTopicResponse] = array(DescribeProducersTopicResponse, "0+")
