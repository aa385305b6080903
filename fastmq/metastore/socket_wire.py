"""Messages on the store's socket: a length of four bytes, then JSON.

A request is `[operation, argument, ...]`, its answer `["ok", result]` or `[error, text]`. One
request at a time is on a connection, so they need no numbers. Both ends are of one version: the
supervisor starts its brokers with the code that it runs itself.
"""

import base64
import json
from typing import Any, Final

import trio

from fastmq.limits import STORE_MESSAGE_BYTES_MAX
from fastmq.metastore.interface import (
    CompactedError,
    Delete,
    Event,
    Item,
    MetastoreError,
    MetastoreUnavailableError,
    Op,
    Put,
)

__all__ = [
    "ERRORS",
    "decode_op",
    "event_row",
    "item_row",
    "op_row",
    "read_message",
    "row_event",
    "row_item",
    "write_message",
]

_LENGTH_BYTES: Final = 4
# Errors by their names on the wire, the particular ones first.
ERRORS: Final[dict[str, type[MetastoreError]]] = {
    "compacted": CompactedError,
    "unavailable": MetastoreUnavailableError,
    "refused": MetastoreError,
}

Row = list[Any]


async def read_message(stream: trio.SocketStream) -> Any:
    """Return the next message, None at the end.

    Raises:
        trio.BrokenResourceError: the connection broke, or ended within a message.
    """
    head = await _read_exactly(stream, _LENGTH_BYTES)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if size > STORE_MESSAGE_BYTES_MAX:
        raise trio.BrokenResourceError(f"a message of {size} bytes")
    return json.loads(await _read_exactly(stream, size))


async def _read_exactly(stream: trio.SocketStream, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive_some(min(size - len(data), 1 << 18))
        if not chunk:
            if data:
                raise trio.BrokenResourceError("the connection ended within a message")
            break
        data += chunk
    return data


async def write_message(stream: trio.SocketStream, message: object) -> None:
    """Send a message.

    Raises:
        trio.BrokenResourceError: the connection broke.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    await stream.send_all(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


def op_row(op: Op) -> Row:
    """Return an operation as JSON."""
    return [op.key, _text(op.value), op.lease] if isinstance(op, Put) else [op.key]


def decode_op(row: Row) -> Op:
    """Return the operation in a row."""
    return Put(row[0], _bytes(row[1]), row[2]) if len(row) > 1 else Delete(row[0])


def item_row(item: Item) -> Row:
    """Return an item as JSON."""
    return [item.key, _text(item.value), item.revision]


def row_item(row: Row) -> Item:
    """Return the item in a row."""
    return Item(row[0], _bytes(row[1]), row[2])


def event_row(event: Event) -> Row:
    """Return an event as JSON."""
    return [event.key, None if event.value is None else _text(event.value), event.revision]


def row_event(row: Row) -> Event:
    """Return the event in a row."""
    return Event(row[0], None if row[1] is None else _bytes(row[1]), row[2])


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
