"""CreateTopics. KIP-4, KIP-464, KIP-516, KIP-525, KIP-599."""

from fastmq.protocol._message import Message, array, boolean, int8, int16, int32, string, uuid
from fastmq.protocol.api import ApiKey

__all__ = [
    "CreatableTopic",
    "CreatableTopicAssignment",
    "CreatableTopicConfig",
    "CreateTopicsRequest",
    "CreateTopicsResponse",
    "CreatedTopic",
    "CreatedTopicConfig",
]


class CreatableTopicAssignment(Message):
    """The brokers of one partition, the preferred leader first."""

    partition_index: int = int32("0+")
    broker_ids: list[int] = array(int32, "0+")


class CreatableTopicConfig(Message):
    """A topic setting."""

    name: str = string("0+")
    value: str | None = string("0+", nullable="0+")


class CreatableTopic(Message):
    """A topic to create; counts of -1 mean the broker's default (4+) or manual assignment."""

    name: str = string("0+")
    num_partitions: int = int32("0+")
    replication_factor: int = int16("0+")
    assignments: list[CreatableTopicAssignment] = array(CreatableTopicAssignment, "0+")
    configs: list[CreatableTopicConfig] = array(CreatableTopicConfig, "0+")


class CreateTopicsRequest(Message, api=ApiKey.CREATE_TOPICS):
    """Creates topics, or with `validate_only` says whether it could."""

    topics: list[CreatableTopic] = array(CreatableTopic, "0+")
    timeout_ms: int = int32("0+", default=60000)
    validate_only: bool = boolean("1+")


class CreatedTopicConfig(Message):
    """An effective setting of a new topic."""

    name: str = string("5+")
    value: str | None = string("5+", nullable="5+")
    read_only: bool = boolean("5+")
    config_source: int = int8("5+", default=-1, ignorable=True)
    is_sensitive: bool = boolean("5+")


class CreatedTopic(Message):
    """The result for one topic."""

    name: str = string("0+")
    topic_id: bytes = uuid("7+", ignorable=True)
    error_code: int = int16("0+")
    error_message: str | None = string("1+", nullable="1+", ignorable=True)
    topic_config_error_code: int = int16("5+", tag=0, ignorable=True)
    num_partitions: int = int32("5+", default=-1, ignorable=True)
    replication_factor: int = int16("5+", default=-1, ignorable=True)
    configs: list[CreatedTopicConfig] | None = array(
        CreatedTopicConfig, "5+", nullable="5+", ignorable=True
    )


class CreateTopicsResponse(Message, api=ApiKey.CREATE_TOPICS):
    """Results per topic."""

    throttle_time_ms: int = int32("2+", ignorable=True)
    topics: list[CreatedTopic] = array(CreatedTopic, "0+")
