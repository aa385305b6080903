"""The rows of the cluster image: brokers, partitions, topics. Immutable values."""

from collections.abc import Container
from typing import Final, NamedTuple

from fastmq.cluster.names import is_internal_topic

__all__ = [
    "NO_LEADER",
    "BrokerState",
    "ControllerState",
    "Endpoint",
    "PartitionState",
    "SessionState",
    "TopicState",
]

NO_LEADER: Final = -1


class Endpoint(NamedTuple):
    """Where clients of one listener reach a broker."""

    listener: str
    host: str
    port: int


class BrokerState(NamedTuple):
    """A registered broker.

    Attributes:
        epoch: larger at each registration; requests between brokers carry it.
        boot_id: identifies the run of the machine: with the same one, the page cache survived.
        host: names the machine, so that replicas go to distinct ones (`fastmq.host`).
        directories: ids of its usable log directories.
        fenced: registered but not to be given partitions or clients.
        cordoned: those of its directories that get no new partitions; what they have stays.
        revision: of the row.
    """

    id: int
    epoch: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    host: str = ""
    boot_id: str = ""
    directories: tuple[bytes, ...] = ()
    fenced: bool = False
    revision: int = 0
    cordoned: tuple[bytes, ...] = ()

    @property
    def is_cordoned(self) -> bool:
        """Whether it gets no new partitions, because none of its directories does."""
        return bool(self.directories) and set(self.directories) <= set(self.cordoned)

    def endpoint(self, listener: str) -> Endpoint | None:
        """Return where clients of a listener reach this broker."""
        for endpoint in self.endpoints:
            if endpoint.listener == listener:
                return endpoint
        return None


class SessionState(NamedTuple):
    """A broker lives.

    Attributes:
        epoch: of the registration that it is the session of.
        revision: of the row.
    """

    epoch: int
    revision: int


class ControllerState(NamedTuple):
    """Who is the controller; each controller has a revision of its own."""

    id: int
    revision: int


class PartitionState(NamedTuple):
    """Who has a partition.

    Attributes:
        leader: broker id, -1 when there is none.
        leader_epoch: larger at each election.
        partition_epoch: larger at each change of this row.
        replicas: broker ids, the preferred leader first. While the partition moves: where it goes,
            then what it leaves.
        isr: those of them that are in sync.
        directories: for each replica, the id of the log directory that holds it.
        revision: of the row.
        adding: replicas that a move brought in, until it is done.
        removing: replicas that leave when all that it brings in are in sync. One in both is of a
            move that another has replaced.
        elr: replicas that are not in sync but have all that is committed (KIP-966).
        last_known: who led last, while nobody does; -1 else.
    """

    leader: int
    leader_epoch: int
    partition_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    directories: tuple[bytes, ...]
    revision: int = 0
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    elr: tuple[int, ...] = ()
    last_known: int = NO_LEADER

    @property
    def is_moving(self) -> bool:
        """Whether a reassignment is under way."""
        return bool(self.adding or self.removing)

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas once no move is under way."""
        return tuple(replica for replica in self.replicas if replica not in self.removing)

    def without(self, leaving: Container[int]) -> "PartitionState":
        """Return the state with fewer replicas, and without those as in-sync or moving ones."""
        stay = [n for n, replica in enumerate(self.replicas) if replica not in leaving]
        return self._replace(
            replicas=tuple(self.replicas[n] for n in stay),
            directories=tuple(self.directories[n] for n in stay),
            isr=tuple(replica for replica in self.isr if replica not in leaving),
            adding=tuple(replica for replica in self.adding if replica not in leaving),
            removing=tuple(replica for replica in self.removing if replica not in leaving),
            elr=tuple(replica for replica in self.elr if replica not in leaving),
        )

    def directory_of(self, broker_id: int) -> bytes | None:
        """Return the id of the directory that holds a broker's replica."""
        for replica, directory in zip(self.replicas, self.directories, strict=True):
            if replica == broker_id:
                return directory
        return None


class TopicState(NamedTuple):
    """A topic with all its partitions."""

    name: str
    id: bytes
    partitions: tuple[PartitionState, ...]
    revision: int

    @property
    def is_internal(self) -> bool:
        """Whether the broker itself keeps its state in the topic."""
        return is_internal_topic(self.name)

    @property
    def replication_factor(self) -> int:
        """Replicas of the first partition, as Kafka counts."""
        return len(self.partitions[0].replicas) if self.partitions else 0
