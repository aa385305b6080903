"""What members of a group with the `sticky` assignor tell the leader of their last assignment.

Java's format: an array of (topic, array of partitions), then the generation. It predates the owned
partitions of the subscription, and is what that assignor reads.
"""

import struct
from collections.abc import Iterable

from fastmq.client.consumer.assignors import by_topic
from fastmq.client.topic_partition import TopicPartition

__all__ = ["decode_sticky", "encode_sticky"]


def encode_sticky(owned: Iterable[TopicPartition], generation: int) -> bytes:
    """Return the user data of a subscription."""
    topics = by_topic(list(owned))
    out = bytearray(struct.pack(">i", len(topics)))
    for topic, partitions in topics.items():
        name = topic.encode()
        out += struct.pack(">h", len(name)) + name
        out += struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    return bytes(out + struct.pack(">i", generation))


def decode_sticky(data: bytes) -> tuple[tuple[TopicPartition, ...], int]:
    """Return what a member had, and in which generation; nothing where the data is malformed."""
    view = bytes(data)
    names = []
    try:
        (count,) = struct.unpack_from(">i", view)
        at = 4
        for _ in range(count):
            (size,) = struct.unpack_from(">h", view, at)
            topic = view[at + 2 : at + 2 + size].decode()
            at += 2 + size
            (partitions,) = struct.unpack_from(">i", view, at)
            if not 0 <= partitions <= len(view):
                return (), -1
            names += [
                TopicPartition(topic, index)
                for index in struct.unpack_from(f">{partitions}i", view, at + 4)
            ]
            at += 4 + 4 * partitions
        generation = struct.unpack_from(">i", view, at)[0] if len(view) >= at + 4 else -1
    except (struct.error, UnicodeDecodeError):
        return (), -1
    return tuple(names), generation
