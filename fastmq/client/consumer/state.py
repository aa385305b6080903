"""What a consumer knows of the partitions it has, and of what it subscribes to. Pure.

A partition's state is replaced as a whole when it is assigned anew, and gets another `version` at
each seek; what was fetched for an older version is dropped. So a chunk that is on its way to the
program while the group takes the partition away is never delivered late.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastmq.client.topic_partition import TopicPartition

if TYPE_CHECKING:
    from fastmq._native.consumer import Chunk

__all__ = ["PartitionState", "Subscription"]

# Of the elections while records are ahead of the program; who commits what is older tells none.
_EPOCHS_KEPT = 16


@dataclass(slots=True, eq=False)
class PartitionState:
    """A partition that the consumer has.

    Attributes:
        name: topic and partition.
        fetch_offset: the next offset to ask for; -1: not resolved yet.
        consumed: the offset after the last record that the program is done with, as far as it is
            known; -1: none yet. This is what is committed automatically.
        delivered: the next offset that the program gets.
        epoch: leader epoch of the last record before `fetch_offset`; -1: not known.
        checked_epoch: of the leader that is known to have that record.
        version: changes with each seek.
        is_live: False once the partition is taken away.
        is_paused: by the program.
        chunks_ahead, bytes_ahead: fetched and not taken by the program.
        served: numbers the partitions in the order in which they got something last.
        is_fetching: a fetch is under way.
        retry_at_ms: not asked for before, after an error.
        reset_to: position that is being looked up (a time or ListOffsets' negative numbers).
        preferred: the replica that the leader wants to be read instead of it (KIP-392); -1: none.
        preferred_until_ms: then the leader is asked again.
        high_watermark, log_start: as the last answer told, -1: none yet.
        epochs: (offset, leader epoch) of what was fetched: records below the offset, from the
            entry before on, are of that epoch or, where an answer had several, of one before it.
    """

    name: TopicPartition
    fetch_offset: int = -1
    consumed: int = -1
    delivered: int = -1
    epoch: int = -1
    checked_epoch: int = -1
    version: int = 0
    is_live: bool = True
    is_paused: bool = False
    chunks_ahead: int = 0
    bytes_ahead: int = 0
    served: int = 0
    is_fetching: bool = False
    is_resolving: bool = False
    retry_at_ms: int = 0
    reset_to: int | None = None
    preferred: int = -1
    preferred_until_ms: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start: int = -1
    epochs: tuple[tuple[int, int], ...] = ()

    def seek(self, offset: int, epoch: int = -1) -> None:
        """Go on at an offset; what was fetched before does not count any more.

        Args:
            offset: of the next record.
            epoch: leader epoch of the record before; -1: not known.
        """
        self.version += 1
        self.epoch = epoch
        self.epochs = ((offset, epoch),)
        self.fetch_offset = self.delivered = self.consumed = offset
        self.reset_to = None
        self.is_resolving = False
        self.retry_at_ms = 0

    def reset(self, position: int) -> None:
        """Go on where a position (EARLIEST, LATEST, a time) turns out to be."""
        self.version += 1
        self.epochs = ()
        self.fetch_offset = self.delivered = self.consumed = self.epoch = -1
        self.reset_to = position
        self.is_resolving = False

    def fetched(self, end: int, epoch: int) -> None:
        """Go on behind what was fetched, whose last records are of this leader epoch."""
        self.fetch_offset, self.epoch = end, epoch
        before = self.epochs
        if len(before) > 1 and before[-1][1] == epoch:
            before = before[:-1]
        self.epochs = (*before[-_EPOCHS_KEPT:], (end, epoch))

    def epoch_before(self, offset: int) -> int:
        """Return a leader epoch for a commit of `offset`; -1: not known.

        It is never older than that of the record before: a leader that has this one has that
        record, too, or the log was truncated.
        """
        first = self.epochs[0][0] if self.epochs else offset + 1
        if offset < first:
            return -1
        return next((epoch for end, epoch in self.epochs if offset <= end), -1)

    def takes(self, chunk: "Chunk") -> bool:
        """Whether what was fetched is still wanted."""
        return self.is_live and chunk.version == self.version


@dataclass(slots=True)
class Subscription:
    """What the program wants to read.

    Attributes:
        topics: by name.
        pattern: all topics whose names match as a whole, instead.
    """

    topics: frozenset[str] = field(default_factory=frozenset)
    pattern: re.Pattern[str] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is subscribed to."""
        return not self.topics and self.pattern is None
