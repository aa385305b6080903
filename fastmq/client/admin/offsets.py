"""Committed offsets of groups: list, alter, delete. Pure. Source: KIP-396, 496, 709."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from fastmq.client.admin.groups import coordinator
from fastmq.client.admin.refusals import moved, raise_failures, refusal
from fastmq.client.admin.results import CommittedOffset
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.calls import Request
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import KafkaError
from fastmq.protocol import ApiKey, Message
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_delete import (
    OffsetDeletePartition,
    OffsetDeleteRequest,
    OffsetDeleteTopic,
)
from fastmq.protocol.messages.offset_fetch import (
    OffsetFetchGroup,
    OffsetFetchRequest,
)

__all__ = ["alter_offsets", "by_topic", "committed_offsets", "delete_offsets"]

# All topics of a group can be asked for from 2 on, groups in a list since 8; version 10 names
# topics by id, which would cost a look-up and tell nothing about topics that are gone.
_FETCH_LOW, _FETCH_LISTED_FROM, _FETCH_HIGH = 2, 8, 9
_COMMIT_HIGH = 9


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Sort partitions by topic, as requests want them."""
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        topics[topic].append(partition)
    return topics


def committed_offsets(group: str) -> Steps[dict[TopicPartition, CommittedOffset]]:
    """Return all offsets that a group has committed, sorted. An unknown group has none."""

    def build(version: int) -> Message:
        if version >= _FETCH_LISTED_FROM:
            return OffsetFetchRequest(groups=[OffsetFetchGroup(group_id=group, topics=None)])
        return OffsetFetchRequest(group_id=group, topics=None)

    (response,) = yield [
        Ask(
            coordinator(group),
            Request(ApiKey.OFFSET_FETCH, build, low=_FETCH_LOW, high=_FETCH_HIGH),
            lambda r: moved([r.error_code, *(row.error_code for row in r.groups)]),
        )
    ]
    answer = response.groups[0] if response.groups else response
    if answer.error_code:
        raise refusal(answer.error_code, f"group {group}")
    found = {}
    failures: dict[TopicPartition, KafkaError] = {}
    for topic in answer.topics:
        for row in topic.partitions:
            name = TopicPartition(topic.name, row.partition_index)
            if row.error_code:
                failures[name] = refusal(row.error_code, f"group {group}, {name}")
            elif row.committed_offset >= 0:
                found[name] = CommittedOffset(
                    row.committed_offset, row.committed_leader_epoch, row.metadata or ""
                )
    raise_failures(failures)
    return dict(sorted(found.items()))


def alter_offsets(group: str, offsets: Mapping[TopicPartition, int]) -> Steps[None]:
    """Commit offsets from outside of a group, which must have no members."""
    topics = [
        OffsetCommitTopic(
            name=topic,
            partitions=[
                OffsetCommitPartition(
                    partition_index=index,
                    committed_offset=offsets[TopicPartition(topic, index)],
                    committed_metadata="",
                )
                for index in partitions
            ],
        )
        for topic, partitions in by_topic(offsets).items()
    ]
    message = OffsetCommitRequest(group_id=group, topics=topics)
    (response,) = yield [
        Ask(
            coordinator(group),
            Request(ApiKey.OFFSET_COMMIT, lambda _: message, high=_COMMIT_HIGH),
            lambda r: moved([row.error_code for topic in r.topics for row in topic.partitions]),
        )
    ]
    _check_partitions(group, response)


def delete_offsets(group: str, partitions: Iterable[TopicPartition]) -> Steps[None]:
    """Delete committed offsets of partitions."""
    topics = [
        OffsetDeleteTopic(
            name=topic,
            partitions=[OffsetDeletePartition(partition_index=index) for index in indexes],
        )
        for topic, indexes in by_topic(partitions).items()
    ]
    message = OffsetDeleteRequest(group_id=group, topics=topics)
    (response,) = yield [Ask(coordinator(group), message, lambda r: moved([r.error_code]))]
    if response.error_code:
        raise refusal(response.error_code, f"group {group}")
    _check_partitions(group, response)


# Any: the responses of both, which are alike.
def _check_partitions(group: str, response: "Message") -> None:
    failures = {}
    for topic in response.topics:  # type: ignore[attr-defined]
        for row in topic.partitions:
            if row.error_code:
                name = TopicPartition(topic.name, row.partition_index)
                failures[name] = refusal(row.error_code, f"group {group}, {name}")
    raise_failures(failures)
