"""The records of `__consumer_offsets`, in Kafka's formats.

A key begins with an int16 that says what the record is (and doubles as the version of the key's
schema): 0 and 1 a committed offset, 2 the metadata of a classic group; a value begins with the
version of its schema. Keys of other kinds (newer group types) are skipped, as are records that
cannot be read: what a later release wrote must not stop an earlier one.

Written are offset values of version 3, of version 4 when the topic id is known, of version 1 when
a client of old set a retention time of its own, and group metadata of version 3, all of which
Kafka writes too.

Source: Kafka's OffsetCommitKey/Value and GroupMetadataKey/Value.
"""

from struct import Struct
from typing import NamedTuple

from fastmq.coordinator.effects import Record
from fastmq.errors import ProtocolError
from fastmq.protocol import decode, encode
from fastmq.protocol.records import (
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)

__all__ = [
    "GroupKey",
    "OffsetKey",
    "decode_group_value",
    "decode_key",
    "decode_offset_value",
    "group_metadata_record",
    "group_tombstone",
    "offset_record",
    "offset_tombstone",
]

_VERSION = Struct(">h")
_OFFSET_KEY_VERSION = 1
_GROUP_KEY_VERSION = 2
_GROUP_VALUE_VERSION = 3
_OFFSET_VALUE_NEWEST = 4
_GROUP_VALUE_NEWEST = 4
_NO_TOPIC_ID = bytes(16)


class OffsetKey(NamedTuple):
    """The key of a committed offset."""

    group_id: str
    topic: str
    partition: int


class GroupKey(NamedTuple):
    """The key of a group's metadata."""

    group_id: str


def decode_key(key: bytes) -> OffsetKey | GroupKey | None:
    """Read a key; None when it is of another kind or no key at all."""
    if len(key) < _VERSION.size:
        return None
    (version,) = _VERSION.unpack_from(key)
    try:
        if version in (0, _OFFSET_KEY_VERSION):
            row, _ = decode(OffsetCommitKey, version, key, _VERSION.size)
            return OffsetKey(row.group, row.topic, row.partition)
        if version == _GROUP_KEY_VERSION:
            return GroupKey(decode(GroupMetadataKey, version, key, _VERSION.size)[0].group)
    except ProtocolError:
        return None
    return None


def decode_offset_value(value: bytes) -> OffsetCommitValue | None:
    """Read the value of a committed offset; None when it cannot be read."""
    version = _value_version(value, _OFFSET_VALUE_NEWEST)
    try:
        return None if version is None else decode(OffsetCommitValue, version, value, 2)[0]
    except ProtocolError:
        return None


def decode_group_value(value: bytes) -> GroupMetadataValue | None:
    """Read the value of a group's metadata; None when it cannot be read."""
    version = _value_version(value, _GROUP_VALUE_NEWEST)
    try:
        return None if version is None else decode(GroupMetadataValue, version, value, 2)[0]
    except ProtocolError:
        return None


def _value_version(value: bytes, newest: int) -> int | None:
    if len(value) < _VERSION.size:
        return None
    (version,) = _VERSION.unpack_from(value)
    return int(version) if 0 <= version <= newest else None


def group_metadata_record(group_id: str, value: GroupMetadataValue) -> Record:
    """Build the record that keeps a group."""
    body = _VERSION.pack(_GROUP_VALUE_VERSION) + encode(value, _GROUP_VALUE_VERSION)
    return Record(_group_key(group_id), body)


def group_tombstone(group_id: str) -> Record:
    """Build the record that removes a group."""
    return Record(_group_key(group_id), None)


def offset_record(group_id: str, topic: str, partition: int, value: OffsetCommitValue) -> Record:
    """Build the record that keeps a committed offset."""
    version = 3 if value.topic_id == _NO_TOPIC_ID else 4
    if value.expire_timestamp != -1:
        version = 1
    body = _VERSION.pack(version) + encode(value, version)
    return Record(_offset_key(group_id, topic, partition), body)


def offset_tombstone(group_id: str, topic: str, partition: int) -> Record:
    """Build the record that removes a committed offset."""
    return Record(_offset_key(group_id, topic, partition), None)


def _group_key(group_id: str) -> bytes:
    key = GroupMetadataKey(group=group_id)
    return _VERSION.pack(_GROUP_KEY_VERSION) + encode(key, _GROUP_KEY_VERSION)


def _offset_key(group_id: str, topic: str, partition: int) -> bytes:
    key = OffsetCommitKey(group=group_id, topic=topic, partition=partition)
    return _VERSION.pack(_OFFSET_KEY_VERSION) + encode(key, _OFFSET_KEY_VERSION)
