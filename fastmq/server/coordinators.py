"""The driver of the pure coordinator shards: appends, answers, timers, load.

One `ShardRunner` per partition of an internal topic. It follows the contract of
`fastmq.coordinator.effects`: a step's records are appended as one batch and replayed at once; an
answer leaves when everything applied before it is committed, which the engine tells with one
EVENT_APPENDED per append, in order. Nothing is awaited inside a step.

Offset commits are gathered: those that arrive in one round of the event loop share an append,
since none of them depends on what another one writes. Any other operation first writes what was
gathered.

States of a runner::

    LOADING   reads the log in a worker thread; requests get COORDINATOR_LOAD_IN_PROGRESS
    ACTIVE    serves
    LOST      an append was not committed, or the log cannot be read; requests get NOT_COORDINATOR

A shard that fails by a fault of its own is dropped and loaded anew: what the log says is right, and
one group's trouble must not end the broker.

`CoordinatorDriver` owns the runners, the one timer task, and the map from append tokens to
runners.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Generic, Protocol, TypeVar

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.coordinator.effects import Call, CoordinatorShard, Effects, Record, Reply
from fastmq.coordinator.partitioning import partition_for
from fastmq.errors import ErrorCode, KafkaError
from fastmq.limits import (
    COORDINATOR_LOAD_READ_BYTES,
    COORDINATOR_LOAD_THREADS,
    GATHERED_RECORDS_MAX,
)
from fastmq.server.clock import Clock

__all__ = ["Answerable", "CoordinatorDriver", "ShardRunner", "ShardState"]

logger = logging.getLogger(__name__)

# While a load waits for followers to have what it has not read yet.
_COMMIT_LOOK_S = 0.01

S = TypeVar("S", bound=CoordinatorShard)

BuildBatch = Callable[[list[Record], int], bytearray]
"""Encode records as one batch with this timestamp."""

IterRecords = Callable[[bytes], Iterable[tuple[bytes | None, bytes | None]]]
"""Walk over the records of whole batches, control batches left out."""


class Answerable(Protocol):
    """What a `Call.token` is to the driver: something that takes the answer, once."""

    def reply(self, response: object) -> None:
        """Send the answer."""


class ShardState(Enum):
    """See the module's table."""

    LOADING = "loading"
    ACTIVE = "active"
    LOST = "lost"


class ShardRunner(Generic[S]):
    """One shard, its partition, and the answers that wait for commits."""

    def __init__(
        self,
        driver: "CoordinatorDriver[S]",
        index: int,
        partition: Partition,
        shard: S,
        epoch: int = 0,
    ) -> None:
        self._driver = driver
        self.index = index
        self.epoch = epoch
        self.partition = partition
        self.shard = shard
        self.state = ShardState.LOADING
        self.deadline_ms: int | None = None
        # Appends are numbered; an answer waits until the commit count reaches its number.
        self._applied = 0
        self._committed = 0
        self._waiting: deque[tuple[int, Reply]] = deque()
        self._gathered = Effects()

    @property
    def is_settled(self) -> bool:
        """Whether everything that was written has been committed and answered."""
        return not self._waiting

    def check_active(self) -> None:
        """Check that the shard serves.

        Raises:
            KafkaError: COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR.
        """
        if self.state is ShardState.LOADING:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "the coordinator is loading")
        if self.state is ShardState.LOST:
            raise KafkaError(ErrorCode.NOT_COORDINATOR, "the coordinator's log is not available")

    def step(self, operation: Callable[[S, int], Effects], *, gather: bool = False) -> None:
        """Run one operation and what follows from it.

        Args:
            operation: gets the shard and the time; must not keep either.
            gather: the operation reads nothing that another gathered operation writes, so its
                records may wait for `flush`.
        """
        if not gather:
            self.flush()
        effects = operation(self.shard, self._driver.now_ms())
        if gather and effects.rollback is None:
            self._gathered.records += effects.records
            self._gathered.replies += effects.replies
            self._driver.needs_flush.add(self)
            if len(self._gathered.records) >= GATHERED_RECORDS_MAX:
                self.flush()
            return
        self.flush()
        self._apply(effects)

    def flush(self) -> None:
        """Write what was gathered."""
        gathered = self._gathered
        if gathered.records or gathered.replies:
            self._gathered = Effects()
            self._apply(gathered)

    def on_timer(self, now_ms: int) -> None:
        """Run everything that is due."""
        self.flush()
        while self.state is ShardState.ACTIVE:
            due_ms = self.shard.next_deadline()
            if due_ms is None or due_ms > now_ms:
                break
            try:
                effects = self.shard.on_timer(now_ms)
            except Exception:
                logger.exception("timer of %s-%d failed", self.partition.topic, self.index)
                self.start_over()
                return
            self._apply(effects)
        self._note_deadline()

    def start_over(self) -> None:
        """Drop a shard that cannot be trusted any more, and load a new one."""
        self.lose(ErrorCode.UNKNOWN_SERVER_ERROR)
        self._applied = self._committed = 0
        self._driver.load_anew(self)

    def on_appended(self, code: int) -> None:
        """One append was committed (`code` 0) or never will be."""
        if code:
            self.lose(ErrorCode(code))
            return
        self._committed += 1
        waiting = self._waiting
        while waiting and waiting[0][0] <= self._committed:
            _deliver(waiting.popleft()[1])

    def lose(self, code: ErrorCode) -> None:
        """Answer everybody with a refusal and give the shard up."""
        if self.state is ShardState.LOST:
            return
        self.state = ShardState.LOST
        self.deadline_ms = None
        self._driver.forget_appends(self)
        waiting, self._waiting = self._waiting, deque()
        refused = [reply for _, reply in waiting] + self._gathered.replies
        self._gathered = Effects()
        for reply in refused:
            _answer(reply, reply.refusal(code))
        for reply in self.shard.resign(code).replies:
            _deliver(reply)

    def activate(self) -> None:
        """Start serving after the load."""
        self.state = ShardState.ACTIVE
        self._apply(self.shard.on_loaded(self._driver.now_ms()))

    def _apply(self, effects: Effects | None) -> None:
        while effects is not None:
            code = self._append(effects.records) if effects.records else 0
            if code:
                for reply in effects.replies:
                    _answer(reply, reply.refusal(ErrorCode(code)))
                effects = effects.rollback(self._driver.now_ms()) if effects.rollback else None
                continue
            if not self._replay(effects):
                return
            for reply in effects.replies:
                if self._applied == self._committed:
                    _deliver(reply)
                else:
                    self._waiting.append((self._applied, reply))
            break
        self._note_deadline()

    def _replay(self, effects: Effects) -> bool:
        """Apply what was appended; False when the shard failed and everybody was told."""
        try:
            for record in effects.records:
                self.shard.replay(record.key, record.value)
        except Exception:
            logger.exception("%s-%d cannot apply its record", self.partition.topic, self.index)
            self._waiting.extend((self._applied, reply) for reply in effects.replies)
            self.start_over()
            return False
        return True

    def _append(self, records: list[Record]) -> int:
        """Append one batch; 0, or the error code of a refusal."""
        driver = self._driver
        now_ms = driver.now_ms()
        token = driver.new_token(self)
        try:
            code, _, _, reason = self.partition.append(
                driver.build_batch(records, now_ms), trusted=True, wait_token=token, now_ms=now_ms
            )
        except PartitionError as exc:
            code, reason = exc.code or ErrorCode.KAFKA_STORAGE_ERROR, str(exc)
        if code:
            driver.drop_token(token)
            logger.warning(
                "append to %s-%d refused: %s %s",
                self.partition.topic,
                self.index,
                ErrorCode(code).name,
                reason or "",
            )
        else:
            self._applied += 1
        return code

    def _note_deadline(self) -> None:
        self.deadline_ms = self.shard.next_deadline() if self.state is ShardState.ACTIVE else None
        if self.deadline_ms is not None:
            self._driver.wake_timer_by(self.deadline_ms)


class CoordinatorDriver(Generic[S]):
    """All shards of one internal topic."""

    def __init__(
        self,
        *,
        clock: Clock,
        make_shard: Callable[[int], S],
        build_batch: BuildBatch,
        iter_records: IterRecords,
    ) -> None:
        self._clock = clock
        self._make_shard = make_shard
        self.build_batch = build_batch
        self._iter_records = iter_records
        self._runners: dict[int, ShardRunner[S]] = {}
        self._tokens: dict[int, ShardRunner[S]] = {}
        self._token = 0
        self.needs_flush: set[ShardRunner[S]] = set()
        self._timer_scope: trio.CancelScope | None = None
        self._timer_at_ms: int | None = None
        clock.on_advanced(self._run_due)
        # Of the whole internal topic; 0 while it does not exist.
        self.partition_count = 0
        self._load_send, self._load_receive = trio.open_memory_channel[ShardRunner[S]](10_000)
        # Of all loads together: what each reads is in memory.
        self._load_threads = trio.CapacityLimiter(COORDINATOR_LOAD_THREADS)

    # What runners use.

    def now_ms(self) -> int:
        """Return the time handed to shards."""
        return self._clock.now_ms()

    def new_token(self, runner: ShardRunner[S]) -> int:
        """Name one append."""
        self._token += 1
        self._tokens[self._token] = runner
        return self._token

    def drop_token(self, token: int) -> None:
        """Forget an append that was refused."""
        del self._tokens[token]

    def forget_appends(self, runner: ShardRunner[S]) -> None:
        """Forget the appends of a lost runner; their events are ignored."""
        for token in [t for t, owner in self._tokens.items() if owner is runner]:
            del self._tokens[token]
        self.needs_flush.discard(runner)

    def wake_timer_by(self, at_ms: int) -> None:
        """See that the timer task wakes at `at_ms` or before."""
        if self._timer_at_ms is not None and self._timer_at_ms <= at_ms:
            return
        self._timer_at_ms = at_ms
        if self._timer_scope is not None:
            self._timer_scope.deadline = self._clock.trio_deadline(at_ms)

    # What the broker uses.

    def add_partition(self, partition: Partition, *, is_empty: bool, epoch: int = 0) -> None:
        """Take on a partition of the internal topic that this broker leads, and load it.

        One that is known to be empty serves at once, and its log stays closed until it is used.
        `epoch` is the leader epoch: another one is another shard.
        """
        shard = self._make_shard(partition.index)
        runner = ShardRunner(self, partition.index, partition, shard, epoch)
        self.partition_count = max(self.partition_count, partition.index + 1)
        self._runners[partition.index] = runner
        if is_empty:
            runner.activate()
        else:
            self._load_send.send_nowait(runner)

    def drop_partition(self, index: int) -> None:
        """Give up a partition that this broker leads no more; nothing happens without it."""
        runner = self._runners.pop(index, None)
        if runner is None:
            return
        if runner.state is ShardState.LOADING:
            # A worker thread has the shard, and nobody waits for it.
            runner.state = ShardState.LOST
        else:
            runner.lose(ErrorCode.NOT_COORDINATOR)

    def epoch_of(self, index: int) -> int | None:
        """Return the leader epoch that a partition's shard is of; None when there is none here."""
        runner = self._runners.get(index)
        return None if runner is None else runner.epoch

    def load_anew(self, runner: ShardRunner[S]) -> None:
        """Give a lost runner a new shard and load it."""
        runner.shard = self._make_shard(runner.index)
        runner.state = ShardState.LOADING
        self._load_send.send_nowait(runner)

    @property
    def shard_count(self) -> int:
        """How many partitions are led here."""
        return len(self._runners)

    def runners(self) -> Iterator[ShardRunner[S]]:
        """All runners, by index."""
        return iter([self._runners[index] for index in sorted(self._runners)])

    def runner_for(self, key: str) -> ShardRunner[S]:
        """Return the runner that is responsible for `key`.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR.
        """
        if not self.partition_count:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "no coordinator yet")
        runner = self._runners.get(partition_for(key, self.partition_count))
        if runner is None:
            raise KafkaError(ErrorCode.NOT_COORDINATOR, "another broker is the coordinator")
        runner.check_active()
        return runner

    def on_appended(self, token: int, code: int) -> None:
        """Handle EVENT_APPENDED."""
        runner = self._tokens.pop(token, None)
        if runner is not None:
            runner.on_appended(code)

    def on_dir_offline(self, dir_id: int) -> None:
        """Give up the shards whose log is in a directory that failed."""
        for runner in self._runners.values():
            if runner.partition.dir_id == dir_id:
                runner.lose(ErrorCode.KAFKA_STORAGE_ERROR)

    def flush(self) -> None:
        """Write what was gathered in this round of the event loop."""
        while self.needs_flush:
            self.needs_flush.pop().flush()

    async def run(self) -> None:
        """Load shards and keep time until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load_loop, name="coordinator load")
            nursery.start_soon(self._timer_loop, name="coordinator timer")

    def is_settled(self) -> bool:
        """Return whether everything that was written has been committed and answered."""
        self.flush()
        return all(runner.is_settled for runner in self._runners.values())

    def resign_all(self, code: ErrorCode) -> None:
        """Answer every request that waits, at shutdown."""
        self.flush()
        for runner in self._runners.values():
            runner.lose(code)

    async def _load_loop(self) -> None:
        # Side by side: one whose log gets no further must not keep the others from serving.
        async with trio.open_nursery() as nursery:
            async for runner in self._load_receive:
                nursery.start_soon(self._load, runner)

    async def _load(self, runner: ShardRunner[S]) -> None:
        try:
            count = await self._replay_log(runner)
            if self._runners.get(runner.index) is not runner:
                return  # given up meanwhile
            runner.activate()
        except PartitionError as exc:
            logger.error("cannot load %s-%d: %s", runner.partition.topic, runner.index, exc)  # noqa: TRY400
            runner.state = ShardState.LOST
            return
        except Exception:
            logger.exception("cannot load %s-%d", runner.partition.topic, runner.index)
            runner.state = ShardState.LOST
            return
        logger.debug("loaded %s-%d: %d records", runner.partition.topic, runner.index, count)

    async def _replay_log(self, runner: ShardRunner[S]) -> int:
        """Feed the whole log to the shard; return the number of records."""
        limiter = self._load_threads
        offset, end = await trio.to_thread.run_sync(_bounds, runner.partition, limiter=limiter)
        count = 0
        while True:
            offset, more = await trio.to_thread.run_sync(
                self._replay_from, runner, offset, end, limiter=limiter
            )
            count += more
            if offset >= end or runner.state is not ShardState.LOADING:
                return count
            # A new leader may have more than it knows to be committed yet; all of it counts once
            # it is.
            await trio.sleep(_COMMIT_LOOK_S)

    def _replay_from(self, runner: ShardRunner[S], offset: int, end: int) -> tuple[int, int]:
        """Feed to the shard what is committed; in a worker thread, which alone has it now.

        Returns:
            Where it goes on, and the number of records.
        """
        partition, shard = runner.partition, runner.shard
        count = 0
        while offset < end and runner.state is ShardState.LOADING:
            data = partition.read(offset, COORDINATOR_LOAD_READ_BYTES)
            if not data:
                break
            latest: dict[bytes, bytes | None] = {}
            for key, value in self._iter_records(data):
                if key is not None:
                    # What a later record of the key supersedes says nothing any more; the order
                    # is that of a compacted log.
                    latest.pop(key, None)
                    latest[key] = value
                    count += 1
            for key, value in latest.items():
                shard.replay(key, value)
            offset = next_offset(data)
        return offset, count

    async def _timer_loop(self) -> None:
        while True:
            with trio.CancelScope() as scope:
                self._timer_scope = scope
                if self._timer_at_ms is not None:
                    scope.deadline = self._clock.trio_deadline(self._timer_at_ms)
                await trio.sleep_forever()
            self._run_due()

    def _run_due(self) -> None:
        """Run the timers that are due, and see that the timer task wakes for the next."""
        self._timer_at_ms = None
        now_ms = self.now_ms()
        for runner in list(self._runners.values()):
            if runner.deadline_ms is not None:
                if runner.deadline_ms <= now_ms:
                    runner.on_timer(now_ms)
                else:
                    self.wake_timer_by(runner.deadline_ms)


def _bounds(partition: Partition) -> tuple[int, int]:
    return partition.log_start(), partition.log_end()


def next_offset(batches: bytes) -> int:
    """Return the offset after the last whole batch of `batches`."""
    position, following = 0, 0
    while position + 61 <= len(batches):
        base = int.from_bytes(batches[position : position + 8], "big", signed=True)
        length = int.from_bytes(batches[position + 8 : position + 12], "big")
        delta = int.from_bytes(batches[position + 23 : position + 27], "big")
        following = base + delta + 1
        position += 12 + length
    return following


def _deliver(reply: Reply) -> None:
    _answer(reply, reply.response)


def _answer(reply: Reply, response: object) -> None:
    token: Answerable = reply.token  # type: ignore[assignment]
    token.reply(response)


def call_of(token: Answerable, version: int, client_id: str | None, host: str) -> Call:
    """Describe a request to a shard."""
    return Call(token, version, client_id or "", f"/{host}")
