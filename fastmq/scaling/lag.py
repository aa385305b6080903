"""Lag of consumer groups, from what a broker sees at intervals.

A look at a group is its committed offsets beside the log ends. `LagEstimator.observe` takes all of
a look and keeps, per partition, a short history of log ends and the rate of production, per group
and partition the rate of commits, and per group the most that one member has consumed per second.
From these:

* lag in records: log end less committed offset;
* lag in seconds: how long ago the next record to be consumed was appended, by the history of log
  ends. For what is older than the history the caller is asked for the record's own timestamp
  (`wanted_times`), once per committed offset;
* time to zero: lag by the rate at which it shrinks, none when it does not;
* wanted consumers: what is produced plus the lag spread over `target_s`, by what one member can do.
  That is learned while the group is saturated, which is when more than `_SATURATED_S` seconds of
  work wait. A saturated group that does not get there wants one more than it has; one that was not
  saturated for long might do with one less. Never more than the partitions that are busy, and none
  when there is nothing to do.

Bounded by what the caller shows: partitions and groups that are not in a look are forgotten.
Commits come in bursts, so rates are averages over half a minute.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fastmq.scaling.history import EndHistory, Rate

__all__ = ["GroupLag", "GroupSample", "LagEstimator", "OffsetSample", "PartitionLag"]

_RATE_TAU_S: Final = 30.0
# While a group is saturated, the most a member did fades over ten minutes: work changes.
_CAPACITY_TAU_S: Final = 600.0
# What was learned longer ago is not known any more.
_CAPACITY_KEPT_S: Final = 1800.0
_SATURATED_S: Final = 10.0
# Less than a record in a minute and a half is nothing.
_RATE_MIN: Final = 0.01
# A rate that is as good as enough does not want one consumer more.
_SLACK: Final = 0.05
_TARGET_S: Final = 60.0


class OffsetSample(NamedTuple):
    """One partition of a group at one moment.

    Attributes:
        committed: -1 where nothing was committed, in a topic that the group reads: all records
            that are there count then.
    """

    topic: str
    partition: int
    committed: int
    log_start: int
    log_end: int


class GroupSample(NamedTuple):
    """A group at one moment."""

    group_id: str
    state: str
    members: int
    offsets: list[OffsetSample]


class PartitionLag(NamedTuple):
    """What is known of one partition of a group; rates in records per second."""

    topic: str
    partition: int
    committed: int
    log_end: int
    lag: int
    lag_seconds: float
    consume_rate: float
    produce_rate: float


@dataclass(frozen=True, slots=True)
class GroupLag:
    """What is known of a group.

    Attributes:
        lag: records, all partitions.
        lag_seconds: of the partition that is furthest behind.
        consume_rate: records per second, all partitions; the same for `produce_rate`.
        eta_seconds: until the lag is 0; None when it does not shrink.
        wanted_consumers: how many would catch up within the target; 0 when nothing is to be done.
        wanted_partitions: the same, if there were a busy partition for each.
        lagging_partitions: with lag.
        busy_partitions: with lag, or being produced to.
    """

    group_id: str
    state: str
    members: int
    lag: int
    lag_seconds: float
    consume_rate: float
    produce_rate: float
    eta_seconds: float | None
    wanted_consumers: int
    wanted_partitions: int
    lagging_partitions: int
    busy_partitions: int
    partitions: tuple[PartitionLag, ...] = ()


@dataclass(slots=True)
class _Log:
    """A partition, whoever reads it."""

    rate: Rate
    history: EndHistory = field(default_factory=EndHistory)
    end: int = -1
    seen_ms: int = -1


@dataclass(slots=True)
class _Position:
    """A group in a partition."""

    rate: Rate
    committed: int = -1
    seen_ms: int = -1
    # The append time of the record at `committed`, where the caller told it.
    known_offset: int = -1
    known_ms: int = -1


@dataclass(slots=True)
class _Group:
    capacity: float = 0.0  # records per second and member; 0 = not known
    learned_ms: int = -1
    positions: dict[tuple[str, int], _Position] = field(default_factory=dict)


class LagEstimator:
    """The estimates of one broker.

    Args:
        target_s: wanted consumers are those that catch up in so many seconds.

    Attributes:
        wanted_times: (group, topic, partition, offset) of records whose timestamp is asked for;
            made anew by each look. Answered, or not, with `note_time` before the next one.
    """

    def __init__(self, target_s: float = _TARGET_S) -> None:
        self._target_s = target_s
        self._logs: dict[tuple[str, int], _Log] = {}
        self._groups: dict[str, _Group] = {}
        self.wanted_times: list[tuple[str, str, int, int]] = []

    def note_time(
        self, group_id: str, topic: str, partition: int, offset: int, timestamp_ms: int
    ) -> None:
        """Tell the timestamp of a record that was asked for; counts from the next look on."""
        group = self._groups.get(group_id)
        position = None if group is None else group.positions.get((topic, partition))
        if position is not None:
            position.known_offset, position.known_ms = offset, timestamp_ms

    def observe(self, now_ms: int, samples: Iterable[GroupSample]) -> dict[str, GroupLag]:
        """Take a look; return what is known of each group in it.

        Args:
            now_ms: later than that of the last look.
            samples: all groups.
        """
        looks = list(samples)
        self.wanted_times = []
        self._note_logs(now_ms, looks)
        groups = {look.group_id: self._groups.get(look.group_id) or _Group() for look in looks}
        self._groups = groups
        return {look.group_id: self._observe_group(now_ms, look) for look in looks}

    def _note_logs(self, now_ms: int, looks: list[GroupSample]) -> None:
        ends = {(o.topic, o.partition): o.log_end for look in looks for o in look.offsets}
        logs = {}
        for key, end in ends.items():
            log = logs[key] = self._logs.get(key) or _Log(Rate(_RATE_TAU_S))
            if 0 <= log.seen_ms < now_ms and end >= log.end >= 0:
                log.rate.add(end - log.end, (now_ms - log.seen_ms) / 1000)
            log.end, log.seen_ms = end, now_ms
            log.history.add(now_ms, end)
        self._logs = logs

    def _observe_group(self, now_ms: int, look: GroupSample) -> GroupLag:
        group = self._groups[look.group_id]
        positions = {}
        rows = []
        for sample in look.offsets:
            key = sample.topic, sample.partition
            position = group.positions.get(key) or _Position(Rate(_RATE_TAU_S))
            positions[key] = position
            rows.append(self._observe_partition(now_ms, look.group_id, sample, position))
        group.positions = positions
        lag = sum(row.lag for row in rows)
        consumed = sum(row.consume_rate for row in rows)
        produced = sum(row.produce_rate for row in rows)
        self._note_capacity(group, now_ms, look.members, consumed, lag)
        lagging = sum(row.lag > 0 for row in rows)
        busy = sum(row.lag > 0 or row.produce_rate > _RATE_MIN for row in rows)
        shrinks = consumed - produced
        wanted = self._wanted(group, look.members, lag, consumed, produced) if busy else 0
        eta = 0.0 if lag == 0 else lag / shrinks if shrinks > _RATE_MIN else None
        return GroupLag(
            group_id=look.group_id,
            state=look.state,
            members=look.members,
            lag=lag,
            lag_seconds=max((row.lag_seconds for row in rows), default=0.0),
            consume_rate=consumed,
            produce_rate=produced,
            eta_seconds=eta,
            wanted_consumers=min(wanted, busy),
            wanted_partitions=wanted,
            lagging_partitions=lagging,
            busy_partitions=busy,
            partitions=tuple(rows),
        )

    def _observe_partition(
        self, now_ms: int, group_id: str, sample: OffsetSample, position: _Position
    ) -> PartitionLag:
        log = self._logs[sample.topic, sample.partition]
        moved = sample.committed - position.committed
        if 0 <= position.seen_ms < now_ms and position.committed >= 0 and moved >= 0:
            # An offset that was set back is no consumption; of a first one nobody knows.
            position.rate.add(moved, (now_ms - position.seen_ms) / 1000)
        position.committed, position.seen_ms = sample.committed, now_ms
        # What retention has deleted cannot be consumed any more.
        following = max(sample.committed, sample.log_start)
        lag = max(sample.log_end - following, 0)
        return PartitionLag(
            topic=sample.topic,
            partition=sample.partition,
            committed=sample.committed,
            log_end=sample.log_end,
            lag=lag,
            lag_seconds=self._age(now_ms, group_id, sample, position, following) if lag else 0.0,
            consume_rate=position.rate.per_s or 0.0,
            produce_rate=log.rate.per_s or 0.0,
        )

    def _age(
        self, now_ms: int, group_id: str, sample: OffsetSample, position: _Position, offset: int
    ) -> float:
        """Return how many seconds ago the record at `offset` was appended."""
        known_ms: int | None = None
        if position.known_offset == offset:
            known_ms = position.known_ms
        else:
            known_ms = self._logs[sample.topic, sample.partition].history.time_of(offset)
            if known_ms is None:
                self.wanted_times.append((group_id, sample.topic, sample.partition, offset))
        return 0.0 if known_ms is None else max(now_ms - known_ms, 0) / 1000

    @staticmethod
    def _is_saturated(members: int, consumed: float, lag: int) -> bool:
        return members > 0 and lag > consumed * _SATURATED_S

    def _note_capacity(
        self, group: _Group, now_ms: int, members: int, consumed: float, lag: int
    ) -> None:
        """Learn what one member can do: the most it did while there was enough to do."""
        if self._is_saturated(members, consumed, lag) and consumed > _RATE_MIN:
            if group.learned_ms >= 0:
                group.capacity *= math.exp(-(now_ms - group.learned_ms) / 1000 / _CAPACITY_TAU_S)
            group.capacity = max(group.capacity, consumed / members)
            group.learned_ms = now_ms
        elif now_ms - group.learned_ms > _CAPACITY_KEPT_S * 1000:
            group.capacity = 0.0

    def _wanted(
        self,
        group: _Group,
        members: int,
        lag: int,
        consumed: float,
        produced: float,
    ) -> int:
        is_saturated = self._is_saturated(members, consumed, lag)
        if group.capacity <= _RATE_MIN:
            # Nobody has shown yet what one can do: find out.
            wanted = members if is_saturated else members - 1
        else:
            demand = produced + lag / self._target_s
            wanted = math.ceil(demand / group.capacity - _SLACK)
        in_time = lag <= (consumed - produced) * 2 * self._target_s
        if is_saturated and not in_time:
            wanted = max(wanted, members + 1)
        return max(1, wanted)
