"""Lag of the consumer groups: looked at now and then, served as JSON.

A background task reads committed offsets, log ends and group states every `fastmq.lag.interval.ms`
and lets `fastmq.scaling` make estimates of them in a worker thread. It runs only where a metrics
listener is open, and knows the groups that are coordinated here; the ends of logs that only other
brokers have are asked of these (`remote_ends`). What it keeps is bounded by `LAG_GROUPS_MAX` and
`METRICS_GROUP_OFFSETS_MAX`.

Pages on the metrics listener:

* `/groups`: all groups, without their partitions;
* `/groups/<group>` and `/groups/<group>/lag`: one group with its topics and partitions.

Scalers read these: KEDA's metrics-api with `valueLocation: lag` or `wanted_consumers`, and
`fastmq autoscale`.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.cluster.names import CONSUMER_OFFSETS
from fastmq.errors import KafkaError
from fastmq.limits import LAG_GROUPS_MAX, LAG_TIMES_MAX, METRICS_GROUP_OFFSETS_MAX
from fastmq.records import BatchHeader
from fastmq.scaling import GroupLag, GroupSample, LagEstimator, OffsetSample, PartitionLag
from fastmq.server.context import BrokerContext
from fastmq.server.coordinators import ShardState
from fastmq.server.remote_ends import Bounds

__all__ = ["LagWatch", "group_json", "groups_json"]

logger = logging.getLogger(__name__)

_JSON = "application/json"
# A look that takes long is taken more rarely: this much of the time at most.
_SHARE_MAX = 0.05


class _Row(NamedTuple):
    """A partition of a group: the engine's, or None with the broker that leads it."""

    topic: str
    partition: int
    committed: int
    handle: Partition | None
    leader: int


@dataclass(slots=True)
class _Look:
    """A group in the event loop's thread."""

    group_id: str
    state: str
    members: int
    rows: list[_Row]


class LagWatch:
    """The estimates of one broker.

    Attributes:
        groups: what is known, by group; replaced as a whole by each look.
        as_of_ms: when it was seen, in the broker's time.
    """

    def __init__(self, context: BrokerContext) -> None:
        self._context = context
        self._estimator = LagEstimator(context.config.get_int("fastmq.lag.target.ms") / 1000)
        self._interval_s = context.config.get_int("fastmq.lag.interval.ms") / 1000
        self.groups: dict[str, GroupLag] = {}
        self.as_of_ms = 0

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            began = trio.current_time()
            try:
                await self.look()
            except Exception:
                logger.exception("the lag of groups is not known; it is tried again")
            took_s = trio.current_time() - began
            await trio.sleep(max(self._interval_s, took_s / _SHARE_MAX))

    async def look(self) -> None:
        """Look once."""
        now_ms = self._context.clock.now_ms()
        looks = self._take()
        elsewhere = await self._ask_others(looks)
        self.groups = await trio.to_thread.run_sync(self._estimate, now_ms, looks, elsewhere)
        self.as_of_ms = now_ms

    async def _ask_others(self, looks: list[_Look]) -> Bounds:
        """Return begin and end of the logs that other brokers have."""
        remote = self._context.remote_ends
        if remote is None:
            return {}
        wanted: dict[int, set[tuple[str, int]]] = {}
        for look in looks:
            for row in look.rows:
                if row.handle is None and row.leader >= 0:
                    wanted.setdefault(row.leader, set()).add((row.topic, row.partition))
        return await remote.ask({leader: sorted(rows) for leader, rows in wanted.items()})

    def _take(self) -> list[_Look]:
        """Read groups and offsets; in the thread that changes them."""
        looks: list[_Look] = []
        room = METRICS_GROUP_OFFSETS_MAX
        for runner in self._context.groups.runners():
            if runner.state is not ShardState.ACTIVE:
                continue
            for group_id, state, members, offsets in islice(
                runner.shard.group_offsets(), LAG_GROUPS_MAX - len(looks)
            ):
                rows = self._rows(islice(offsets, room))
                room = max(room - len(rows), 0)
                looks.append(_Look(group_id, state, members, rows))
        return looks

    def _rows(self, offsets: Iterator[tuple[str, int, int]]) -> list[_Row]:
        """Return what a group committed, and -1 for the other partitions of the same topics."""
        committed: dict[str, dict[int, int]] = {}
        for name, partition, offset in offsets:
            if name != CONSUMER_OFFSETS:
                committed.setdefault(name, {})[partition] = offset
        rows = []
        for name, of_topic in committed.items():
            topic = self._context.topics.get(name)
            for index, state in enumerate(() if topic is None else topic.states):
                assert topic is not None
                offset = of_topic.get(index, -1)
                rows.append(_Row(name, index, offset, topic.handle(index), state.leader))
        return rows

    def _estimate(self, now_ms: int, looks: list[_Look], elsewhere: Bounds) -> dict[str, GroupLag]:
        """Work out the lag; in a worker thread."""
        handles: dict[tuple[str, int], Partition] = {}
        samples = []
        for look in looks:
            offsets = []
            for topic, partition, committed, handle, _ in look.rows:
                bounds = elsewhere.get((topic, partition))
                if handle is not None:
                    try:
                        bounds = handle.log_start(), handle.high_watermark()
                    except PartitionError:
                        continue
                    handles[topic, partition] = handle
                if bounds is not None:
                    offsets.append(OffsetSample(topic, partition, committed, *bounds))
            samples.append(GroupSample(look.group_id, look.state, look.members, offsets))
        found = self._estimator.observe(now_ms, samples)
        for group_id, topic, partition, offset in self._estimator.wanted_times[:LAG_TIMES_MAX]:
            handle = handles.get((topic, partition))
            time_ms = None if handle is None else _time_of(handle, offset)
            if time_ms is not None:
                self._estimator.note_time(group_id, topic, partition, offset, time_ms)
        return found

    def page(self, path: str) -> tuple[str, bytes] | None:
        """Return content type and body of a page below `/groups`; None when there is no such."""
        if path == "/groups":
            return _JSON, _dump(groups_json(self.groups, self.as_of_ms))
        from urllib.parse import unquote

        name = path.removeprefix("/groups/").removesuffix("/lag")
        group = self.groups.get(unquote(name))
        if group is None or not path.startswith("/groups/"):
            return None
        return _JSON, _dump(group_json(group, self.as_of_ms, self._partition_count))

    def _partition_count(self, name: str) -> int:
        topic = self._context.topics.get(name)
        return 0 if topic is None else len(topic.states)


def _time_of(handle: Partition, offset: int) -> int | None:
    """Return the timestamp of the batch that holds a record, ms."""
    try:
        data = handle.read(offset, 1)
        header = BatchHeader(data) if data else None
    except (PartitionError, KafkaError):
        return None  # deleted meanwhile, or damaged: it is asked for again
    return None if header is None or header.max_timestamp < 0 else header.max_timestamp


# Any: JSON.


def groups_json(groups: dict[str, GroupLag], as_of_ms: int) -> dict[str, Any]:
    """Return what `/groups` says."""
    return {
        "as_of_ms": as_of_ms,
        "groups": [_summary(groups[name]) for name in sorted(groups)],
    }


def group_json(
    group: GroupLag, as_of_ms: int, partition_count: Callable[[str], int]
) -> dict[str, Any]:
    """Return what `/groups/<group>/lag` says; `partition_count` knows topics by name."""
    topics: dict[str, list[PartitionLag]] = {}
    for row in group.partitions:
        topics.setdefault(row.topic, []).append(row)
    return {
        "as_of_ms": as_of_ms,
        **_summary(group),
        "topics": [
            {
                "topic": name,
                "partition_count": partition_count(name),
                "lag": sum(row.lag for row in rows),
                "lag_seconds": round(max(row.lag_seconds for row in rows), 3),
                "partitions": [
                    {
                        "partition": row.partition,
                        "committed_offset": None if row.committed < 0 else row.committed,
                        "end_offset": row.log_end,
                        "lag": row.lag,
                        "lag_seconds": round(row.lag_seconds, 3),
                        "consume_rate": round(row.consume_rate, 3),
                        "produce_rate": round(row.produce_rate, 3),
                    }
                    for row in sorted(rows, key=lambda row: row.partition)
                ],
            }
            for name, rows in sorted(topics.items())
        ],
    }


def _summary(group: GroupLag) -> dict[str, Any]:
    return {
        "group": group.group_id,
        "state": group.state,
        "members": group.members,
        "lag": group.lag,
        "lag_seconds": round(group.lag_seconds, 3),
        "consume_rate": round(group.consume_rate, 3),
        "produce_rate": round(group.produce_rate, 3),
        "eta_seconds": None if group.eta_seconds is None else round(group.eta_seconds, 3),
        "wanted_consumers": group.wanted_consumers,
        "wanted_partitions": group.wanted_partitions,
        "lagging_partitions": group.lagging_partitions,
        "busy_partitions": group.busy_partitions,
    }


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
