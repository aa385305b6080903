"""Goal: groups land on the partition that Kafka's clients and tools expect."""

import pytest

from fastmq.coordinator.partitioning import partition_for


@pytest.mark.parametrize(
    ("key", "hash_code"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("polygenelubricants", -(2**31)),
        ("\u00e4", 0xE4),
        ("\U0001f600", 0xD83D * 31 + 0xDE00),
    ],
)
def test_partition_is_javas_hash_code_without_its_sign(key: str, hash_code: int) -> None:
    assert partition_for(key, 50) == (hash_code & 0x7FFFFFFF) % 50


def test_partition_of_a_known_negative_hash() -> None:
    # "fastmq-groups-x" style names overflow: compare with a slow reading of the definition.
    key = "console-consumer-83921"
    value = 0
    for char in key:
        value = value * 31 + ord(char)
    value = (value + 2**31) % 2**32 - 2**31
    assert value < 0 or partition_for(key, 50) == value % 50
    assert partition_for(key, 50) == (value & 0x7FFFFFFF) % 50
