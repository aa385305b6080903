"""Record batches, magic 2: read a header, iterate over records, build.

Codecs are not here: a compressed batch is read by inflating its payload first, and built by handing
the deflated payload to `RecordsBuilder.finish` (`fastmq.records` does both). Reading checks no CRC;
building asks `fastmq._native.core` for one.
"""

from collections.abc import Iterable
from typing import Final, Never, final

from typing_extensions import Buffer

BATCH_HEADER_SIZE: Final[int]
RECORD_SIZE_MIN: Final[int]

@final
class BatchHeader:
    """The 61 bytes before the records. Immutable."""

    def __new__(cls, data: Buffer, position: int = 0) -> BatchHeader:
        """Read the header at `position`; the batch itself may reach beyond `data`.

        Raises:
            KafkaError: UNSUPPORTED_FOR_MESSAGE_FORMAT for magic 0 and 1, CORRUPT_MESSAGE when fewer
                than 61 bytes follow or a number is impossible.
        """
    @property
    def base_offset(self) -> int: ...
    @property
    def batch_length(self) -> int: ...  # as stored: bytes after the field
    @property
    def leader_epoch(self) -> int: ...
    @property
    def magic(self) -> int: ...
    @property
    def crc(self) -> int: ...
    @property
    def attributes(self) -> int: ...
    @property
    def last_offset_delta(self) -> int: ...
    @property
    def base_timestamp(self) -> int: ...  # ms
    @property
    def max_timestamp(self) -> int: ...  # ms
    @property
    def producer_id(self) -> int: ...  # -1: none
    @property
    def producer_epoch(self) -> int: ...
    @property
    def base_sequence(self) -> int: ...
    @property
    def record_count(self) -> int: ...
    @property
    def size(self) -> int: ...  # the whole batch in bytes
    @property
    def codec(self) -> int: ...  # 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd
    @property
    def is_log_append_time(self) -> bool: ...
    @property
    def is_transactional(self) -> bool: ...
    @property
    def is_control(self) -> bool: ...
    @property
    def has_delete_horizon(self) -> bool: ...
    @property
    def last_offset(self) -> int: ...

@final
class Record:
    """One record, with its offset and time worked out. Immutable; made by `read_records`."""

    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...  # ms; -1: none
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """Keys are UTF-8; bytes that are not come as surrogate escapes and can be written back."""

def read_records(block: Buffer, header: BatchHeader) -> list[Record]:
    """The records of an uncompressed or inflated block, in order.

    Raises:
        KafkaError: CORRUPT_MESSAGE when the block does not hold exactly the records it should.
    """

def find_timestamp(
    block: Buffer, header: BatchHeader, timestamp: int, min_offset: int = 0
) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record at or after both, None when there is none.

    Raises:
        KafkaError: CORRUPT_MESSAGE as `read_records`.
    """

def find_max_timestamp(block: Buffer, header: BatchHeader) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record with the largest timestamp, None when empty."""

def validate_records(block: Buffer, record_count: int, *, need_key: bool) -> None:
    """Check what clients send: offset deltas from 0, lengths, headers, keys where asked.

    Raises:
        KafkaError: INVALID_RECORD with the reason.
    """

@final
class RecordsBuilder:
    """Collects encoded records and puts a batch header before them."""

    @property
    def count(self) -> int: ...
    @property
    def size(self) -> int: ...  # bytes of the batch so far, header included, not compressed
    @property
    def base_timestamp(self) -> int: ...  # of the first record; -1 while empty
    @property
    def max_timestamp(self) -> int: ...  # largest so far; -1 while empty
    def append(
        self,
        timestamp: int,
        key: Buffer | None,
        value: Buffer | None,
        headers: Iterable[tuple[str | Buffer, Buffer | None]] = (),
        offset_delta: int = -1,
    ) -> int:
        """Encode one record; returns its offset delta, which is one more than the last unless given
        (compaction leaves gaps; deltas go up).

        Raises:
            ValueError: the delta does not go up.
            OverflowError: the batch would not fit in 2 GiB.
        """
    def records(self) -> bytes:
        """A copy of the encoded records, for a codec to deflate."""
    def finish(
        self,
        *,
        payload: Buffer | None = None,
        base_offset: int = 0,
        leader_epoch: int = -1,
        attributes: int = 0,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
        max_timestamp: int | None = None,
        last_offset_delta: int | None = None,
    ) -> bytearray:
        """A whole batch with its CRC. `payload` replaces the records by deflated ones (the codec
        goes into `attributes`). The builder stays as it is."""

def replace_payload(header: BatchHeader, payload: Buffer, codec: int) -> bytearray:
    """A batch with this header but other record bytes and codec, and a new CRC."""
