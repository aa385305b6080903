"""Connections that this broker opens to other brokers of its cluster.

A link is opened with ApiVersions and the brokers' own SASL mechanism. Then requests go one at a
time: as messages (`call`), or as frames that somebody else writes and reads (`exchange`: fetches of
a replica, which the engine speaks itself).
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

import trio

from fastmq.auth import PEER_MECHANISM, PeerClient, PeerIdentity
from fastmq.auth.peer import NONCE_SIZE
from fastmq.errors import ConnectionFailed, ErrorCode, KafkaError
from fastmq.ids import RandomBytes
from fastmq.net import Connection
from fastmq.net.frames import Frame, FrameReader
from fastmq.protocol import Message
from fastmq.protocol.messages.sasl_authenticate import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)
from fastmq.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse

__all__ = ["AddressOf", "PeerCredentials", "PeerLink"]

AddressOf = Callable[[int], tuple[str, int] | None]
"""Where a broker listens for others, by its id; None while that is not known."""

Connect = Callable[[str, int], Awaitable[trio.SocketStream]]
"""Opens a connection to a host and port; OSError when nobody is there."""

_CONNECT_TIMEOUT_S = 3.0
_FRAME_BYTES_MAX = 256 << 20


class PeerCredentials(NamedTuple):
    """How this broker reaches others and proves itself."""

    secret: bytes
    identity: PeerIdentity
    connect: Connect
    random_bytes: RandomBytes


class PeerLink:
    """An open connection to another broker; use `open` to make one. Not for two tasks at once."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._connection = Connection(client_id="fastmq-broker")
        # Frames of `exchange` do not pass through the connection.
        self._frames = FrameReader(_FRAME_BYTES_MAX)

    @classmethod
    async def open(
        cls, host: str, port: int, credentials: PeerCredentials, *, timeout_s: float = 0.0
    ) -> "PeerLink":
        """Connect and let both sides prove that they are of one cluster.

        Args:
            host: of a listener of the other broker.
            port: of it.
            credentials: ours.
            timeout_s: for all of it; 0 = 3 seconds.

        Raises:
            ConnectionFailed: nobody is there, or it does not answer in time.
            KafkaError: it refuses us, or is not of this cluster.
            ProtocolError: it is no broker.
        """
        try:
            with trio.fail_after(timeout_s or _CONNECT_TIMEOUT_S):
                link = cls(await credentials.connect(host, port))
                try:
                    await link._begin(credentials)
                except BaseException:
                    await trio.aclose_forcefully(link._stream)
                    raise
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as exc:
            raise ConnectionFailed(f"no broker answers at {host}:{port}: {exc}") from exc
        return link

    async def _begin(self, credentials: PeerCredentials) -> None:
        self._connection.start()
        await self._flush()
        while not self._connection.is_ready:
            await self._receive()
            await self._flush()
        exchange = PeerClient(
            credentials.secret, credentials.identity, credentials.random_bytes(NONCE_SIZE)
        )
        answer = await self._ask(SaslHandshakeRequest(mechanism=PEER_MECHANISM), 1)
        chosen = cast("SaslHandshakeResponse", answer)
        if chosen.error_code != ErrorCode.NONE:
            raise KafkaError(chosen.error_code, "the broker there takes no links of other brokers")
        nonce = await self._authenticate(b"")
        exchange.check(await self._authenticate(exchange.prove(nonce)))

    async def _authenticate(self, token: bytes) -> bytes:
        answer = await self._ask(SaslAuthenticateRequest(auth_bytes=token), 1)
        told = cast("SaslAuthenticateResponse", answer)
        if told.error_code != ErrorCode.NONE:
            raise KafkaError(told.error_code, told.error_message or "")
        return bytes(told.auth_bytes)

    async def call(self, message: Message, version: int, *, timeout_s: float) -> Message:
        """Send a request and return its answer.

        Args:
            message: the request.
            version: that both brokers speak: they are of one release.
            timeout_s: afterwards the link is of no use any more.

        Raises:
            ConnectionFailed: the link broke, or no answer came in time.
            ProtocolError: the answer is none.
        """
        try:
            with trio.fail_after(timeout_s):
                return await self._ask(message, version)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as exc:
            raise ConnectionFailed(f"the other broker does not answer: {exc}") from exc

    async def exchange(self, frame: bytes, *, timeout_s: float) -> Frame:
        """Send a frame, length prefix included, and return the frame that answers it, without.

        Raises:
            ConnectionFailed: the link broke, or no answer came in time.
            ProtocolError: the answer is too large.
        """
        try:
            with trio.fail_after(timeout_s):
                await self._stream.send_all(frame)
                while True:
                    buffer = self._frames.buffer()
                    count = await self._stream.socket.recv_into(buffer)
                    if count == 0:
                        raise ConnectionFailed("the other broker closed the link")
                    if frames := self._frames.received(count):
                        return frames[0]
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as exc:
            raise ConnectionFailed(f"the other broker does not answer: {exc}") from exc

    async def close(self) -> None:
        """End the link at once."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def _ask(self, message: Message, version: int) -> Message:
        self._connection.send(message, version)
        await self._flush()
        while True:
            for answer in await self._receive():
                return answer

    async def _flush(self) -> None:
        for part in self._connection.take_output():
            await self._stream.send_all(part)

    async def _receive(self) -> list[Message]:
        count = await self._stream.socket.recv_into(self._connection.receive_buffer())
        if count == 0:
            raise ConnectionFailed("the other broker closed the link")
        return [answer.message for answer in self._connection.received(count)]
