"""What the sender knows about one partition: batches on their way, sequence numbers.

`sent` holds the batches that were sent and whose fate is open, in their order. Those of them that
are in `flying` wait for an answer; the others are to be sent again. While there are any of these,
one batch is in flight at a time, the first of them, so that order is kept whatever fails. The same
holds until the first batch of a producer id and epoch is acknowledged: a broker that has seen
nothing of a producer takes any sequence, so also a second batch whose predecessor it has refused.

**Sequence numbers** (KIP-98, KIP-360). A batch keeps epoch and sequence for all its attempts, so
that the broker recognizes it. When the broker refuses a sequence (or does not know the producer any
more) of a batch that was sent with nothing before it under way, it cannot have that batch nor a
later one: the partition goes on in a higher epoch with sequence 0, and what is to be sent again is
numbered anew. The epoch is the partition's own, as the broker's producer state is. Gaps that
expired or refused batches leave are dealt with in the same way.
"""

from typing import TYPE_CHECKING, Final

from fastmq._native.batches import Batch
from fastmq._native.producer import PartitionQueue

if TYPE_CHECKING:
    from fastmq.client.timers import Timer

__all__ = ["EPOCH_MAX", "Partition"]

EPOCH_MAX: Final = (1 << 15) - 1
_SEQUENCE_MASK: Final = (1 << 31) - 1


class Partition:
    """Batches and numbers of one partition."""

    __slots__ = (
        "epoch",
        "flying",
        "head",
        "index",
        "is_confirmed",
        "needs_epoch",
        "next_sequence",
        "producer_id",
        "queue",
        "retry_at_ms",
        "sent",
        "timer",
        "topic",
    )

    def __init__(self, queue: PartitionQueue) -> None:
        self.queue = queue
        self.topic = queue.topic
        self.index = queue.partition
        self.sent: list[Batch] = []
        self.flying: set[Batch] = set()
        self.head: Batch | None = None
        self.producer_id = -1
        self.epoch = -1
        self.next_sequence = 0
        self.needs_epoch = False
        self.is_confirmed = False
        self.retry_at_ms = 0
        self.timer: Timer | None = None

    @property
    def is_retrying(self) -> bool:
        """Whether something is to be sent again."""
        return len(self.sent) > len(self.flying)

    def begin(self, producer_id: int, epoch: int) -> None:
        """Number what comes from 0 on for this producer id and epoch, and what is sent again."""
        assert not self.flying
        self.producer_id, self.epoch = producer_id, epoch
        self.next_sequence = 0
        self.needs_epoch = False
        self.is_confirmed = False
        for batch in self.sent:
            self.number(batch)

    def number(self, batch: Batch) -> None:
        """Give a batch the next sequence."""
        batch.producer_id, batch.epoch = self.producer_id, self.epoch
        batch.sequence = self.next_sequence
        batch.is_stamped = False
        # After 2^31 - 1 comes 0.
        self.next_sequence = (self.next_sequence + batch.count) & _SEQUENCE_MASK

    def depart(self, batch: Batch) -> None:
        """Take note that a batch is sent, for the first time or again."""
        if not self.flying:
            self.head = batch
        if batch not in self.sent:
            self.sent.append(batch)
        self.flying.add(batch)
        batch.attempts += 1

    def land(self, batch: Batch) -> bool:
        """Take note of an answer; returns whether nothing before the batch was under way."""
        self.flying.discard(batch)
        was_head = self.head is batch
        if was_head:
            self.head = None
        return was_head

    def settle(self, batch: Batch) -> None:
        """Forget a batch whose fate is known."""
        if batch in self.sent:
            self.sent.remove(batch)

    def confirm(self, batch: Batch) -> None:
        """Take note that the broker has a batch, so that it knows what comes next."""
        if (batch.producer_id, batch.epoch) == (self.producer_id, self.epoch):
            self.is_confirmed = True

    def take_back(self, batch: Batch) -> None:
        """Use the sequence of a batch that the broker refused again, if it was the last one."""
        if self.sent and self.sent[-1] is batch and batch.epoch == self.epoch:
            self.next_sequence = batch.sequence

    def replace(self, batch: Batch, halves: tuple[Batch, Batch]) -> None:
        """Send two halves instead of a batch; they share its sequence numbers."""
        at = self.sent.index(batch)
        first, second = halves
        for half in halves:
            half.producer_id, half.epoch = batch.producer_id, batch.epoch
            half.attempts = batch.attempts
        if batch.sequence >= 0:
            first.sequence = batch.sequence
            second.sequence = (batch.sequence + first.count) & _SEQUENCE_MASK
        self.sent[at : at + 1] = [first, second]
