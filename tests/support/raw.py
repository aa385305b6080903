"""A raw client built on the codec: one socket, one request at a time."""

import socket
import struct
from typing import Any, Self

from fastmq.protocol import decode_response, encode_request


class RawClient:
    """Sends requests of any version and decodes the answers."""

    def __init__(self, address: str, *, timeout_s: float = 10.0) -> None:
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
        self._correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, message: Any, version: int, *, client_id: str | None = "raw") -> int:
        self._correlation_id += 1
        frame = encode_request(version, self._correlation_id, client_id, message)
        self.sock.sendall(struct.pack(">i", len(frame)) + frame)
        return self._correlation_id

    def receive_frame(self) -> bytes:
        (size,) = struct.unpack(">i", self.receive_exactly(4))
        return self.receive_exactly(size)

    def receive(self, api_key: int, version: int, correlation_id: int) -> Any:
        answered, response = decode_response(api_key, version, self.receive_frame())
        assert answered == correlation_id
        return response

    def call(self, message: Any, version: int, *, client_id: str | None = "raw") -> Any:
        correlation_id = self.send(message, version, client_id=client_id)
        return self.receive(message.API_KEY, version, correlation_id)

    def is_closed(self) -> bool:
        """Wait for the peer to close; False when it sends something instead."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def receive_exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.sock.recv(size)
            if not part:
                raise EOFError("the broker closed the connection")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
