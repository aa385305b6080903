"""Control records: the marks that brokers write between the records of applications.

A control batch holds one record, takes one offset and is never given to an application. Key:
version int16, type int16. Value of a transaction marker: version int16, coordinator epoch int32;
clients choke when it is missing. Source: KIP-98, "Control Messages"; KIP-595 and KIP-630 for the
types above commit.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from fastmq._native.records import Record
from fastmq.errors import ErrorCode, KafkaError
from fastmq.records.batch import NewRecord, build_batch

__all__ = ["ControlRecord", "ControlType", "build_marker", "read_control"]

_KEY = struct.Struct(">hh")
_MARKER_VALUE = struct.Struct(">hi")
_VERSION = 0


class ControlType(IntEnum):
    """What a control record says."""

    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """A control record, read.

    Attributes:
        type: a `ControlType`, or a number that later versions of the protocol may define.
        coordinator_epoch: of the transaction coordinator that wrote a marker; -1 for other types.
    """

    type: int
    coordinator_epoch: int = -1


def build_marker(
    *,
    commit: bool,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    timestamp_ms: int,
) -> bytearray:
    """The batch that ends a transaction on one partition."""
    key = _KEY.pack(_VERSION, ControlType.COMMIT if commit else ControlType.ABORT)
    value = _MARKER_VALUE.pack(_VERSION, coordinator_epoch)
    return build_batch(
        [NewRecord(key, value, timestamp=timestamp_ms)],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def read_control(record: Record) -> ControlRecord:
    """Read the one record of a control batch.

    Raises:
        KafkaError: CORRUPT_MESSAGE when key or value are shorter than they must be.
    """
    if record.key is None or len(record.key) < _KEY.size:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "a control record without a type")
    kind = _KEY.unpack_from(record.key)[1]
    if kind not in (ControlType.ABORT, ControlType.COMMIT):
        return ControlRecord(kind)
    if record.value is None or len(record.value) < _MARKER_VALUE.size:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "a transaction marker without an epoch")
    return ControlRecord(kind, _MARKER_VALUE.unpack_from(record.value)[1])
