"""Kafka's text files: exact bytes, round trips, and damage that is refused as a whole."""

import random

import pytest

from fastmq.errors import ConfigError
from fastmq.log.checkpoints import (
    DirectoryIdentity,
    decode_epochs,
    decode_identity,
    decode_offsets,
    decode_partition_metadata,
    encode_identity,
    encode_offsets,
    encode_partition_metadata,
)

OFFSETS = {("b", 1): 5, ("a-b.c", 10): 0, ("b", 0): (1 << 63) - 1}
TEXT = b"0\n3\na-b.c 10 0\nb 0 9223372036854775807\nb 1 5\n"


def test_offset_checkpoint_has_kafkas_form() -> None:
    written = encode_offsets(OFFSETS)
    assert [line.split() for line in written.split(b"\n")] == [
        line.split() for line in TEXT.split(b"\n")
    ]
    assert decode_offsets(written) == decode_offsets(TEXT) == OFFSETS
    assert encode_offsets({}) == b"0\n0\n"
    assert decode_offsets(b"0\n0\n") == {}


def test_cut_checkpoints_are_refused() -> None:
    for size in range(len(TEXT)):
        with pytest.raises(ValueError, match=r"."):
            decode_offsets(TEXT[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1\n0\n",
        b"0\nx\n",
        b"0\n-1\n",
        b"0\n1\na 0\n",
        b"0\n1\na 0 1 2\n",
        b"0\n1\na 0 -1\n",
        b"0\n1\na 0 1\nb 0 1\n",
        b"0\n2\na 0 1\n",
        b"0\n1\na 0 \xff\n",
        b"0\n1\na 0 " + b"9" * 30,
    ],
)
def test_damaged_checkpoints_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_offsets(data)


def test_mutated_checkpoints_never_raise_anything_else() -> None:
    rng = random.Random(3)
    for _ in range(3000):
        data = bytearray(TEXT)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode_offsets(bytes(data))
        except ValueError:
            continue


def test_every_flipped_bit_of_a_checkpoint_shows() -> None:
    for data in (encode_offsets(OFFSETS), encode_offsets({("t", 3): 1_000})):
        for at in range(len(data)):
            for bit in range(8):
                flipped = bytearray(data)
                flipped[at] ^= 1 << bit
                with pytest.raises(ValueError, match=r"."):
                    decode_offsets(bytes(flipped))


def test_every_flipped_bit_of_an_identity_shows_or_changes_nothing() -> None:
    identity = DirectoryIdentity("dGVzdC1jbHVzdGVyLWlkIQ", 7, b"\x02" * 16)
    data = encode_identity(identity)
    found = 0
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            try:
                assert decode_identity(bytes(flipped), name="meta.properties") == identity
            except ConfigError:
                found += 1
    assert found > 4 * len(data)


def test_epoch_checkpoint() -> None:
    assert decode_epochs(b"0\n2\n0 0\n3 120\n") == [(0, 0), (3, 120)]
    with pytest.raises(ValueError, match="epoch offset"):
        decode_epochs(b"0\n1\n0 0 0\n")


def test_partition_metadata() -> None:
    data = encode_partition_metadata(b"\x01" * 16)
    assert data == b"version: 0\ntopic_id: AQEBAQEBAQEBAQEBAQEBAQ"
    assert decode_partition_metadata(data) == b"\x01" * 16
    assert decode_partition_metadata(data + b"\n") == b"\x01" * 16
    for size in range(len(data)):
        assert decode_partition_metadata(data[:size]) is None
    assert decode_partition_metadata(bytes(48)) is None


def test_meta_properties() -> None:
    identity = DirectoryIdentity("dGVzdC1jbHVzdGVyLWlkIQ", 7, b"\x02" * 16)
    data = encode_identity(identity)
    assert decode_identity(data, name="meta.properties") == identity
    commented = b"#\n#Sun Nov 22 20:00:00 UTC 2026\n" + data
    assert decode_identity(commented, name="meta.properties") == identity
    for damaged in (b"", data.replace(b"version=1", b"version=0"), data.replace(b"node.id=7", b"")):
        with pytest.raises(ConfigError, match=r"meta\.properties"):
            decode_identity(damaged, name="meta.properties")
