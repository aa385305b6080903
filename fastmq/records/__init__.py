"""Record batches (magic 2) for everything outside the hot path: build, read, check, search.

The broker moves batches in C and never looks at single records. This package is for those who
must: coordinators that keep their state in topics, time searches, full validation for compacted
topics, recompression, the client, and `log dump`. Parsing and encoding is Cython
(`fastmq._native.records`); what is added here is compression with a limit, control records, and the
walk over several batches.

    for batch in read_batches(data):
        if not batch.header.is_control:
            for record in batch.records():
                ...

Reading checks structure, not checksums: what comes from the broker's own log was checked when it
was written; `RecordBatch.crc_ok` is there for what comes from elsewhere. Magic 0 and 1 are refused.
Errors are `KafkaError`: CORRUPT_MESSAGE, MESSAGE_TOO_LARGE (inflates beyond the limit),
INVALID_RECORD (a client's mistake), UNSUPPORTED_FOR_MESSAGE_FORMAT. Pure: no I/O, clock or state.
"""

from fastmq._native.records import BatchHeader, Record, RecordsBuilder
from fastmq.records.batch import NewRecord, RecordBatch, build_batch, read_batches
from fastmq.records.control import ControlRecord, ControlType, build_marker, read_control
from fastmq.records.search import find_max_timestamp, find_timestamp
from fastmq.records.validation import recompress, validate_batch

__all__ = [
    "BatchHeader",
    "ControlRecord",
    "ControlType",
    "NewRecord",
    "Record",
    "RecordBatch",
    "RecordsBuilder",
    "build_batch",
    "build_marker",
    "find_max_timestamp",
    "find_timestamp",
    "read_batches",
    "read_control",
    "recompress",
    "validate_batch",
]
