"""A producer without a front: accumulator and sender on a core. Pure.

`accumulator.produce` may be called from any thread; everything else belongs to the pump's.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fastmq._native.batches import Batch
from fastmq._native.producer import Accumulator
from fastmq.client.core import ClientCore
from fastmq.client.producer.options import ProducerOptions
from fastmq.client.producer.sender import Sender
from fastmq.errors import ClientClosed, ErrorCode, KafkaError, RequestTimedOut

__all__ = ["ProducerMachine", "RecordMetadata"]

_log = logging.getLogger("fastmq.client")

_FINAL_TOPIC_ERRORS = frozenset(
    {ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.TOPIC_AUTHORIZATION_FAILED}
)


class RecordMetadata(NamedTuple):
    """Where a record is.

    Attributes:
        topic, partition: where.
        offset: its offset; -1 when it is not known: with acks=0, and after a repeated batch that
            the broker remembers only as written.
        append_time_ms: the broker's time of the append, -1 where records keep their own.
    """

    topic: str
    partition: int
    offset: int
    append_time_ms: int = -1


class ProducerMachine:
    """Everything of a producer but threads, tasks and sockets.

    Args:
        core: the client's core, for this machine alone.
        options: the producer's.
        wake: lets the pump take a step soon; from any thread.
        clock: the pump's clock, in ms.
        wall_clock: for timestamps, ms since 1970; None: the system's.
    """

    def __init__(
        self,
        core: ClientCore,
        options: ProducerOptions,
        *,
        wake: Callable[[], object],
        clock: Callable[[], int],
        wall_clock: Callable[[], int] | None = None,
    ) -> None:
        self.core = core
        self.options = options
        self._new_topics: deque[str] = deque()
        self._topics: dict[str, tuple[int, list[int]]] = {}
        self._room_listeners: list[Callable[[], None]] = []
        self._room_used = 0
        self._partition_waiters: dict[str, list[Callable[[int], None]]] = {}
        self.accumulator = Accumulator(
            batch_size=options.batch_size,
            record_size_max=options.max_request_size,
            memory_limit=options.buffer_memory,
            wake=wake,
            on_topic=self._new_topics.append,
            clock=clock,
            choose=core.choose,
            make_result=RecordMetadata,
            partitioner=options.partitioner,
            key_serializer=options.key_serializer,
            value_serializer=options.value_serializer,
            wall_clock=wall_clock,
        )
        self.sender = Sender(core, options, self.accumulator, self._settled)
        self.sender.on_fatal(self._fatal)
        core.on_metadata(self._metadata_changed)
        core.on_tick(self._tick)
        core.on_close(self.close)

    # ------------------------------------------------------------------------------- for fronts

    def flush(self, done: Callable[[Exception | None], None]) -> Callable[[], None]:
        """Send everything at once; call `done(None)` when the fate of all that is here is known.

        Returns:
            A function that gives the flush up: `done` is not called any more.
        """
        left: set[Batch] = set()
        self.sender.hurries += 1
        moved = False
        waiting = True

        def end() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self.sender.hurries -= 1

        def watch(batch: Batch) -> None:
            batch.add_waiter(lambda: settled(batch))

        def watch_all() -> None:
            nonlocal moved
            moved = False
            batches = self._open_batches()
            left.update(batches)
            for batch in batches:
                watch(batch)
            if not batches:
                end()
                done(None)

        def settled(batch: Batch) -> None:
            nonlocal moved
            left.discard(batch)
            moved = moved or batch.has_successors
            if waiting and not left:
                if moved:
                    watch_all()
                else:
                    end()
                    done(None)

        watch_all()
        return end

    def partitions_for(self, topic: str, done: Callable[[int], None]) -> None:
        """Call `done` with the number of the topic's partitions as soon as it is known."""
        if topic not in self._topics:
            self._new_topics.append(topic)
            self._take_new_topics()
        count = self._topics[topic][0]
        if count:
            done(count)
        else:
            self._partition_waiters.setdefault(topic, []).append(done)

    def open_count(self) -> int:
        """Records whose fate is open."""
        return sum(batch.count for batch in self._open_batches())

    def refuse(self, text: str) -> None:
        """Take no records any more."""
        self.accumulator.refuse(ClientClosed, text)

    def close(self) -> None:
        """Fail what is not delivered. Safe to repeat."""
        self.refuse("the producer is closed")
        error = ClientClosed("the producer was closed before the record was delivered")
        self._fail_everything(error)

    def on_room(self, used: int, listener: Callable[[], None]) -> None:
        """Call `listener` once when less memory is used than `used`, or has been meanwhile."""
        self._room_used = max(used, self._room_used)
        self._room_listeners.append(listener)

    # ---------------------------------------------------------------------------------- private

    def _fatal(self, error: KafkaError) -> None:
        """Nothing can be sent: the cluster gives no producer id."""
        self.accumulator.refuse(ClientClosed, f"the producer cannot go on: {error}")
        self._fail_everything(error)

    def _fail_everything(self, error: KafkaError) -> None:
        """Fail every record, those of topics that nobody has looked at yet, too."""
        self._fail_pending_of([*self._topics, *self._new_topics], error)
        self.sender.fail_all(error)
        self._tell_room()

    def _tick(self) -> None:
        self._take_new_topics()
        self.sender.run()
        accumulator = self.accumulator
        if self._room_listeners and (
            not accumulator.is_starved or accumulator.memory_used < self._room_used
        ):
            self._tell_room()

    def _take_new_topics(self) -> None:
        while self._new_topics:
            name = self._new_topics.popleft()
            if name in self._topics:
                continue
            self._topics[name] = (0, [])
            self.core.want_topics([name])
            wait_ms = min(self.options.max_block_ms, self.options.delivery_timeout_ms)
            self._give_up_at(self.core.now_ms + wait_ms, name)
            self._metadata_changed()

    def _metadata_changed(self) -> None:
        metadata = self.core.metadata
        for name, known in self._topics.items():
            info = metadata.topics.get(name)
            if info is None:
                error = metadata.topic_errors.get(name)
                if error in _FINAL_TOPIC_ERRORS:
                    self._fail_pending_of([name], KafkaError(error, f"topic {name!r}"))
                continue
            available = [p.partition for p in info.partitions.values() if p.leader >= 0]
            if known != (info.partition_count, available):
                self._topics[name] = (info.partition_count, available)
                rows = self.accumulator.set_partitions(name, info.partition_count, available)
                for callback, failure in rows:
                    self._call(callback, failure, None)
                    self.sender.tell(failure)
                for done in self._partition_waiters.pop(name, ()):
                    done(info.partition_count)
        self.sender.metadata_changed()

    def _too_late(self, name: str) -> None:
        """Give up the records of a topic that has not turned up, and look again for later ones."""
        if self._topics.get(name, (1, []))[0]:
            return
        error = self.core.metadata.topic_errors.get(name)
        why = f" ({error.name})" if error else ""
        text = f"topic {name!r} is not in the cluster's metadata{why}"
        self._fail_pending_of([name], RequestTimedOut(text))
        wait_ms = min(self.options.max_block_ms, self.options.delivery_timeout_ms)
        self._give_up_at(self.core.now_ms + max(wait_ms, 1), name)

    def _give_up_at(self, when_ms: int, name: str) -> None:
        self.core.call_at(when_ms, lambda: self._too_late(name))

    def _fail_pending_of(self, names: list[str], error: KafkaError) -> None:
        for name in names:
            failed = self.accumulator.failed_records
            for _, callback in self.accumulator.fail_pending(name, error):
                self._call(callback, error, None)
            if self.accumulator.failed_records > failed:
                self.sender.tell(error)

    def _settled(self, batch: Batch, callbacks: Iterable[Any]) -> None:
        for index, callback in callbacks:
            if batch.error is not None:
                self._call(callback, batch.error, None)
            else:
                self._call(callback, None, batch.result(index))

    # Any: the application's callable, which may be None.
    def _call(self, callback: Any, error: Exception | None, found: Any) -> None:
        if callback is None:
            return
        try:
            callback(error, found)
        except Exception:  # noqa: BLE001 - the application's code
            _log.exception("an on_delivery callback raised")

    def _open_batches(self) -> list[Batch]:
        return [*self.accumulator.pending_batches(), *self.sender.open_batches()]

    def _tell_room(self) -> None:
        self._room_used = 0
        listeners, self._room_listeners = self._room_listeners, []
        for listener in listeners:
            listener()
