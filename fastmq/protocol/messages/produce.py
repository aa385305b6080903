"""Produce: append record batches. KIP-98, KIP-467, KIP-516, KIP-951."""

from fastmq.protocol._message import (
    Buffer,
    Message,
    array,
    int16,
    int32,
    int64,
    records,
    string,
    struct,
    uuid,
)
from fastmq.protocol.api import ApiKey

__all__ = [
    "ProduceCurrentLeader",
    "ProduceNodeEndpoint",
    "ProducePartition",
    "ProducePartitionResponse",
    "ProduceRecordError",
    "ProduceRequest",
    "ProduceResponse",
    "ProduceTopic",
    "ProduceTopicResponse",
]


class ProducePartition(Message):
    """The batches for one partition."""

    index: int = int32("0+")
    records: Buffer | None = records("0+", nullable="0+")


class ProduceTopic(Message):
    """A topic, by name before version 13 and by id since."""

    name: str = string("0-12", ignorable=True)
    topic_id: bytes = uuid("13+", ignorable=True)
    partition_data: list[ProducePartition] = array(ProducePartition, "0+")


class ProduceRequest(Message, api=ApiKey.PRODUCE):
    """Appends batches; `acks` is -1 (all in-sync replicas), 0 (no answer) or 1."""

    transactional_id: str | None = string("3+", nullable="3+", default=None)
    acks: int = int16("0+")
    timeout_ms: int = int32("0+")
    topic_data: list[ProduceTopic] = array(ProduceTopic, "0+")


class ProduceRecordError(Message):
    """Why a record made its batch unacceptable."""

    batch_index: int = int32("8+")
    batch_index_error_message: str | None = string("8+", nullable="8+", default=None)


class ProduceCurrentLeader(Message):
    """Who leads the partition, when it is not the broker that was asked."""

    leader_id: int = int32("10+", default=-1)
    leader_epoch: int = int32("10+", default=-1)


class ProducePartitionResponse(Message):
    """The fate of one partition's batches."""

    index: int = int32("0+")
    error_code: int = int16("0+")
    base_offset: int = int64("0+")
    log_append_time_ms: int = int64("2+", default=-1, ignorable=True)
    log_start_offset: int = int64("5+", default=-1, ignorable=True)
    record_errors: list[ProduceRecordError] = array(ProduceRecordError, "8+", ignorable=True)
    error_message: str | None = string("8+", nullable="8+", default=None, ignorable=True)
    current_leader: ProduceCurrentLeader | None = struct(
        ProduceCurrentLeader, "10+", tag=0, ignorable=True
    )


class ProduceTopicResponse(Message):
    """The answers for one topic."""

    name: str = string("0-12", ignorable=True)
    topic_id: bytes = uuid("13+", ignorable=True)
    partition_responses: list[ProducePartitionResponse] = array(ProducePartitionResponse, "0+")


class ProduceNodeEndpoint(Message):
    """Where a leader that is named in the answer listens."""

    node_id: int = int32("10+")
    host: str = string("10+")
    port: int = int32("10+")
    rack: str | None = string("10+", nullable="10+", default=None)


class ProduceResponse(Message, api=ApiKey.PRODUCE):
    """Offsets or errors per partition."""

    responses: list[ProduceTopicResponse] = array(ProduceTopicResponse, "0+")
    throttle_time_ms: int = int32("1+", ignorable=True)
    node_endpoints: list[ProduceNodeEndpoint] = array(
        ProduceNodeEndpoint, "10+", tag=0, ignorable=True
    )
