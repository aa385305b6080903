"""AlterPartition: a leader asks the controller for another in-sync set. KIP-497, KIP-841, KIP-903.

Between brokers only; it is not advertised to clients.
"""

from fastmq.protocol._message import Message, array, int8, int16, int32, int64, uuid
from fastmq.protocol.api import ApiKey

__all__ = [
    "AlterPartitionData",
    "AlterPartitionReplica",
    "AlterPartitionRequest",
    "AlterPartitionResponse",
    "AlterPartitionResult",
    "AlterPartitionTopic",
    "AlterPartitionTopicResult",
]


class AlterPartitionReplica(Message):
    """A replica that shall be in sync, in the life of its broker that the leader knows."""

    broker_id: int = int32("3+")
    broker_epoch: int = int64("3+", default=-1)


class AlterPartitionData(Message):
    """The in-sync set that the leader wants, and the state that it was chosen on."""

    partition_index: int = int32("0+")
    leader_epoch: int = int32("0+")
    new_isr: list[int] = array(int32, "0-2")
    new_isr_with_epochs: list[AlterPartitionReplica] = array(AlterPartitionReplica, "3+")
    leader_recovery_state: int = int8("1+", default=0)
    partition_epoch: int = int32("0+")


class AlterPartitionTopic(Message):
    """Partitions of one topic."""

    topic_id: bytes = uuid("2+", ignorable=True)
    partitions: list[AlterPartitionData] = array(AlterPartitionData, "0+")


class AlterPartitionRequest(Message, api=ApiKey.ALTER_PARTITION):
    """From the leader of all these partitions."""

    broker_id: int = int32("0+")
    broker_epoch: int = int64("0+", default=-1)
    topics: list[AlterPartitionTopic] = array(AlterPartitionTopic, "0+")


class AlterPartitionResult(Message):
    """The state after the request, whoever changed it."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")
    leader_id: int = int32("0+")
    leader_epoch: int = int32("0+")
    isr: list[int] = array(int32, "0+")
    leader_recovery_state: int = int8("1+", default=0, ignorable=True)
    partition_epoch: int = int32("0+")


class AlterPartitionTopicResult(Message):
    """Answers for one topic."""

    topic_id: bytes = uuid("2+", ignorable=True)
    partitions: list[AlterPartitionResult] = array(AlterPartitionResult, "0+")


class AlterPartitionResponse(Message, api=ApiKey.ALTER_PARTITION):
    """One answer for each partition, unless the whole request was refused."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    topics: list[AlterPartitionTopicResult] = array(AlterPartitionTopicResult, "0+")
