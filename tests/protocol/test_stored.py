"""Records of the offsets topic, and what consumers write into group requests."""

import pytest

from fastmq.errors import ProtocolError
from fastmq.protocol import decode, encode
from fastmq.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerTopicPartitions,
    decode_consumer,
    encode_consumer,
)
from fastmq.protocol.records import (
    GroupMetadataKey,
    GroupMetadataMember,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)

_VALUE = OffsetCommitValue(
    offset=7, leader_epoch=2, metadata="m", commit_timestamp=9, topic_id=bytes(range(16))
)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        (0, "0000000000000007" + "00016d" + "0000000000000009"),
        (1, "0000000000000007" + "00016d" + "0000000000000009" + "f" * 16),
        (2, "0000000000000007" + "00016d" + "0000000000000009"),
        (3, "0000000000000007" + "00000002" + "00016d" + "0000000000000009"),
        (
            4,
            "0000000000000007" + "00000002" + "026d" + "0000000000000009"
            "010010" + bytes(range(16)).hex(),
        ),
    ],
)
def test_golden_offset_values(version: int, wanted: str) -> None:
    assert encode(_VALUE, version).hex() == wanted


def test_golden_keys() -> None:
    key = OffsetCommitKey(group="g", topic="t", partition=3)
    assert encode(key, 1).hex() == "000167" + "000174" + "00000003"
    assert encode(GroupMetadataKey(group="g"), 2).hex() == "000167"


@pytest.mark.parametrize("version", range(5))
def test_group_metadata_comes_back(version: int) -> None:
    member = GroupMetadataMember(
        member_id="m", client_id="c", client_host="/h", session_timeout=5, subscription=b"s"
    )
    value = GroupMetadataValue(
        protocol_type="consumer", generation=3, protocol=None, leader="m", members=[member]
    )
    encoded = encode(value, version)
    assert decode(GroupMetadataValue, version, encoded) == (value, len(encoded))


def test_golden_group_metadata_3() -> None:
    value = GroupMetadataValue(
        protocol_type="p",
        generation=1,
        current_state_timestamp=2,
        members=[GroupMetadataMember(member_id="m", rebalance_timeout=3, session_timeout=4)],
    )
    assert encode(value, 3).hex() == (
        "000170" + "00000001" + "ffff" + "ffff" + "0000000000000002" + "00000001"
        "00016d" + "ffff" + "0000" + "0000" + "00000003" + "00000004" + "00000000" + "00000000"
    )


def test_subscription_of_a_later_version_is_read_as_the_latest_known() -> None:
    wanted = ConsumerProtocolSubscription(topics=["a"], generation_id=4, rack_id="r")
    data = encode_consumer(wanted, 3)
    later = b"\0\x09" + data[2:] + b"something new"
    assert decode_consumer(ConsumerProtocolSubscription, data) == wanted
    assert decode_consumer(ConsumerProtocolSubscription, later) == wanted


def test_golden_assignment() -> None:
    assignment = ConsumerProtocolAssignment(
        assigned_partitions=[ConsumerTopicPartitions(topic="t", partitions=[1])]
    )
    data = encode_consumer(assignment, 0)
    assert data.hex() == "0000" + "00000001" + "000174" + "00000001" + "00000001" + "ffffffff"
    assert decode_consumer(ConsumerProtocolAssignment, data) == assignment


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xff\0\0\0\0\0\0\0\0", b"\0\0\0\0\0\1"])
def test_malformed_subscriptions_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_consumer(ConsumerProtocolSubscription, data)
