"""Kafka's small text files of a log directory: checkpoints and `*.metadata`, `meta.properties`.

An offset checkpoint is `0`, the number of entries, then a line `topic partition offset` each. What
cannot be read completely is refused as a whole: half a checkpoint would pass for knowledge that
the other partitions begin at 0.

Kafka's formats have no checksum, and a flipped digit passes for another number. So the last line of
a checkpoint is followed by a CRC-32C of the text before, a space or a tab for each bit, the highest
first: Kafka's readers split lines at white space. Files that Kafka has written have none, and are
taken as they are. `meta.properties` has it as a key of its own.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

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
    return _with_checksum(("\n".join(lines) + "\n").encode(), bool(offsets))


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


_CHECKSUM_SIZE: Final = 32
_SPACES: Final = bytes.maketrans(b"01", b" \t")
_BITS: Final = bytes.maketrans(b" \t", b"01")


def _with_checksum(text: bytes, has_entries: bool) -> bytes:
    if not has_entries:
        return text
    return text[:-1] + f"{_crc32c(text):032b}".encode().translate(_SPACES) + b"\n"


def _checked(data: bytes) -> bytes:
    """Return a text without its checksum."""
    text, tail = data[: -_CHECKSUM_SIZE - 1], data[-_CHECKSUM_SIZE - 1 :]
    if len(tail) <= _CHECKSUM_SIZE or tail[-1:] != b"\n" or tail[:-1].strip(b" \t"):
        return data
    text += b"\n"
    if int(tail[:-1].translate(_BITS), 2) != _crc32c(text):
        raise ValueError("its checksum does not fit")
    return text


def _crc32c(data: bytes) -> int:
    from fastmq._native.core import crc32c  # loads the engine, which tools do without

    return crc32c(data)


def _entries(data: bytes) -> list[str]:
    data = _checked(data)
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
    text = (
        f"version=1\ncluster.id={identity.cluster_id}\nnode.id={identity.node_id}\n"
        f"directory.id={uuid_text(identity.directory_id)}\n"
    )
    return f"{text}{_CHECKSUM_KEY}={_identity_sum(identity)}\n".encode()


_CHECKSUM_KEY: Final = "fastmq.crc32c"


def _identity_sum(identity: DirectoryIdentity) -> str:
    node_id = identity.node_id
    text = f"{identity.cluster_id} {node_id} {uuid_text(identity.directory_id)}"
    return f"{_crc32c(text.encode()):08x}"


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
        identity = DirectoryIdentity(
            values["cluster.id"], int(values["node.id"]), uuid_from_text(values["directory.id"])
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{name}: damaged: {error}; {_CURE}") from None
    told = values.get(_CHECKSUM_KEY)
    if told is not None and told != _identity_sum(identity):
        raise ConfigError(f"{name}: damaged: its checksum does not fit; {_CURE}")
    return identity


_CURE: Final = (
    "correct cluster.id, node.id and directory.id by those of another data directory or of "
    f"`fastmq cluster brokers`, and remove the line {_CHECKSUM_KEY}"
)
