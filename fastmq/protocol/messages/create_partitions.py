"""CreatePartitions: raise the partition count of topics. KIP-195, KIP-599."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "CreatePartitionsAssignment",
    "CreatePartitionsRequest",
    "CreatePartitionsResponse",
    "CreatePartitionsResult",
    "CreatePartitionsTopic",
]


class CreatePartitionsAssignment(Message):
    """The brokers of one new partition."""

    broker_ids: list[int] = array(int32, "0+")


class CreatePartitionsTopic(Message):
    """A topic and its new partition count; assignments null lets the broker choose."""

    name: str = string("0+")
    count: int = int32("0+")
    assignments: list[CreatePartitionsAssignment] | None = array(
        CreatePartitionsAssignment, "0+", nullable="0+"
    )


class CreatePartitionsRequest(Message, api=ApiKey.CREATE_PARTITIONS):
    """Adds partitions, or with `validate_only` says whether it could."""

    topics: list[CreatePartitionsTopic] = array(CreatePartitionsTopic, "0+")
    timeout_ms: int = int32("0+")
    validate_only: bool = boolean("0+")


class CreatePartitionsResult(Message):
    """The result for one topic."""

    name: str = string("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", default=None)


class CreatePartitionsResponse(Message, api=ApiKey.CREATE_PARTITIONS):
    """Results per topic."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    results: list[CreatePartitionsResult] = array(CreatePartitionsResult, "0+")
