"""Following: one task for each broker that leads something this broker has a replica of.

The engine writes the requests and takes the answers (`Fetcher`); a task here moves the bytes, waits
when there is nothing to ask for, and comes back after a failure. Replicas whose catching up is
throttled are fetched by tasks of their own, so that those in sync need not wait with them. What a
partition is in trouble with, it is most often because leaders are changing: it is asked for again a
little later, and the roles that come with the next image set it right.
"""

import errno
import logging
from dataclasses import dataclass, field
from functools import partial

import trio

from fastmq._native.core import Engine, Fetcher, Partition, PartitionError
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.net.frames import Frame
from fastmq.replica import Throttle
from fastmq.server.peers import AddressOf, PeerCredentials, PeerLink

__all__ = ["ReplicaFetchers"]

logger = logging.getLogger(__name__)

_BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_TROUBLE_PAUSE_S = 0.1
_DAMAGE_PAUSE_S = 5.0
_IDLE_S = 0.5
# Beyond what the leader may wait: how long an answer may be under way.
_ANSWER_TIMEOUT_S = 10.0
# A larger answer is written in a worker thread, so that a slow disk does not hold up the loop.
_INLINE_BYTES_MAX = 32 * 1024


@dataclass(slots=True, eq=False)
class _Source:
    """What is fetched from one broker."""

    leader_id: int
    throttled: bool
    fetcher: Fetcher
    partitions: dict[tuple[bytes, int], Partition] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    resume_at: dict[tuple[bytes, int], float] = field(default_factory=dict)

    def poke(self) -> None:
        self.changed.set()


class ReplicaFetchers:
    """The fetcher tasks of a broker.

    Args:
        engine: with the partitions.
        credentials: by which leaders know this broker.
        address_of: where a leader listens.
        max_wait_ms: `replica.fetch.wait.max.ms`.
        max_bytes: `replica.fetch.response.max.bytes`.
        partition_max_bytes: `replica.fetch.max.bytes`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        credentials: PeerCredentials,
        address_of: AddressOf,
        max_wait_ms: int = 500,
        max_bytes: int = 10 << 20,
        partition_max_bytes: int = 1 << 20,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._address_of = address_of
        self._max_wait_ms = max_wait_ms
        self._max_bytes = max_bytes
        self._partition_max_bytes = partition_max_bytes
        self._sources: dict[tuple[int, bool], _Source] = {}
        self._throttle = Throttle()
        self._source_of: dict[tuple[bytes, int], _Source] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for source in self._sources.values():
                self._start(source)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # roles may still change while the broker stops

    def _start(self, source: _Source) -> None:
        if self._nursery is not None:
            name = f"fetch from broker {source.leader_id}"
            self._nursery.start_soon(self._follow, source, name=name)

    def set_rate(self, bytes_per_s: int) -> None:
        """Change how fast throttled replicas catch up together."""
        self._throttle.set_rate(bytes_per_s, trio.current_time())
        for source in self._sources.values():
            source.poke()

    def assign(self, partition: Partition, leader_id: int, *, throttled: bool = False) -> None:
        """Fetch a partition, which follows already, from this leader and from no other.

        Args:
            partition: follows.
            leader_id: its leader.
            throttled: fetch it no faster than all such ones may be fetched together.
        """
        key = (partition.topic_id, partition.index)
        wanted = (leader_id, throttled)
        before = self._source_of.get(key)
        if before is not None and (before.leader_id, before.throttled) != wanted:
            self.release(partition)
        source = self._sources.get(wanted)
        if source is None:
            identity = self._credentials.identity
            fetcher = Fetcher(
                self._engine,
                replica_id=identity.broker_id,
                broker_epoch=identity.broker_epoch,
                max_wait_ms=self._max_wait_ms,
                max_bytes=self._partition_max_bytes if throttled else self._max_bytes,
                partition_max_bytes=self._partition_max_bytes,
                tag=_tag(leader_id, throttled=throttled),
            )
            source = self._sources[wanted] = _Source(leader_id, throttled, fetcher)
            self._start(source)
        source.fetcher.add(partition)
        source.fetcher.resume(partition)
        source.resume_at.pop(key, None)
        source.partitions[key] = partition
        self._source_of[key] = source
        source.poke()

    def release(self, partition: Partition) -> None:
        """Fetch a partition no more; the task ends with its last one."""
        key = (partition.topic_id, partition.index)
        source = self._source_of.pop(key, None)
        if source is None:
            return
        source.fetcher.remove(partition)
        source.partitions.pop(key, None)
        source.resume_at.pop(key, None)
        if not source.partitions:
            del self._sources[source.leader_id, source.throttled]
            source.scope.cancel()

    def on_synced(self, tag: int) -> None:
        """Go on with a fetcher that had only waited for syncs (`EVENT_FETCHER`)."""
        source = self._sources.get((tag >> 1, bool(tag & 1)))
        if source is not None:
            source.poke()

    # ---------------------------------------------------------------------------------- one leader

    async def _follow(self, source: _Source) -> None:
        failures = 0
        told = ""
        with source.scope:
            while True:
                progress = trio.Event()
                try:
                    await self._fetch_from(source, progress)
                except (KafkaError, ProtocolError) as exc:
                    failures = 0 if progress.is_set() else failures + 1
                    if str(exc) != told:
                        told = str(exc)
                        logger.warning("cannot fetch from broker %d: %s", source.leader_id, exc)
                await trio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    async def _fetch_from(self, source: _Source, progress: trio.Event) -> None:
        """Fetch over one link until it breaks."""
        address = self._address_of(source.leader_id)
        if address is None:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, "its address is not known")
        link = await PeerLink.open(*address, self._credentials)
        try:
            correlation_id = 0
            while True:
                await self._wait_for_room(source)
                self._resume_due(source)
                correlation_id = (correlation_id + 1) & 0x7FFF_FFFF
                source.changed = trio.Event()
                frame = source.fetcher.request(correlation_id)
                if not frame:
                    with trio.move_on_after(self._idle_s(source)):
                        await source.changed.wait()
                    continue
                timeout_s = self._max_wait_ms / 1000 + _ANSWER_TIMEOUT_S
                answer = await link.exchange(frame, timeout_s=timeout_s)
                await self._take(source, correlation_id, answer)
                progress.set()
        finally:
            await link.close()

    async def _wait_for_room(self, source: _Source) -> None:
        """Wait until a throttled source may ask again."""
        while source.throttled and (wait_s := self._throttle.wait_s(trio.current_time())):
            source.changed = trio.Event()
            with trio.move_on_after(wait_s):
                await source.changed.wait()

    async def _take(self, source: _Source, correlation_id: int, answer: Frame) -> None:
        try:
            if len(answer) <= _INLINE_BYTES_MAX:
                taken = source.fetcher.apply(answer)
            else:
                taken = await trio.to_thread.run_sync(partial(source.fetcher.apply, answer))
        except PartitionError as exc:
            raise ProtocolError(f"not an answer to Fetch: {exc}") from exc
        got, error, size_bytes, cuts, troubles = taken
        if source.throttled:
            self._throttle.take(size_bytes, trio.current_time())
        if got != correlation_id:
            raise ProtocolError("the answer is to another request")
        if error:
            raise KafkaError(error, "the leader refuses the fetch")
        if cuts:
            logger.info("cut %d logs to what broker %d has", cuts, source.leader_id)
        for topic_id, index, code in troubles:
            self._on_trouble(source, (topic_id, index), code)

    def _on_trouble(self, source: _Source, key: tuple[bytes, int], code: int) -> None:
        partition = source.partitions.get(key)
        if partition is None:
            return
        pause_s = _TROUBLE_PAUSE_S
        if code < 0 or code == ErrorCode.CORRUPT_MESSAGE:
            text = errno.errorcode.get(-code, "") if code < 0 else "damaged bytes from the leader"
            logger.error("%s-%d cannot follow: %s", partition.topic, partition.index, text)
            pause_s = _DAMAGE_PAUSE_S
        else:
            name = ErrorCode(code).name
            logger.debug("%s-%d waits: %s", partition.topic, partition.index, name)
        source.resume_at[key] = trio.current_time() + pause_s

    def _resume_due(self, source: _Source) -> None:
        now = trio.current_time()
        for key in [key for key, at in source.resume_at.items() if at <= now]:
            del source.resume_at[key]
            source.fetcher.resume(source.partitions[key])

    def _idle_s(self, source: _Source) -> float:
        if not source.resume_at:
            return _IDLE_S
        return max(0.0, min(source.resume_at.values()) - trio.current_time())


def _tag(leader_id: int, *, throttled: bool) -> int:
    return leader_id << 1 | throttled
