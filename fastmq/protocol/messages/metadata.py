"""Metadata: brokers, topics, partition leaders. KIP-4, KIP-430, KIP-516, KIP-1102."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, string, uuid
from fastmq.protocol.api import ApiKey

__all__ = [
    "MetadataBroker",
    "MetadataPartition",
    "MetadataRequest",
    "MetadataRequestTopic",
    "MetadataResponse",
    "MetadataTopic",
]

_OPERATIONS_UNKNOWN = -(2**31)


class MetadataRequestTopic(Message):
    """A topic asked for, by id (12+, name null) or by name."""

    topic_id: bytes = uuid("10+", ignorable=True)
    name: str | None = string("0+", nullable="10+")


class MetadataRequest(Message, api=ApiKey.METADATA):
    """Asks for topics: null means all; in version 0 an empty list means all."""

    topics: list[MetadataRequestTopic] | None = array(MetadataRequestTopic, "0+", nullable="1+")
    allow_auto_topic_creation: bool = boolean("4+", default=True)
    include_cluster_authorized_operations: bool = boolean("8-10")
    include_topic_authorized_operations: bool = boolean("8+")


class MetadataBroker(Message):
    """A live broker, at the address of the listener that was asked."""

    node_id: int = int32("0+")
    host: str = string("0+")
    port: int = int32("0+")
    rack: str | None = string("1+", nullable="1+", default=None, ignorable=True)


class MetadataPartition(Message):
    """A partition, its leader (-1: none) and replicas."""

    error_code: int = int16("0+")
    partition_index: int = int32("0+")
    leader_id: int = int32("0+")
    leader_epoch: int = int32("7+", default=-1, ignorable=True)
    replica_nodes: list[int] = array(int32, "0+")
    isr_nodes: list[int] = array(int32, "0+")
    offline_replicas: list[int] = array(int32, "5+", ignorable=True)


class MetadataTopic(Message):
    """A topic; `name` is null for an unknown id."""

    error_code: int = int16("0+")
    name: str | None = string("0+", nullable="12+")
    topic_id: bytes = uuid("10+", ignorable=True)
    is_internal: bool = boolean("1+", ignorable=True)
    partitions: list[MetadataPartition] = array(MetadataPartition, "0+")
    topic_authorized_operations: int = int32("8+", default=_OPERATIONS_UNKNOWN)


class MetadataResponse(Message, api=ApiKey.METADATA):
    """Brokers and topics."""

    throttle_time_ms: int = int32("3+", ignorable=True)
    brokers: list[MetadataBroker] = array(MetadataBroker, "0+")
    cluster_id: str | None = string("2+", nullable="2+", default=None, ignorable=True)
    controller_id: int = int32("1+", default=-1, ignorable=True)
    topics: list[MetadataTopic] = array(MetadataTopic, "0+")
    cluster_authorized_operations: int = int32("8-10", default=_OPERATIONS_UNKNOWN)
    error_code: int = int16("13+", ignorable=True)
