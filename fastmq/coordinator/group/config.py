"""The settings of the group coordinator, with Kafka's defaults."""

from dataclasses import dataclass

__all__ = ["GroupConfig"]


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Settings that all shards share. Times are milliseconds.

    Attributes:
        initial_rebalance_delay_ms: group.initial.rebalance.delay.ms.
        min_session_timeout_ms: group.min.session.timeout.ms.
        max_session_timeout_ms: group.max.session.timeout.ms.
        max_size: group.max.size.
        new_member_join_timeout_ms: how long a new member may wait in a rebalance before its
            request counts as abandoned (Kafka: five minutes, not configurable).
        offset_metadata_max_size: offset.metadata.max.bytes, in characters as Kafka counts.
        offsets_retention_ms: offsets.retention.minutes.
        offsets_retention_check_interval_ms: offsets.retention.check.interval.ms.
    """

    initial_rebalance_delay_ms: int = 3000
    min_session_timeout_ms: int = 6000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2**31 - 1
    new_member_join_timeout_ms: int = 300_000
    offset_metadata_max_size: int = 4096
    offsets_retention_ms: int = 10080 * 60_000
    offsets_retention_check_interval_ms: int = 600_000
