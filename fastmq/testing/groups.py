"""A consumer group as a test sees it: what it has committed, and how far behind it is."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_fetch import (
    OffsetFetchGroup,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from fastmq.testing.topics import Topic

if TYPE_CHECKING:
    from fastmq.testing._wire import Wire

__all__ = ["Group"]

_STEP_S = 0.005
# A broker that has just started makes its first coordinator when somebody asks.
_NOT_YET = frozenset(
    {
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_COORDINATOR,
    }
)
# Before topics have ids instead of names.
_FETCH_BY_NAME = 9
_COMMIT_BY_NAME = 9


class Group:
    """A consumer group; got from `Broker.group`. `str()` is its id."""

    def __init__(self, wire: "Wire", group_id: str) -> None:
        self._wire = wire
        self.group_id = group_id

    def __str__(self) -> str:
        return self.group_id

    def __repr__(self) -> str:
        return f"<Group {self.group_id}>"

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the committed offsets by topic and partition."""
        request = OffsetFetchRequest(groups=[OffsetFetchGroup(group_id=self.group_id, topics=None)])
        answer = self._wire.call(request, OffsetFetchResponse, max_version=_FETCH_BY_NAME).groups[0]
        if answer.error_code in _NOT_YET:
            return {}
        if answer.error_code:
            raise KafkaError(ErrorCode(answer.error_code), f"asking for offsets of {self.group_id}")
        return {
            (topic.name, row.partition_index): row.committed_offset
            for topic in answer.topics
            for row in topic.partitions
            if row.committed_offset >= 0
        }

    def commit(
        self, topic: Topic | str, offsets: Mapping[int, int] | None = None, *, timeout: float = 10.0
    ) -> None:
        """Commit offsets, before a consumer of the group starts: where it is to begin.

        A client that finds a committed offset need not look for the beginning of the log, which
        takes confluent-kafka a tenth of a second.

        Args:
            topic: that the group will read.
            offsets: of the next records to read, by partition; None: the first of every partition.
            timeout: seconds that the group's coordinator may take to come up.

        Raises:
            KafkaError: the group has members, or there is no such topic.
        """
        if offsets is None:
            offsets = Topic(self._wire, str(topic)).start_offsets()
        rows = [
            OffsetCommitPartition(partition_index=index, committed_offset=offset)
            for index, offset in offsets.items()
        ]
        request = OffsetCommitRequest(
            group_id=self.group_id,
            topics=[OffsetCommitTopic(name=str(topic), partitions=rows)],
        )
        deadline = time.monotonic() + timeout
        while True:
            answer = self._wire.call(
                request, OffsetCommitResponse, max_version=_COMMIT_BY_NAME
            ).topics[0]
            codes = {row.error_code for row in answer.partitions if row.error_code}
            if not codes:
                return
            if not codes <= _NOT_YET or time.monotonic() > deadline:
                code = ErrorCode(max(codes))
                raise KafkaError(code, f"committing offsets of {topic} for {self.group_id}")
            time.sleep(_STEP_S)

    def lag(self, topic: Topic | str | None = None) -> int:
        """Return how many records the group has still to consume.

        Args:
            topic: only this one; partitions without a commit count whole. None: all topics that
                the group has committed anything of.
        """
        committed = self.committed()
        names = {name for name, _ in committed} if topic is None else {str(topic)}
        total = 0
        for name in names:
            view = Topic(self._wire, name)
            starts = view.start_offsets()
            for index, end in view.end_offsets().items():
                total += max(end - committed.get((name, index), starts[index]), 0)
        return total

    def state(self) -> str:
        """Return the state: Stable, Empty, PreparingRebalance, CompletingRebalance or Dead."""
        return self._describe().group_state

    def member_count(self) -> int:
        """Return how many members the group has."""
        return len(self._describe().members)

    def wait_for_lag(self, topic: Topic | str, at_most: int = 0, timeout: float = 10.0) -> None:
        """Wait until the group has consumed, and committed, a topic.

        Args:
            topic: what it consumes.
            at_most: records that may be left.
            timeout: seconds.

        Raises:
            AssertionError: it did not get there.
        """
        deadline = time.monotonic() + timeout
        while (lag := self.lag(topic)) > at_most:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"group {self.group_id} is {lag} records behind in {topic} after {timeout:g} s "
                    f"({self.member_count()} members, state {self.state()})"
                )
            time.sleep(_STEP_S)

    def wait_for_members(self, count: int, timeout: float = 10.0) -> None:
        """Wait until the group is stable with so many members.

        Raises:
            AssertionError: it is not, in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._describe()
            if len(found.members) == count and found.group_state in ("Stable", "Empty", "Dead"):
                return
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"group {self.group_id}: {count} members expected within {timeout:g} s, it is "
                    f"{found.group_state} with {len(found.members)}"
                )
            time.sleep(_STEP_S)

    def _describe(self) -> DescribedGroup:
        answer = self._wire.call(
            DescribeGroupsRequest(groups=[self.group_id]), DescribeGroupsResponse, max_version=5
        )
        found = answer.groups[0]
        if found.error_code in _NOT_YET:
            return DescribedGroup(group_id=self.group_id, group_state="Dead")
        if found.error_code:
            raise KafkaError(ErrorCode(found.error_code), f"describing group {self.group_id}")
        return found
