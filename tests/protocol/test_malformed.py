"""Goal: no bytes make the decoder do anything but return a message or raise ProtocolError.

Method: cut every message at every byte, change bytes at random, announce lengths that are not
there; memory is watched where it matters.
"""

import contextlib
import random
import tracemalloc

import pytest

from fastmq.errors import ProtocolError
from fastmq.protocol import Message, decode, decode_request, encode, encode_request
from fastmq.protocol.messages.api_versions import ApiVersionsRequest
from fastmq.protocol.messages.delete_groups import DeleteGroupsRequest
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataResponse

from support.messages import message_classes, random_message

_CASES = list(message_classes())
_IDS = [f"{cls.__name__}-{version}" for cls, version in _CASES]


@pytest.mark.parametrize(("cls", "version"), _CASES, ids=_IDS)
def test_every_cut_is_refused(cls: type[Message], version: int) -> None:
    rng = random.Random(f"cut {cls.__name__} {version}")
    for _ in range(3):
        encoded = encode(random_message(cls, version, rng), version)
        for end in range(len(encoded)):
            with pytest.raises(ProtocolError):
                decode(cls, version, encoded[:end])


def _mutated(encoded: bytes, rng: random.Random) -> bytes:
    data = bytearray(encoded)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        change = rng.randrange(5)
        if change == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            data[at : at + 4] = rng.choice((b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 4))
        elif change == 2:
            data[at:at] = rng.randbytes(rng.randrange(6))
        elif change == 3:
            del data[at : at + rng.randrange(1, 6)]
        else:
            data[at : at + 5] = b"\xff\xff\xff\xff\x0f"
    return bytes(data)


@pytest.mark.parametrize(("cls", "version"), _CASES, ids=_IDS)
def test_changed_bytes_raise_nothing_else(cls: type[Message], version: int) -> None:
    rng = random.Random(f"mutate {cls.__name__} {version}")
    for _ in range(6):
        encoded = encode(random_message(cls, version, rng), version)
        for _ in range(40):
            try:
                message, _ = decode(cls, version, _mutated(encoded, rng))
            except ProtocolError:
                continue
            # What was understood can be said again.
            decode(cls, version, encode(message, version))


_FLEXIBLE = [(cls, version) for cls, version in _CASES if version >= cls.FLEXIBLE_FROM]


@pytest.mark.parametrize(
    ("cls", "version"), _FLEXIBLE, ids=[f"{cls.__name__}-{version}" for cls, version in _FLEXIBLE]
)
def test_unknown_tags_survive_in_every_struct(cls: type[Message], version: int) -> None:
    rng = random.Random(f"tags {cls.__name__} {version}")
    for _ in range(4):
        message = random_message(cls, version, rng)
        for part in _structs(message):
            part.unknown_tags = {100: rng.randbytes(rng.randrange(200)), 70_000: b""}
        encoded = encode(message, version)
        decoded, end = decode(cls, version, encoded)
        assert (decoded, end) == (message, len(encoded))
        assert encode(decoded, version) == encoded


def _structs(message: Message) -> list[Message]:
    found = [message]
    for field in type(message).__fields__:
        value = getattr(message, field.name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Message):
                found += _structs(item)
    return found


def test_announced_lengths_allocate_nothing() -> None:
    """Four billion of anything, at every position of a message of 250 bytes."""
    rng = random.Random(7)
    for cls, version in ((MetadataResponse, 8), (MetadataResponse, 12), (MetadataRequest, 12)):
        encoded = encode(random_message(cls, version, rng), version)[:250]
        tracemalloc.start()
        try:
            for at in range(len(encoded)):
                for lie in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07"):
                    with contextlib.suppress(ProtocolError):
                        decode(cls, version, encoded[:at] + lie)
            assert tracemalloc.get_traced_memory()[1] < 200_000
        finally:
            tracemalloc.stop()


def test_number_of_elements_is_bounded() -> None:
    # 4,194,305 group names of no bytes, then as many unknown tags.
    with pytest.raises(ProtocolError, match="too many elements"):
        decode(DeleteGroupsRequest, 2, b"\x82\x80\x80\x02" + b"\1" * (4 << 20 | 1) + b"\0")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("00 0000", "null"),  # software name is null
        ("02ff 0161 00", "UTF-8"),
        ("8080808010 00", "too many bits"),
        ("ffffffffff", "too many bytes"),
        ("01 01 ff", "ends too early"),
        ("01 01 02 0001 61 0001 62", "ascend"),
        ("ffffffff0f", "too large"),
    ],
)
def test_reasons_name_the_fault(data: str, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode(ApiVersionsRequest, 3, bytes.fromhex(data))


def test_mark_of_a_nullable_struct_is_checked() -> None:
    from fastmq.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest

    good = encode(DescribeTopicPartitionsRequest(), 0)
    assert decode(DescribeTopicPartitionsRequest, 0, good)[0].cursor is None
    with pytest.raises(ProtocolError, match="neither"):
        decode(DescribeTopicPartitionsRequest, 0, good[:-2] + b"\2\0")


def test_whole_requests_of_random_bytes_raise_nothing_else() -> None:
    rng = random.Random(3)
    for cls, version in _CASES:
        if not cls.__name__.endswith("Request"):
            continue
        frame = encode_request(version, 1, "client", random_message(cls, version, rng))
        for _ in range(30):
            try:
                decode_request(_mutated(frame, rng))
            except ProtocolError:
                continue


def test_any_flat_buffer_is_decoded_and_no_other() -> None:
    data = encode(MetadataRequest(topics=None), 1)
    for same in (data, bytearray(data), memoryview(data)):
        assert decode(MetadataRequest, 1, same)[0].topics is None
    assert decode(MetadataRequest, 1, b"xx" + data, 2)[1] == 2 + len(data)
    with pytest.raises(TypeError):
        decode(MetadataRequest, 1, memoryview(data).cast("i"))
    with pytest.raises(ValueError, match="outside"):
        decode(MetadataRequest, 1, data, 5)
    with pytest.raises(ValueError, match="outside"):
        decode(MetadataRequest, 1, data, -1)
