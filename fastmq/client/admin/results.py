"""What administrative operations take and return: frozen values. Pure.

Times are milliseconds since 1970 (UTC), sizes bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from fastmq.client.topic_partition import TopicPartition

__all__ = [
    "EARLIEST",
    "LATEST",
    "MAX_TIMESTAMP",
    "BrokerInfo",
    "ClusterDescription",
    "CommittedOffset",
    "ConfigSource",
    "ConfigValue",
    "CreatedTopic",
    "FoundOffset",
    "GroupDescription",
    "GroupListing",
    "GroupMember",
    "LogDir",
    "NewTopic",
    "OffsetMove",
    "PartitionDescription",
    "PartitionLag",
    "Reassignment",
    "ReplicaSize",
    "TopicDescription",
]

#: Positions that `list_offsets` takes beside timestamps; the numbers are the protocol's.
LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create.

    Attributes:
        name: 1 to 249 of a-z A-Z 0-9 . _ -
        partitions: None: the broker's `num.partitions`.
        replication_factor: None: the broker's `default.replication.factor`.
        config: settings by Kafka's names.
        assignments: broker ids per partition, the preferred leader first; instead of the counts.
    """

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    config: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    assignments: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class CreatedTopic:
    """A topic as it was made. Counts are -1 when the broker does not tell; old ones do not."""

    name: str
    topic_id: str
    partitions: int
    replication_factor: int
    existed: bool = False


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """A partition. `leader` is -1 while it has none."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...]

    @property
    def is_under_replicated(self) -> bool:
        """Whether a replica is not in sync."""
        return len(self.isr) < len(self.replicas)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic with its partitions, in order."""

    name: str
    topic_id: str
    is_internal: bool
    partitions: tuple[PartitionDescription, ...]

    @property
    def replication_factor(self) -> int:
        """Replicas of the first partition; 0 when there are none."""
        return len(self.partitions[0].replicas) if self.partitions else 0


class ConfigSource(Enum):
    """Where the value of a setting comes from; START: the broker's file, environment, options."""

    UNKNOWN = 0
    TOPIC = 1
    BROKER = 2
    ALL_BROKERS = 3
    START = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True)
class ConfigValue:
    """A setting. `value` is None when it is sensitive or has none."""

    name: str
    value: str | None
    source: ConfigSource
    is_read_only: bool
    is_sensitive: bool
    documentation: str | None

    @property
    def is_default(self) -> bool:
        """Whether nobody has set it."""
        return self.source is ConfigSource.DEFAULT


@dataclass(frozen=True, slots=True)
class GroupListing:
    """A group in a list."""

    group: str
    state: str
    type: str
    protocol_type: str
    coordinator: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member and the partitions that it has."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group; `assignor` is empty while it is not settled."""

    group: str
    state: str
    protocol_type: str
    assignor: str
    members: tuple[GroupMember, ...]


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """Where a group goes on reading: `offset` is that of the next record."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class FoundOffset:
    """The answer for a position: -1 for both when no record is that young."""

    offset: int
    timestamp: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far a group is behind in a partition.

    Attributes:
        committed: None when the group has committed nothing there.
        lag: records from there, or from the first one, to the end.
        member_id, client_id, host: of the member that has the partition, empty when nobody does.
    """

    topic: str
    partition: int
    committed: int | None
    start: int
    end: int
    lag: int
    member_id: str = ""
    client_id: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """A change of a committed offset; `before` is None when there is none."""

    topic: str
    partition: int
    before: int | None
    after: int


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A broker and where it listens."""

    node_id: int
    host: str
    port: int
    rack: str | None
    is_fenced: bool = False


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The cluster; `controller_id` is -1 when it has none."""

    cluster_id: str
    controller_id: int
    brokers: tuple[BrokerInfo, ...]


@dataclass(frozen=True, slots=True)
class Reassignment:
    """A move that is under way: `adding` catch up, and `removing` leave when they have."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplicaSize:
    """What a partition takes on the disk, and how many records it lags behind its leader."""

    topic: str
    partition: int
    size: int
    offset_lag: int


@dataclass(frozen=True, slots=True)
class LogDir:
    """A log directory of a broker. Sizes of the disk are -1 when unknown.

    A cordoned one gets no new partitions; brokers older than Kafka 4.3 do not tell.
    """

    node_id: int
    path: str
    error: str
    total_bytes: int
    usable_bytes: int
    replicas: tuple[ReplicaSize, ...]
    is_cordoned: bool = False
