"""Where new partitions go.

A `Placer` counts what each broker and each log directory has, once, and keeps counting while it
places, so that a request for thousands of topics is spread as evenly as one for thousands of
partitions. For each partition: the leader is the broker with the fewest leaders (then replicas),
each further replica goes where it shares the fewest machines, then the fewest racks, then to the
broker with the fewest replicas. Ties go round the brokers. The result depends on nothing else, so
the same image gives the same placement. Cordoned directories, and brokers that have no others, get
nothing (KIP-1066).
"""

from collections.abc import Sequence
from typing import NamedTuple

from fastmq.cluster.image import ClusterImage
from fastmq.cluster.state import BrokerState, PartitionState
from fastmq.errors import ErrorCode, KafkaError
from fastmq.ids import DIRECTORY_UNASSIGNED

__all__ = ["Placer", "cordoned_text"]


class _Load:
    """What one broker has."""

    __slots__ = ("broker", "directories", "leaders", "replicas", "turn")

    def __init__(self, broker: BrokerState, turn: int) -> None:
        self.broker = broker
        self.turn = turn
        self.leaders = 0
        self.replicas = 0
        self.directories = dict.fromkeys(
            (one for one in broker.directories if one not in broker.cordoned), 0
        )

    def take_directory(self) -> bytes:
        """Return the directory with the fewest replicas and count one more there."""
        if not self.directories:
            return DIRECTORY_UNASSIGNED
        directory = min(self.directories, key=self.directories.__getitem__)
        self.directories[directory] += 1
        return directory


class _Chosen(NamedTuple):
    replicas: tuple[int, ...]
    directories: tuple[bytes, ...]


class Placer:
    """Places partitions on the brokers of one image that are not fenced."""

    def __init__(self, image: ClusterImage) -> None:
        alive = sorted(
            (one for one in image.brokers.values() if not one.fenced and not one.is_cordoned),
            key=lambda broker: broker.id,
        )
        self._loads = {broker.id: _Load(broker, turn) for turn, broker in enumerate(alive)}
        # Never chosen here, but somebody may name one.
        self._others = {
            b.id: _Load(b, 0) for b in image.brokers.values() if b.id not in self._loads
        }
        self._turn = 0
        for topic in image.topics.values():
            for state in topic.partitions:
                self._count(state)

    def _count(self, state: PartitionState) -> None:
        for replica, directory in zip(state.replicas, state.directories, strict=True):
            load = self._loads.get(replica) or self._others.get(replica)
            if load is None:
                continue
            load.replicas += 1
            load.leaders += state.leader == replica
            if directory in load.directories:
                load.directories[directory] += 1

    @property
    def broker_count(self) -> int:
        """Brokers that can be given partitions."""
        return len(self._loads)

    def place(self, partition_count: int, replication_factor: int) -> list[PartitionState]:
        """Return the first states of new partitions.

        Raises:
            KafkaError: INVALID_REPLICATION_FACTOR, there are fewer brokers than replicas.
        """
        if not 0 < replication_factor <= len(self._loads):
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"replication factor {replication_factor} is not possible with "
                f"{len(self._loads)} available broker(s){self._missing()}: start more, or ask for "
                "fewer replicas",
            )
        return [_first_state(self._choose(replication_factor)) for _ in range(partition_count)]

    def take_directory(self, broker_id: int) -> bytes:
        """Return the directory that a further replica of a broker goes to, and count it there."""
        load = self._loads.get(broker_id) or self._others.get(broker_id)
        return DIRECTORY_UNASSIGNED if load is None else load.take_directory()

    def place_manually(self, replicas: Sequence[int]) -> PartitionState:
        """Return the first state of a partition whose replicas were named.

        Raises:
            KafkaError: INVALID_REPLICA_ASSIGNMENT, a broker is unknown or named twice, or none is.
        """
        if not replicas or len(set(replicas)) != len(replicas):
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                "each partition needs a list of distinct brokers",
            )
        unknown = [replica for replica in replicas if replica not in self._loads]
        if unknown:
            raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, self._why_not(unknown[0]))
        return _first_state(self._taken([self._loads[replica] for replica in replicas]))

    def _why_not(self, broker_id: int) -> str:
        load = self._others.get(broker_id)
        if load is None:
            known = ", ".join(map(str, sorted({*self._loads, *self._others})))
            return f"there is no broker {broker_id}; the cluster has {known or 'none'}"
        if load.broker.fenced:
            return f"broker {broker_id} does not serve now: start it, or name another"
        return cordoned_text(broker_id)

    def _missing(self) -> str:
        """Return which brokers there are besides, and why they are not available."""
        kinds = (
            ("not serving", [n for n, load in self._others.items() if load.broker.fenced]),
            ("cordoned", [n for n, load in self._others.items() if not load.broker.fenced]),
        )
        told = [f"{what}: {', '.join(map(str, sorted(ids)))}" for what, ids in kinds if ids]
        return f" ({'; '.join(told)})" if told else ""

    def _choose(self, replication_factor: int) -> _Chosen:
        size = len(self._loads)
        loads = self._loads.values()
        leader = min(
            loads, key=lambda load: (load.leaders, load.replicas, (load.turn - self._turn) % size)
        )
        self._turn = (leader.turn + 1) % size
        chosen = [leader]
        while len(chosen) < replication_factor:
            chosen.append(self._next_replica(chosen))
        return self._taken(chosen)

    def _next_replica(self, chosen: list[_Load]) -> _Load:
        hosts = [load.broker.host for load in chosen if load.broker.host]
        racks = [load.broker.rack for load in chosen if load.broker.rack]
        size = len(self._loads)
        return min(
            (load for load in self._loads.values() if load not in chosen),
            key=lambda load: (
                hosts.count(load.broker.host),
                racks.count(load.broker.rack or ""),
                load.replicas,
                (load.turn - self._turn) % size,
            ),
        )

    def _taken(self, chosen: list[_Load]) -> _Chosen:
        chosen[0].leaders += 1
        for load in chosen:
            load.replicas += 1
        return _Chosen(
            tuple(load.broker.id for load in chosen),
            tuple(load.take_directory() for load in chosen),
        )


def cordoned_text(broker_id: int) -> str:
    """Return why a broker gets no new partitions, and how that is undone."""
    return (
        f"broker {broker_id} is cordoned: it gets no new partitions "
        f"(fastmq cluster uncordon {broker_id})"
    )


def _first_state(chosen: _Chosen) -> PartitionState:
    return PartitionState(
        leader=chosen.replicas[0],
        leader_epoch=0,
        partition_epoch=0,
        replicas=chosen.replicas,
        isr=chosen.replicas,
        directories=chosen.directories,
    )
