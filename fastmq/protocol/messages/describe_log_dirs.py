"""DescribeLogDirs: log directories and the sizes in them. KIP-113, KIP-827, KIP-1066."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeLogDirsPartition",
    "DescribeLogDirsRequest",
    "DescribeLogDirsResponse",
    "DescribeLogDirsResult",
    "DescribeLogDirsTopic",
    "DescribeLogDirsTopicResult",
]


class DescribeLogDirsTopic(Message):
    """Partitions of one topic."""

    topic: str = string("0+")
    partitions: list[int] = array(int32, "0+")


class DescribeLogDirsRequest(Message, api=ApiKey.DESCRIBE_LOG_DIRS):
    """Asks for some partitions, or with null for all."""

    topics: list[DescribeLogDirsTopic] | None = array(DescribeLogDirsTopic, "0+", nullable="0+")


class DescribeLogDirsPartition(Message):
    """The size of one replica, and how far it lags behind."""

    partition_index: int = int32("0+")
    partition_size: int = int64("0+")
    offset_lag: int = int64("0+")
    is_future_key: bool = boolean("0+")


class DescribeLogDirsTopicResult(Message):
    """The replicas of one topic."""

    name: str = string("0+")
    partitions: list[DescribeLogDirsPartition] = array(DescribeLogDirsPartition, "0+")


class DescribeLogDirsResult(Message):
    """One log directory; sizes of the disk are -1 when unknown."""

    error_code: int = int16("0+")
    log_dir: str = string("0+")
    topics: list[DescribeLogDirsTopicResult] = array(DescribeLogDirsTopicResult, "0+")
    total_bytes: int = int64("4+", default=-1, ignorable=True)
    usable_bytes: int = int64("4+", default=-1, ignorable=True)
    is_cordoned: bool = boolean("5+", ignorable=True)


class DescribeLogDirsResponse(Message, api=ApiKey.DESCRIBE_LOG_DIRS):
    """The directories of the broker that was asked."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("3+", ignorable=True)
    results: list[DescribeLogDirsResult] = array(DescribeLogDirsResult, "0+")
