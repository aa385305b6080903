"""ElectLeaders: preferred or unclean leader election. KIP-183, KIP-460."""

from fastmq.protocol._message import Message, array, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "ElectLeadersPartitionResult",
    "ElectLeadersRequest",
    "ElectLeadersResponse",
    "ElectLeadersTopic",
    "ElectLeadersTopicResult",
]


class ElectLeadersTopic(Message):
    """Partitions of one topic."""

    topic: str = string("0+")
    partitions: list[int] = array(int32, "0+")


class ElectLeadersRequest(Message, api=ApiKey.ELECT_LEADERS):
    """Elects; type 0 preferred, 1 unclean; topics null means all."""

    election_type: int = int8("1+")
    topic_partitions: list[ElectLeadersTopic] | None = array(ElectLeadersTopic, "0+", nullable="0+")
    timeout_ms: int = int32("0+", default=60000)


class ElectLeadersPartitionResult(Message):
    """The result for one partition."""

    partition_id: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")


class ElectLeadersTopicResult(Message):
    """The results for one topic."""

    topic: str = string("0+")
    partition_result: list[ElectLeadersPartitionResult] = array(ElectLeadersPartitionResult, "0+")


class ElectLeadersResponse(Message, api=ApiKey.ELECT_LEADERS):
    """Results per partition."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("1+")
    replica_election_results: list[ElectLeadersTopicResult] = array(ElectLeadersTopicResult, "0+")
