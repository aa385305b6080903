"""What members of a group tell each other: subscriptions, assignments. Pure.

Source: KIP-341 and KIP-429 (owned partitions), KIP-792 (generation), Java's sticky assignor.
"""

from collections.abc import Collection, Iterable
from typing import Any

from fastmq.client.consumer.assignors import Member, by_topic
from fastmq.client.consumer.sticky_data import decode_sticky, encode_sticky
from fastmq.client.topic_partition import TopicPartition
from fastmq.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerTopicPartitions,
    decode_consumer,
    encode_consumer,
)

__all__ = ["assigned_in", "assignment_bytes", "member_of", "subscription_bytes", "topics_in"]

_SUBSCRIPTION_VERSION = 3
_ASSIGNMENT_VERSION = 1


def subscription_bytes(
    topics: Iterable[str], owned: Collection[TopicPartition], generation: int, strategy: str
) -> bytes:
    """Encode what a member wants and has."""
    return encode_consumer(
        ConsumerProtocolSubscription(
            topics=sorted(topics),
            user_data=encode_sticky(tuple(owned), generation) if strategy == "sticky" else None,
            owned_partitions=_rows(owned),
            generation_id=generation,
        ),
        _SUBSCRIPTION_VERSION,
    )


def assignment_bytes(names: Iterable[TopicPartition]) -> bytes:
    """Encode what a member gets."""
    return encode_consumer(
        ConsumerProtocolAssignment(assigned_partitions=_rows(names)), _ASSIGNMENT_VERSION
    )


def assigned_in(assignment: bytes) -> set[TopicPartition]:
    """Decode what this member gets; nothing when the leader said nothing."""
    if not assignment:
        return set()
    decoded = decode_consumer(ConsumerProtocolAssignment, assignment)
    return {
        TopicPartition(row.topic, index)
        for row in decoded.assigned_partitions
        for index in row.partitions
    }


# Any: rows of a JoinGroup answer, here and below.
def topics_in(members: Iterable[Any]) -> set[str]:
    """Decode what all members together want."""
    topics: set[str] = set()
    for row in members:
        topics.update(decode_consumer(ConsumerProtocolSubscription, row.metadata).topics)
    return topics


def member_of(row: Any, strategy: str) -> Member:
    """Decode what a member wants and has, for the assignor."""
    subscription = decode_consumer(ConsumerProtocolSubscription, row.metadata)
    owned = tuple(
        TopicPartition(part.topic, index)
        for part in subscription.owned_partitions
        for index in part.partitions
    )
    generation = subscription.generation_id
    if strategy == "sticky" and subscription.user_data:
        owned, generation = decode_sticky(subscription.user_data)
    return Member(
        row.member_id, frozenset(subscription.topics), owned, generation, row.group_instance_id
    )


def _rows(names: Iterable[TopicPartition]) -> list[ConsumerTopicPartitions]:
    return [
        ConsumerTopicPartitions(topic=topic, partitions=partitions)
        for topic, partitions in by_topic(list(names)).items()
    ]
