"""Changes of the cluster's metadata: what planners return and what watches bring.

`expected` is the revision at which the row must stand for the change to happen: 0 = it must not
exist, `ANY_REVISION` = no condition. Changes that come from a watch have no condition.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from fastmq.cluster.state import BrokerState, PartitionState

__all__ = [
    "ANY_REVISION",
    "Change",
    "ConfigKind",
    "DropBroker",
    "DropConfig",
    "DropController",
    "DropPartition",
    "DropSession",
    "DropTopic",
    "PutBroker",
    "PutConfig",
    "PutController",
    "PutPartition",
    "PutSession",
    "PutTopic",
]

ANY_REVISION: Final = -1


class ConfigKind(Enum):
    """Whose overrides a row holds. The broker row with the empty name is for all brokers."""

    TOPIC = "topic"
    BROKER = "broker"


class PutBroker(NamedTuple):
    """Register a broker, or replace its registration."""

    state: BrokerState
    expected: int


class DropBroker(NamedTuple):
    """Remove a registration."""

    broker_id: int
    expected: int


class PutSession(NamedTuple):
    """Show that a broker lives, as long as a lease does.

    Attributes:
        epoch: of its registration.
        lease: of the store; 0 in what a watch brings.
    """

    broker_id: int
    epoch: int
    lease: int
    expected: int


class DropSession(NamedTuple):
    """Say that a broker lives no more."""

    broker_id: int
    expected: int


class PutController(NamedTuple):
    """Make a broker the controller, as long as a lease lives."""

    broker_id: int
    lease: int
    expected: int


class DropController(NamedTuple):
    """Leave the cluster without a controller."""

    expected: int


class PutTopic(NamedTuple):
    """Make a topic exist, or change its number of partitions."""

    name: str
    topic_id: bytes
    partition_count: int
    expected: int


class DropTopic(NamedTuple):
    """Make a topic cease to exist."""

    name: str
    expected: int


class PutPartition(NamedTuple):
    """Create a partition's row, or replace its state."""

    topic_id: bytes
    partition: int
    state: PartitionState
    expected: int


class DropPartition(NamedTuple):
    """Remove a partition's row."""

    topic_id: bytes
    partition: int
    expected: int


class PutConfig(NamedTuple):
    """Replace all overrides of a topic or of broker(s)."""

    kind: ConfigKind
    name: str
    values: Mapping[str, str]
    expected: int


class DropConfig(NamedTuple):
    """Remove all overrides."""

    kind: ConfigKind
    name: str
    expected: int


Change: TypeAlias = (
    PutBroker
    | DropBroker
    | PutSession
    | DropSession
    | PutController
    | DropController
    | PutTopic
    | DropTopic
    | PutPartition
    | DropPartition
    | PutConfig
    | DropConfig
)
