"""Sends and receives on sockets that do not block, without giving up the GIL.

The socket module gives it up around every call, and a thread that computes keeps it afterwards for
a whole switch interval (5 ms). On a socket that does not block there is nothing to wait for.
"""

from collections.abc import Iterable

from typing_extensions import Buffer

def new_buffer(size: int) -> bytearray:
    """A bytearray to be received into; its bytes are not set, so that unused ones cost nothing."""

def send_parts(fd: int, parts: Iterable[Buffer]) -> int:
    """Send the first buffers, 64 at most, in one call.

    Returns:
        Bytes sent, counted over the buffers; -1 when the socket takes nothing now.

    Raises:
        OSError: the connection is broken.
    """

def receive_into(fd: int, buffer: Buffer) -> int:
    """Receive what is there.

    Returns:
        Bytes received; 0 at the end of the stream; -1 when nothing is there.

    Raises:
        OSError: the connection is broken.
    """
