"""Goal: the records of the offsets topic are Kafka's, byte for byte, and bad ones do no harm."""

import random

import pytest

from fastmq.coordinator.group import GroupConfig, GroupCoordinatorShard
from fastmq.coordinator.group.records import (
    GroupKey,
    OffsetKey,
    decode_group_value,
    decode_key,
    decode_offset_value,
    group_metadata_record,
    group_tombstone,
    offset_record,
    offset_tombstone,
)
from fastmq.protocol.records import GroupMetadataMember, GroupMetadataValue, OffsetCommitValue

from support.coordinator import Coordinator

OFFSET = OffsetCommitValue(offset=258, leader_epoch=3, metadata="m", commit_timestamp=1)


def test_golden_bytes_of_an_offset() -> None:
    record = offset_record("g", "t", 2, OFFSET)
    assert record.key == bytes.fromhex("0001 0001 67 0001 74 00000002")
    assert record.value == bytes.fromhex("0003 0000000000000102 00000003 0001 6d 0000000000000001")
    assert offset_tombstone("g", "t", 2) == (record.key, None)


def test_golden_bytes_of_an_offset_with_a_topic_id() -> None:
    value = OffsetCommitValue(offset=1, metadata="", commit_timestamp=2, topic_id=b"\xab" * 16)
    assert offset_record("g", "t", 2, value).value == bytes.fromhex(
        "0004 0000000000000001 ffffffff 01 0000000000000002 01 00 10" + "ab" * 16
    )


def test_golden_bytes_of_an_offset_with_its_own_expiry() -> None:
    value = OffsetCommitValue(offset=1, commit_timestamp=2, expire_timestamp=3, leader_epoch=9)
    assert offset_record("g", "t", 2, value).value == bytes.fromhex(
        "0001 0000000000000001 0000 0000000000000002 0000000000000003"
    )


def test_golden_bytes_of_a_group() -> None:
    value = GroupMetadataValue(
        protocol_type="consumer",
        generation=5,
        protocol="range",
        leader="a",
        current_state_timestamp=7,
        members=[
            GroupMetadataMember(
                member_id="a",
                group_instance_id="i",
                client_id="c",
                client_host="/h",
                rebalance_timeout=256,
                session_timeout=512,
                subscription=b"S",
                assignment=b"A",
            )
        ],
    )
    record = group_metadata_record("g", value)
    assert record.key == bytes.fromhex("0002 0001 67")
    assert record.value == bytes.fromhex(
        "0003 0008 636f6e73756d6572 00000005 0005 72616e6765 0001 61 0000000000000007"
        "00000001 0001 61 0001 69 0001 63 0002 2f68 00000100 00000200 00000001 53 00000001 41"
    )
    assert group_tombstone("g") == (record.key, None)


def test_keys_are_read_back() -> None:
    assert decode_key(offset_tombstone("g", "t", 2).key) == OffsetKey("g", "t", 2)
    assert decode_key(group_tombstone("g").key) == GroupKey("g")
    assert decode_key(b"\0\0" + offset_tombstone("g", "t", 2).key[2:]) == OffsetKey("g", "t", 2)


@pytest.mark.parametrize(
    "value",
    [
        bytes.fromhex("0000 0000000000000102 0001 6d 0000000000000001"),
        bytes.fromhex("0002 0000000000000102 0001 6d 0000000000000001"),
    ],
)
def test_old_versions_of_offsets_are_read(value: bytes) -> None:
    row = decode_offset_value(value)
    assert row is not None
    assert (row.offset, row.leader_epoch, row.expire_timestamp) == (258, -1, -1)


def test_a_group_of_version_0_takes_its_session_timeout_for_rebalances() -> None:
    value = bytes.fromhex(
        "0000 0008 636f6e73756d6572 00000001 0005 72616e6765 0001 61"
        "00000001 0001 61 0001 63 0002 2f68 00001b58 00000001 53 00000001 41"
    )
    row = decode_group_value(value)
    assert row is not None
    assert row.current_state_timestamp == -1
    c = Coordinator()
    c.log.append(group_tombstone("g")._replace(value=value))
    c.restart()
    _, token = c.send_new_join(rebalance_ms=1_000)
    c.advance(6_999)
    c.heartbeat("a", 1)
    assert token not in c.answers
    c.advance(1)
    assert c.answers[token].generation_id == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b""),
        (b"\0", None),
        (b"\0\3\0\1g", b"\0\0"),  # a consumer group of KIP-848
        (b"\0\x0f\0\1g", None),
        (b"\xff\xff", b"x"),
        (b"\0\2\0\7g", None),
        (b"\0\2\0\1g", b""),
        (b"\0\2\0\1g", b"\0\x63rest"),
        (b"\0\2\0\1g", b"\0\3\0\1"),
        (b"\0\1\0\1g\0\1t\0\0\0\0", b"\0\x63"),
        (b"\0\1\0\1g\0\1t\0\0\0\0", b"\0\3\0"),
        (b"\0\1\0\1g\0\1t\0\0\0\0", None),
    ],
)
def test_what_cannot_be_read_is_skipped(key: bytes, value: bytes | None) -> None:
    c = Coordinator()
    c.commit({("t", 0): 1}, group="other")
    c.shard.replay(key, value)
    assert c.list_groups() == ["other"]


def test_random_bytes_never_raise() -> None:
    rng = random.Random(3)
    c = Coordinator()
    c.stable_group(2)
    c.commit({("t", 0): 1}, group="x")
    seeds = [(r.key, r.value) for r in c.log]
    shard = GroupCoordinatorShard(GroupConfig(), lambda: "id")
    for _ in range(5_000):
        key, value = rng.choice(seeds)
        parts = [bytearray(key), bytearray(value or b"")]
        for part in parts:
            for _ in range(rng.randrange(3)):
                if part:
                    part[rng.randrange(len(part))] = rng.randrange(256)
            del part[rng.randrange(len(part) + 1) :]
        shard.replay(bytes(parts[0]), bytes(parts[1]) if rng.random() < 0.9 else None)
    shard.on_loaded(0)
