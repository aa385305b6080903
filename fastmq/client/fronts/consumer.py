"""`fastmq.Consumer`: the blocking front."""

import random
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from fastmq._native.consumer import ConsumerRecord, Run
from fastmq.client.admin.results import EARLIEST, LATEST, CommittedOffset, FoundOffset
from fastmq.client.consumer import ConsumerMachine, ConsumerOptions, check_consumer_options
from fastmq.client.consumer.steps import Step, StepKind
from fastmq.client.core import ClientCore
from fastmq.client.fronts.reading import Batch, Reading, check_has, pattern_of, spread
from fastmq.client.options import read_options
from fastmq.client.pumps.blocking import BlockingPump, monotonic_ms
from fastmq.client.pumps.poller import wall_ms
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ClientClosed, KafkaError, RequestTimedOut

__all__ = ["Consumer"]

#: Called with the consumer and the partitions, inside a poll.
Callback = Callable[["Consumer", list[TopicPartition]], None]

_STEP_COMMIT_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 10.0
# Ctrl-C is noticed between two waits.
_WAIT_SLICE_S = 0.5


class Consumer:
    """Reads records from a Kafka cluster, alone or as a member of a group.

    One I/O thread per consumer fetches ahead, keeps the membership alive and rebalances; the
    program's thread takes records from memory. A consumer is used by one thread at a time.

    Example::

        with Consumer("localhost:9092", group_id="readers", topics=["events"],
                      auto_offset_reset="earliest") as consumer:
            for record in consumer:
                print(record.topic, record.partition, record.offset, record.value)

    By default offsets are committed every five seconds and at the end, and only of records that the
    loop is done with: after a crash some records come again, none is left out (at least once).
    `enable_auto_commit=False` and `commit()` leave the moment to the program.

    Args:
        bootstrap_servers: "host:port,host:port" or a list of "host:port" of some brokers.
        topics: names to subscribe to, or one name; see also `subscribe` and `assign`.
        on_assigned: called with (consumer, partitions) when the group gives partitions.
        on_revoked: called when it takes them, before others get them, and by `close` and
            `unsubscribe` (not when an exception ends the `with`): the place to commit.
        on_lost: called instead when they are others' already; None: `on_revoked`.
        **options: Kafka's names in snake case; times in ms, sizes in bytes. The most used:
            `group_id`, `auto_offset_reset` ("latest", "earliest", "none", "by_duration:PT1H"),
            `enable_auto_commit`, `group_instance_id`, `isolation_level`,
            `partition_assignment_strategy`, `max_poll_interval_ms`, `value_deserializer`,
            `key_deserializer`, `client_id`.

    Raises:
        ConfigError: an option is unknown or has a value that cannot work.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        topics: str | Iterable[str] = (),
        *,
        on_assigned: Callback | None = None,
        on_revoked: Callback | None = None,
        on_lost: Callback | None = None,
        # Any: each option has its own type, which is checked.
        **options: Any,
    ) -> None:
        self._closed = True  # until everything below has worked
        read = read_options(ConsumerOptions, bootstrap_servers, options)
        check_consumer_options(read)
        self._options = read
        self._callbacks = {
            StepKind.ASSIGNED: on_assigned,
            StepKind.REVOKED: on_revoked,
            StepKind.LOST: on_lost or on_revoked,
        }
        core = ClientCore(read, now_ms=monotonic_ms(), choose=random.randrange)
        self._ready = threading.Event()
        self._machine = ConsumerMachine(core, read, notify=self._ready.set, wall_ms=wall_ms)
        self._pump = BlockingPump(core, name="fastmq-consumer")
        self._reading = Reading(self._machine, self._pump.post, self._next_forever)
        # What was read ahead is the parent's.
        self._pump.on_fork = self._reading.drop
        self._pump.start()
        self._closed = False
        if topics:
            self.subscribe(topics)

    # ------------------------------------------------------------------------------ what to read

    def subscribe(
        self, topics: str | Iterable[str] = (), *, pattern: str | re.Pattern[str] | None = None
    ) -> None:
        """Read topics as a member of the group; replaces what was subscribed to.

        Args:
            topics: names, or one name.
            pattern: a regular expression that whole names match, instead; new topics that match
                are read, too.
        """
        names = spread(topics)
        compiled = pattern_of(names, pattern, self._options.group_id)
        self._run(lambda: self._machine.subscribe(names, compiled))

    def assign(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Read these partitions, without a group's assignment; replaces what was assigned.

        Reading begins at the group's committed offsets where there is a `group_id`, else where
        `auto_offset_reset` says; `seek` chooses another offset.
        """
        names = [TopicPartition(*name) for name in partitions]
        self._run(lambda: self._machine.assign(names))

    def unsubscribe(self) -> None:
        """Leave the group and read nothing."""
        self._check_open()
        self._give_up(_CLOSE_TIMEOUT_S)
        self._reading.drop()
        self._pump.call(self._machine.unsubscribe, _CLOSE_TIMEOUT_S)

    def assignment(self) -> list[TopicPartition]:
        """Return the partitions that are read now."""
        return sorted(self._machine.states)

    # ----------------------------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self._reading.stream

    def poll(self, timeout: float | None = None) -> ConsumerRecord | None:
        """Return the next record, or None when there is none in time.

        Args:
            timeout: seconds; None: as long as it takes; 0: only what is there.
        """
        stream = self._reading.stream
        if not stream.left:
            run = self._next_run(_deadline(timeout))
            if run is None:
                return None
            stream.feed(run)
        return next(stream)

    def batches(self, timeout: float | None = None) -> Iterator[Batch]:
        """Iterate over lists of records, each of one partition; `commit(batch)` commits one.

        Args:
            timeout: end after so many seconds without a record; None: never.
        """
        while True:
            batch = self.poll_batch(timeout)
            if batch is None:
                return
            yield batch

    def poll_batch(self, timeout: float | None = None) -> Batch | None:
        """Return the next records of one partition, or None when there are none in time."""
        records = self._reading.take_rest()
        if not records:
            run = self._next_run(_deadline(timeout))
            if run is None:
                return None
            records = run.rest()
        return Batch(TopicPartition(records[0].topic, records[0].partition), records)

    def _next_forever(self) -> Run | None:
        while True:
            run = self._next_run(None)
            if run is not None:
                return run

    def _next_run(self, deadline: float | None) -> Run | None:
        """Wait for records; rebalances and errors happen here, too."""
        machine, reading = self._machine, self._reading
        self._check_open()
        reading.done_with_current()
        machine.last_poll_ms = monotonic_ms()
        if machine.membership is not None and machine.membership.left_for_not_polling:
            self._pump.post(machine.polled)
        while True:
            self._ready.clear()
            if machine.errors:
                raise machine.errors.popleft()
            if machine.steps:
                self._run_step(machine.steps.popleft())
                continue
            run = reading.next_run()
            if run is not None:
                machine.last_poll_ms = monotonic_ms()
                return run
            left_s = _WAIT_SLICE_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                machine.last_poll_ms = monotonic_ms()
                return None
            machine.last_poll_ms = None  # as good as polling all the time
            try:
                self._ready.wait(min(left_s, _WAIT_SLICE_S))
            finally:
                machine.last_poll_ms = monotonic_ms()
            self._pump.check()

    def _run_step(self, step: Step) -> None:
        """Give or take partitions, in the program's thread."""
        machine = self._machine
        if step.kind is StepKind.REVOKED and self._options.enable_auto_commit:
            # When it fails, the records come again, which the program has to expect anyway.
            with suppress(KafkaError):
                self._pump.call(
                    lambda done: machine.commit_consumed(done, step.names), _STEP_COMMIT_TIMEOUT_S
                )
        callback = self._callbacks[step.kind]
        try:
            if callback is not None and (step.names or step.kind is StepKind.ASSIGNED):
                callback(self, list(step.names))
        finally:
            self._pump.post(lambda: machine.step_done(step))

    # --------------------------------------------------------------------------------- positions

    def position(self, topic: str, partition: int) -> int | None:
        """Return the offset of the next record that the program gets, None while not known."""
        return self._reading.position(check_has(self._machine, topic, partition))

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on at an offset.

        Raises:
            ValueError: the offset is negative, or the consumer does not have the partition.
        """
        if offset < 0:
            raise ValueError(f"{offset} is no offset; see seek_to_beginning and seek_to_end")
        name = check_has(self._machine, topic, partition).name
        self._reading.drop(name)
        self._run(lambda: self._machine.seek(name, offset))

    def seek_to_beginning(self, *partitions: tuple[str, int]) -> None:
        """Go on at the first record there is, in some or all partitions."""
        self._seek_to(partitions, EARLIEST)

    def seek_to_end(self, *partitions: tuple[str, int]) -> None:
        """Go on behind the last record, in some or all partitions."""
        self._seek_to(partitions, LATEST)

    def seek_to_time(self, timestamp_ms: int, *partitions: tuple[str, int]) -> None:
        """Go on at the first record that is not older (ms since 1970), in some or all."""
        self._seek_to(partitions, timestamp_ms)

    def _seek_to(self, partitions: tuple[tuple[str, int], ...], position: int) -> None:
        names = [check_has(self._machine, *name).name for name in partitions]
        names = names or self.assignment()
        for name in names:
            self._reading.drop(name)
        self._run(lambda: self._machine.seek_to(names, position))

    def pause(self, *partitions: tuple[str, int]) -> None:
        """Return no records of some or all partitions until `resume`; the membership goes on."""
        self._pause(partitions, paused=True)

    def resume(self, *partitions: tuple[str, int]) -> None:
        """Return records of paused partitions again."""
        self._pause(partitions, paused=False)

    def _pause(self, partitions: tuple[tuple[str, int], ...], *, paused: bool) -> None:
        names = [check_has(self._machine, *name).name for name in partitions]
        names = names or self.assignment()
        self._check_open()
        self._reading.pause(names, paused=paused)

    def lag(self) -> dict[TopicPartition, int]:
        """Return how many records are ahead of the program, where the broker has told."""
        return self._reading.lag()

    # ----------------------------------------------------------------------------------- offsets

    def commit(
        self,
        what: Batch | ConsumerRecord | Mapping[tuple[str, int], int] | None = None,
        *,
        metadata: str = "",
        timeout: float | None = None,
    ) -> None:
        """Commit offsets and wait until that is done.

        Args:
            what: a batch or a record that was worked on, or offsets of the next records to read
                by (topic, partition); None: everything that was returned so far.
            metadata: a note that is kept with them.
            timeout: seconds; None: `default_api_timeout_ms`.

        Raises:
            CommitFailed: the group has gone on without this member.
            RequestTimedOut: not done in time; it may be done nevertheless.
        """
        offsets = self._reading.offsets_of(what)
        self._pump.call(
            lambda done: self._machine.committer.commit(offsets, done, metadata=metadata), timeout
        )

    def commit_async(
        self,
        what: Batch | ConsumerRecord | Mapping[tuple[str, int], int] | None = None,
        *,
        metadata: str = "",
        on_done: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """Commit offsets without waiting; `on_done` is called in the I/O thread."""
        offsets = self._reading.offsets_of(what)
        told = on_done or (lambda _: None)
        self._pump.post(lambda: self._machine.committer.commit(offsets, told, metadata=metadata))

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of a topic.

        Raises:
            KafkaError: there is no such topic.
        """
        found: list[TopicPartition] = self._pump.call(
            lambda done: self._machine.partitions_of(topic, done)
        )
        return found

    def committed(self) -> dict[TopicPartition, CommittedOffset]:
        """Return what the group has committed."""
        found: dict[TopicPartition, CommittedOffset] = self._pump.call(self._machine.committed)
        return found

    def beginning_offsets(self, *partitions: tuple[str, int]) -> dict[TopicPartition, int]:
        """Return the first offset of some or all partitions."""
        return self._offsets(partitions, EARLIEST)

    def end_offsets(self, *partitions: tuple[str, int]) -> dict[TopicPartition, int]:
        """Return the offset behind the last record of some or all partitions."""
        return self._offsets(partitions, LATEST)

    def _offsets(
        self, partitions: tuple[tuple[str, int], ...], position: int
    ) -> dict[TopicPartition, int]:
        names = [TopicPartition(*name) for name in partitions] or self.assignment()
        found = self._list(dict.fromkeys(names, position))
        return {name: row.offset for name, row in found.items()}

    def offsets_for_times(
        self, times: Mapping[tuple[str, int], int]
    ) -> dict[TopicPartition, FoundOffset]:
        """Return the first record that is not older than a time in ms; offset -1: there is none."""
        return self._list({TopicPartition(*name): at for name, at in times.items()})

    def _list(self, positions: dict[TopicPartition, int]) -> dict[TopicPartition, FoundOffset]:
        found: dict[TopicPartition, FoundOffset] = self._pump.call(
            lambda done: self._machine.list_offsets(positions, done)
        )
        return found

    # --------------------------------------------------------------------------------------- end

    def close(self, *, commit: bool = True, timeout: float = _CLOSE_TIMEOUT_S) -> None:
        """Commit what is done (with `enable_auto_commit`), leave the group, end. Safe to repeat.

        Args:
            commit: False: leave the last commit and `on_revoked` out.
            timeout: seconds for each of the two requests.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if commit:
                self._give_up(timeout)
        finally:
            self._reading.drop()
            try:
                self._pump.call(self._machine.close, timeout)
            except (RequestTimedOut, ClientClosed):
                pass  # the session ends by itself
            finally:
                self._pump.close()

    def _give_up(self, timeout: float) -> None:
        """Commit what is done and tell the program, while the partitions are still its own."""
        names = self.assignment()
        if self._options.enable_auto_commit and self._options.group_id:
            self._reading.done_with_returned()
            with suppress(KafkaError):  # the records come again
                self._pump.call(self._machine.commit_consumed, timeout)
        callback = self._callbacks[StepKind.REVOKED]
        if callback is not None and names and not self._machine.subscription.is_empty:
            callback(self, names)

    def _has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        return self._reading.has_reached(ends)

    def _run(self, fn: Callable[[], None]) -> None:
        self._check_open()

        def begin(done: Callable[[Any], None]) -> None:
            try:
                fn()
            except Exception as error:  # noqa: BLE001 - it belongs to the caller
                done(error)
            else:
                done(None)

        self._pump.call(begin)

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the consumer is closed")
        self._pump.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an exception the record that was worked on is not done.
        self.close(commit=kind is None or issubclass(kind, GeneratorExit))

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
            self._closed = True
            self._pump.close()


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout
