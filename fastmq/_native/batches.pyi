"""Batches of records to be sent, and the deliveries of their records.

A batch is filled by `fastmq._native.producer`, taken by a sender, perhaps compressed, stamped with
its header (CRC included), sent as a buffer (`memoryview(batch)`), and completed. Its bytes go back
to the producer's memory when it is done and no view of them is left.
"""

from collections.abc import Callable, Generator
from typing import Any, Generic, Never, TypeVar, final

from typing_extensions import Buffer

_R = TypeVar("_R")

class Buffers:
    """The memory of one producer's batches."""

    def __init__(
        self,
        *,
        batch_size: int,
        memory_limit: int,
        clock: Callable[[], int],
        make_result: Callable[[str, int, int, int], object],
    ) -> None: ...
    @property
    def memory_used(self) -> int: ...  # bytes, as `buffer_memory` counts them
    @property
    def failed_records(self) -> int: ...  # so far
    @property
    def is_full(self) -> bool: ...
    wait_done: Callable[[Delivery[Any], float | None], None] | None
    await_done: Callable[[Delivery[Any]], Any] | None

@final
class Batch(Buffer):
    """Records of one partition and their header."""

    def __init__(self, *args: Never) -> None: ...
    def __len__(self) -> int: ...  # bytes, header included
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...  # -1: stands for records whose topic is not known yet
    @property
    def count(self) -> int: ...
    @property
    def codec(self) -> int: ...
    @property
    def is_done(self) -> bool: ...
    @property
    def created_ms(self) -> int: ...  # on the producer's clock
    @property
    def base_offset(self) -> int: ...  # -1: not known
    @property
    def append_time_ms(self) -> int: ...  # the broker's, -1 where records keep their own
    @property
    def error(self) -> Exception | None: ...
    producer_id: int
    epoch: int
    sequence: int
    attempts: int
    is_stamped: bool  # whether the header is that of these numbers
    @property
    def is_exported(self) -> bool: ...  # whether there are views of the bytes
    @property
    def has_successors(self) -> bool: ...  # whether its records have gone to other batches
    def records(self) -> memoryview:
        """The encoded records, for a codec."""
    def replace_records(self, payload: Buffer, codec: int) -> None:
        """Put compressed records in the place of plain ones; once."""
    def stamp(self) -> None:
        """Write the header with producer id, epoch, sequence and CRC. No view may be left."""
    def split(self, payload: Buffer) -> tuple[Batch, Batch]:
        """Two batches with a half of the records each, to be sent instead of this one.

        Args:
            payload: the records, inflated. There are two at least.
        """
    def complete(
        self, error: Exception | None, base_offset: int = -1, append_time_ms: int = -1
    ) -> list[tuple[int, Callable[..., object]]]:
        """Settle the fate of all records, once; whoever waits is told.

        Returns:
            [index, callback] of records that have one; the caller makes the calls.
        """
    def add_waiter(self, fn: Callable[[], object]) -> None:
        """Call `fn()` when the batch is done, or split; at once when it is done."""
    def remove_waiter(self, fn: Callable[[], object]) -> None: ...
    def result(self, index: int) -> Any:  # what make_result makes
        """The metadata of one record; the batch is done, without an error."""

@final
class Delivery(Generic[_R]):
    """The fate of one record. Awaitable with an async producer.

    A handle that costs nothing until it is asked: a batch and an index in it.
    """

    def __init__(self, *args: Never) -> None: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...  # -1 while the topic's metadata is not known
    def done(self) -> bool:
        """Whether the record is acknowledged or has failed."""
    def result(self, timeout: float | None = None) -> _R:
        """Wait at most `timeout` seconds, and return topic, partition and offset.

        With an async producer it does not wait (use `await`), and raises `RequestTimedOut` when
        the record is still under way.

        Raises:
            KafkaError: why the record was not delivered; `RequestTimedOut` when the time is up.
        """
    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait like `result`, and return the error or None."""
    def add_done_callback(self, fn: Callable[[Delivery[_R]], object]) -> None:
        """Call `fn(delivery)` in the client's thread or task when done; at once when it is."""
    def add_waiter(self, fn: Callable[[], object]) -> None: ...
    def remove_waiter(self, fn: Callable[[], object]) -> None: ...
    def __await__(self) -> Generator[Any, Any, _R]: ...
