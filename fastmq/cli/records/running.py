"""Reading partitions from here to there, and writing what was read.

Without a group, or with partitions named, the begin and end of each partition are worked out first
and the partitions assigned; as a member of a group the topics are subscribed to, and the end is a
bound for whichever partitions the member gets. Offsets are committed of what was written only.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from fastmq.cli.records.formatting import Print
from fastmq.cli.records.places import Place, resolve
from fastmq.cli.support.options import Cluster
from fastmq.cli.support.output import count_text
from fastmq.client.topic_partition import TopicPartition

if TYPE_CHECKING:
    from rich.progress import Progress

    from fastmq.client.fronts.admin import Admin
    from fastmq.client.fronts.consumer import Consumer

__all__ = ["EXIT_IDLE", "Limits", "Plan", "Reading", "Wanted", "make_plan"]

EXIT_IDLE = 4

_POLL_S = 0.5
_COMMIT_EVERY_S = 1.0

Names = list[TopicPartition]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line names."""

    topics: tuple[tuple[str, Names], ...]
    indexes: tuple[int, ...] = ()
    is_regex: bool = False

    @property
    def names_partitions(self) -> bool:
        """Whether single partitions are meant."""
        return bool(self.indexes) or any(several for _, several in self.topics)

    def partitions(self, admin: "Admin") -> Names:
        """Look the partitions up.

        Raises:
            KafkaError: a topic is not there.
        """
        names = [one for _, several in self.topics for one in several]
        whole = [topic for topic, several in self.topics if not several]
        if self.is_regex:
            whole = matching(admin, whole)
        names += [TopicPartition(topic, index) for topic in whole for index in self.indexes]
        if whole and not self.indexes:
            names += [
                TopicPartition(one.name, part.partition)
                for one in admin.describe_topics(whole)
                for part in one.partitions
            ]
        return sorted(set(names))


def matching(admin: "Admin", patterns: list[str]) -> list[str]:
    """The topics whose whole names match a pattern."""
    import re

    try:
        compiled = [re.compile(one) for one in patterns]
    except re.error as error:
        raise click.UsageError(f"not a regular expression: {error}") from None
    return [name for name in admin.list_topics() if any(one.fullmatch(name) for one in compiled)]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where reading begins and ends.

    Attributes:
        starts: by partition; None: the group's assignment decides.
        ends: by partition; None: there is no end.
        topics, pattern: to subscribe to, without `starts`.
        reset: "earliest" or "latest", where the group has committed nothing.
    """

    starts: Mapping[TopicPartition, int] | None
    ends: Mapping[TopicPartition, int] | None
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    reset: str = "earliest"

    @property
    def total(self) -> int | None:
        """Offsets from begin to end, None when that is not known."""
        if self.starts is None or self.ends is None:
            return None
        return sum(max(0, self.ends[name] - start) for name, start in self.starts.items())


def make_plan(
    cluster: Cluster, wanted: Wanted, begin: Place, end: Place | None, group: str | None
) -> Plan:
    """Work out what is to be read."""
    subscribes = group is not None and not wanted.names_partitions
    if subscribes and begin.kind not in ("earliest", "latest", "stored"):
        raise click.UsageError(
            "with --group, -o is beginning or end (where nothing is committed) or stored;"
            " `fastmq group reset-offsets` moves a group, and partitions may be named: TOPIC:0"
        )
    with cluster.admin() as admin:
        try:
            if subscribes:
                topics = tuple(topic for topic, _ in wanted.topics)
                ends = None if end is None else resolve(admin, wanted.partitions(admin), end)
                pattern = "|".join(f"(?:{one})" for one in topics) if wanted.is_regex else None
                reset = "latest" if begin.kind == "latest" else "earliest"
                return Plan(None, ends, () if pattern else topics, pattern, reset)
            names = wanted.partitions(admin)
            if not names:
                raise click.UsageError("no topic matches")
            starts = resolve(admin, names, begin, group)
            return Plan(starts, None if end is None else resolve(admin, names, end, group))
        except ValueError as error:
            raise click.UsageError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Limits:
    """When to end, and when to write."""

    count: int | None = None
    idle_s: float | None = None
    is_prompt: bool = False


@dataclass(slots=True)
class Reading:
    """The loop: takes records, writes them.

    Attributes:
        count: records that were written.
    """

    plan: Plan
    show: Print
    # Any: a binary stream.
    output: Any
    limits: Limits
    display: "Progress | None" = None
    count: int = 0
    _written: dict[tuple[str, int], int] = field(default_factory=dict)
    _committed_s: float = 0.0

    def run(self, cluster: Cluster, options: Mapping[str, Any], *, is_committing: bool) -> int:
        """Read until the end, a limit or an interruption; return the exit code."""
        from fastmq.client.consumer.options import ConsumerOptions
        from fastmq.client.fronts.consumer import Consumer

        made: dict[str, Any] = {
            "client_id": "fastmq-cli",
            "auto_offset_reset": self.plan.reset,
            "default_api_timeout_ms": int(cluster.timeout_s * 1000),
            "allow_auto_create_topics": False,
            **cluster.options_for(ConsumerOptions),
            **{name: value for name, value in options.items() if value is not None},
            "enable_auto_commit": False,
        }
        task = None
        if self.display is not None:
            task = self.display.add_task("consuming", total=self.plan.total, note="")
        revoked = self._give_up if is_committing else self._forget
        with Consumer(
            cluster.servers, on_revoked=revoked, on_lost=self._forget, **made
        ) as consumer:
            self._begin(consumer)
            try:
                return self._loop(consumer, task, is_committing=is_committing)
            finally:
                self.output.flush()
                if is_committing:
                    self._commit(consumer)

    def _begin(self, consumer: "Consumer") -> None:
        plan = self.plan
        if plan.starts is None:
            consumer.subscribe(plan.topics, pattern=plan.pattern)
            return
        ends = plan.ends
        open_ = {n: at for n, at in plan.starts.items() if ends is None or at < ends[n]}
        consumer.assign(list(open_))
        for name, offset in open_.items():
            consumer.seek(*name, offset)

    # Any: the display's id of a task.
    def _loop(self, consumer: "Consumer", task: Any, *, is_committing: bool) -> int:
        limits, last_s = self.limits, time.monotonic()
        while not self._is_done(consumer):
            batch = consumer.poll_batch(_POLL_S)
            now_s = time.monotonic()
            if batch is None:
                if limits.idle_s is not None and now_s - last_s >= limits.idle_s:
                    return EXIT_IDLE
            else:
                last_s = now_s
                if not self._write(batch.name, batch.records):
                    return 0
                if self.display is not None:
                    note = f"{count_text(self.count)} records"
                    self.display.update(task, advance=len(batch.records), note=note)
            if is_committing and now_s - self._committed_s >= _COMMIT_EVERY_S:
                self._committed_s = now_s
                if self._written:
                    consumer.commit_async({**self._written})
        return 0

    def _is_done(self, consumer: "Consumer") -> bool:
        """Whether every partition that this consumer has is read to its end."""
        ends = self.plan.ends
        if ends is None:
            return False
        names = consumer.assignment()
        if not names:
            return self.plan.starts is not None
        for name in names:
            at = consumer.position(*name)
            if name in ends and (at is None or at < ends[name]):
                return False
        return True

    # Any: records of the consumer.
    def _write(self, name: TopicPartition, records: "Sequence[Any]") -> bool:
        """Write records of one partition; False when that was the last one wanted."""
        limit = None if self.plan.ends is None else self.plan.ends.get(name)
        wanted = list(records)
        if limit is not None and wanted[-1].offset >= limit:
            wanted = [record for record in wanted if record.offset < limit]
        if self.limits.count is not None:
            wanted = wanted[: self.limits.count - self.count]
        step = 1 if self.limits.is_prompt else max(1, len(wanted))
        for start in range(0, len(wanted), step):
            some = wanted[start : start + step]
            self.output.write(b"".join(map(self.show, some)))
            self.output.flush()
            self.count += len(some)
            self._written[name] = some[-1].offset + 1
        return self.count != self.limits.count

    def _give_up(self, consumer: "Consumer", names: list[TopicPartition]) -> None:
        """Partitions go to somebody else, who is to go on behind what was written."""
        self._commit(consumer, names)
        self._forget(consumer, names)

    def _forget(self, _consumer: "Consumer", names: list[TopicPartition]) -> None:
        """Partitions are somebody else's."""
        for name in names:
            self._written.pop(name, None)

    def _commit(self, consumer: "Consumer", names: list[TopicPartition] | None = None) -> None:
        """Commit what was written, of some partitions or of all that this consumer has."""
        has: set[tuple[str, int]] = set(consumer.assignment() if names is None else names)
        offsets = {name: at for name, at in self._written.items() if name in has}
        if offsets:
            consumer.commit(offsets)
