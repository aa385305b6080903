"""`fastmq.aio.Producer`: the front for trio and asyncio."""

import random
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from anyio.abc import TaskGroup

from fastmq._native.batches import Delivery
from fastmq.client.core import ClientCore
from fastmq.client.options import read_options
from fastmq.client.producer import ProducerMachine, ProducerOptions, RecordMetadata
from fastmq.client.producer.options import check_producer_options
from fastmq.client.pumps.anyio import AnyioPump
from fastmq.client.pumps.poller import monotonic_ms
from fastmq.errors import BufferFull, ClientClosed, KafkaError, RequestTimedOut

if TYPE_CHECKING:
    from fastmq._native.producer import Callback, Headers

__all__ = ["Producer"]


class Producer:
    """Sends records to a Kafka cluster, in batches, under trio or asyncio.

    The same as `fastmq.Producer`, with the same options, but for what waits: deliveries are
    awaited, and `produce` raises `BufferFull` at once where the blocking one waits for room.
    Everything runs in the event loop's thread.

    Example::

        async with fastmq.aio.Producer("localhost:9092") as producer:
            delivery = producer.produce("events", b"hello", key=b"k")
            print((await delivery).offset)
            for n in range(1_000_000):
                await producer.send("events", str(n))    # waits when the buffer is full

    Leaving the block waits until everything is delivered or has failed; when the block is cancelled
    or raises, what is not delivered by then fails with `ClientClosed`.
    """

    # Any: each option has its own type, which is checked.
    def __init__(self, bootstrap_servers: str | list[str], **options: Any) -> None:
        self._options = read_options(ProducerOptions, bootstrap_servers, options)
        check_producer_options(self._options)
        self._pump: AnyioPump | None = None
        self._machine: ProducerMachine | None = None
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._pump is not None:
            raise ClientClosed("a producer is entered once; make a new one")
        core = ClientCore(self._options, now_ms=monotonic_ms(), choose=random.randrange)
        self._pump = AnyioPump(core)
        machine = ProducerMachine(core, self._options, wake=self._pump.wake, clock=monotonic_ms)
        self._machine = machine
        machine.accumulator.wait_done = _refuse_to_wait
        machine.accumulator.await_done = _await_done
        self._pump.on_fork = lambda: machine.refuse(
            "this producer was made before a fork; make a new one in the child"
        )
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._pump.run, name="fastmq-producer")
        # The hot path: a C method, without a Python frame around it.
        self.produce = machine.accumulator.produce  # type: ignore[method-assign]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        machine, pump, tasks = self._opened()
        assert tasks is not None
        try:
            machine.refuse("the producer is closed")
            if kind is None:
                with suppress(KafkaError):  # told by the deliveries
                    await self.flush()
        finally:
            machine.close()
            pump.stop()
            # Without the block's exception: the group would wrap it, and it is not the group's.
            try:
                await tasks.__aexit__(None, None, None)
            except BaseExceptionGroup as group:
                raise _only_error(group) from None

    def produce(
        self,
        topic: str,
        # Any: what the serializers take; bytes, str or None without them.
        value: Any = None,
        key: Any = None,
        *,
        partition: int | None = None,
        headers: "Headers | None" = None,
        timestamp_ms: int | None = None,
        on_delivery: "Callback | None" = None,
    ) -> "Delivery[RecordMetadata]":
        """Hand a record over for sending; does not wait. Arguments as `fastmq.Producer.produce`.

        Returns:
            A handle on the record's fate, to be awaited or left alone.

        Raises:
            BufferFull: `buffer_memory` bytes wait for delivery; `send` waits for room.
            KafkaError, ClientClosed, TypeError: as `fastmq.Producer.produce`.
        """
        raise ClientClosed("the producer is not open: use it in `async with`")

    # Any: as `produce`.
    async def send(
        self, topic: str, value: Any = None, key: Any = None, **more: Any
    ) -> "Delivery[RecordMetadata]":
        """Hand a record over, after waiting for room in `buffer_memory`.

        Takes what `produce` takes. When it is cancelled, the record was not taken.

        Returns:
            The delivery, which is not awaited yet.
        """
        while True:
            try:
                return self.produce(topic, value, key, **more)
            except BufferFull:
                await self._wait_room()

    @property
    def failed_records(self) -> int:
        """How many records could not be delivered, so far; `on_error` tells why."""
        machine, _, _ = self._opened()
        return machine.accumulator.failed_records

    async def flush(self) -> None:
        """Wait until every record handed over so far is delivered or has failed.

        A limit is set around it: `with anyio.fail_after(10): await producer.flush()`.
        """
        machine, pump, _ = self._opened()
        ends: list[Any] = []
        try:
            await pump.call(lambda done: ends.append(machine.flush(done)))
        finally:
            for end in ends:
                end()

    async def partitions_for(self, topic: str) -> int:
        """Return the number of partitions of a topic, which is created if that is allowed.

        Raises:
            RequestTimedOut: it is not known after `max_block_ms`.
        """
        machine, pump, _ = self._opened()
        limit_s = machine.options.max_block_ms / 1000
        with anyio.move_on_after(limit_s):
            found = await pump.call(lambda done: machine.partitions_for(topic, done))
            assert isinstance(found, int)
            return found
        raise RequestTimedOut(f"topic {topic!r} is not known after {limit_s} s")

    async def _wait_room(self) -> None:
        machine, pump, _ = self._opened()
        room = anyio.Event()
        pump.check()
        machine.on_room(machine.accumulator.memory_used, room.set)
        await room.wait()

    def _opened(self) -> tuple[ProducerMachine, AnyioPump, TaskGroup | None]:
        if self._machine is None or self._pump is None:
            raise ClientClosed("the producer is not open: use it in `async with`")
        return self._machine, self._pump, self._tasks


def _refuse_to_wait(delivery: "Delivery[Any]", timeout_s: float | None) -> None:
    raise RequestTimedOut("the record is still under way; await the delivery")


async def _await_done(delivery: "Delivery[Any]") -> Any:
    """Wait for a delivery; cancelling the wait does not take the record back."""
    while not delivery.done():
        changed = anyio.Event()
        delivery.add_waiter(changed.set)
        try:
            await changed.wait()
        finally:
            delivery.remove_waiter(changed.set)
    return delivery.result()


def _only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group, so that `except KafkaError` works; the group when there are more.

    Cancellation is left in its group, which the scope that it belongs to understands.
    """
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner if isinstance(inner, Exception) else group
