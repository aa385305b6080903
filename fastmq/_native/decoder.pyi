"""The decoder of Kafka's messages; see `fastmq.protocol` for the way to use it."""

from fastmq._native.schema import MessageBase, Table

def decode(
    table: Table, data: bytes | bytearray | memoryview, offset: int = 0
) -> tuple[MessageBase, int]:
    """Return the message and the position after it. Raises ProtocolError."""

def decode_uvarint(data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int]:
    """Return an unsigned varint of at most 32 bits and the position after it."""
