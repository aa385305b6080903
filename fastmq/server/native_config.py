"""A topic's settings in the form that the engine wants."""

import random

from fastmq._native import core
from fastmq.config import BrokerConfig, TopicConfig

__all__ = ["native_config"]

_FLUSH = {
    "ack": core.FLUSH_ACK,
    "replicated": core.FLUSH_REPLICATED,
    "interval": core.FLUSH_INTERVAL,
    "never": core.FLUSH_NEVER,
}


def native_config(
    broker: BrokerConfig,
    topic: TopicConfig,
    replication_factor: int,
    *,
    flags: int = 0,
    keep_all: bool = False,
) -> core.PartitionConfig:
    """Return the engine's view of a topic's settings.

    Produce goes to Python where every record must be looked at or compressed anew: compacted
    topics (keys), `compression.type` other than producer, `fastmq.validation=records`.
    `keep_all` is for topics that the broker needs whole, whatever their settings say.
    """
    if topic.is_compacted:
        flags |= core.COMPACTED
    if (
        topic.is_compacted
        or topic.get_str("compression.type") != "producer"
        or topic.get_str("fastmq.validation") == "records"
    ):
        flags |= core.SLOW_PRODUCE
    segment_ms = topic.get_int("segment.ms")
    jitter_ms = min(topic.get_int("segment.jitter.ms"), segment_ms - 1)
    if jitter_ms > 0:
        # Spreads the rolls of topics that were created together; nothing secret about it.
        segment_ms -= random.randrange(jitter_ms + 1)  # noqa: S311
    return core.PartitionConfig(
        segment_bytes=topic.get_int("segment.bytes"),
        segment_ms=segment_ms,
        retention_ms=topic.get_int("retention.ms"),
        retention_bytes=topic.get_int("retention.bytes"),
        producer_id_expiration_ms=broker.get_int("producer.id.expiration.ms"),
        index_interval_bytes=topic.get_int("index.interval.bytes"),
        segment_index_bytes=topic.get_int("segment.index.bytes"),
        max_message_bytes=topic.get_int("max.message.bytes"),
        timestamp_before_max_ms=topic.get_int("message.timestamp.before.max.ms"),
        timestamp_after_max_ms=topic.get_int("message.timestamp.after.max.ms"),
        log_append_time=topic.get_str("message.timestamp.type") == "LogAppendTime",
        preallocate=topic.get_bool("preallocate"),
        cleanup_delete=topic.is_deleted_by_retention and not keep_all,
        min_insync_replicas=topic.get_int("min.insync.replicas"),
        flush=_FLUSH[topic.flush_mode(replication_factor)],
        flags=flags,
    )
