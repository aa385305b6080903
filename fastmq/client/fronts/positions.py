"""Positions in a partition as people give them: words, times, numbers."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from fastmq.client.admin.lag import COMMITTED
from fastmq.client.admin.results import EARLIEST, LATEST, MAX_TIMESTAMP
from fastmq.client.topic_partition import TopicPartition

__all__ = [
    "PartitionOffsets",
    "PartitionPositions",
    "Position",
    "each",
    "partition_name",
    "partition_names",
    "position_number",
]

Position: TypeAlias = datetime | int | Literal["earliest", "latest", "max-timestamp", "committed"]
"""A time (a datetime, which must know its time zone, or milliseconds since 1970), or a word."""

# Any: (topic, partition) or a TopicPartition; a mapping's type of keys is exact, and would refuse
# one of them.
PartitionOffsets: TypeAlias = Mapping[Any, int]
PartitionPositions: TypeAlias = Mapping[Any, Position]

_WORDS: Final[dict[str, int]] = {
    "earliest": EARLIEST,
    "latest": LATEST,
    "max-timestamp": MAX_TIMESTAMP,
    "committed": COMMITTED,
}


def position_number(at: Position) -> int:
    """Return a position as the machine takes it.

    Raises:
        ValueError: it is no position.
    """
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"{at!r} has no time zone; use datetime.now(UTC) or .astimezone()")
        return max(0, int(at.astimezone(UTC).timestamp() * 1000))
    if isinstance(at, str):
        if at not in _WORDS:
            raise ValueError(f"{at!r} is no position; there are: {', '.join(_WORDS)}, and times")
        return _WORDS[at]
    if at < 0:
        raise ValueError(f"{at} is no time in ms since 1970")
    return at


def partition_name(name: tuple[str, int]) -> TopicPartition:
    """Take a plain pair, too."""
    return TopicPartition(*name)


def partition_names(names: PartitionOffsets) -> dict[TopicPartition, int]:
    """Take a mapping from plain pairs, too."""
    return {TopicPartition(*name): value for name, value in names.items()}


def each(names: str | Iterable[str]) -> list[str]:
    """One name or several."""
    return [names] if isinstance(names, str) else list(names)
