"""What must hold at every moment, and at the end, seen from inside of the brokers.

While a run goes on: no high watermark goes back in a broker's life, one broker leads a partition in
an epoch, and what any broker has below its high watermark is the same everywhere and for ever. At
the end, when all is quiet: logs are equal, and hold what producers were promised, once, in order.
"""

from typing import Final

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.records import read_batches
from fastmq.testing.sim.cluster import SimBroker, SimCluster
from fastmq.testing.sim.produce import LogHistory
from fastmq.testing.sim.trace import Trace

__all__ = ["Inspector", "check_history"]

_READ_BYTES: Final = 1 << 20
# min.insync.replicas of the run.
_COPIES_MIN: Final = 2
# An answer may be so long on its way.
_ANSWER_S: Final = 4.0
# An answer is not longer under way while the network is calm.
_UNDER_WAY_S: Final = 0.05
Key = tuple[str, int]


class Inspector:
    """Looks into the brokers of a cluster.

    Args:
        cluster: the brokers.
        trace: of the run.
    """

    def __init__(self, cluster: SimCluster, trace: Trace) -> None:
        self._cluster = cluster
        self._trace = trace
        self._leaders: dict[tuple[str, int, int], int] = {}
        self._watermarks: dict[tuple[int, int, str, int], int] = {}
        # What those two speak of: a replica that went and came again is another one.
        self._handles: dict[tuple[int, int, str, int], Partition] = {}
        # Since when a broker has no session at the store.
        self._ended_at: dict[int, float] = {}
        # Of each partition: (last offset + 1, crc, epoch) of committed batches by first offset.
        self._committed: dict[Key, dict[int, tuple[int, int, int]]] = {}
        # How far each life's committed prefix has been compared.
        self._compared: dict[tuple[int, int, str, int], int] = {}

    def look(self, *, deep: bool) -> None:
        """Check what must hold now; `deep`: compare committed batches as well."""
        for node_id in self._cluster.brokers:
            if self._cluster.has_session(node_id):
                self._ended_at.pop(node_id, None)
            else:
                self._ended_at.setdefault(node_id, trio.current_time())
        for broker in self._cluster.running():
            assert broker.context is not None
            for handle in broker.context.topics.handles():
                if not handle.is_open():
                    continue
                try:
                    self._look_at(broker, handle, deep=deep)
                except PartitionError as exc:
                    self._trace.note("offline", f"{broker.host} {handle}: {exc}")

    def on_acknowledged(self, topic: str, index: int, offset: int) -> None:
        """Check that what is acknowledged by all has two copies, as durable as was promised."""
        running = self._cluster.running()
        if (
            len(running) < len(self._cluster.brokers)
            or trio.current_time() - self._cluster.fell_at < _ANSWER_S
        ):
            return  # the other copy may have been on the broker that is down
        copies = 0
        for broker in running:
            assert broker.context is not None
            found = broker.context.topics.get(topic)
            handle = None if found is None else found.handle(index)
            if handle is not None and handle.is_open():
                end = handle.synced() if self._cluster.flush == "ack" else handle.log_end()
                copies += end > offset
        if copies < _COPIES_MIN:
            self._trace.violation(
                f"partition {index}: offset {offset} is acknowledged with {copies} copies"
            )

    def on_accepted(self, node_id: int) -> None:
        """Check that who took records without waiting for others (acks=1) had a session then."""
        ended_at = self._ended_at.get(node_id)
        if ended_at is None or self._cluster.has_session(node_id):
            return
        if self._cluster.network.calm_since <= ended_at < trio.current_time() - _UNDER_WAY_S:
            self._trace.violation(
                f"broker {node_id} took records at {trio.current_time():.3f}, the session it led "
                f"by had ended at {ended_at:.3f}"
            )

    def _look_at(self, broker: SimBroker, handle: Partition, *, deep: bool) -> None:
        name = f"{handle.topic}-{handle.index}"
        if handle.is_leader():
            place = (handle.topic, handle.index, handle.leader_epoch())
            leader = self._leaders.setdefault(place, broker.node_id)
            if leader != broker.node_id:
                self._trace.violation(
                    f"{name}: brokers {leader} and {broker.node_id} both lead in epoch {place[2]}"
                )
        life = (broker.node_id, broker.lives, handle.topic, handle.index)
        watermark = handle.high_watermark()
        if self._handles.setdefault(life, handle) is not handle:
            self._handles[life] = handle
            self._watermarks.pop(life, None)
            self._compared.pop(life, None)
        before = self._watermarks.get(life, 0)
        if watermark < before:
            self._trace.violation(
                f"{name}: the high watermark of broker {broker.node_id} went back from {before} "
                f"to {watermark}"
            )
        if watermark > handle.log_end():
            self._trace.violation(
                f"{name}: the high watermark of broker {broker.node_id} is {watermark}, its log "
                f"ends at {handle.log_end()}"
            )
        self._watermarks[life] = watermark
        if deep:
            self._compare(broker, handle, life, watermark)

    def _compare(
        self, broker: SimBroker, handle: Partition, life: tuple[int, int, str, int], end: int
    ) -> None:
        """Compare what has come below the high watermark since the last look."""
        known = self._committed.setdefault((handle.topic, handle.index), {})
        at = self._compared.get(life, 0)
        while at < end:
            data = handle.read(at, _READ_BYTES, limit_offset=end)
            if not data:
                break
            for batch in read_batches(data):
                header = batch.header
                after = header.base_offset + header.last_offset_delta + 1
                found = (after, header.crc, header.leader_epoch)
                before = known.setdefault(header.base_offset, found)
                if before != found:
                    self._trace.violation(
                        f"{handle.topic}-{handle.index}: the committed batch at "
                        f"{header.base_offset} was {before} and is {found} at broker "
                        f"{broker.node_id}"
                    )
                if not batch.crc_ok():
                    self._trace.violation(
                        f"{handle.topic}-{handle.index}: the batch at {header.base_offset} of "
                        f"broker {broker.node_id} is damaged"
                    )
                at = after
        self._compared[life] = at

    # The end.

    def is_quiet(self, topics: set[str]) -> bool:
        """Whether every partition has a leader, and all its replicas have the same."""
        running = self._cluster.running()
        if len(running) < len(self._cluster.brokers):
            return False
        for broker in running:
            assert broker.context is not None
            for topic in broker.context.topics.image.topics.values():
                for state in topic.partitions:
                    if state.leader < 0 or set(state.isr) != set(state.replicas):
                        return False
        ends: dict[Key, set[tuple[int, int]]] = {}
        for broker in running:
            assert broker.context is not None
            for handle in broker.context.topics.handles():
                if handle.topic in topics:
                    found = ends.setdefault((handle.topic, handle.index), set())
                    found.add((handle.log_end(), handle.high_watermark()))
        return all(
            len(found) == 1 and next(iter(found))[0] == next(iter(found))[1]
            for found in ends.values()
        )

    def logs(self, topic: str) -> dict[int, dict[int, list[tuple[int, bytes]]]]:
        """Return (offset, value) of every record, by partition and broker."""
        found: dict[int, dict[int, list[tuple[int, bytes]]]] = {}
        for broker in self._cluster.running():
            assert broker.context is not None
            for handle in broker.context.topics.handles():
                if handle.topic == topic:
                    by_broker = found.setdefault(handle.index, {})
                    by_broker[broker.node_id] = _records(handle)
        return found


def _records(handle: Partition) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at, end = handle.log_start(), handle.log_end()
    while at < end:
        data = handle.read(at, _READ_BYTES, limit_offset=end)
        if not data:
            break
        for batch in read_batches(data):
            base = batch.header.base_offset
            found += [(base + n, bytes(r.value or b"")) for n, r in enumerate(batch.records())]
            at = base + batch.header.last_offset_delta + 1
    return found


def check_history(
    trace: Trace, history: LogHistory, logs: dict[int, dict[int, list[tuple[int, bytes]]]]
) -> None:
    """Compare what is in the logs with what clients were told."""
    for index, by_broker in sorted(logs.items()):
        first, *others = by_broker.items()
        for node_id, records in others:
            if records != first[1]:
                trace.violation(
                    f"partition {index}: the logs of brokers {first[0]} and {node_id} differ "
                    f"({_difference(first[1], records)})"
                )
        _check_partition(trace, history, index, dict(first[1]))


def _difference(one: list[tuple[int, bytes]], other: list[tuple[int, bytes]]) -> str:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return f"{left[0]} {left[1][:20]!r} and {right[0]} {right[1][:20]!r}"
    return f"{len(one)} and {len(other)} records"


def _check_partition(trace: Trace, history: LogHistory, index: int, log: dict[int, bytes]) -> None:
    where: dict[bytes, list[int]] = {}
    for offset, value in sorted(log.items()):
        where.setdefault(value, []).append(offset)
    last: dict[int, int] = {}
    sent: set[bytes] = set()
    for attempt in history.attempts.get(index, ()):
        sent.update(attempt.values)
        for number, value in enumerate(attempt.values):
            offsets = where.get(value, [])
            if len(offsets) > 1:
                trace.violation(f"partition {index}: {value[:20]!r} is there twice, at {offsets}")
            if attempt.offset < 0:
                continue
            if attempt.offset + number not in offsets:
                trace.violation(
                    f"partition {index}: acknowledged {value[:20]!r} at "
                    f"{attempt.offset + number}, found at {offsets}"
                )
        if attempt.offset >= 0:
            if attempt.offset <= last.get(attempt.stream, -1):
                trace.violation(
                    f"partition {index}: stream {attempt.stream} is out of order at "
                    f"{attempt.offset}"
                )
            last[attempt.stream] = attempt.offset
    for offset, value in history.seen.get(index, {}).items():
        if log.get(offset) != value:
            trace.violation(
                f"partition {index}: a reader saw {value[:20]!r} at {offset}, where "
                f"{log.get(offset, b'nothing')[:20]!r} is"
            )
    strangers = [value for value in where if value not in sent]
    if strangers:
        trace.violation(f"partition {index}: nobody has sent {strangers[0][:20]!r}")
