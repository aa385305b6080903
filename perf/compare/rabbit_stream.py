"""The little of RabbitMQ's stream protocol that a load needs: set up, publish, be confirmed, read.

Publish frames are built once and sent again and again, as the C generators do, and received bytes
are looked at per frame: Python is not what is measured.
"""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

RESPONSE = 0x8000
DECLARE_PUBLISHER, PUBLISH, CONFIRM, SUBSCRIBE, DELIVER, CREDIT = 1, 2, 3, 7, 8, 9
CREATE, DELETE = 13, 14
PEER_PROPERTIES, SASL_HANDSHAKE, SASL_AUTHENTICATE, TUNE, OPEN = 17, 18, 19, 20, 21
OK = 1
DELIVER_HEAD_BYTES = 4 + 2 + 2 + 1
OFFSET_FIRST = 1
CREDITS = 10
RECEIVE_BYTES = 1 << 20
STALL_S = 10.0


class StreamError(Exception):
    """The broker refused."""


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def _frame(key: int, body: bytes) -> bytes:
    return struct.pack(">IHH", len(body) + 4, key, 1) + body


class Client:
    """A connection that is logged in."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.settimeout(10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.correlation = 0
        self.ask(PEER_PROPERTIES, struct.pack(">I", 0))
        self.ask(SASL_HANDSHAKE, b"")
        secret = b"\0guest\0guest"
        self.ask(SASL_AUTHENTICATE, _text("PLAIN") + struct.pack(">I", len(secret)) + secret)
        frame = self.next_frame()
        assert frame[:2] == struct.pack(">H", TUNE), frame
        self.sock.sendall(_frame(TUNE, frame[4:8] + struct.pack(">I", 0)))  # no heartbeats
        self.ask(OPEN, _text("/"))

    def next_frame(self) -> bytes:
        """The next frame without its length."""
        while True:
            if len(self.buffer) >= 4:
                size = int.from_bytes(self.buffer[:4], "big")
                if len(self.buffer) >= 4 + size:
                    frame = bytes(self.buffer[4 : 4 + size])
                    del self.buffer[: 4 + size]
                    return frame
            data = self.sock.recv(RECEIVE_BYTES)
            if not data:
                raise StreamError("closed")
            self.buffer += data

    def ask(self, key: int, body: bytes, accept: tuple[int, ...] = (OK,)) -> None:
        """A request and its answer.

        Raises:
            StreamError: another code than the accepted ones.
        """
        self.correlation += 1
        self.sock.sendall(_frame(key, struct.pack(">I", self.correlation) + body))
        while True:
            frame = self.next_frame()
            (got,) = struct.unpack_from(">H", frame)
            if got == key | RESPONSE:
                (code,) = struct.unpack_from(">H", frame, 8)
                if code not in accept:
                    raise StreamError(f"request {key}: response code {code}")
                return

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


@contextlib.contextmanager
def connected(port: int, count: int = 1) -> Iterator[list[Client]]:
    """Clients that are closed at the end."""
    clients: list[Client] = []
    try:
        for _ in range(count):
            clients.append(Client(port))
        yield clients
    finally:
        for client in clients:
            client.close()


def answers(port: int) -> bool:
    """Whether a client can log in."""
    try:
        with connected(port):
            return True
    except (OSError, StreamError):
        return False


def create(port: int, stream: str) -> None:
    """A stream with the broker's defaults."""
    with connected(port) as (client,):
        client.ask(CREATE, _text(stream) + struct.pack(">I", 0))


def delete(port: int, stream: str) -> None:
    """Remove a stream, if it is there (code 2: it is not)."""
    with connected(port) as (client,):
        client.ask(DELETE, _text(stream), accept=(OK, 2))


def publish_frame(records: int, record_bytes: int) -> bytes:
    """Messages 0 to records - 1 of publisher 0."""
    value = bytes(range(256)) * (record_bytes // 256 + 1)
    entries = b"".join(
        struct.pack(">QI", i, record_bytes) + value[:record_bytes] for i in range(records)
    )
    return _frame(PUBLISH, struct.pack(">BI", 0, records) + entries)


def take_frames(buffer: bytearray) -> list[bytes]:
    """The whole frames at the beginning of a buffer, removed from it."""
    frames = []
    at = 0
    while len(buffer) - at >= 4:
        size = int.from_bytes(buffer[at : at + 4], "big")
        if len(buffer) - at - 4 < size:
            break
        frames.append(bytes(buffer[at + 4 : at + 4 + size]))
        at += 4 + size
    del buffer[:at]
    return frames


class Publisher:
    """One connection with at most `window` frames that are not confirmed."""

    def __init__(self, client: Client, frame: bytes, records: int, window: int) -> None:
        self.client, self.frame, self.records, self.window = client, frame, records, window
        self.unconfirmed = 0  # records
        self.confirmed = 0
        self.out = memoryview(b"")

    def wants_write(self) -> bool:
        """Whether bytes are waiting or another frame may leave."""
        return bool(self.out) or self.unconfirmed < self.window * self.records

    def write(self) -> None:
        """Send what the socket takes."""
        while self.wants_write():
            if not self.out:
                self.out = memoryview(self.frame)
                self.unconfirmed += self.records
            try:
                self.out = self.out[self.client.sock.send(self.out) :]
            except BlockingIOError:
                return

    def read(self) -> None:
        """Count what is confirmed."""
        with contextlib.suppress(BlockingIOError):
            data = self.client.sock.recv(RECEIVE_BYTES)
            if not data:
                raise StreamError("closed")
            self.client.buffer += data
        for frame in take_frames(self.client.buffer):
            (key,) = struct.unpack_from(">H", frame)
            if key == CONFIRM:
                (count,) = struct.unpack_from(">I", frame, 5)
                self.unconfirmed -= count
                self.confirmed += count


def produce(
    port: int,
    streams: list[str],
    *,
    records: int,
    record_bytes: int,
    window: int,
    warmup_s: float,
    seconds: float,
    on_counting: Any,
) -> dict[str, Any]:
    """Publish to the streams, a connection each, for a time; counts what was confirmed."""
    frame = publish_frame(records, record_bytes)
    with connected(port, len(streams)) as clients, selectors.DefaultSelector() as selector:
        publishers = []
        for client, stream in zip(clients, streams, strict=True):
            client.ask(DECLARE_PUBLISHER, struct.pack(">B", 0) + _text("") + _text(stream))
            client.sock.setblocking(False)
            publishers.append(Publisher(client, frame, records, window))
            selector.register(client.sock, selectors.EVENT_READ, publishers[-1])

        def run_until(end: float) -> None:
            while time.monotonic() < end:
                for publisher in publishers:
                    publisher.write()
                for key, _ in selector.select(0.001):
                    key.data.read()

        run_until(time.monotonic() + warmup_s)
        on_counting()
        before, began = sum(p.confirmed for p in publishers), time.monotonic()
        run_until(began + seconds)
        elapsed = time.monotonic() - began
        count = sum(p.confirmed for p in publishers) - before
        return {"records": count, "seconds": elapsed}


def consume(
    port: int, stream: str, *, seconds: float, records_max: int, on_counting: Any
) -> dict[str, Any]:
    """Read a stream from its beginning for a time, or until that many records have come."""
    with connected(port) as (client,):
        body = struct.pack(">B", 0) + _text(stream) + struct.pack(">HH", OFFSET_FIRST, CREDITS)
        on_counting()
        began = last = time.monotonic()
        count = 0
        client.correlation += 1
        # Properties came with a later version of the request; the first one ends here.
        client.sock.sendall(_frame(SUBSCRIBE, struct.pack(">I", client.correlation) + body))
        credit = _frame(CREDIT, struct.pack(">BH", 0, 1))
        while count < records_max and time.monotonic() - began < seconds:
            for frame in take_frames(client.buffer):
                (key,) = struct.unpack_from(">H", frame)
                if key == DELIVER:
                    # Subscription id, then the chunk: magic, type, entries, records.
                    (records,) = struct.unpack_from(">I", frame, 2 + 2 + 1 + 1 + 1 + 2)
                    count += records
                    last = time.monotonic()
                    client.sock.sendall(credit)
            if count < records_max:
                client.buffer += client.sock.recv(RECEIVE_BYTES)
        return {"records": count, "seconds": last - began}
