"""What consumers get: records of fetched batches."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Never, final

from typing_extensions import Buffer

@final
class ConsumerRecord:
    """A record as a consumer gets it. Immutable.

    Attributes:
        topic, partition, offset: where it is.
        timestamp_ms: milliseconds since 1970; -1: none.
        timestamp_type: "CreateTime" (the producer's) or "LogAppendTime" (the broker's).
        leader_epoch: of the leader that appended it.
        key, value: bytes or None, or what the deserializers made of them.
        headers: pairs of name and bytes or None.
    """

    def __init__(self, *args: Never) -> None: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def timestamp_type(self) -> str: ...
    @property
    def leader_epoch(self) -> int: ...
    # Any: a deserializer may make anything of the bytes.
    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]: ...

def end_of(block: Buffer, offset: int) -> tuple[int, int, int]:
    """What the whole batches of a block amount to.

    Returns:
        The offset after the last one, or `offset`; their bytes; the leader epoch of the last one,
        or -1.
    """

@final
class Chunk:
    """What one fetch brought of one partition.

    Args:
        block: batches, the last one perhaps cut off.
        topic: of the partition.
        partition: its number.
        offset: records below are left out.
        inflate: `fastmq.compression.decompress`: called with codec, payload and the largest size.
        version: of the partition's state that it was fetched for.
        aborted: (first offset, producer id) of aborted transactions; None: read uncommitted.
        check_crc: whether checksums are compared.
        inflated_max: a compressed batch that grows larger is refused.
        key_deserializer: made of the key's bytes.
        value_deserializer: made of the value's bytes.
    """

    def __init__(
        self,
        block: Buffer,
        topic: str,
        partition: int,
        offset: int,
        inflate: Callable[[int, Buffer, int], Buffer],
        *,
        version: int = 0,
        aborted: Iterable[tuple[int, int]] | None = None,
        check_crc: bool = True,
        inflated_max: int = 67_108_864,
        key_deserializer: Callable[[bytes], Any] | None = None,
        value_deserializer: Callable[[bytes], Any] | None = None,
    ) -> None: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int:
        """The next offset to be read."""
    @property
    def version(self) -> int: ...
    @property
    def size(self) -> int: ...  # bytes
    def next_run(self) -> Run | None:
        """The records of the next batch that has any for the program; None at the end.

        Raises:
            KafkaError: CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION_TYPE, MESSAGE_TOO_LARGE. Whatever a
                deserializer raises, after the records before. The next call raises it again.
        """
    def next_records(self) -> list[ConsumerRecord]:
        """The same as a list; an empty one at the end."""

@final
class Run:
    """Records of one batch, made when they are asked for; never empty when a chunk returns it."""

    def __init__(self, *args: Never) -> None: ...
    @property
    def left(self) -> int:
        """How many were not handed out."""
    @property
    def is_begun(self) -> bool:
        """Whether any was."""
    @property
    def position(self) -> int:
        """The offset behind the last one that was; of the first record, if none was."""
    def rest(self) -> list[ConsumerRecord]:
        """What is left; it counts as handed out."""

@final
class RecordStream(Iterator[ConsumerRecord], AsyncIterator[ConsumerRecord]):
    """Records of runs, one at a time.

    Args:
        refill: waits for the next run and returns it; None ends the iteration.
        refill_later: the same for `async for`: returns an awaitable of the next run's first record.
    """

    def __init__(
        self,
        refill: Callable[[], Run | None] | None = None,
        refill_later: Callable[[], Awaitable[ConsumerRecord]] | None = None,
    ) -> None: ...
    @property
    def left(self) -> int:
        """How many records of the current run were not handed out."""
    @property
    def is_begun(self) -> bool:
        """Whether any was."""
    @property
    def position(self) -> int | None:
        """Of the current run; None: there is none."""
    def feed(self, run: Run | None) -> None:
        """Go on with another run, or with nothing."""
    def rest(self) -> list[ConsumerRecord]:
        """What is left of the current run; it counts as handed out."""
    def take(self) -> Run | None:
        """What is left as a run of its own that holds no fetched bytes; None: nothing is."""
    def __iter__(self) -> RecordStream: ...
    def __next__(self) -> ConsumerRecord: ...
    def __aiter__(self) -> RecordStream: ...
    def __anext__(self) -> Awaitable[ConsumerRecord]: ...
