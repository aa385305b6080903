"""Names of the directories inside a log directory.

`<topic>-<partition>` holds a partition; `<topic>-<partition>.<32 hex>-delete` one that is being
deleted; `...-stray` one that the metadata did not know, kept for a person to look at. Kafka's
names, so that its tools know them.
"""

from typing import Final

from fastmq.limits import FILE_NAME_BYTES_MAX
from fastmq.log.checkpoints import PartitionKey

__all__ = [
    "DELETE_SUFFIX",
    "STRAY_SUFFIX",
    "parse_partition_dir",
    "partition_dir",
    "renamed_partition_dir",
]

DELETE_SUFFIX: Final = "-delete"
STRAY_SUFFIX: Final = "-stray"


def partition_dir(topic: str, index: int) -> str:
    """Return the directory name of a partition."""
    assert topic, "a topic has a name"
    assert "/" not in topic, topic
    return f"{topic}-{index}"


def renamed_partition_dir(topic: str, index: int, unique: bytes, suffix: str) -> str:
    """Return the name that a partition's directory gets on its way out.

    Args:
        topic: a long name is cut, so that the whole fits a file name.
        index: of the partition.
        unique: 16 random bytes, so that the name is new.
        suffix: `DELETE_SUFFIX` or `STRAY_SUFFIX`.
    """
    tail = f"-{index}.{unique.hex()}{suffix}"
    return topic[: FILE_NAME_BYTES_MAX - len(tail)] + tail


def parse_partition_dir(name: str) -> PartitionKey | None:
    """Return (topic, partition) of a directory name, None for other names."""
    topic, dash, index = name.rpartition("-")
    if not (topic and dash and index.isascii() and index.isdigit() and len(index) <= 10):
        return None
    # "-007" would be a second name of partition 7.
    return (topic, int(index)) if str(int(index)) == index else None
