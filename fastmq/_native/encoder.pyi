"""The encoder of Kafka's messages; see `fastmq.protocol` for the way to use it."""

from fastmq._native.schema import MessageBase, Table

def encode(table: Table, message: MessageBase, prefix: bytes = b"") -> bytes:
    """Return `prefix` and the message. Raises ValueError or TypeError."""

def encode_parts(
    table: Table, message: MessageBase, prefix: bytes = b""
) -> list[bytes | memoryview]:
    """The same in pieces; large `records` are views of what the message holds, not copies."""
