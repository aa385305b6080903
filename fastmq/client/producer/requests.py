"""The Produce request of some batches, in the version that the broker knows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

from fastmq.client.calls import Request
from fastmq.client.metadata import ClusterMetadata
from fastmq.client.producer.options import ProducerOptions
from fastmq.compression import Codec
from fastmq.ids import UUID_ZERO
from fastmq.protocol import ApiKey, Message
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic

if TYPE_CHECKING:
    from fastmq._native.batches import Batch
    from fastmq.client.producer.partition import Partition

__all__ = ["produce_request"]

_IDS_FROM: Final = 13
_ZSTD_FROM: Final = 7


def produce_request(
    metadata: ClusterMetadata,
    options: ProducerOptions,
    codec: Codec,
    items: "Sequence[tuple[Partition, Batch]]",
) -> Request:
    """A request with one batch per partition; the batches are sent from where they lie."""
    names = {partition.topic for partition, _ in items}
    ids = {name: metadata.topics[name].topic_id for name in names if name in metadata.topics}
    by_id = len(ids) == len(names) and UUID_ZERO not in ids.values()
    low = _ZSTD_FROM if codec is Codec.ZSTD else 3
    high = 32767 if by_id else _IDS_FROM - 1
    return Request(ApiKey.PRODUCE, _builder(options, ids, items), low, high)


def _builder(
    options: ProducerOptions,
    ids: dict[str, bytes],
    items: "Sequence[tuple[Partition, Batch]]",
) -> Callable[[int], Message]:
    def build(version: int) -> Message:
        topics: dict[str, ProduceTopic] = {}
        for partition, batch in items:
            topic = topics.get(partition.topic)
            if topic is None:
                topic = ProduceTopic(name=partition.topic)
                if version >= _IDS_FROM:
                    topic = ProduceTopic(topic_id=ids[partition.topic])
                topics[partition.topic] = topic
            # The encoder takes any buffer.
            records = cast("memoryview", batch)
            topic.partition_data.append(ProducePartition(index=partition.index, records=records))
        return ProduceRequest(
            acks=options.required_acks,
            timeout_ms=options.request_timeout_ms,
            topic_data=list(topics.values()),
        )

    return build
