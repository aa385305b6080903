"""Batches of internal topics: coordinators write and read single records."""

from collections.abc import Iterator

from fastmq.coordinator.effects import Record
from fastmq.records import RecordsBuilder, read_batches

__all__ = ["build_batch", "iter_records"]


def build_batch(records: list[Record], timestamp_ms: int) -> bytearray:
    """Encode records as one batch without compression."""
    builder = RecordsBuilder()
    for record in records:
        builder.append(timestamp_ms, record.key, record.value)
    return builder.finish()


def iter_records(batches: bytes) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Walk over key and value of each record of whole batches, control batches left out."""
    for batch in read_batches(batches):
        if not batch.header.is_control:
            for record in batch.records():
                yield record.key, record.value
