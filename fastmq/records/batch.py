"""Whole batches: building one from records, and walking over several in a row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fastmq._native.records import (
    BATCH_HEADER_SIZE,
    BatchHeader,
    Record,
    RecordsBuilder,
    read_records,
)
from fastmq.compression import Codec, compress, decompress
from fastmq.errors import ErrorCode, KafkaError
from fastmq.limits import INFLATED_BATCH_BYTES_MAX

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["NewRecord", "RecordBatch", "build_batch", "read_batches"]

ATTRIBUTE_TRANSACTIONAL: Final = 0x10
ATTRIBUTE_CONTROL: Final = 0x20
CRC_START: Final = 21


class NewRecord(NamedTuple):
    """A record to be written."""

    key: "Buffer | None"
    value: "Buffer | None"
    headers: "tuple[tuple[str, Buffer | None], ...]" = ()
    timestamp: int = -1  # ms; -1: none


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """One batch where it lies.

    Attributes:
        header: its numbers.
        data: all its bytes, borrowed from the buffer that was read.
        position: of its first byte in that buffer.
        max_inflated: bytes that its records may take.
    """

    header: BatchHeader
    data: memoryview
    position: int = 0
    max_inflated: int = INFLATED_BATCH_BYTES_MAX

    @property
    def payload(self) -> memoryview:
        """The record bytes as they are stored, borrowed."""
        return self.data[BATCH_HEADER_SIZE:]

    def crc_ok(self) -> bool:
        """Whether the checksum is right."""
        from fastmq._native.core import crc32c  # loads the engine, which readers do without

        return crc32c(self.data[CRC_START:]) == self.header.crc

    def block(self) -> "Buffer":
        """The record bytes, inflated.

        Raises:
            KafkaError: CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, UNSUPPORTED_COMPRESSION_TYPE.
        """
        codec = self.header.codec
        if codec == Codec.NONE or not self.header.record_count:
            return self.payload  # compaction leaves empty batches that still name a codec
        return decompress(codec, self.payload, self.max_inflated)

    def records(self) -> list[Record]:
        """The records, in order; raises as `block`."""
        return read_records(self.block(), self.header)


def read_batches(
    data: "Buffer",
    max_inflated: int = INFLATED_BATCH_BYTES_MAX,
    *,
    allow_partial: bool = False,
) -> Iterator[RecordBatch]:
    """Walk over the batches in `data`.

    Args:
        data: batches back to back; kept alive by what is yielded.
        max_inflated: bytes that the records of one batch may take.
        allow_partial: stop in silence at a last batch that is cut short, as the answer to a Fetch
            may be.

    Raises:
        KafkaError: CORRUPT_MESSAGE, UNSUPPORTED_FOR_MESSAGE_FORMAT.
    """
    view = memoryview(data).cast("B")
    position = 0
    while position < len(view):
        left = len(view) - position
        if allow_partial and left < BATCH_HEADER_SIZE:
            return
        header = BatchHeader(view, position)
        if header.size > left:
            if allow_partial:
                return
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "the last batch is cut short")
        yield RecordBatch(header, view[position : position + header.size], position, max_inflated)
        position += header.size


def build_batch(
    records: Iterable[NewRecord],
    *,
    codec: int = Codec.NONE,
    level: int | None = None,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytearray:
    """Encode records as one batch, with its checksum.

    Args:
        records: one at least.
        codec: a `Codec`; the records are compressed as one block.
        level: of the codec, None for its default.
        base_offset: of the first record; the broker assigns its own.
        leader_epoch: the broker writes its own.
        producer_id: with epoch and sequence, of an idempotent producer; -1 for none.
        producer_epoch: see there.
        base_sequence: see there.
        transactional: part of a transaction.
        control: control records, which only brokers write.

    Raises:
        ValueError: no records.
        OverflowError: more than 2 GiB.
    """
    builder = RecordsBuilder()
    for key, value, headers, timestamp in records:
        builder.append(timestamp, key, value, headers)
    if not builder.count:
        raise ValueError("a batch needs a record")
    attributes = int(codec)
    if transactional:
        attributes |= ATTRIBUTE_TRANSACTIONAL
    if control:
        attributes |= ATTRIBUTE_CONTROL
    return builder.finish(
        payload=None if codec == Codec.NONE else compress(codec, builder.records(), level),
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        attributes=attributes,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
    )
