"""`fastmq.aio.Consumer`: the front for trio and asyncio."""

import inspect
import math
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from fastmq._native.consumer import ConsumerRecord, RecordStream, Run
from fastmq.client.admin.results import EARLIEST, LATEST, CommittedOffset, FoundOffset
from fastmq.client.consumer import ConsumerMachine, ConsumerOptions, check_consumer_options
from fastmq.client.consumer.steps import Step, StepKind
from fastmq.client.core import ClientCore
from fastmq.client.fronts.reading import Batch, Reading, check_has, pattern_of, spread
from fastmq.client.options import read_options
from fastmq.client.pumps.anyio import AnyioPump
from fastmq.client.pumps.poller import monotonic_ms, wall_ms
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ClientClosed, KafkaError

__all__ = ["Consumer"]

#: Called with the consumer and the partitions, inside a poll; may be a coroutine function.
Callback = Callable[["Consumer", list[TopicPartition]], Awaitable[None] | None]

_STEP_COMMIT_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 10.0


class Consumer:
    """Reads records from a Kafka cluster, under trio or asyncio.

    The same as `fastmq.Consumer`, with the same options and methods, those that wait as coroutines.
    Everything runs in the event loop's thread; a task of the consumer's own keeps the membership
    alive while the program works on records, as long as the program lets the loop run.

    Example::

        async with fastmq.aio.Consumer("localhost:9092", "events", group_id="readers") as consumer:
            async for record in consumer:
                print(record.offset, record.value)

    Iterating yields to the scheduler once per batch of records, not for each. Leaving the block
    commits what the loop is done with (with `enable_auto_commit`) and leaves the group; when the
    block is cancelled or raises, that last commit is left out.
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
        self._options = read_options(ConsumerOptions, bootstrap_servers, options)
        check_consumer_options(self._options)
        self._topics = spread(topics)
        self._callbacks = {
            StepKind.ASSIGNED: on_assigned,
            StepKind.REVOKED: on_revoked,
            StepKind.LOST: on_lost or on_revoked,
        }
        self._pump: AnyioPump | None = None
        self._opened: tuple[ConsumerMachine, Reading] | None = None
        self._stream = RecordStream(refill_later=self._next_record)  # empty until it is open
        self._tasks: TaskGroup | None = None
        self._ended: anyio.Event | None = None
        self._ready: anyio.Event | None = None

    async def __aenter__(self) -> Self:
        if self._pump is not None:
            raise ClientClosed("a consumer is entered once; make a new one")
        core = ClientCore(self._options, now_ms=monotonic_ms(), choose=random.randrange)
        machine = ConsumerMachine(core, self._options, notify=self._notify, wall_ms=wall_ms)
        self._pump = AnyioPump(core)
        reading = Reading(machine, self._post, refill_later=self._next_record)
        self._opened = machine, reading
        self._stream = reading.stream
        self._pump.on_fork = reading.drop  # what was read ahead is the parent's
        self._ended = anyio.Event()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run_pump, name="fastmq-consumer")
        if self._topics:
            await self.subscribe(self._topics)
        return self

    async def _run_pump(self) -> None:
        assert self._pump is not None
        assert self._ended is not None
        try:
            await self._pump.run()
        finally:
            self._ended.set()
            self._notify()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._pump is not None
        assert self._tasks is not None
        assert self._ended is not None
        try:
            # Cancelled or not: what is left to do is short and bounded.
            with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True), suppress(KafkaError):
                await self._leave(commit=kind is None)
        finally:
            self._pump.stop()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
            # Without the body's error, so that it leaves as it is and not in a group.
            await self._tasks.__aexit__(None, None, None)

    async def _leave(self, *, commit: bool) -> None:
        machine, reading = self._machine_and_reading()
        assert self._pump is not None
        try:
            if commit:
                await self._give_up()
        finally:
            reading.drop()
            await self._pump.call(machine.close)

    async def _give_up(self) -> None:
        """Commit what is done and tell the program, while the partitions are still its own."""
        machine, reading = self._machine_and_reading()
        assert self._pump is not None
        names = self.assignment()
        if self._options.enable_auto_commit and self._options.group_id:
            reading.done_with_returned()
            with suppress(KafkaError):  # the records come again
                await self._pump.call(machine.commit_consumed)
        callback = self._callbacks[StepKind.REVOKED]
        if callback is not None and names and not machine.subscription.is_empty:
            result = callback(self, names)
            if inspect.isawaitable(result):
                await result

    # ------------------------------------------------------------------------------ what to read

    async def subscribe(
        self, topics: str | Iterable[str] = (), *, pattern: str | re.Pattern[str] | None = None
    ) -> None:
        """Read topics as a member of the group; as `fastmq.Consumer.subscribe`."""
        machine, _ = self._machine_and_reading()
        names = spread(topics)
        compiled = pattern_of(names, pattern, self._options.group_id)
        self._post(lambda: machine.subscribe(names, compiled))

    async def assign(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Read these partitions; as `fastmq.Consumer.assign`."""
        machine, _ = self._machine_and_reading()
        names = [TopicPartition(*name) for name in partitions]
        self._post(lambda: machine.assign(names))

    async def unsubscribe(self) -> None:
        """Leave the group and read nothing."""
        machine, reading = self._machine_and_reading()
        assert self._pump is not None
        await self._give_up()
        reading.drop()
        await self._pump.call(machine.unsubscribe)

    def assignment(self) -> list[TopicPartition]:
        """Return the partitions that are read now."""
        machine, _ = self._machine_and_reading()
        return sorted(machine.states)

    # ----------------------------------------------------------------------------------- reading

    def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        return self._stream  # itself, not `self`: no Python code runs for a record that is there

    def __anext__(self) -> Awaitable[ConsumerRecord]:
        return anext(self._stream)

    async def _next_record(self) -> ConsumerRecord:
        """The first record of the next run."""
        self._stream.feed(await self._next_run(None))
        return next(self._stream)

    async def poll(self, timeout: float | None = None) -> ConsumerRecord | None:  # noqa: ASYNC109
        """Return the next record, or None when there is none within `timeout` seconds."""
        if not self._stream.left:
            run = await self._next_run(timeout)
            if run is None:
                return None
            self._stream.feed(run)
        return next(self._stream)

    async def batches(self) -> AsyncIterator[Batch]:
        """Iterate over lists of records, each of one partition; `commit(batch)` commits one."""
        while True:
            batch = await self.poll_batch()
            assert batch is not None
            yield batch

    async def poll_batch(self, timeout: float | None = None) -> Batch | None:  # noqa: ASYNC109
        """Return the next records of one partition, or None when there are none in time."""
        _, reading = self._machine_and_reading()
        records = reading.take_rest()
        if not records:
            run = await self._next_run(timeout)
            if run is None:
                return None
            records = run.rest()
        return Batch(TopicPartition(records[0].topic, records[0].partition), records)

    async def _next_run(
        self,
        timeout: float | None,  # noqa: ASYNC109
    ) -> Run | None:
        """Wait for records; rebalances and errors happen here, too, and take the time they take."""
        machine, reading = self._machine_and_reading()
        deadline = math.inf if timeout is None else anyio.current_time() + timeout
        assert self._pump is not None
        self._pump.check()
        reading.done_with_current()
        machine.last_poll_ms = monotonic_ms()
        if machine.membership is not None and machine.membership.left_for_not_polling:
            self._post(machine.polled)
        await anyio.lowlevel.checkpoint()
        while True:
            if machine.errors:
                raise machine.errors.popleft()
            if machine.steps:
                await self._run_step(machine.steps.popleft())
                continue
            run = reading.next_run()
            if run is not None:
                machine.last_poll_ms = monotonic_ms()
                return run
            self._ready = anyio.Event()
            machine.last_poll_ms = None  # as good as polling all the time
            try:
                with anyio.CancelScope(deadline=deadline) as scope:
                    await self._ready.wait()
            finally:
                machine.last_poll_ms = monotonic_ms()
            self._pump.check()
            if scope.cancelled_caught:
                return None

    async def _run_step(self, step: Step) -> None:
        machine, _ = self._machine_and_reading()
        assert self._pump is not None
        if step.kind is StepKind.REVOKED and self._options.enable_auto_commit:
            try:
                # When it fails, the records come again, which the program has to expect anyway.
                with anyio.move_on_after(_STEP_COMMIT_TIMEOUT_S), suppress(KafkaError):
                    await self._pump.call(lambda done: machine.commit_consumed(done, step.names))
            except BaseException:
                machine.steps.appendleft(step)  # cancelled: the next poll runs it
                raise
        # Once its callback has begun, the step is done, whatever becomes of that.
        try:
            callback = self._callbacks[step.kind]
            if callback is not None and (step.names or step.kind is StepKind.ASSIGNED):
                result = callback(self, list(step.names))
                if inspect.isawaitable(result):
                    await result
        finally:
            if not self._pump.is_stopping:
                self._post(lambda: machine.step_done(step))

    # --------------------------------------------------------------------------------- positions

    def position(self, topic: str, partition: int) -> int | None:
        """Return the offset of the next record that the program gets, None while not known."""
        machine, reading = self._machine_and_reading()
        return reading.position(check_has(machine, topic, partition))

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Go on at an offset; as `fastmq.Consumer.seek`."""
        machine, reading = self._machine_and_reading()
        if offset < 0:
            raise ValueError(f"{offset} is no offset; see seek_to_beginning and seek_to_end")
        name = check_has(machine, topic, partition).name
        reading.drop(name)
        self._post(lambda: machine.seek(name, offset))

    async def seek_to_beginning(self, *partitions: tuple[str, int]) -> None:
        """Go on at the first record there is, in some or all partitions."""
        self._seek_to(partitions, EARLIEST)

    async def seek_to_end(self, *partitions: tuple[str, int]) -> None:
        """Go on behind the last record, in some or all partitions."""
        self._seek_to(partitions, LATEST)

    async def seek_to_time(self, timestamp_ms: int, *partitions: tuple[str, int]) -> None:
        """Go on at the first record that is not older (ms since 1970), in some or all."""
        self._seek_to(partitions, timestamp_ms)

    def _seek_to(self, partitions: tuple[tuple[str, int], ...], position: int) -> None:
        machine, reading = self._machine_and_reading()
        names = [check_has(machine, *name).name for name in partitions] or self.assignment()
        for name in names:
            reading.drop(name)
        self._post(lambda: machine.seek_to(names, position))

    async def pause(self, *partitions: tuple[str, int]) -> None:
        """Return no records of some or all partitions until `resume`; the membership goes on."""
        self._pause(partitions, paused=True)

    async def resume(self, *partitions: tuple[str, int]) -> None:
        """Return records of paused partitions again."""
        self._pause(partitions, paused=False)

    def _pause(self, partitions: tuple[tuple[str, int], ...], *, paused: bool) -> None:
        machine, reading = self._machine_and_reading()
        names = [check_has(machine, *name).name for name in partitions] or self.assignment()
        reading.pause(names, paused=paused)
        if not paused:
            self._notify()

    def lag(self) -> dict[TopicPartition, int]:
        """Return how many records are ahead of the program, where the broker has told."""
        _, reading = self._machine_and_reading()
        return reading.lag()

    # ----------------------------------------------------------------------------------- offsets

    async def commit(
        self,
        what: Batch | ConsumerRecord | Mapping[tuple[str, int], int] | None = None,
        *,
        metadata: str = "",
    ) -> None:
        """Commit offsets and wait until that is done; as `fastmq.Consumer.commit`."""
        machine, reading = self._machine_and_reading()
        assert self._pump is not None
        offsets = reading.offsets_of(what)
        await self._pump.call(
            lambda done: machine.committer.commit(offsets, done, metadata=metadata)
        )

    def commit_async(
        self,
        what: Batch | ConsumerRecord | Mapping[tuple[str, int], int] | None = None,
        *,
        metadata: str = "",
        on_done: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """Commit offsets without waiting; `on_done` is called with None or an error."""
        machine, reading = self._machine_and_reading()
        offsets = reading.offsets_of(what)
        told = on_done or (lambda _: None)
        self._post(lambda: machine.committer.commit(offsets, told, metadata=metadata))

    async def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Return the partitions of a topic; as `fastmq.Consumer.partitions_of`."""
        machine, _ = self._machine_and_reading()
        assert self._pump is not None
        found: list[TopicPartition] = await self._pump.call(
            lambda done: machine.partitions_of(topic, done)
        )
        return found

    async def committed(self) -> dict[TopicPartition, CommittedOffset]:
        """Return what the group has committed."""
        machine, _ = self._machine_and_reading()
        assert self._pump is not None
        found: dict[TopicPartition, CommittedOffset] = await self._pump.call(machine.committed)
        return found

    async def beginning_offsets(self, *partitions: tuple[str, int]) -> dict[TopicPartition, int]:
        """Return the first offset of some or all partitions."""
        return await self._offsets(partitions, EARLIEST)

    async def end_offsets(self, *partitions: tuple[str, int]) -> dict[TopicPartition, int]:
        """Return the offset behind the last record of some or all partitions."""
        return await self._offsets(partitions, LATEST)

    async def _offsets(
        self, partitions: tuple[tuple[str, int], ...], position: int
    ) -> dict[TopicPartition, int]:
        names = [TopicPartition(*name) for name in partitions] or self.assignment()
        found = await self._list(dict.fromkeys(names, position))
        return {name: row.offset for name, row in found.items()}

    async def offsets_for_times(
        self, times: Mapping[tuple[str, int], int]
    ) -> dict[TopicPartition, FoundOffset]:
        """Return the first record that is not older than a time in ms; offset -1: there is none."""
        return await self._list({TopicPartition(*name): at for name, at in times.items()})

    async def _list(
        self, positions: dict[TopicPartition, int]
    ) -> dict[TopicPartition, FoundOffset]:
        machine, _ = self._machine_and_reading()
        assert self._pump is not None
        found: dict[TopicPartition, FoundOffset] = await self._pump.call(
            lambda done: machine.list_offsets(positions, done)
        )
        return found

    # ---------------------------------------------------------------------------------- private

    def _notify(self) -> None:
        if self._ready is not None:
            self._ready.set()

    def _post(self, fn: Callable[[], None]) -> None:
        """Call into the machine, here and now."""
        assert self._pump is not None
        self._pump.enter()
        try:
            fn()
        finally:
            self._pump.leave()

    def _machine_and_reading(self) -> tuple[ConsumerMachine, Reading]:
        if self._opened is None:
            raise ClientClosed("the consumer is not open: use it in `async with`")
        return self._opened
