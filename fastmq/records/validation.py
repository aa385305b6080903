"""The slow path of Produce: checks and changes that need the records themselves.

The hot path checks headers and checksums in C and takes the records as they are. Topics that are
compacted need a key in every record, and `compression.type` may ask for another codec than the
producer chose: both inflate the batch, with a limit.
"""

from typing import TYPE_CHECKING

from fastmq._native import records as native
from fastmq.compression import Codec, compress
from fastmq.limits import INFLATED_BATCH_BYTES_MAX
from fastmq.records.batch import RecordBatch

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["recompress", "validate_batch"]


def _whole(data: "Buffer", max_inflated: int) -> RecordBatch:
    return RecordBatch(native.BatchHeader(data), memoryview(data).cast("B"), 0, max_inflated)


def validate_batch(
    data: "Buffer", *, need_key: bool, max_inflated: int = INFLATED_BATCH_BYTES_MAX
) -> None:
    """Check the records of a client's batch.

    The header must have passed the checks of the append path (size, checksum, counts).

    Args:
        data: exactly one batch.
        need_key: the topic is compacted.
        max_inflated: bytes that the records may take.

    Raises:
        KafkaError: INVALID_RECORD; CORRUPT_MESSAGE or MESSAGE_TOO_LARGE from inflating.
    """
    batch = _whole(data, max_inflated)
    native.validate_records(batch.block(), batch.header.record_count, need_key=need_key)


def recompress(
    data: "Buffer",
    codec: int,
    *,
    level: int | None = None,
    max_inflated: int = INFLATED_BATCH_BYTES_MAX,
) -> "bytearray | None":
    """Compress the records of a client's batch as `compression.type` asks.

    Args:
        data: exactly one batch.
        codec: the one that it shall have.
        level: of the codec, None for its default.
        max_inflated: bytes that the records may take.

    Returns:
        A batch with the same header but for size, codec and checksum; None when the batch has this
        codec already, whatever its level.

    Raises:
        KafkaError: CORRUPT_MESSAGE or MESSAGE_TOO_LARGE from inflating.
    """
    batch = _whole(data, max_inflated)
    if batch.header.codec == codec:
        return None
    block = batch.block()
    payload = block if codec == Codec.NONE else compress(codec, block, level)
    return native.replace_payload(batch.header, payload, int(codec))
