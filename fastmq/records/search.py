"""Searches inside batches for ListOffsets. The log finds the batch, this finds the record.

Source: KIP-79 (by time), KIP-734 (largest time). Records of control batches count: Kafka's do.
"""

from typing import TYPE_CHECKING

from fastmq._native import records as native
from fastmq.limits import INFLATED_BATCH_BYTES_MAX
from fastmq.records.batch import read_batches

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["find_max_timestamp", "find_timestamp"]


def find_timestamp(
    data: "Buffer",
    timestamp: int,
    min_offset: int = 0,
    max_inflated: int = INFLATED_BATCH_BYTES_MAX,
) -> tuple[tuple[int, int] | None, int]:
    """Find the first record at or after a time.

    Args:
        data: whole batches, in order.
        timestamp: ms.
        min_offset: records before it do not count: they were deleted though their batch is there.
        max_inflated: bytes that the records of one batch may take.

    Returns:
        (offset, timestamp) of the record, or None; and the offset after the last batch looked at,
        where the search goes on (`min_offset` when there was no batch).

    Raises:
        KafkaError: as `RecordBatch.block` and `read_batches`.
    """
    following = min_offset
    for batch in read_batches(data, max_inflated):
        header = batch.header
        following = header.last_offset + 1
        if header.max_timestamp < timestamp or following <= min_offset:
            continue
        found = native.find_timestamp(batch.block(), header, timestamp, min_offset)
        if found is not None:
            return found, following
    return None, following


def find_max_timestamp(
    data: "Buffer", max_inflated: int = INFLATED_BATCH_BYTES_MAX
) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record with the largest time, None when there is no record.

    Args:
        data: whole batches, in order.
        max_inflated: bytes that the records of one batch may take.

    Raises:
        KafkaError: as `RecordBatch.block` and `read_batches`.
    """
    best: tuple[int, int] | None = None
    for batch in read_batches(data, max_inflated):
        if best is not None and batch.header.max_timestamp <= best[1]:
            continue
        found = native.find_max_timestamp(batch.block(), batch.header)
        if found is not None and (best is None or found[1] > best[1]):
            best = found
    return best
