"""Repair of what was found damaged in this broker's logs, from other replicas.

Below the high watermark all replicas hold the same batches. Who finds damage in its own first makes
it known: it leaves the in-sync set (and the lead, where it has it), so that nobody elects it over a
replica that has everything; and it does not fetch, so that it does not come back, until it is
whole. Then it reads the batches around the damage from the leader, or from another replica, and
the engine puts them in place (`fastmq/repair.h`). What nobody has is tried again now and then; such
a replica goes on as it is, because the others are no better.

One partition is repaired at a time, a chunk at a time, with a pause after each: that bounds memory,
and what it takes from the others.
"""

import errno
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import trio

from fastmq._native.core import Partition, PartitionError, Repair
from fastmq.cluster import IsrProposal, PartitionState
from fastmq.cluster.controller import live_brokers
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from fastmq.server.in_sync import AlterPartition, ControllerLink
from fastmq.server.peers import AddressOf, PeerCredentials, PeerLink

if TYPE_CHECKING:
    from fastmq.server.context import BrokerContext

__all__ = ["RepairCounts", "Repairs"]

logger = logging.getLogger(__name__)

Key = tuple[bytes, int]

_FETCH_VERSION: Final = 12
_CHUNK_BYTES: Final = 1 << 20
# The most that one answer may have: of batches that are larger than a chunk, or compacted.
_CHUNK_BYTES_MAX: Final = 64 << 20
_CHUNK_PAUSE_S: Final = 0.01
_CALL_TIMEOUT_S: Final = 10.0
# How long to wait for what the controller decided to come into effect.
_EFFECT_TIMEOUT_S: Final = 5.0
_EFFECT_LOOK_S: Final = 0.02
_RETREATS_MAX: Final = 5
# Whoever has left the lead of a partition leaves it not again so soon: the others may be damaged.
_RESIGN_AGAIN_S: Final = 60.0
# Between tries; afterwards the replica takes part again, damaged as it is.
_RETRY_S: Final = (0.2, 1.0, 5.0)
_RETRY_LATER_S: Final = 60.0
# Repairs that begin further and further back, then at the beginning of the file.
_BEGINNINGS_MAX: Final = 4


class RepairCounts(NamedTuple):
    """What was done since the start."""

    repaired_batches: int = 0
    repaired_bytes: int = 0
    failed_repairs: int = 0
    damaged_partitions: int = 0


@dataclass(slots=True)
class _Case:
    """A partition with damage."""

    is_held: bool = True
    tries: int = 0
    due: float = 0.0
    resigned_at: float = -_RESIGN_AGAIN_S


class _RepairError(Exception):
    """Why a repair from one replica did not succeed."""


class _NotCommittedError(_RepairError):
    """This replica does not know yet whether the batches are committed."""


class Repairs:
    """The task that repairs.

    Args:
        node_id: this broker.
        credentials: ours.
        address_of: where other brokers listen.
    """

    def __init__(self, node_id: int, credentials: PeerCredentials, address_of: AddressOf) -> None:
        self._node_id = node_id
        self._credentials = credentials
        self._address_of = address_of
        self._cases: dict[Key, _Case] = {}
        # Where nothing was found to replace: what is taken for damage there is something else.
        self._not_before: dict[Key, float] = {}
        self._news = trio.Event()
        self._counts = RepairCounts()
        self._context: BrokerContext
        self._link: ControllerLink

    @property
    def counts(self) -> RepairCounts:
        """What was done, and how many partitions are damaged now."""
        return self._counts._replace(damaged_partitions=len(self._cases))

    def is_held(self, topic_id: bytes, index: int) -> bool:
        """Return whether a replica is to stay out of sync because it is damaged."""
        case = self._cases.get((topic_id, index))
        return case is not None and case.is_held

    def on_corrupt(self, topic_id: bytes, index: int) -> None:
        """Take note of damage."""
        key = topic_id, index
        now = trio.current_time()
        if key not in self._cases:
            self._cases[key] = _Case(due=now)
        self._cases[key].due = max(now, self._not_before.get(key, now))
        self._news.set()

    async def run(self, context: "BrokerContext", decide: AlterPartition) -> None:
        """Repair until cancelled."""
        self._context = context
        self._link = ControllerLink(self._credentials, self._address_of, decide)
        try:
            for name, index in context.topics.damaged:
                await self._search(name, index)
            while True:
                self._news = trio.Event()
                now = trio.current_time()
                for key in [key for key, case in self._cases.items() if case.due <= now]:
                    await self._attend(key)
                due = min((case.due for case in self._cases.values()), default=now + 3600)
                with trio.move_on_at(max(due, now + _EFFECT_LOOK_S)):
                    await self._news.wait()
        finally:
            await self._link.close()

    async def _search(self, name: str, index: int) -> None:
        """Read a log that is damaged somewhere, to find where: `on_corrupt` is told of it."""
        topic = self._context.topics.get(name)
        handle = None if topic is None else topic.handle(index)
        offset = 0
        try:
            while handle is not None:
                offset = max(offset, handle.log_start())
                following, is_damaged = await trio.to_thread.run_sync(
                    handle.scrub, offset, _CHUNK_BYTES
                )
                if following == offset and not is_damaged:
                    return
                offset = following + is_damaged
                await trio.sleep(_CHUNK_PAUSE_S)
        except PartitionError as exc:
            logger.warning("%s-%d cannot be read: %s", name, index, exc)

    # ------------------------------------------------------------------------------ one partition

    def _find(self, key: Key) -> tuple[Partition, PartitionState] | None:
        topic = self._context.topics.by_id(key[0])
        handle = None if topic is None else topic.handle(key[1])
        if topic is None or handle is None or len(topic.states[key[1]].replicas) < 2:
            return None
        return handle, topic.states[key[1]]

    async def _attend(self, key: Key) -> None:
        case = self._cases[key]
        found = self._find(key)
        if found is None:
            del self._cases[key]
            self._not_before.pop(key, None)
            return
        handle, _ = found
        name = f"{handle.topic}-{handle.index}"
        try:
            await self._make_known(key, case)
            replaced = self._counts.repaired_batches
            reason = await self._heal(key, handle)
            self._not_before.pop(key, None)
            if self._counts.repaired_batches == replaced:
                self._not_before[key] = trio.current_time() + _RETRY_S[-1]
        except Exception:
            logger.exception("the repair of %s failed", name)
            reason = "an error of the broker"
        if not reason:
            del self._cases[key]
            logger.info("%s is whole again", name)
            self._context.topics.reassume(*key)
            return
        self._counts = self._counts._replace(failed_repairs=self._counts.failed_repairs + 1)
        if case.tries < len(_RETRY_S):
            case.due = trio.current_time() + _RETRY_S[case.tries]
        else:
            case.due = trio.current_time() + _RETRY_LATER_S
            if case.is_held:
                case.is_held = False
                logger.error(
                    "%s stays damaged: %s. It is tried again; once another replica has what is"
                    " missing here, it is repaired",
                    name,
                    reason,
                )
                self._context.topics.reassume(*key)
        case.tries += 1

    async def _make_known(self, key: Key, case: _Case) -> None:
        """Leave the in-sync set, and the lead, where others can do without this replica."""
        for _ in range(_RETREATS_MAX):
            found = self._find(key)
            if found is None or not case.is_held:
                return
            handle, state = found
            leads = state.leader == self._node_id
            live = live_brokers(self._context.topics.image)
            if self._node_id not in state.isr or len(live.intersection(state.isr)) < 2:
                return
            if leads and trio.current_time() - case.resigned_at < _RESIGN_AGAIN_S:
                return
            isr = tuple((broker, -1) for broker in state.isr if broker != self._node_id)
            proposal = IsrProposal(*key, state.leader_epoch, state.partition_epoch, isr)
            try:
                answers = await self._link.propose(self._context.controller_id, [proposal])
            except (KafkaError, ProtocolError) as exc:
                logger.info("the controller does not hear of the damage: %s", exc)
                return
            error = answers.get(key)
            if error is ErrorCode.NONE:
                what = "gives the lead away" if leads else "leaves the in-sync set"
                logger.warning("%s-%d %s until it is repaired", handle.topic, handle.index, what)
                case.resigned_at = trio.current_time()
                await self._wait_for_change(key, state)
                return
            if error not in (ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.FENCED_LEADER_EPOCH):
                return  # too few would be left: it is repaired as it is
            await self._wait_for_change(key, state)

    async def _wait_for_change(self, key: Key, before: PartitionState) -> None:
        with trio.move_on_after(_EFFECT_TIMEOUT_S):
            while (found := self._find(key)) is not None and found[1] == before:  # noqa: ASYNC110
                await trio.sleep(_EFFECT_LOOK_S)

    def _sources(self, state: PartitionState) -> Iterator[int]:
        """Return who may have the good batches: the leader first, then those in sync."""
        live = live_brokers(self._context.topics.image)
        ranked = [state.leader, *state.isr, *state.replicas]
        for broker in dict.fromkeys(ranked):
            if broker in live and broker != self._node_id:
                yield broker

    async def _heal(self, key: Key, handle: Partition) -> str:
        """Repair all known damage; return why some is left, empty when none is."""
        found = self._find(key)
        if found is None:
            return ""
        reason = "no other replica can be reached"
        for source in self._sources(found[1]):
            if not handle.damage():
                break
            try:
                await self._heal_from(source, handle)
            except _NotCommittedError as exc:
                self._cases[key].is_held = False  # it learns it by fetching
                self._context.topics.reassume(*key)
                return str(exc)
            except (KafkaError, ProtocolError, PartitionError, _RepairError) as exc:
                reason = f"broker {source}: {exc}"
                logger.info("%s-%d: repair from %s", handle.topic, handle.index, reason)
        return reason if handle.damage() else ""

    async def _heal_from(self, source: int, handle: Partition) -> None:
        address = self._address_of(source)
        if address is None:
            raise _RepairError("its address is not known")
        link = await PeerLink.open(*address, self._credentials)
        try:
            while damage := handle.damage():
                await self._replace(link, source, handle, *damage[0])
        finally:
            await link.close()

    async def _replace(
        self, link: PeerLink, source: int, handle: Partition, begin: int, end: int
    ) -> None:
        """Repair a range; it may reach over several files."""
        if begin >= handle.high_watermark():
            raise _NotCommittedError("whether it is committed is not known here yet")
        first, batches, size = begin, 0, 0
        while first < min(end, handle.high_watermark()):
            repair = await self._begin(link, handle, first)
            while not repair.has_reached_end and (repair.offset < end or not repair.ends_in_good):
                done, done_bytes = await self._step(link, handle, repair)
                batches, size = batches + done, size + done_bytes
                await trio.sleep(_CHUNK_PAUSE_S)
            if repair.offset <= first:
                raise _RepairError("it has nothing of what is missing here")
            first = repair.offset
        # Others that lie in what was gone over are whole, too.
        await trio.to_thread.run_sync(handle.repaired, begin, max(first, end))
        counts = self._counts
        self._counts = counts._replace(
            repaired_batches=counts.repaired_batches + batches,
            repaired_bytes=counts.repaired_bytes + size,
        )
        logger.warning(
            "%s-%d: replaced %d damaged batches (%d bytes) at offsets %d to %d by those of broker"
            " %d",
            handle.topic,
            handle.index,
            batches,
            size,
            begin,
            first - 1,
            source,
        )

    async def _begin(self, link: PeerLink, handle: Partition, offset: int) -> Repair:
        """Return a repair that has found its place."""
        before = offset
        for attempt in range(_BEGINNINGS_MAX):
            is_last = attempt == _BEGINNINGS_MAX - 1
            repair = await trio.to_thread.run_sync(
                Repair, handle, offset, -1 if is_last else before
            )
            if repair.is_certain:
                return repair
            try:
                await self._step(link, handle, repair)
            except PartitionError as exc:
                if exc.code != ErrorCode.CORRUPT_MESSAGE:
                    raise
            else:
                return repair
            before = repair.offset
        raise _RepairError("the place of the damage in the file cannot be told")

    async def _step(self, link: PeerLink, handle: Partition, repair: Repair) -> tuple[int, int]:
        """Fetch a chunk and put it in place."""
        size = _CHUNK_BYTES
        before = repair.offset, repair.has_reached_end
        while True:
            epoch = handle.leader_epoch()
            data = await self._fetch(link, handle, repair.offset, size)
            try:
                done = await trio.to_thread.run_sync(partial(repair.take, data, epoch))
            except PartitionError as exc:
                if exc.errno == errno.EAGAIN:
                    raise _RepairError("the log was changed meanwhile") from exc
                raise
            if (repair.offset, repair.has_reached_end) != before:
                return done
            if repair.is_certain and not data:
                raise _RepairError("it has no more of this log")
            if size >= _CHUNK_BYTES_MAX:
                raise _RepairError("it does not have the same batches")
            size = min(8 * size, _CHUNK_BYTES_MAX)

    async def _fetch(
        self, link: PeerLink, handle: Partition, offset: int, size: int
    ) -> bytes | bytearray | memoryview:
        """Return committed batches of another replica, as a client reads them."""
        asked = FetchPartition(
            partition=handle.index, fetch_offset=offset, partition_max_bytes=size
        )
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=size,
            topics=[FetchTopic(topic=handle.topic, partitions=[asked])],
        )
        answer = await link.call(request, _FETCH_VERSION, timeout_s=_CALL_TIMEOUT_S)
        response = cast("FetchResponse", answer)
        if response.error_code:
            raise KafkaError(ErrorCode(response.error_code), "the fetch is refused")
        part = response.responses[0].partitions[0]
        if part.error_code:
            raise KafkaError(ErrorCode(part.error_code), f"nothing is read at offset {offset}")
        return part.records or b""
