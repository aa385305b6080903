"""Kafka's small text files of a log directory: checkpoints and `*.metadata`, `meta.properties`.

An offset checkpoint is `0`, the number of entries, then a line `topic partition offset` each. What
cannot be read completely is refused as a whole: half a checkpoint would pass for knowledge that
the other partitions begin at 0.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from fastmq.config.properties import parse_properties
from fastmq.errors import ConfigError
from fastmq.ids import uuid_from_text, uuid_text

__all__ = [
    "DirectoryIdentity",
    "OffsetTable",
    "PartitionKey",
    "decode_epochs",
    "decode_identity",
    "decode_offsets",
    "decode_partition_metadata",
    "encode_identity",
    "encode_offsets",
    "encode_partition_metadata",
]

PartitionKey: TypeAlias = tuple[str, int]
OffsetTable: TypeAlias = Mapping[PartitionKey, int]


def encode_offsets(offsets: OffsetTable) -> bytes:
    """Return the text of an offset checkpoint."""
    lines = ["0", str(len(offsets))]
    lines += [f"{topic} {index} {offset}" for (topic, index), offset in sorted(offsets.items())]
    return ("\n".join(lines) + "\n").encode()


def decode_offsets(data: bytes) -> dict[PartitionKey, int]:
    """Return what an offset checkpoint says.

    Raises:
        ValueError: it is damaged; the message says how.
    """
    offsets = {}
    for line in _entries(data):
        parts = line.split(" ")
        if len(parts) != 3:
            raise ValueError(f"not `topic partition offset`: {line!r}")
        topic, index, offset = parts[0], _natural(parts[1]), _natural(parts[2])
        offsets[topic, index] = offset
    return offsets


def decode_epochs(data: bytes) -> list[tuple[int, int]]:
    """Return (epoch, start offset) of a leader-epoch checkpoint.

    Raises:
        ValueError: it is damaged.
    """
    epochs = []
    for line in _entries(data):
        parts = line.split(" ")
        if len(parts) != 2:
            raise ValueError(f"not `epoch offset`: {line!r}")
        epochs.append((_natural(parts[0]), _natural(parts[1])))
    return epochs


def _entries(data: bytes) -> list[str]:
    *lines, rest = data.decode(errors="replace").split("\n")
    if rest or len(lines) < 2:
        raise ValueError("the last line is cut")
    if lines[0] != "0":
        raise ValueError(f"unknown version {lines[0][:20]!r}")
    count, entries = _natural(lines[1]), lines[2:]
    if len(entries) != count:
        raise ValueError(f"{count} entries are announced, {len(entries)} are there")
    return entries


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def encode_partition_metadata(topic_id: bytes) -> bytes:
    """Return the text of `partition.metadata`."""
    return f"version: 0\ntopic_id: {uuid_text(topic_id)}".encode()


def decode_partition_metadata(data: bytes) -> bytes | None:
    """Return the topic id in `partition.metadata`, None when it does not hold one."""
    lines = data.decode(errors="replace").split("\n")
    if len(lines) < 2 or lines[0].strip() != "version: 0":
        return None
    name, _, text = lines[1].partition(":")
    try:
        return uuid_from_text(text.strip()) if name == "topic_id" else None
    except ValueError:
        return None


class DirectoryIdentity(NamedTuple):
    """What `meta.properties` says a log directory belongs to."""

    cluster_id: str
    node_id: int
    directory_id: bytes


def encode_identity(identity: DirectoryIdentity) -> bytes:
    """Return the text of `meta.properties`, version 1."""
    return (
        f"version=1\ncluster.id={identity.cluster_id}\nnode.id={identity.node_id}\n"
        f"directory.id={uuid_text(identity.directory_id)}\n"
    ).encode()


def decode_identity(data: bytes, *, name: str) -> DirectoryIdentity:
    """Return what `meta.properties` says.

    Raises:
        ConfigError: it is damaged, or of another version.
    """
    entries = parse_properties(data.decode(errors="replace"), name=name)
    values = {key: value for key, value, _ in entries}
    if values.get("version") != "1":
        raise ConfigError(f"{name}: version {values.get('version')!r} is not 1")
    try:
        return DirectoryIdentity(
            values["cluster.id"], int(values["node.id"]), uuid_from_text(values["directory.id"])
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{name}: damaged: {error}") from None
