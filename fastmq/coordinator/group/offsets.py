"""Committed offsets of one group: kept per topic and partition, and when they expire.

An offset expires `offsets.retention.minutes` after

* the group became Empty, for groups with members;
* its commit, for groups that never had members (simple consumers), and for topics that a Stable
  consumer group does not subscribe to any more.

A retention time that the client gave with its commit counts from the commit instead. Groups whose
members use another protocol than "consumer" keep everything while they have members, as nobody
can tell what they use.

Source: KIP-211.
"""

from collections.abc import Iterator

from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.consumer_protocol import PROTOCOL_TYPE
from fastmq.protocol.records import OffsetCommitValue

__all__ = ["GroupOffsets", "expired_offsets"]


class GroupOffsets:
    """Offsets of one group by topic and partition. Values are never changed, only replaced."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[int, OffsetCommitValue]] = {}
        self.count = 0

    def get(self, topic: str, partition: int) -> OffsetCommitValue | None:
        """Return the committed offset, None if there is none."""
        partitions = self.topics.get(topic)
        return None if partitions is None else partitions.get(partition)

    def put(self, topic: str, partition: int, value: OffsetCommitValue) -> None:
        """Keep an offset."""
        partitions = self.topics.setdefault(topic, {})
        self.count += partition not in partitions
        partitions[partition] = value

    def remove(self, topic: str, partition: int) -> None:
        """Forget an offset; nothing happens when it is not known."""
        partitions = self.topics.get(topic, {})
        if partitions.pop(partition, None) is not None:
            self.count -= 1
            if not partitions:
                del self.topics[topic]

    def __iter__(self) -> Iterator[tuple[str, int, OffsetCommitValue]]:
        for topic, partitions in self.topics.items():
            for partition, value in partitions.items():
                yield topic, partition, value


def expired_offsets(
    group: ClassicGroup, offsets: GroupOffsets, retention_ms: int, now_ms: int
) -> Iterator[tuple[str, int]]:
    """List the topic-partitions whose offsets have expired."""
    since_empty: int | None = None
    in_use: frozenset[str] = frozenset()
    if group.protocol_type is not None:
        if group.state is GroupState.EMPTY:
            since_empty = group.state_timestamp_ms if group.state_timestamp_ms >= 0 else None
        elif group.state is GroupState.STABLE and group.protocol_type == PROTOCOL_TYPE:
            subscribed = group.subscribed_topics()
            if subscribed is None:
                return
            in_use = subscribed
        else:
            return
    for topic, partitions in offsets.topics.items():
        if topic in in_use:
            continue
        for partition, value in partitions.items():
            if value.expire_timestamp != -1:
                expired = now_ms >= value.expire_timestamp
            else:
                base = value.commit_timestamp if since_empty is None else since_empty
                expired = now_ms - base >= retention_ms
            if expired:
                yield topic, partition
