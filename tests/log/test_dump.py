"""Dumping: segments written by the engine, small files, damage at every byte, the offsets topic."""

import json
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest

from fastmq._native.core import Engine, PartitionConfig, crc32c
from fastmq._native.records import RecordsBuilder
from fastmq.compression import Codec, compress
from fastmq.log.dump import Entry, dump_file, entry_text
from fastmq.log.dump_offsets import explain_offsets_record
from fastmq.protocol import encode
from fastmq.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerTopicPartitions,
    encode_consumer,
)
from fastmq.protocol.records import (
    GroupMetadataKey,
    GroupMetadataMember,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)

LOG = "00000000000000000000.log"


def batch(
    *records: tuple[bytes | None, bytes | None], codec: int = 0, base_offset: int = 0, **fields: int
) -> bytes:
    builder = RecordsBuilder()
    for number, (key, value) in enumerate(records):
        builder.append(1000 + number, key, value, [("h", b"\xff"), ("n", None)])
    payload = compress(codec, builder.records()) if codec else None
    attributes = fields.pop("attributes", 0) | codec
    return bytes(
        builder.finish(payload=payload, base_offset=base_offset, attributes=attributes, **fields)
    )


def dumped(tmp_path: Path, data: bytes, name: str = LOG, *, records: bool = True) -> list[Entry]:
    (tmp_path / name).write_bytes(data)
    entries = list(dump_file(tmp_path / name, records=records))
    json.dumps(entries)
    assert all(entry_text(entry) for entry in entries)
    return entries


def test_batches_and_records(tmp_path: Path) -> None:
    first = batch(
        (b"k", b"v"), (None, b"\xff\x00"), producer_id=7, producer_epoch=1, base_sequence=3
    )
    second = batch((b"k2", None), base_offset=2, codec=Codec.ZSTD, leader_epoch=4)
    one, two = dumped(tmp_path, first + second)
    assert (one["base_offset"], one["last_offset"], one["count"], one["position"]) == (0, 1, 2, 0)
    assert (one["producer_id"], one["base_sequence"], one["last_sequence"]) == (7, 3, 4)
    assert one["is_valid"]
    assert one["records"][0] == {
        "type": "record",
        "offset": 0,
        "timestamp": 1000,
        "key_size": 1,
        "value_size": 1,
        "headers": [{"key": "h", "value": {"base64": "/w=="}}, {"key": "n", "value": None}],
        "key": "k",
        "value": "v",
    }
    assert one["records"][1]["value"] == {"base64": "/wA="}
    assert (two["compress_codec"], two["position"]) == ("zstd", len(first))
    assert two["partition_leader_epoch"] == 4
    assert two["records"][0]["value_size"] == -1


@pytest.mark.parametrize("codec", list(Codec))
def test_every_codec_is_inflated(tmp_path: Path, codec: Codec) -> None:
    (entry,) = dumped(tmp_path, batch((b"k", b"v" * 1000), codec=codec))
    assert entry["compress_codec"] == codec.name.lower()
    assert entry["records"][0]["value"] == "v" * 1000


def test_records_are_left_alone_unless_asked_for(tmp_path: Path) -> None:
    (entry,) = dumped(tmp_path, batch((b"k", b"v")), records=False)
    assert "records" not in entry


def test_control_batch(tmp_path: Path) -> None:
    marker = batch((pack(">hh", 0, 1), pack(">hi", 0, 9)), attributes=0x30, producer_id=1)
    (entry,) = dumped(tmp_path, marker)
    assert entry["is_control"]
    assert entry["records"][0]["control_type"] == "commit"


def test_a_cut_file_ends_in_damage(tmp_path: Path) -> None:
    first = batch((b"k", b"v"))
    second = batch((b"l", b"w"), base_offset=1)
    for size in range(len(first) + 1, len(first + second)):
        entry, damage = dumped(tmp_path, (first + second)[:size])
        assert entry["is_valid"]
        assert (damage["type"], damage["position"]) == ("damage", len(first))


def test_each_flipped_byte_is_seen(tmp_path: Path) -> None:
    """The offset and the leader epoch, which the broker sets, are not covered by the checksum."""
    data = batch((b"k", b"v"))
    whole = dumped(tmp_path, data)
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0xFF
        entries = dumped(tmp_path, bytes(flipped))
        assert entries != whole
        if 8 <= position < 12 or position >= 16:
            assert any(entry["type"] == "damage" or not entry["is_valid"] for entry in entries)


def test_values_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (entry,) = dumped(tmp_path, batch((b"k", b"a\x1b[2J\nb")))
    text = entry_text(entry)
    assert "\x1b" not in text
    assert text.count("\n") == 1


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(node_id=1, thread=False)
    yield made
    made.stop()


def test_files_that_the_engine_wrote(tmp_path: Path, engine: Engine) -> None:
    directory = tmp_path / "t-0"
    directory.mkdir()
    partition = engine.add_partition(
        "t",
        0,
        topic_id=b"i" * 16,
        dir_id=0,
        path=str(directory),
        config=PartitionConfig(),
    )
    partition.become_leader(5)
    # A short segment would get no index files: it is read instead.
    value = bytes(100_000)
    for number in range(20):
        fields = {"producer_id": 9, "producer_epoch": 0, "base_sequence": number * 2}
        data = bytearray(batch((b"k", b"v"), (b"k", value), **fields))
        assert partition.append(data)[0] == 0
    partition.close(clean=True)
    by_suffix = {path.suffix or path.name: list(dump_file(path)) for path in directory.iterdir()}
    batches = by_suffix[".log"]
    assert [entry["base_offset"] for entry in batches] == list(range(0, 40, 2))
    assert all(entry["is_valid"] for entry in batches)
    positions = {entry["last_offset"]: entry["position"] for entry in batches}
    assert by_suffix[".index"]
    for entry in by_suffix[".index"]:
        assert positions[entry["offset"]] == entry["position"]
    assert by_suffix[".timeindex"][-1]["timestamp"] == 1001
    (producer,) = by_suffix[".snapshot"]
    assert (producer["producer_id"], producer["first_sequence"]) == (9, 38)
    assert (producer["last_sequence"], producer["last_offset"]) == (39, 39)
    assert by_suffix["leader-epoch-checkpoint"] == [
        {"type": "epoch", "leader_epoch": 5, "start_offset": 0}
    ]


def test_small_files(tmp_path: Path) -> None:
    assert dumped(tmp_path, pack(">IiIi", 3, 0, 9, 120), "00000000000000000100.index") == [
        {"type": "index", "offset": 103, "position": 0},
        {"type": "index", "offset": 109, "position": 120},
    ]
    time_index = dumped(tmp_path, pack(">qI", 77, 5) + b"x", "00000000000000000100.timeindex")
    assert time_index[0] == {"type": "timeindex", "timestamp": 77, "offset": 105}
    assert time_index[1]["type"] == "damage"
    (aborted,) = dumped(tmp_path, pack(">hqqqq", 0, 1, 2, 3, 4), "00000000000000000000.txnindex")
    assert aborted["last_stable_offset"] == 4
    assert dumped(tmp_path, b"0\n1\nt 0 5\n", "recovery-point-offset-checkpoint") == [
        {"type": "checkpoint", "topic": "t", "partition": 0, "offset": 5}
    ]
    assert dumped(tmp_path, b"0\n9\n", "log-start-offset-checkpoint")[0]["type"] == "damage"
    assert dumped(tmp_path, b"", "leader-epoch-checkpoint")[0]["type"] == "damage"
    assert dumped(tmp_path, b"version: 0\ntopic_id: " + b"A" * 22, "partition.metadata") == [
        {"type": "partition", "topic_id": "A" * 22}
    ]
    with pytest.raises(ValueError, match="not a file of a log"):
        dumped(tmp_path, b"", "unknown.txt")


def test_damaged_snapshots(tmp_path: Path) -> None:
    body = pack(">i", 1) + pack(">qhiqiqiq", 9, 1, 10, 50, 3, 1000, -1, -1)
    good = pack(">hI", 1, crc32c(body)) + body
    name = "00000000000000000051.snapshot"
    (producer,) = dumped(tmp_path, good, name)
    assert (producer["first_sequence"], producer["current_txn_first_offset"]) == (7, None)
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 1
        assert dumped(tmp_path, bytes(flipped), name)[0]["type"] == "damage"
        assert dumped(tmp_path, good[:position], name)[0]["type"] == "damage"
    short = pack(">i", 2) + body[4:]
    assert dumped(tmp_path, pack(">hI", 1, crc32c(short)) + short, name)[0]["type"] == "damage"


def test_offsets_topic(tmp_path: Path) -> None:
    offset_key = b"\x00\x01" + encode(OffsetCommitKey(group="g", topic="t", partition=3), 1)
    offset_value = b"\x00\x03" + encode(OffsetCommitValue(offset=42, metadata="m"), 3)
    assigned = ConsumerTopicPartitions(topic="t", partitions=[0, 1])
    member = GroupMetadataMember(
        member_id="m-1",
        subscription=encode_consumer(ConsumerProtocolSubscription(topics=["t"]), 1),
        assignment=encode_consumer(ConsumerProtocolAssignment(assigned_partitions=[assigned]), 1),
    )
    other = GroupMetadataMember(member_id="m-2", subscription=b"\x00", assignment=b"")
    group_key = b"\x00\x02" + encode(GroupMetadataKey(group="g"), 2)
    group_value = b"\x00\x03" + encode(
        GroupMetadataValue(protocol_type="consumer", generation=5, members=[member, other]), 3
    )
    (tmp_path / LOG).write_bytes(
        batch(
            (offset_key, offset_value),
            (group_key, group_value),
            (offset_key, None),
            (b"\x00\x63x", b"?"),
            (b"\x00\x01\x00", b"?"),
            (None, b"?"),
        )
    )
    (entry,) = dump_file(tmp_path / LOG, records=True, decoder=explain_offsets_record)
    offset, group, tombstone, unknown, damaged, keyless = entry["records"]
    assert offset["offset_commit"] == {"group": "g", "topic": "t", "partition": 3}
    assert (offset["value"]["offset"], offset["value"]["metadata"]) == (42, "m")
    assert group["group_metadata"] == {"group": "g"}
    assert group["value"]["generation"] == 5
    assert [one["subscription"] for one in group["value"]["members"]] == [["t"], None]
    assert group["value"]["members"][0]["assignment"] == [{"topic": "t", "partitions": [0, 1]}]
    assert tombstone["value"] is None
    assert unknown["key"] == "\x00cx"
    assert damaged["value"] == keyless["value"] == "?"
    json.dumps(entry)
