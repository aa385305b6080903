"""What a member asks of the consumer around it: partitions given and taken in steps. Pure."""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import FastmqError

__all__ = ["Host", "Step", "StepKind"]


class StepKind(Enum):
    """What happens to partitions in a step."""

    REVOKED = "revoked"
    ASSIGNED = "assigned"
    LOST = "lost"


class Step(NamedTuple):
    """Partitions that are given or taken, to be run by the program's next poll."""

    kind: StepKind
    names: tuple[TopicPartition, ...]
    done: Callable[[], None]


class Host(Protocol):
    """The consumer around a member."""

    def subscribed_topics(self) -> frozenset[str]:
        """Return the topics to subscribe to now."""

    def owned(self) -> tuple[TopicPartition, ...]:
        """Return the partitions that the consumer has."""

    def queue_step(self, step: Step) -> None:
        """Let the program's next poll run a step."""

    def give(self, names: Iterable[TopicPartition]) -> None:
        """Add partitions; they are fetched from once their step is done."""

    def take_away(self, names: Iterable[TopicPartition]) -> None:
        """Remove partitions."""

    def fail(self, error: FastmqError) -> None:
        """Let the program's next poll raise an error."""

    def ms_since_poll(self) -> int:
        """Return for how long the program has not polled; 0 while it waits in a poll."""
