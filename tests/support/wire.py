"""Kafka frames by hand on plain sockets: for peers that no client library would be.

`Honest` is the well-behaved load beside an attack: it keeps the latency of every request.
"""

import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from kafka.record.memory_records import MemoryRecordsBuilder

API_PRODUCE, API_FETCH, API_VERSIONS = 0, 1, 18


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def frame(api_key: int, api_version: int, correlation_id: int, body: bytes) -> bytes:
    """A whole request with header version 1."""
    head = struct.pack(">hhi", api_key, api_version, correlation_id) + string("raw")
    return struct.pack(">i", len(head) + len(body)) + head + body


def batch(value: bytes) -> bytes:
    """A record batch with one record."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 20)
    builder.append(timestamp=int(time.time() * 1000), key=None, value=value)
    builder.close()
    return bytes(builder.buffer())


def produce_body(topic: str, partition: int, records: bytes, acks: int = 1) -> bytes:
    """Produce version 3."""
    return (
        struct.pack(">hhi", -1, acks, 10_000)
        + struct.pack(">i", 1)
        + string(topic)
        + struct.pack(">iii", 1, partition, len(records))
        + records
    )


def fetch_body(
    topic: str, partition: int, offset: int, max_bytes: int, min_bytes: int = 1
) -> bytes:
    """Fetch version 4."""
    return (
        struct.pack(">iiiib", -1, 500, min_bytes, max_bytes, 0)
        + struct.pack(">i", 1)
        + string(topic)
        + struct.pack(">iiqi", 1, partition, offset, max_bytes)
    )


class Peer:
    """A blocking connection."""

    def __init__(self, port: int, timeout_s: float = 10.0, address: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((address, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def call(self, api_key: int, api_version: int, body: bytes) -> bytes:
        """Send a request and return its answer, from behind the correlation id."""
        self.correlation_id += 1
        self.socket.sendall(frame(api_key, api_version, self.correlation_id, body))
        size = struct.unpack(">i", self.receive(4))[0]
        answer = self.receive(size)
        assert struct.unpack(">i", answer[:4])[0] == self.correlation_id
        return answer[4:]

    def receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionResetError("closed by the broker")
            data += piece
        return bytes(data)

    def is_closed(self, wait_s: float) -> bool:
        """Whether the broker closes the connection within a time."""
        self.socket.settimeout(wait_s)
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


class Honest:
    """Sends small produce requests in the background, `rate` per second, one at a time."""

    def __init__(self, port: int, topic: str, rate: float = 200.0) -> None:
        self.latencies_ms: list[float] = []
        self.errors: list[str] = []
        self._interval_s = 1 / rate
        self._port = port
        self._body = produce_body(topic, 0, batch(b"x" * 100))
        # array of one topic, its name, array of one partition, its index: then the error
        self._error_at = 4 + 2 + len(topic) + 4 + 4
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(20)

    def p99_ms(self) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[int(len(ordered) * 0.99)]

    def _run(self) -> None:
        try:
            with Peer(self._port) as peer:
                while not self._stop.is_set():
                    began = time.monotonic()
                    answer = peer.call(API_PRODUCE, 3, self._body)
                    self.latencies_ms.append((time.monotonic() - began) * 1000)
                    code = struct.unpack_from(">h", answer, self._error_at)[0]
                    if code:
                        self.errors.append(f"error code {code}")
                    time.sleep(self._interval_s)
        except OSError as error:
            self.errors.append(repr(error))


def quiet_p99_ms(port: int, topic: str, seconds: float = 1.0) -> float:
    """The p99 of an undisturbed honest load."""
    with Honest(port, topic) as honest:
        time.sleep(seconds)
    assert not honest.errors, honest.errors[:3]
    return honest.p99_ms()
