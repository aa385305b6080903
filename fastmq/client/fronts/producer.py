"""`fastmq.Producer`: the blocking front."""

import random
import threading
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fastmq._native.batches import Delivery
from fastmq.client.core import ClientCore
from fastmq.client.options import read_options
from fastmq.client.producer import ProducerMachine, ProducerOptions, RecordMetadata
from fastmq.client.producer.options import check_producer_options
from fastmq.client.pumps.blocking import BlockingPump, monotonic_ms
from fastmq.errors import BufferFull, ClientClosed, KafkaError, RequestTimedOut

if TYPE_CHECKING:
    from fastmq._native.producer import Callback, Headers

__all__ = ["Producer"]

#: How long leaving the `with` block after Ctrl-C may take for what is under way.
_INTERRUPTED_CLOSE_S = 5.0


class Producer:
    """Sends records to a Kafka cluster, in batches, from any number of threads.

    One I/O thread per producer does the sending; `produce` only appends to a buffer and returns at
    once. By default each record is written exactly once and in order per partition, whatever has to
    be retried (`enable_idempotence`), and counts as delivered when all in-sync replicas have it
    (`acks="all"`).

    Example::

        with Producer("localhost:9092", linger_ms=5, compression_type="lz4") as producer:
            for n in range(100_000):
                producer.produce("events", f"event {n}", key=str(n % 10))
            last = producer.produce("events", b"the end")
            print(last.result(timeout=10).offset)

    Leaving the block waits until everything is delivered or has failed.

    Args:
        bootstrap_servers: "host:port,host:port" or a list of "host:port" of some brokers.
        **options: Kafka's names in snake case; times in ms, sizes in bytes. The most used:
            `acks` ("all", 1, 0), `linger_ms` (5), `batch_size` (1,000,000), `compression_type`
            ("none", "gzip", "snappy", "lz4", "zstd"), `buffer_memory` (32 MiB), `max_block_ms`
            (60,000), `delivery_timeout_ms` (120,000), `partitioner`, `key_serializer`,
            `value_serializer`, `on_error`, `client_id`.

    Raises:
        ConfigError: an option is unknown or has a value that cannot work.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        # Any: each option has its own type, which is checked.
        **options: Any,
    ) -> None:
        self._closed = True  # until everything below has worked
        read = read_options(ProducerOptions, bootstrap_servers, options)
        check_producer_options(read)
        core = ClientCore(read, now_ms=monotonic_ms(), choose=random.randrange)
        self._pump = BlockingPump(core, name="fastmq-producer")
        self._machine = ProducerMachine(core, read, wake=self._pump.wake, clock=monotonic_ms)
        waits = _Waits(self._pump, self._machine, read.max_block_ms)
        accumulator = self._machine.accumulator
        accumulator.wait_room = waits.wait_room
        accumulator.wait_done = waits.wait_done
        accumulator.await_done = waits.refuse_await
        machine = self._machine
        self._pump.on_fork = lambda: machine.refuse(
            "this producer was made before a fork; make a new one in the child"
        )
        # The hot path: a C method, without a Python frame around it.
        self.produce = accumulator.produce  # type: ignore[method-assign]
        self._pump.start()
        self._closed = False

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
        """Hand a record over for sending.

        Args:
            topic: its name.
            value: bytes, str (sent as UTF-8), any buffer, or None (a deletion, in a compacted
                topic); with `value_serializer` whatever that takes.
            key: the same; records with one key go to one partition, in order.
            partition: where to, instead of what key or partitioner say.
            headers: pairs of name and value, or a dict.
            timestamp_ms: milliseconds since 1970; now when left out.
            on_delivery: called with (error, metadata), one of which is None, in the I/O thread: it
                must not block, and may call `produce`.

        Returns:
            A handle on the record's fate: `.result(timeout)`, `.exception()`, `.done()`. It costs
            nothing when it is not looked at.

        Raises:
            BufferFull: `buffer_memory` bytes wait for delivery, and it did not change within
                `max_block_ms`.
            KafkaError: MESSAGE_TOO_LARGE, UNKNOWN_TOPIC_OR_PARTITION for a partition that there is
                not.
            ClientClosed: the producer is closed, or was made before a fork.
            TypeError: key or value are neither bytes, str nor None, and there is no serializer.
        """
        raise ClientClosed("the producer is not open")

    @property
    def failed_records(self) -> int:
        """How many records could not be delivered, so far; `on_error` tells why."""
        return self._machine.accumulator.failed_records

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every record handed over so far is delivered or has failed.

        Batches are sent at once, however young they are. Whether a record was delivered is told by
        its delivery, `on_delivery` or `on_error`.

        Args:
            timeout: seconds; None for as long as it takes (`delivery_timeout_ms` at most).

        Raises:
            RequestTimedOut: some are still under way.
        """
        ends: list[Any] = []
        try:
            self._pump.call(lambda done: ends.append(self._machine.flush(done)), timeout)
        except RequestTimedOut:
            raise RequestTimedOut(f"records are still under way after {timeout} s") from None
        finally:
            if ends:
                end = ends[0]
                self._post_quietly(end)

    def partitions_for(self, topic: str, timeout: float | None = None) -> int:
        """Return the number of partitions of a topic, which is created if that is allowed.

        Raises:
            RequestTimedOut: it is not known after `timeout` seconds (None: `max_block_ms`).
        """
        limit_s = self._machine.options.max_block_ms / 1000 if timeout is None else timeout
        found = self._pump.call(lambda done: self._machine.partitions_for(topic, done), limit_s)
        assert isinstance(found, int)
        return found

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is under way, and end. Safe to repeat.

        Args:
            timeout: seconds for that; what is not delivered then fails with `ClientClosed`. 0 gives
                up at once.
        """
        if self._closed:
            return
        self._closed = True
        self._machine.refuse("the producer is closed")
        try:
            if timeout != 0:
                self.flush(timeout)
        except KafkaError:
            pass  # told by the deliveries
        finally:
            self._post_quietly(self._machine.close)
            self._pump.close()

    def _post_quietly(self, fn: Any) -> None:
        try:
            self._pump.post(fn)
        except ClientClosed:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.close(_INTERRUPTED_CLOSE_S if interrupted else None)

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
            self.close(0)


class _Waits:
    """Waiting for room and for deliveries, apart from the front: the pump must not keep that."""

    def __init__(self, pump: BlockingPump, machine: ProducerMachine, max_block_ms: int) -> None:
        self._pump = pump
        self._machine = machine
        self._max_block_s = max_block_ms / 1000

    def wait_room(self, used: int) -> None:
        """Wait until some memory was given back.

        Args:
            used: bytes in use when there was no room; the sender may have freed some since.

        Raises:
            BufferFull: that took longer than `max_block_ms`.
        """
        if not self._pump.is_own_thread():
            room = threading.Event()
            self._pump.post(lambda: self._machine.on_room(used, room.set))
            try:
                self._pump.wait(room, self._max_block_s)
                return
            except RequestTimedOut:
                pass
        raise BufferFull(
            f"{used} bytes of records wait for delivery, and buffer_memory is "
            f"{self._machine.options.buffer_memory}: are the brokers reachable and fast enough?"
        )

    def refuse_await(self, delivery: "Delivery[Any]") -> None:
        """Tell that this front blocks."""
        raise TypeError("await is for deliveries of fastmq.aio.Producer; here: .result()")

    def wait_done(self, delivery: "Delivery[Any]", timeout_s: float | None) -> None:
        """Wait until a delivery has changed."""
        if self._pump.is_own_thread():
            raise RuntimeError(
                "a callback must not wait for a delivery: it holds up the I/O thread"
            )
        changed = threading.Event()
        delivery.add_waiter(changed.set)
        try:
            self._pump.wait(changed, timeout_s)
        except RequestTimedOut:
            where = f"{delivery.topic}-{delivery.partition}"
            raise RequestTimedOut(f"{where}: not delivered after {timeout_s} s yet") from None
        except ClientClosed:
            if not delivery.done():
                raise
        finally:
            delivery.remove_waiter(changed.set)
