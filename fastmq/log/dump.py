"""Read the files of a log for people: one dict per entry, JSON-able, and its text.

`dump_file` chooses by the file's name and yields dicts whose `type` says what they are: `batch`
(with `records` when asked for), `index`, `timeindex`, `txnindex`, `producer`, `checkpoint`,
`epoch`, `partition`, and `damage`, which says where the file stops making sense; nothing is read
past damage. Names of the fields are Kafka's, in snake case. Keys and values that are UTF-8 come as
text, others as `{"base64": ...}`.

A segment is read batch by batch, so its size does not matter. The files may belong to a running
broker: an end that is being written shows up as damage.
"""

import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct, iter_unpack
from typing import Any, BinaryIO, Final, TypeAlias

from fastmq._native.core import crc32c
from fastmq._native.records import BATCH_HEADER_SIZE, BatchHeader, Record, read_records
from fastmq.compression import Codec, decompress
from fastmq.errors import KafkaError
from fastmq.ids import uuid_text
from fastmq.limits import DUMP_INFLATED_BYTES_MAX, DUMP_SMALL_FILE_BYTES_MAX
from fastmq.log.checkpoints import decode_epochs, decode_offsets, decode_partition_metadata

__all__ = ["Entry", "KeyValueDecoder", "dump_file", "entry_text", "is_damage", "log_files"]

# JSON-able values of any type.
Entry: TypeAlias = dict[str, Any]
KeyValueDecoder: TypeAlias = Callable[[bytes | None, bytes | None], Entry | None]
"""Turns a record's key and value into what they mean; None when it does not know them."""

_CRC_START: Final = 21
_PRODUCER: Final = Struct(">qhiqiqiq")
_SNAPSHOT_HEADER: Final = Struct(">hIi")
_TXN: Final = Struct(">hqqqq")
_CONTROL_KEY: Final = Struct(">hh")
_CONTROL_TYPES: Final = {0: "abort", 1: "commit", 2: "leader_change"}
_NO_TIMESTAMP: Final = -1


def dump_file(
    path: str | Path, *, records: bool = False, decoder: KeyValueDecoder | None = None
) -> Iterator[Entry]:
    """Yield what a file of a log or of a log directory holds.

    Args:
        path: a `.log`, `.index`, `.timeindex`, `.txnindex` or `.snapshot`, a checkpoint, or
            `partition.metadata`.
        records: read the records of each batch, too (inflating them).
        decoder: for `records`: explains keys and values, see `dump_offsets`.

    Raises:
        ValueError: the name is of no known kind of file.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.suffix == ".log":
        yield from _dump_segment(path, records=records, decoder=decoder)
        return
    reader = _READERS.get(path.suffix) or _READERS.get(path.name)
    if reader is None:
        raise ValueError(f"{path.name}: not a file of a log (.log, .index, .snapshot, ...)")
    if path.stat().st_size > DUMP_SMALL_FILE_BYTES_MAX:
        raise ValueError(f"{path.name}: larger than such a file can be")
    yield from reader(path.read_bytes(), path.stem)


def log_files(path: Path) -> list[Path]:
    """Return the files below a path that `dump_file` can read: itself, or those of a directory.

    Raises:
        OSError: the directory cannot be read.
    """
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if _is_known(file))


def _is_known(path: Path) -> bool:
    return path.suffix == ".log" or path.suffix in _READERS or path.name in _READERS


def is_damage(entry: Entry) -> bool:
    """Return whether an entry says that the file is not as it should be."""
    return entry["type"] == "damage" or not entry.get("is_valid", True)


def entry_text(entry: Entry, indent: str = "") -> str:
    """Return an entry as one line, and a line more for each of its records."""
    words = [
        f"{name}: {_word(value)}"
        for name, value in entry.items()
        if name not in ("type", "records")
    ]
    kind = "" if entry.get("type") in (None, "batch", "record") else f"{entry['type']} "
    lines = [indent + kind + " ".join(words)]
    lines += [entry_text(record, "| ") for record in entry.get("records", ())]
    return "\n".join(lines)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_word(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_word(item) for item in value) + "]"
    if isinstance(value, str):
        # A value is not to break the line, nor to write to the terminal of whoever looks.
        return value if value.isprintable() else repr(value)[1:-1]
    return "null" if value is None else str(value)


# ---- segments ------------------------------------------------------------------------------------


def _dump_segment(path: Path, *, records: bool, decoder: KeyValueDecoder | None) -> Iterator[Entry]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        position = 0
        while position < size:
            try:
                header, batch = _read_batch(file, size - position)
                entry = _batch_entry(header, batch, position)
                if records:
                    entry["records"] = _record_entries(header, batch, decoder)
            except KafkaError as error:
                yield _damage(position, error.message)
                return
            yield entry
            position += header.size


def _read_batch(file: BinaryIO, left: int) -> tuple[BatchHeader, bytes]:
    """Read the next batch; its announced length is believed only as far as the file goes.

    Raises:
        KafkaError: there is no whole batch.
    """
    start = file.read(BATCH_HEADER_SIZE)
    header = BatchHeader(start)
    if not BATCH_HEADER_SIZE <= header.size <= left:
        raise KafkaError(2, f"a batch of {header.size} bytes, but {left} are left in the file")
    return header, start + file.read(header.size - BATCH_HEADER_SIZE)


def _batch_entry(header: BatchHeader, batch: bytes, position: int) -> Entry:
    base_sequence = header.base_sequence
    last_sequence = base_sequence
    if base_sequence >= 0:
        # Sequences go round to 0 after 2^31 - 1.
        last_sequence = (base_sequence + header.last_offset_delta) & 0x7FFFFFFF
    return {
        "type": "batch",
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "count": header.record_count,
        "base_sequence": base_sequence,
        "last_sequence": last_sequence,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "partition_leader_epoch": header.leader_epoch,
        "is_transactional": header.is_transactional,
        "is_control": header.is_control,
        "delete_horizon_ms": header.base_timestamp if header.has_delete_horizon else None,
        "position": position,
        "log_append_time" if header.is_log_append_time else "create_time": header.max_timestamp,
        "size": header.size,
        "magic": header.magic,
        "compress_codec": _codec_name(header.codec),
        "crc": header.crc,
        "is_valid": crc32c(batch[_CRC_START:]) == header.crc,
    }


def _codec_name(number: int) -> str:
    return Codec(number).name.lower() if number in Codec.__members__.values() else str(number)


def _record_entries(
    header: BatchHeader, batch: bytes, decoder: KeyValueDecoder | None
) -> list[Entry]:
    stored = batch[BATCH_HEADER_SIZE:]
    block = decompress(header.codec, stored, DUMP_INFLATED_BYTES_MAX) if header.codec else stored
    return [_record_entry(header, record, decoder) for record in read_records(block, header)]


def _record_entry(header: BatchHeader, record: Record, decoder: KeyValueDecoder | None) -> Entry:
    key, value = record.key, record.value
    entry: Entry = {
        "type": "record",
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key_size": -1 if key is None else len(key),
        "value_size": -1 if value is None else len(value),
    }
    if header.is_control:
        return entry | _control(key)
    meaning = None if decoder is None else decoder(key, value)
    if meaning is not None:
        return entry | meaning
    if record.headers:
        entry["headers"] = [
            {"key": _printable_key(name), "value": _plain(data)} for name, data in record.headers
        ]
    return entry | {"key": _plain(key), "value": _plain(value)}


def _control(key: bytes | None) -> Entry:
    if key is None or len(key) < _CONTROL_KEY.size:
        return {"control_type": "unknown"}
    _, kind = _CONTROL_KEY.unpack_from(key)
    return {"control_type": _CONTROL_TYPES.get(kind, str(kind))}


def _plain(data: bytes | None) -> str | Entry | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _printable_key(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _damage(position: int, message: str) -> Entry:
    return {"type": "damage", "position": position, "message": message}


# ---- the small files -----------------------------------------------------------------------------


def _dump_index(data: bytes, stem: str) -> Iterator[Entry]:
    base = _base_offset(stem)
    for relative, position in iter_unpack(">Ii", data[: len(data) // 8 * 8]):
        yield {"type": "index", "offset": base + relative, "position": position}
    yield from _rest(data, 8)


def _dump_time_index(data: bytes, stem: str) -> Iterator[Entry]:
    base = _base_offset(stem)
    for timestamp, relative in iter_unpack(">qI", data[: len(data) // 12 * 12]):
        yield {"type": "timeindex", "timestamp": timestamp, "offset": base + relative}
    yield from _rest(data, 12)


def _dump_txn_index(data: bytes, _stem: str) -> Iterator[Entry]:
    for version, producer_id, first, last, stable in iter_unpack(
        _TXN.format, data[: len(data) // _TXN.size * _TXN.size]
    ):
        yield {
            "type": "txnindex",
            "version": version,
            "producer_id": producer_id,
            "first_offset": first,
            "last_offset": last,
            "last_stable_offset": stable,
        }
    yield from _rest(data, _TXN.size)


def _rest(data: bytes, entry_size: int) -> Iterator[Entry]:
    rest = len(data) % entry_size
    if rest:
        yield _damage(len(data) - rest, f"{rest} bytes are left, an entry has {entry_size}")


def _base_offset(stem: str) -> int:
    return int(stem) if stem.isascii() and stem.isdigit() else 0


def _dump_snapshot(data: bytes, _stem: str) -> Iterator[Entry]:
    if len(data) < _SNAPSHOT_HEADER.size:
        yield _damage(0, "the file is shorter than its header")
        return
    version, crc, count = _SNAPSHOT_HEADER.unpack_from(data)
    entries = data[_SNAPSHOT_HEADER.size :]
    if version != 1:
        yield _damage(0, f"unknown version {version}")
        return
    # The checksum covers what follows it: the count, too.
    if crc32c(data[6:]) != crc:
        yield _damage(2, "the checksum is wrong")
        return
    if len(entries) != count * _PRODUCER.size:
        yield _damage(6, f"{count} producers are announced, {len(entries)} bytes follow")
        return
    for row in iter_unpack(_PRODUCER.format, entries):
        producer_id, epoch, sequence, offset, delta, timestamp, coordinator, txn_start = row
        yield {
            "type": "producer",
            "producer_id": producer_id,
            "producer_epoch": epoch,
            "coordinator_epoch": coordinator,
            "current_txn_first_offset": None if txn_start < 0 else txn_start,
            "last_timestamp": timestamp,
            "first_sequence": (sequence - delta) & 0x7FFFFFFF if sequence >= 0 else -1,
            "last_sequence": sequence,
            "last_offset": offset,
            "offset_delta": delta,
        }


def _dump_checkpoint(data: bytes, _stem: str) -> Iterator[Entry]:
    try:
        offsets = decode_offsets(data)
    except ValueError as error:
        yield _damage(0, str(error))
        return
    for (topic, partition), offset in offsets.items():
        yield {"type": "checkpoint", "topic": topic, "partition": partition, "offset": offset}


def _dump_epochs(data: bytes, _stem: str) -> Iterator[Entry]:
    try:
        epochs = decode_epochs(data)
    except ValueError as error:
        yield _damage(0, str(error))
        return
    for epoch, offset in epochs:
        yield {"type": "epoch", "leader_epoch": epoch, "start_offset": offset}


def _dump_partition_metadata(data: bytes, _stem: str) -> Iterator[Entry]:
    topic_id = decode_partition_metadata(data)
    if topic_id is None:
        yield _damage(0, "there is no topic id")
    else:
        yield {"type": "partition", "topic_id": uuid_text(topic_id)}


_READERS: Final[dict[str, Callable[[bytes, str], Iterator[Entry]]]] = {
    ".index": _dump_index,
    ".timeindex": _dump_time_index,
    ".txnindex": _dump_txn_index,
    ".snapshot": _dump_snapshot,
    "leader-epoch-checkpoint": _dump_epochs,
    "recovery-point-offset-checkpoint": _dump_checkpoint,
    "log-start-offset-checkpoint": _dump_checkpoint,
    "replication-offset-checkpoint": _dump_checkpoint,
    "partition.metadata": _dump_partition_metadata,
}
