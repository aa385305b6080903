"""fastmq: a distributed message queue that speaks Kafka's protocol, with a C hot path.

The names below are imported when they are used: a broker does not load the client, nor a client
what only brokers need.
"""

from typing import TYPE_CHECKING

from fastmq._version import __version__

if TYPE_CHECKING:
    from fastmq._native.batches import Delivery as Delivery
    from fastmq._native.consumer import ConsumerRecord as ConsumerRecord
    from fastmq.client.admin.results import NewTopic as NewTopic
    from fastmq.client.fronts.admin import Admin as Admin
    from fastmq.client.fronts.consumer import Consumer as Consumer
    from fastmq.client.fronts.producer import Producer as Producer
    from fastmq.client.fronts.reading import Batch as Batch
    from fastmq.client.fronts.table import read_topic as read_topic
    from fastmq.client.producer.machine import RecordMetadata as RecordMetadata
    from fastmq.client.serializers import deserialize_json as deserialize_json
    from fastmq.client.serializers import deserialize_msgpack as deserialize_msgpack
    from fastmq.client.serializers import deserialize_msgspec as deserialize_msgspec
    from fastmq.client.serializers import serialize_json as serialize_json
    from fastmq.client.serializers import serialize_msgpack as serialize_msgpack
    from fastmq.client.serializers import serialize_msgspec as serialize_msgspec
    from fastmq.client.topic_partition import TopicPartition as TopicPartition

__all__ = [
    "Admin",
    "Batch",
    "Consumer",
    "ConsumerRecord",
    "Delivery",
    "NewTopic",
    "Producer",
    "RecordMetadata",
    "TopicPartition",
    "__version__",
    "deserialize_json",
    "deserialize_msgpack",
    "deserialize_msgspec",
    "read_topic",
    "serialize_json",
    "serialize_msgpack",
    "serialize_msgspec",
]

_LATE = {
    "Admin": "fastmq.client.fronts.admin",
    "Batch": "fastmq.client.fronts.reading",
    "Consumer": "fastmq.client.fronts.consumer",
    "ConsumerRecord": "fastmq._native.consumer",
    "Delivery": "fastmq._native.batches",
    "NewTopic": "fastmq.client.admin.results",
    "Producer": "fastmq.client.fronts.producer",
    "RecordMetadata": "fastmq.client.producer.machine",
    "deserialize_json": "fastmq.client.serializers",
    "deserialize_msgpack": "fastmq.client.serializers",
    "deserialize_msgspec": "fastmq.client.serializers",
    "read_topic": "fastmq.client.fronts.table",
    "serialize_json": "fastmq.client.serializers",
    "serialize_msgpack": "fastmq.client.serializers",
    "serialize_msgspec": "fastmq.client.serializers",
    "TopicPartition": "fastmq.client.topic_partition",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_LATE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
