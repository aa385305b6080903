"""Which batches are sent when, and what their answers mean. Pure.

A partition is considered when something about it has changed: a new batch, a linger or a back-off
that is over, an answer. It may send when its leader is known and connected, the broker has fewer
requests in flight than allowed, and a batch is full, old enough, or wanted (flush, close, memory is
short). Batches of several partitions of a broker share a request.

What cannot be sent now waits in `_blocked` and is considered again when metadata, a connection, an
answer or a producer id has come.

Source: KIP-91 (delivery timeout), KIP-98, KIP-360, KIP-951; for order see `partition.py`.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from fastmq._native.batches import Batch
from fastmq._native.producer import Accumulator
from fastmq.client.calls import Node
from fastmq.client.core import ClientCore
from fastmq.client.producer.answers import (
    SEQUENCE_ERRORS,
    STALE_METADATA_ERRORS,
    hinted_leader,
    rows_by_partition,
)
from fastmq.client.producer.identity import Identity
from fastmq.client.producer.options import IDEMPOTENT_IN_FLIGHT_MAX, ProducerOptions
from fastmq.client.producer.partition import EPOCH_MAX, Partition
from fastmq.client.producer.requests import produce_request
from fastmq.client.timers import Timer
from fastmq.compression import Codec, compress, decompress
from fastmq.errors import ErrorCode, KafkaError, RequestTimedOut, error_code
from fastmq.protocol.messages.produce import ProducePartitionResponse

__all__ = ["Sender"]

_log = logging.getLogger("fastmq.client")

_INFLATED_MAX = (1 << 31) - 1

Item = tuple[Partition, Batch]


class _Draft:
    """A request that is being put together."""

    __slots__ = ("items", "partitions", "size")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.partitions: set[Partition] = set()
        self.size = 0


class Sender:
    """Takes batches from an accumulator to the brokers.

    Args:
        core: the client's core.
        options: the producer's.
        accumulator: where the batches come from.
        settled: called with (callback, error, metadata) for each record that has a callback.
    """

    def __init__(
        self,
        core: ClientCore,
        options: ProducerOptions,
        accumulator: Accumulator,
        settled: Callable[[Batch, Iterable[Any]], None],
    ) -> None:
        self._core = core
        self._options = options
        self._accumulator = accumulator
        self._settled = settled
        self._acks = options.required_acks
        self._codec = options.codec
        self._partition_in_flight_max = (
            IDEMPOTENT_IN_FLIGHT_MAX
            if options.is_idempotent
            else options.max_in_flight_requests_per_connection
        )
        self._identity = Identity(core, self._unblock) if options.is_idempotent else None
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._check: dict[Partition, None] = {}
        self._blocked: dict[Partition, None] = {}
        self._lingering: dict[Partition, None] = {}
        self._drafts: dict[int, _Draft] = {}
        self._in_flight: dict[int, int] = {}
        self._expiry: Timer | None = None
        self.hurries = 0  # reasons not to linger: flushes, a close
        core.on_ready(self._unblock)

    # ------------------------------------------------------------------------------- from outside

    def run(self) -> None:
        """Send what can be sent now."""
        self._meet()
        if self._lingering and (self.hurries or self._accumulator.is_starved):
            self._check |= self._lingering
        while self._check:
            partition = next(iter(self._check))
            del self._check[partition]
            self._consider(partition)
        for node_id in list(self._drafts):
            self._dispatch(node_id)
        self.watch_expiry()

    def metadata_changed(self) -> None:
        """Look again at what had no leader."""
        self._unblock()

    def open_batches(self) -> list[Batch]:
        """Every batch whose fate is open."""
        self._meet()
        found: list[Batch] = []
        for partition in self._partitions.values():
            found += (batch for batch in partition.sent if not batch.is_done)
            found += partition.queue.batches()
        return found

    def on_fatal(self, listener: Callable[[KafkaError], None]) -> None:
        """Call `listener` when there is no producer id and will be none."""
        if self._identity is not None:
            self._identity.on_refused = listener

    def fail_all(self, error: KafkaError) -> None:
        """Give every batch up."""
        self._meet()
        for partition in self._partitions.values():
            for batch in [*partition.sent, *self._take_all(partition)]:
                self._fail(batch, error)
            partition.sent.clear()

    # ------------------------------------------------------------------------------ what to send

    def _meet(self) -> None:
        """Take note of the queues that have something new."""
        for queue in self._accumulator.take_dirty():
            partition: Partition | None = queue.state
            if partition is None:
                partition = queue.state = Partition(queue)
                self._partitions[partition.topic, partition.index] = partition
            self._check[partition] = None

    def _unblock(self) -> None:
        self._check |= self._blocked
        self._blocked.clear()

    def _consider(self, partition: Partition) -> None:
        """Put the partition's next batch into a request, if it may go now."""
        core = self._core
        if not partition.sent and partition.queue.is_empty:
            self._rest(partition)
            return
        if partition.is_retrying:
            # One at a time, the first one first.
            if partition.flying:
                return
            if self._wait_until(partition, partition.retry_at_ms):
                return
        elif self._is_busy(partition) or self._lingers(partition):
            return
        node_id = core.metadata.leader(partition.topic, partition.index)
        if node_id is None:
            core.refresh_metadata()
            self._blocked[partition] = None
            return
        if not core.is_ready(node_id) or not self._has_number(partition):
            self._blocked[partition] = None
            return
        batch = partition.sent[0] if partition.is_retrying else partition.queue.peek()
        if batch is not None and batch.is_exported:
            # A connection that is being closed still has the last attempt's bytes.
            self._wait_until(partition, core.now_ms + 1)
            return
        if batch is None or not self._draft(node_id, partition, batch):
            self._blocked[partition] = None
            return
        self._check[partition] = None  # there may be more

    def _is_busy(self, partition: Partition) -> bool:
        """Whether the partition has to wait for answers before it may send more."""
        in_flight = len(partition.flying)
        if self._identity is not None and not partition.is_confirmed:
            return in_flight > 0
        return in_flight >= self._partition_in_flight_max

    def _lingers(self, partition: Partition) -> bool:
        """Whether the partition's next batch should wait for more records."""
        queue = partition.queue
        batch = queue.peek()
        if batch is None:
            self._rest(partition)
            return True
        if queue.full_count or self.hurries or self._accumulator.is_starved:
            return False
        due_ms = batch.created_ms + self._options.linger_ms
        if due_ms <= self._core.now_ms:
            return False
        self._lingering[partition] = None
        # Rounded up: a timer that is early would only be set again.
        return self._wait_until(partition, -int(-due_ms // 1))

    def _wait_until(self, partition: Partition, when_ms: int) -> bool:
        """Consider the partition again at that time; False: it is that time already."""
        if when_ms <= self._core.now_ms:
            return False
        if partition.timer is not None:
            partition.timer.cancel()
        partition.timer = self._core.call_at(when_ms, lambda: self._on_timer(partition))
        return True

    def _on_timer(self, partition: Partition) -> None:
        partition.timer = None
        self._check[partition] = None

    def _rest(self, partition: Partition) -> None:
        self._lingering.pop(partition, None)
        if partition.timer is not None:
            partition.timer.cancel()
            partition.timer = None

    def _has_number(self, partition: Partition) -> bool:
        """See to it that the partition has a producer id and an epoch that the broker takes."""
        identity = self._identity
        if identity is None:
            return True
        if partition.needs_epoch:
            if partition.flying:
                return False
            if partition.epoch < EPOCH_MAX:
                partition.begin(partition.producer_id, partition.epoch + 1)
                return True
            identity.exhausted(partition.producer_id)
            partition.producer_id = -1
        if partition.producer_id < 0 or partition.needs_epoch:
            if not identity.is_known():
                return False
            partition.begin(identity.producer_id, identity.epoch)
        return True

    def _draft(self, node_id: int, partition: Partition, batch: Batch) -> bool:
        """Add the partition's next batch to its broker's request. False: the broker is busy."""
        draft = self._drafts.get(node_id)
        full = draft is not None and (
            partition in draft.partitions
            or draft.size + len(batch) > self._options.max_request_size
        )
        if full:
            self._dispatch(node_id)
            draft = None
        if draft is None:
            limit = self._options.max_in_flight_requests_per_connection
            if self._in_flight.get(node_id, 0) >= limit:
                return False
            draft = self._drafts[node_id] = _Draft()
        if not partition.is_retrying:
            taken = partition.queue.take()
            assert taken is batch
            self._lingering.pop(partition, None)
            if self._identity is not None:
                partition.number(batch)
        self._seal(batch)
        partition.depart(batch)
        draft.items.append((partition, batch))
        draft.partitions.add(partition)
        draft.size += len(batch)
        return True

    def _seal(self, batch: Batch) -> None:
        if self._codec is not Codec.NONE and batch.codec == Codec.NONE:
            records = batch.records()
            payload = compress(self._codec, records, self._options.compression_level)
            records.release()
            batch.replace_records(payload, self._codec)
        if not batch.is_stamped:
            batch.stamp()

    def _dispatch(self, node_id: int) -> None:
        draft = self._drafts.pop(node_id)
        items = draft.items
        self._in_flight[node_id] = self._in_flight.get(node_id, 0) + 1
        self._core.send(
            Node(node_id),
            produce_request(self._core.metadata, self._options, self._codec, items),
            lambda result: self._answered(node_id, items, result),
            timeout_ms=None,
            retry=False,
            answered=self._acks != 0,
        )

    # ----------------------------------------------------------------------------------- answers

    # Any: a response or an exception, as `ClientCore.send` says.
    def _answered(self, node_id: int, items: list[Item], result: Any) -> None:
        self._in_flight[node_id] -= 1
        if isinstance(result, KafkaError):
            for partition, batch in items:
                self._not_answered(partition, batch, result)
        elif isinstance(result, Exception):
            error = KafkaError(ErrorCode.INVALID_REQUEST, str(result))
            for partition, batch in items:
                self._refused(partition, batch, error)
        elif result is None:
            for partition, batch in items:
                self._delivered(partition, batch, None)
        else:
            rows = rows_by_partition(self._core.metadata, result)
            for partition, batch in items:
                row = rows.get((partition.topic, partition.index))
                self._judge(partition, batch, row, result)
        for partition, _ in items:
            self._check[partition] = None
        self._unblock()
        self._accumulator.room_made()

    # Any: a ProduceResponse.
    def _judge(
        self,
        partition: Partition,
        batch: Batch,
        row: ProducePartitionResponse | None,
        response: Any,
    ) -> None:
        code = ErrorCode.UNKNOWN_SERVER_ERROR if row is None else error_code(row.error_code)
        if code == ErrorCode.NONE:
            self._delivered(partition, batch, row)
            return
        if code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._delivered(partition, batch, None)
            return
        message = (row.error_message if row is not None else None) or "the broker refused the batch"
        error = KafkaError(code, message)
        if code == ErrorCode.MESSAGE_TOO_LARGE and batch.count > 1 and not batch.is_done:
            self._split(partition, batch)
        elif code in SEQUENCE_ERRORS and self._identity is not None:
            if partition.land(batch):
                partition.needs_epoch = True
            self._again(partition, batch, error, wait=False)
        elif code.retriable:
            partition.land(batch)
            hinted = hinted_leader(self._core.metadata, partition, row, response)
            if code in STALE_METADATA_ERRORS and not hinted:
                self._core.refresh_metadata()
            self._again(partition, batch, error, wait=not hinted)
        else:
            self._refused(partition, batch, error)

    def _delivered(
        self, partition: Partition, batch: Batch, row: ProducePartitionResponse | None
    ) -> None:
        partition.land(batch)
        partition.settle(batch)
        partition.confirm(batch)
        base_offset = -1 if row is None else row.base_offset
        append_time_ms = -1 if row is None else row.log_append_time_ms
        self._settled(batch, batch.complete(None, base_offset, append_time_ms))

    def _not_answered(self, partition: Partition, batch: Batch, error: KafkaError) -> None:
        """Nobody knows whether the batch was written."""
        partition.land(batch)
        if error.retriable:
            self._again(partition, batch, error, wait=True)
        else:
            partition.settle(batch)
            self._fail(batch, error)

    def _again(self, partition: Partition, batch: Batch, error: KafkaError, *, wait: bool) -> None:
        """Send a batch again, in its place, unless its time is up."""
        if batch.is_done:  # it expired meanwhile
            partition.settle(batch)
            return
        if batch.attempts > self._options.retries:
            partition.settle(batch)
            self._fail(batch, error)
            return
        if wait:
            backoff_ms = self._core.backoff_ms(batch.attempts)
            partition.retry_at_ms = max(partition.retry_at_ms, self._core.now_ms + backoff_ms)
        else:
            partition.retry_at_ms = self._core.now_ms

    def _refused(self, partition: Partition, batch: Batch, error: KafkaError) -> None:
        """The broker has not written the batch and never will."""
        partition.land(batch)
        if error.code != ErrorCode.UNKNOWN_SERVER_ERROR:
            partition.take_back(batch)
        partition.settle(batch)
        self._fail(batch, error)

    def _split(self, partition: Partition, batch: Batch) -> None:
        """Halve a batch that is larger than the topic allows (Kafka does the same)."""
        partition.land(batch)
        records = batch.records()
        payload = decompress(batch.codec, records, _INFLATED_MAX)
        records.release()
        partition.replace(batch, batch.split(payload))

    def _fail(self, batch: Batch, error: KafkaError) -> None:
        if batch.is_done:
            return
        self._settled(batch, batch.complete(error))
        self.tell(error)

    def tell(self, error: KafkaError) -> None:
        """Call `on_error`."""
        on_error = self._options.on_error
        if on_error is not None:
            try:
                on_error(error)
            except Exception:  # noqa: BLE001 - the application's code
                _log.exception("on_error raised")

    # ------------------------------------------------------------------------------------ expiry

    def watch_expiry(self) -> None:
        """See to it that the oldest batch is looked at when its time is up."""
        if self._expiry is not None:
            return
        oldest = self._oldest_ms()
        if oldest is not None:
            when_ms = max(oldest + self._options.delivery_timeout_ms, self._core.now_ms + 1)
            self._expiry = self._core.call_at(when_ms, self._expire)

    def _oldest_ms(self) -> int | None:
        oldest: int | None = None
        for partition in self._partitions.values():
            for batch in (*partition.sent[:1], partition.queue.peek()):
                if batch is not None and (oldest is None or batch.created_ms < oldest):
                    oldest = batch.created_ms
        return oldest

    def _expire(self) -> None:
        self._expiry = None
        limit_ms = self._options.delivery_timeout_ms
        before_ms = self._core.now_ms - limit_ms
        for partition in self._partitions.values():
            late = [b for b in partition.sent if b.created_ms <= before_ms and not b.is_done]
            while (batch := partition.queue.peek()) is not None and batch.created_ms <= before_ms:
                partition.queue.take()
                late.append(batch)
            for batch in late:
                if batch not in partition.flying:
                    partition.settle(batch)
                where = f"{partition.topic}-{partition.index}"
                self._fail(batch, RequestTimedOut(f"{where}: not delivered in {limit_ms} ms"))
            if late:
                self._check[partition] = None
        if self._accumulator.is_starved:
            self._accumulator.room_made()

    @staticmethod
    def _take_all(partition: Partition) -> list[Batch]:
        taken = []
        while (batch := partition.queue.take()) is not None:
            taken.append(batch)
        return taken
