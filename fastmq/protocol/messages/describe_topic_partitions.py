"""DescribeTopicPartitions: topics page by page, with eligible leader replicas. KIP-966."""

from fastmq.protocol._message import (
    Message,
    array,
    boolean,
    int16,
    int32,
    string,
    struct,
    uuid,
)
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeTopicPartitionsCursor",
    "DescribeTopicPartitionsNextCursor",
    "DescribeTopicPartitionsPartition",
    "DescribeTopicPartitionsRequest",
    "DescribeTopicPartitionsRequestTopic",
    "DescribeTopicPartitionsResponse",
    "DescribeTopicPartitionsTopic",
]


class DescribeTopicPartitionsRequestTopic(Message):
    """A topic asked for."""

    name: str = string("0+")


class DescribeTopicPartitionsCursor(Message):
    """Where the page begins."""

    topic_name: str = string("0+")
    partition_index: int = int32("0+")


class DescribeTopicPartitionsRequest(Message, api=ApiKey.DESCRIBE_TOPIC_PARTITIONS):
    """Asks for topics, none named means all."""

    topics: list[DescribeTopicPartitionsRequestTopic] = array(
        DescribeTopicPartitionsRequestTopic, "0+"
    )
    response_partition_limit: int = int32("0+", default=2000)
    cursor: DescribeTopicPartitionsCursor | None = struct(
        DescribeTopicPartitionsCursor, "0+", nullable="0+"
    )


class DescribeTopicPartitionsPartition(Message):
    """A partition and its replicas."""

    error_code: int = int16("0+")
    partition_index: int = int32("0+")
    leader_id: int = int32("0+")
    leader_epoch: int = int32("0+", default=-1)
    replica_nodes: list[int] = array(int32, "0+")
    isr_nodes: list[int] = array(int32, "0+")
    eligible_leader_replicas: list[int] | None = array(int32, "0+", nullable="0+", default=None)
    last_known_elr: list[int] | None = array(int32, "0+", nullable="0+", default=None)
    offline_replicas: list[int] = array(int32, "0+")


class DescribeTopicPartitionsTopic(Message):
    """A topic and those of its partitions that are on this page."""

    error_code: int = int16("0+")
    name: str | None = string("0+", nullable="0+")
    topic_id: bytes = uuid("0+")
    is_internal: bool = boolean("0+")
    partitions: list[DescribeTopicPartitionsPartition] = array(
        DescribeTopicPartitionsPartition, "0+"
    )
    topic_authorized_operations: int = int32("0+", default=-(2**31))


class DescribeTopicPartitionsNextCursor(Message):
    """Where the next page begins."""

    topic_name: str = string("0+")
    partition_index: int = int32("0+")


class DescribeTopicPartitionsResponse(Message, api=ApiKey.DESCRIBE_TOPIC_PARTITIONS):
    """One page; `next_cursor` is null on the last."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    topics: list[DescribeTopicPartitionsTopic] = array(DescribeTopicPartitionsTopic, "0+")
    next_cursor: DescribeTopicPartitionsNextCursor | None = struct(
        DescribeTopicPartitionsNextCursor, "0+", nullable="0+"
    )
