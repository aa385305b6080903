"""A blocking connection to one broker: what topics and groups of the fixture are read through.

One request at a time, the newest version that both sides know. It reconnects once when the broker
was restarted. Not a client: it knows one broker and retries nothing else.
"""

import socket
import struct
import threading
from typing import TypeVar, cast

from fastmq.errors import ProtocolError
from fastmq.protocol import APIS, Message, decode_response, encode_request
from fastmq.protocol.api import ApiKey
from fastmq.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from fastmq.server.faults import OWN_CLIENT_ID

__all__ = ["Wire"]

R = TypeVar("R", bound=Message)

_API_VERSIONS_VERSION = 3
_ANSWER_BYTES_MAX = 256 << 20


class Wire:
    """A connection that is opened when it is needed.

    Args:
        address: of the broker, asked again before each connection: a restart may change it.
        timeout_s: for an answer, beyond what the request itself lets the broker wait.
    """

    def __init__(self, host: str, port: int, timeout_s: float = 30.0) -> None:
        self._address = host, port
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._versions: dict[int, tuple[int, int]] = {}
        self._correlation_id = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    def call(self, request: Message, answer: type[R], *, max_version: int = 32767) -> R:
        """Send a request and return its answer.

        Args:
            request: of any API.
            answer: the class of its response.
            max_version: do not use a newer one.

        Raises:
            OSError: the broker cannot be reached, or hung up twice.
        """
        with self._lock:
            try:
                return self._call(request, answer, max_version)
            except ConnectionError:
                self._disconnect()
                return self._call(request, answer, max_version)

    def _call(self, request: Message, answer: type[R], max_version: int) -> R:
        if self._socket is None:
            self._connect()
        low, high = self._versions.get(request.API_KEY, (0, -1))
        version = min(high, max_version, APIS[request.API_KEY].max_version)
        if version < max(low, APIS[request.API_KEY].min_version):
            raise ProtocolError(f"the broker does not know {APIS[request.API_KEY].name}")
        response = self._exchange(request, version)
        assert isinstance(response, answer)
        return response

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, self._timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = ApiVersionsRequest(
            client_software_name="fastmq-testing", client_software_version="1"
        )
        found = cast("ApiVersionsResponse", self._exchange(request, _API_VERSIONS_VERSION))
        self._versions = {row.api_key: (row.min_version, row.max_version) for row in found.api_keys}

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: Message, version: int) -> Message:
        assert self._socket is not None
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        frame = encode_request(version, self._correlation_id, OWN_CLIENT_ID, request)
        try:
            self._socket.sendall(struct.pack(">i", len(frame)) + frame)
            correlation_id, response = decode_response(
                request.API_KEY, version, self._receive_frame()
            )
        except BaseException:
            # Whatever went wrong, what follows on this connection cannot be told apart.
            self._disconnect()
            raise
        assert correlation_id == self._correlation_id
        assert request.API_KEY != ApiKey.API_VERSIONS or version == _API_VERSIONS_VERSION
        return response

    def _receive_frame(self) -> bytes:
        (size,) = struct.unpack(">i", self._receive(4))
        if not 0 <= size <= _ANSWER_BYTES_MAX:
            raise ProtocolError(f"an answer of {size} bytes")
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        assert self._socket is not None
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise ConnectionResetError("the broker closed the connection")
            data += piece
        return bytes(data)
