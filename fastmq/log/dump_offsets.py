"""What the records of `__consumer_offsets` mean: committed offsets and group metadata.

`explain_offsets_record` is the decoder to hand to `fastmq.log.dump.dump_file`. A record that cannot
be read, or of a kind that is not known, is left to be shown raw.
"""

from struct import Struct

from fastmq.errors import ProtocolError
from fastmq.log.dump import Entry
from fastmq.protocol import decode
from fastmq.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    decode_consumer,
)
from fastmq.protocol.records import (
    GroupMetadataKey,
    GroupMetadataMember,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)

__all__ = ["explain_offsets_record"]

_VERSION = Struct(">h")
_OFFSET_KEY_NEWEST = 1
_GROUP_KEY = 2
_CONSUMER = "consumer"


def explain_offsets_record(key: bytes | None, value: bytes | None) -> Entry | None:
    """Return the meaning of a record's key and value; `value` is None for a tombstone."""
    if key is None or len(key) < _VERSION.size:
        return None
    (version,) = _VERSION.unpack_from(key)
    try:
        if 0 <= version <= _OFFSET_KEY_NEWEST:
            position, _ = decode(OffsetCommitKey, version, key, _VERSION.size)
            return {
                "offset_commit": {
                    "group": position.group,
                    "topic": position.topic,
                    "partition": position.partition,
                },
                "value": None if value is None else _offset(value),
            }
        if version == _GROUP_KEY:
            group, _ = decode(GroupMetadataKey, version, key, _VERSION.size)
            return {
                "group_metadata": {"group": group.group},
                "value": None if value is None else _group(value),
            }
    except ProtocolError:
        return None
    return None


def _version_of(value: bytes, newest: int) -> int:
    if len(value) < _VERSION.size:
        raise ProtocolError("a value begins with its version")
    (version,) = _VERSION.unpack_from(value)
    if not 0 <= version <= newest:
        raise ProtocolError(f"unknown version {version}")
    return int(version)


def _offset(value: bytes) -> Entry:
    version = _version_of(value, OffsetCommitValue.MAX_VERSION)
    commit, _ = decode(OffsetCommitValue, version, value, _VERSION.size)
    entry: Entry = {
        "version": version,
        "offset": commit.offset,
        "leader_epoch": commit.leader_epoch,
        "metadata": commit.metadata,
        "commit_timestamp": commit.commit_timestamp,
    }
    if commit.expire_timestamp >= 0:
        entry["expire_timestamp"] = commit.expire_timestamp
    return entry


def _group(value: bytes) -> Entry:
    version = _version_of(value, GroupMetadataValue.MAX_VERSION)
    group, _ = decode(GroupMetadataValue, version, value, _VERSION.size)
    return {
        "version": version,
        "protocol_type": group.protocol_type,
        "generation": group.generation,
        "protocol": group.protocol,
        "leader": group.leader,
        "current_state_timestamp": group.current_state_timestamp,
        "members": [_member(member, group.protocol_type) for member in group.members],
    }


def _member(member: GroupMetadataMember, protocol_type: str) -> Entry:
    entry: Entry = {
        "member_id": member.member_id,
        "group_instance_id": member.group_instance_id,
        "client_id": member.client_id,
        "client_host": member.client_host,
        "rebalance_timeout": member.rebalance_timeout,
        "session_timeout": member.session_timeout,
    }
    if protocol_type == _CONSUMER:
        entry["subscription"] = _topics(member.subscription)
        entry["assignment"] = _partitions(member.assignment)
    return entry


def _topics(subscription: bytes) -> list[str] | None:
    """Return the topics of a subscription, None when it has another form: clients write it."""
    try:
        return decode_consumer(ConsumerProtocolSubscription, subscription).topics
    except ProtocolError:
        return None


def _partitions(assignment: bytes) -> list[Entry] | None:
    try:
        found = decode_consumer(ConsumerProtocolAssignment, assignment)
    except ProtocolError:
        return None
    return [
        {"topic": topic.topic, "partitions": topic.partitions}
        for topic in found.assigned_partitions
    ]
