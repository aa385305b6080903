"""The log workload: producers with unique values, and readers.

An idempotent producer has one batch of a partition under way and sends it again, with the same
sequence, until it is acknowledged; when it gives up it goes on with a new producer id, and what
became of the batch stays open. Others produce with acks=1 and never again: nothing is promised to
them, but their records make logs part. Readers follow the high watermark.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from fastmq.errors import ConnectionFailed, ErrorCode
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.protocol.messages.init_producer_id import InitProducerIdRequest
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch, read_batches
from fastmq.testing.sim.clients import ClientMachine
from fastmq.testing.sim.trace import Trace

__all__ = ["Attempt", "LogHistory", "Producer", "Reader"]

_VERSION: Final = 12  # topics by name
_FETCH_VERSION: Final = 12
_GIVE_UP_S: Final = 12.0
# What a producer that has one batch under way must not be told by a leader. One that was replaced,
# and does not know it yet, may say so; thus only who hears nothing else takes it for the truth.
_UNKNOWN: Final = frozenset({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID})
_UNKNOWN_MAX: Final = 15
# What it must never be told by anybody.
_BROKEN: Final = frozenset(
    {
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.UNKNOWN_SERVER_ERROR,
    }
)


@dataclass(slots=True, eq=False)
class Attempt:
    """One batch and what became of it.

    Attributes:
        stream: who sent it; what one stream has acknowledged is in order.
        offset: of its first record when it was acknowledged with acks=all, else -1.
    """

    values: tuple[bytes, ...]
    stream: int
    offset: int = -1


@dataclass
class LogHistory:
    """What producers were told and readers saw, by partition."""

    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    seen: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def acknowledged(self) -> int:
        """Return how many batches are acknowledged."""
        return sum(a.offset >= 0 for attempts in self.attempts.values() for a in attempts)

    def saw(self, trace: Trace, index: int, offset: int, value: bytes) -> None:
        """Take note of a record that was below a high watermark."""
        before = self.seen.setdefault(index, {}).setdefault(offset, value)
        if before != value:
            trace.violation(
                f"partition {index} offset {offset} was {before!r} and is {value!r} now"
            )


class Producer:
    """One producer of one partition.

    Args:
        machine: its own.
        topic: where to.
        index: partition.
        acks: -1 (idempotent) or 1 (nothing promised).
        stream: a number that no other producer has.
        history: where to note what happened.
        trace: of the run.
    """

    def __init__(
        self,
        machine: ClientMachine,
        topic: str,
        index: int,
        *,
        acks: int,
        stream: int,
        history: LogHistory,
        trace: Trace,
    ) -> None:
        self._machine = machine
        self._topic = topic
        self._index = index
        self.acks = acks
        self._stream = stream
        self._history = history
        self._trace = trace
        self._numbers = itertools.count()
        self._leader: int | None = None
        self._producer_id = -1
        self._sequence = 0
        self.is_stopping = False
        self.acknowledged = 0
        # Called with partition and last offset of what was acknowledged just now.
        self.on_acknowledged: Callable[[int, int], None] = lambda _index, _offset: None
        # Called with the broker that has taken a batch with acks=1 just now.
        self.on_accepted: Callable[[int], None] = lambda _node_id: None

    @property
    def machine_name(self) -> str:
        """Where it runs."""
        return self._machine.name

    async def run(self, pause_s: float) -> None:
        """Produce until told to stop.

        Args:
            pause_s: between two batches, on average.
        """
        rng = self._machine.rng
        while not self.is_stopping:
            await trio.sleep(rng.uniform(0, 2 * pause_s))
            if self.acks == -1 and self._producer_id < 0 and not await self._new_id():
                continue
            count = rng.randrange(1, 4)
            padding = b"." * (rng.randrange(3) * 300)
            values = tuple(
                b"%d-%d%s" % (self._stream, next(self._numbers), padding) for _ in range(count)
            )
            attempt = Attempt(values, self._stream)
            self._history.attempts.setdefault(self._index, []).append(attempt)
            if self.acks == -1:
                await self._deliver(attempt)
            else:
                await self._send_once(attempt)
        self._machine.close()

    async def _new_id(self) -> bool:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        try:
            answer = await self._machine.call(self._machine.any_broker(), request)
        except ConnectionFailed:
            return False
        if answer.error_code:
            return False
        self._producer_id, self._sequence = answer.producer_id, 0
        return True

    def _batch(self, attempt: Attempt) -> bytes:
        idempotent = self.acks == -1
        timestamp = 1_760_000_000_000 + int(trio.current_time() * 1000)
        batch = build_batch(
            [NewRecord(None, value, timestamp=timestamp) for value in attempt.values],
            producer_id=self._producer_id if idempotent else -1,
            producer_epoch=0 if idempotent else -1,
            base_sequence=self._sequence if idempotent else -1,
        )
        return bytes(batch)

    async def _deliver(self, attempt: Attempt) -> None:
        """Send a batch until it is acknowledged, or for so long that we give up."""
        batch = self._batch(attempt)
        give_up = trio.current_time() + _GIVE_UP_S
        unknown = 0
        while trio.current_time() < give_up:
            code, offset = await self._send(batch)
            if code == ErrorCode.NONE and offset >= 0:
                attempt.offset = offset
                self._acknowledge(attempt)
                if self._machine.rng.random() < 0.15:
                    await self._send_again(batch, attempt)
                return
            unknown = unknown + 1 if code in _UNKNOWN else 0
            if code in _BROKEN or unknown == _UNKNOWN_MAX:
                self._trace.violation(
                    f"stream {self._stream}, partition {self._index}: the only batch under way "
                    f"is refused with {ErrorCode(code).name} (sequence {self._sequence})"
                )
                break
            await trio.sleep(self._machine.rng.uniform(0.02, 0.25))
        self._trace.note("open", f"stream {self._stream} sequence {self._sequence}")
        self._producer_id = -1

    def _acknowledge(self, attempt: Attempt) -> None:
        self._sequence += len(attempt.values)
        self.acknowledged += 1
        self.on_acknowledged(self._index, attempt.offset + len(attempt.values) - 1)
        self._trace.note("ack", f"{self._topic}-{self._index} {attempt.offset} {self._stream}")

    async def _send_again(self, batch: bytes, attempt: Attempt) -> None:
        """A duplicate gets the first answer, or none."""
        code, offset = await self._send(batch)
        if code == ErrorCode.NONE and offset not in (attempt.offset, -1):
            self._trace.violation(
                f"partition {self._index}: a duplicate of {attempt.offset} is at {offset}"
            )

    async def _send_once(self, attempt: Attempt) -> None:
        code, _ = await self._send(self._batch(attempt))
        self._trace.note("acks1", f"{self._topic}-{self._index} {code}")

    async def _send(self, batch: bytes) -> tuple[int, int]:
        """Return error code and offset; REQUEST_TIMED_OUT when there is no answer."""
        if self._leader is None:
            self._leader = await self._machine.leader(self._topic, self._index)
        if self._leader is None:
            return ErrorCode.LEADER_NOT_AVAILABLE, -1
        request = ProduceRequest(
            acks=self.acks,
            timeout_ms=1500,
            topic_data=[
                ProduceTopic(
                    name=self._topic,
                    partition_data=[ProducePartition(index=self._index, records=batch)],
                )
            ],
        )
        try:
            answer = await self._machine.call(self._leader, request, version=_VERSION)
        except ConnectionFailed:
            self._leader = None
            return ErrorCode.REQUEST_TIMED_OUT, -1
        (part,) = answer.responses[0].partition_responses
        if part.error_code:
            self._leader = None
        elif self.acks == 1:
            self.on_accepted(self._leader)
        return part.error_code, part.base_offset


class Reader:
    """Follows one partition from its beginning.

    Args:
        machine: its own.
        topic: which.
        index: partition.
        history: where to note what it sees.
        trace: of the run.
    """

    def __init__(
        self,
        machine: ClientMachine,
        topic: str,
        index: int,
        history: LogHistory,
        trace: Trace,
    ) -> None:
        self._machine = machine
        self._topic = topic
        self._index = index
        self._history = history
        self._trace = trace
        self.position = 0
        self.is_stopping = False

    @property
    def machine_name(self) -> str:
        """Where it runs."""
        return self._machine.name

    async def run(self) -> None:
        """Read until told to stop."""
        leader: int | None = None
        while not self.is_stopping:
            if leader is None:
                leader = await self._machine.leader(self._topic, self._index)
            if leader is None or not await self._read(leader):
                leader = None
                await trio.sleep(self._machine.rng.uniform(0.05, 0.4))
        self._machine.close()

    async def _read(self, leader: int) -> bool:
        request = FetchRequest(
            max_wait_ms=1000,
            min_bytes=1,
            max_bytes=1 << 20,
            topics=[
                FetchTopic(
                    topic=self._topic,
                    partitions=[
                        FetchPartition(
                            partition=self._index,
                            fetch_offset=self.position,
                            partition_max_bytes=1 << 20,
                        )
                    ],
                )
            ],
        )
        try:
            answer = await self._machine.call(leader, request, version=_FETCH_VERSION)
        except ConnectionFailed:
            return False
        if answer.error_code or not answer.responses:
            return False
        (part,) = answer.responses[0].partitions
        if part.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._trace.violation(
                f"partition {self._index}: offset {self.position}, below which all was "
                f"committed, is out of range at broker {leader}"
            )
        if part.error_code:
            return False
        for batch in read_batches(part.records or b"", allow_partial=True):
            if not batch.crc_ok():
                self._trace.violation(f"partition {self._index}: a reader got damaged bytes")
                return False
            for number, record in enumerate(batch.records()):
                offset = batch.header.base_offset + number
                if offset >= self.position:
                    self._history.saw(self._trace, self._index, offset, bytes(record.value or b""))
                    self.position = offset + 1
        return True
