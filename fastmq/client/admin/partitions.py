"""What only the leader of a partition answers: offsets by time, deleting records. Pure.

Partitions are sorted by leader, each leader is asked once, and partitions whose leader has moved
meanwhile are asked for again after a back-off, until the operation's time is over.
Source: KIP-79, 107, 734, 1005.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fastmq.client.admin.offsets import by_topic
from fastmq.client.admin.refusals import raise_failures, refusal
from fastmq.client.admin.results import MAX_TIMESTAMP, FoundOffset
from fastmq.client.admin.steps import Ask, Pause, Steps
from fastmq.client.admin.topics import metadata_of
from fastmq.client.calls import Node, Request
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, KafkaError, error_code
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)

__all__ = ["delete_records", "list_offsets", "partitions_of"]

# One offset for a time, instead of the old list of segments.
_OFFSETS_LOW: Final = 1
_MAX_TIMESTAMP_FROM: Final = 7

#: Makes the request for one leader.
Build = Callable[[list[TopicPartition]], Request]
# Any: rows of the responses, which are alike: `partition_index`, `error_code` and results.
Rows = dict[TopicPartition, Any]


def partitions_of(topics: Iterable[str]) -> Steps[list[TopicPartition]]:
    """Return all partitions of topics, sorted."""
    response = yield from metadata_of(list(topics))
    raise_failures(
        {
            row.name: refusal(row.error_code, f"topic {row.name}")
            for row in response.topics
            if row.error_code and not row.partitions
        }
    )
    return sorted(
        TopicPartition(row.name or "", part.partition_index)
        for row in response.topics
        for part in row.partitions
    )


def list_offsets(
    positions: Mapping[TopicPartition, int], *, committed_only: bool = False
) -> Steps[dict[TopicPartition, FoundOffset]]:
    """Return the offset of a position in each partition.

    Args:
        positions: a time in ms (the first record that is not older), or LATEST, EARLIEST,
            MAX_TIMESTAMP.
        committed_only: whether LATEST stops before transactions that are not decided.
    """
    low = _MAX_TIMESTAMP_FROM if MAX_TIMESTAMP in positions.values() else _OFFSETS_LOW

    def build(partitions: list[TopicPartition]) -> Request:
        topics = [
            ListOffsetsTopic(
                name=topic,
                partitions=[
                    ListOffsetsPartition(
                        partition_index=index, timestamp=positions[TopicPartition(topic, index)]
                    )
                    for index in indexes
                ],
            )
            for topic, indexes in by_topic(partitions).items()
        ]
        message = ListOffsetsRequest(
            replica_id=-1, isolation_level=int(committed_only), topics=topics
        )
        return Request(ApiKey.LIST_OFFSETS, lambda _: message, low=low)

    rows = yield from _ask_leaders(positions, build)
    return {
        name: FoundOffset(row.offset, row.timestamp, row.leader_epoch)
        for name, row in sorted(rows.items())
    }


def delete_records(
    before: Mapping[TopicPartition, int], *, timeout_ms: int
) -> Steps[dict[TopicPartition, int]]:
    """Delete the records below an offset (-1: all of them); return the first offsets left."""

    def build(partitions: list[TopicPartition]) -> Request:
        topics = [
            DeleteRecordsTopic(
                name=topic,
                partitions=[
                    DeleteRecordsPartition(
                        partition_index=index, offset=before[TopicPartition(topic, index)]
                    )
                    for index in indexes
                ],
            )
            for topic, indexes in by_topic(partitions).items()
        ]
        message = DeleteRecordsRequest(topics=topics, timeout_ms=timeout_ms)
        return Request(ApiKey.DELETE_RECORDS, lambda _: message)

    rows = yield from _ask_leaders(before, build)
    return {name: row.low_watermark for name, row in sorted(rows.items())}


def _ask_leaders(wanted: Iterable[TopicPartition], build: Build) -> Steps[Rows]:
    """Ask the leader of each partition until all have answered.

    Raises:
        KafkaError: a partition is refused for good, or has no leader until the time is over.
    """
    left = list(dict.fromkeys(wanted))
    answers: Rows = {}
    attempts = 0
    while left:
        leaders, failures = yield from _leaders(left)
        responses = yield [Ask(Node(node), build(names)) for node, names in leaders.items()]
        for response in responses:
            for topic in response.topics:
                for row in topic.partitions:
                    name = TopicPartition(topic.name, row.partition_index)
                    if row.error_code:
                        failures[name] = refusal(row.error_code, str(name))
                    else:
                        answers[name] = row
        raise_failures({name: e for name, e in failures.items() if not _may_pass(e, attempts)})
        left = list(failures)
        if left:
            attempts += 1
            yield Pause(attempts, failures[left[0]])
    return answers


def _may_pass(error: KafkaError, attempts: int) -> bool:
    # A topic that was just made may not be known everywhere yet; but most often the name is wrong.
    if error.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return attempts < 1
    return error.retriable


def _leaders(
    partitions: list[TopicPartition],
) -> Steps[tuple[dict[int, list[TopicPartition]], dict[TopicPartition, KafkaError]]]:
    response = yield from metadata_of(dict.fromkeys(name.topic for name in partitions))
    errors = {row.name: row.error_code for row in response.topics}
    known = {
        TopicPartition(row.name or "", part.partition_index): part
        for row in response.topics
        for part in row.partitions
    }
    leaders: dict[int, list[TopicPartition]] = defaultdict(list)
    failures = {}
    for name in partitions:
        part = known.get(name)
        if part is None:
            code = errors.get(name.topic) or ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            failures[name] = refusal(error_code(code), str(name))
        elif part.leader_id < 0:
            failures[name] = KafkaError(
                ErrorCode.LEADER_NOT_AVAILABLE, f"{name} has no leader: is its broker running?"
            )
        else:
            leaders[part.leader_id].append(name)
    return leaders, failures
