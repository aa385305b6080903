"""What consumers write into JoinGroup and SyncGroup of groups of the type `consumer`.

A broker stores these bytes as they are. It looks into a subscription only to learn the topics,
and into an assignment only for people. Both begin with an int16 version; a reader takes a later
version for the latest that it knows, because fields are only ever added at the end.

Source: Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment; KIP-429, KIP-792,
KIP-881.
"""

from typing import TypeVar

from fastmq.errors import ProtocolError
from fastmq.protocol._message import Buffer, Message, array, decode, encode, int32, raw, string

__all__ = [
    "ConsumerProtocolAssignment",
    "ConsumerProtocolSubscription",
    "ConsumerTopicPartitions",
    "decode_consumer",
    "encode_consumer",
]

C = TypeVar("C", bound=Message)


class ConsumerTopicPartitions(Message):
    """Partitions of one topic."""

    topic: str = string("0+")
    partitions: list[int] = array(int32, "0+")


class ConsumerProtocolSubscription(Message, versions="0-3"):
    """What a member wants and has."""

    topics: list[str] = array(string, "0+")
    user_data: bytes | None = raw("0+", nullable="0+", default=None)
    owned_partitions: list[ConsumerTopicPartitions] = array(
        ConsumerTopicPartitions, "1+", ignorable=True
    )
    generation_id: int = int32("2+", default=-1, ignorable=True)
    rack_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)


class ConsumerProtocolAssignment(Message, versions="0-3"):
    """What a member gets."""

    assigned_partitions: list[ConsumerTopicPartitions] = array(ConsumerTopicPartitions, "0+")
    user_data: bytes | None = raw("0+", nullable="0+", default=None)


def encode_consumer(message: Message, version: int) -> bytes:
    """Encode a subscription or assignment with its version in front."""
    return version.to_bytes(2) + encode(message, version)


def decode_consumer(cls: type[C], data: Buffer) -> C:
    """Decode a subscription or assignment.

    Raises:
        ProtocolError: the bytes are malformed.
    """
    version = int.from_bytes(data[:2], signed=True)
    if len(data) < 2 or version < 0:
        raise ProtocolError(f"{cls.__name__} has no version")
    return decode(cls, min(version, cls.MAX_VERSION), data, 2)[0]
