"""DescribeQuorum: the state of the metadata quorum. KIP-595, KIP-836, KIP-853."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string, uint16, uuid
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeQuorumListener",
    "DescribeQuorumNode",
    "DescribeQuorumPartition",
    "DescribeQuorumPartitionData",
    "DescribeQuorumReplica",
    "DescribeQuorumRequest",
    "DescribeQuorumResponse",
    "DescribeQuorumTopic",
    "DescribeQuorumTopicData",
]


class DescribeQuorumPartition(Message):
    """A partition."""

    partition_index: int = int32("0+")


class DescribeQuorumTopic(Message):
    """Partitions of one topic."""

    topic_name: str = string("0+")
    partitions: list[DescribeQuorumPartition] = array(DescribeQuorumPartition, "0+")


class DescribeQuorumRequest(Message, api=ApiKey.DESCRIBE_QUORUM):
    """Asks for the quorum of partitions."""

    topics: list[DescribeQuorumTopic] = array(DescribeQuorumTopic, "0+")


class DescribeQuorumReplica(Message):
    """A voter or observer, and how far it is."""

    replica_id: int = int32("0+")
    replica_directory_id: bytes = uuid("2+")
    log_end_offset: int = int64("0+")
    last_fetch_timestamp: int = int64("1+", default=-1, ignorable=True)
    last_caught_up_timestamp: int = int64("1+", default=-1, ignorable=True)


class DescribeQuorumPartitionData(Message):
    """The quorum of one partition."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("2+", nullable="2+", ignorable=True)
    leader_id: int = int32("0+")
    leader_epoch: int = int32("0+")
    high_watermark: int = int64("0+")
    current_voters: list[DescribeQuorumReplica] = array(DescribeQuorumReplica, "0+")
    observers: list[DescribeQuorumReplica] = array(DescribeQuorumReplica, "0+")


class DescribeQuorumTopicData(Message):
    """The quorums of one topic."""

    topic_name: str = string("0+")
    partitions: list[DescribeQuorumPartitionData] = array(DescribeQuorumPartitionData, "0+")


class DescribeQuorumListener(Message):
    """Where a node listens."""

    name: str = string("2+")
    host: str = string("2+")
    port: int = uint16("2+")


class DescribeQuorumNode(Message):
    """A node and its listeners."""

    node_id: int = int32("2+")
    listeners: list[DescribeQuorumListener] = array(DescribeQuorumListener, "2+")


class DescribeQuorumResponse(Message, api=ApiKey.DESCRIBE_QUORUM):
    """The quorums."""

    error_code: int = int16("0+")
    error_message: str | None = string("2+", nullable="2+", ignorable=True)
    topics: list[DescribeQuorumTopicData] = array(DescribeQuorumTopicData, "0+")
    nodes: list[DescribeQuorumNode] = array(DescribeQuorumNode, "2+")
