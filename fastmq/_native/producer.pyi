"""The producer's buffers: records are encoded into the batches of their partitions as they come.

`Accumulator.produce` is the whole path of a record in the application's thread: no lock, no other
thread, no Python object but the delivery. A sender takes batches out: `take_dirty` tells which
queues got a new one. Records of a topic whose partitions are not known yet are held back and
appended, in order, by `set_partitions`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Never, TypeAlias, final

from typing_extensions import Buffer

from fastmq._native.batches import Batch, Buffers, Delivery
from fastmq.errors import KafkaError

Headers: TypeAlias = (
    Mapping[str, Buffer | str | None] | Iterable[tuple[str | Buffer, Buffer | str | None]]
)
Callback: TypeAlias = Callable[[Exception | None, Any], object]

def murmur2(data: bytes) -> int:
    """The hash that Java's default partitioner takes of a key, as an unsigned 32-bit number."""

@final
class PartitionQueue:
    """The batches of one partition that nobody has taken yet."""

    def __init__(self, *args: Never) -> None: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def full_count(self) -> int: ...  # batches that no record will be added to
    @property
    def is_empty(self) -> bool: ...
    state: Any  # of whoever sends
    def peek(self) -> Batch | None:
        """The oldest batch; it may still grow."""
    def take(self) -> Batch | None:
        """Remove and return the oldest batch; nothing is added to it any more."""
    def batches(self) -> list[Batch]: ...

@final
class Accumulator(Buffers):
    """All batches of one producer.

    Args:
        batch_size: bytes of a batch, header included; a larger record gets one of its own.
        record_size_max: bytes of a record; more is refused.
        memory_limit: bytes of all batches.
        wake: called when there is something new for the sender; must not block.
        on_topic: called with the name of a topic that is used for the first time.
        clock: milliseconds for the age of batches.
        choose: returns a random number below its argument.
        make_result: called with topic, partition, offset and append time for `Delivery.result`.
        partitioner: called with topic, key and number of partitions; returns a partition, or None
            for the default.
        key_serializer, value_serializer: called with the key or value; return bytes or None.
        wall_clock: milliseconds since 1970 for timestamps; None: the system's clock.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        record_size_max: int,
        memory_limit: int,
        wake: Callable[[], object],
        on_topic: Callable[[str], object],
        clock: Callable[[], int],
        choose: Callable[[int], int],
        make_result: Callable[[str, int, int, int], object],
        partitioner: Callable[[str, bytes | None, int], int | None] | None = None,
        key_serializer: Callable[[Any], Buffer | str | None] | None = None,
        value_serializer: Callable[[Any], Buffer | str | None] | None = None,
        wall_clock: Callable[[], int] | None = None,
    ) -> None: ...

    wait_room: Callable[[int], None] | None  # gets `memory_used` as it was without room

    def produce(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        *,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        on_delivery: Callback | None = None,
    ) -> Delivery[Any]:
        """Append one record; see `fastmq.Producer.produce`."""
    @property
    def is_starved(self) -> bool: ...  # somebody found no room since `room_made`
    def room_made(self) -> None: ...
    def take_dirty(self) -> list[PartitionQueue]:
        """The queues that got a new batch since the last time."""
    def refuse(self, kind: type[Exception], text: str) -> None:
        """Let `produce` raise `kind(text)` from now on."""
    def pending_batches(self) -> list[Batch]:
        """What stands for the records whose topics are not known yet."""
    def set_partitions(
        self, name: str, count: int, available: list[int]
    ) -> list[tuple[Callback | None, KafkaError]]:
        """Tell how many partitions a topic has, and which of them have a leader.

        Returns:
            (callback, error) of records that waited for this and turn out to be impossible.
        """
    def fail_pending(self, name: str, error: Exception) -> list[tuple[int, Callback]]:
        """Give up the records that wait for a topic; returns [index, callback] as `complete`."""
