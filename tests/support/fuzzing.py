"""Throws requests at a broker over sockets and says what became of each.

A session is one connection that carries some requests the codec can read and, as its last, at most
one that it cannot. The broker must answer all of the former, in order, and close after the latter.
Many sessions are open at a time. Requests that may wait (Fetch, JoinGroup, SyncGroup, Produce) are
given up after a while; whatever else is not answered is kept for the report, as are answers that
cannot be read.
"""

import contextlib
import random
import selectors
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from fastmq.errors import ProtocolError
from fastmq.protocol import decode_request, decode_response, request_class
from fastmq.protocol.api import APIS, ApiKey
from fastmq.protocol.messages.fetch import FetchRequest
from fastmq.protocol.messages.produce import ProduceRequest
from fastmq.server.handlers import ROUTES

from support.grammar import segments, variants, wrong_headers
from support.messages import plausible
from support.wire import batch

SESSIONS = 48
FRAMES_PER_SESSION = 24
# A request that may wait has had its chance then; another one must be answered by the latter.
PARKED_S, STUCK_S = 1.0, 10.0
LOOK_S = 0.1
_MAY_WAIT = (ApiKey.FETCH, ApiKey.PRODUCE, ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP)
_KEPT_PROBLEMS = 50
# One answer in so many is decoded.
_SAMPLE = 16

SERVED = [
    (key, version)
    for key in sorted(ROUTES)
    for version in range(APIS[key].min_version, APIS[key].max_version + 1)
]
#: So that a request is answered at once, and does something.
VALUES = {
    "max_wait_ms": 0,
    "min_bytes": 0,
    "session_timeout_ms": 100,
    "rebalance_timeout_ms": 100,
    "DeleteTopicState.topic_id": bytes(15) + b"\1",
    "AlterConfigsResource.configs": [],
    "name": "events",
    "offset": 0,
}


@dataclass
class Report:
    """What became of the inputs.

    Attributes:
        counts: "answered", "closed", "either" of them, "parked", and the inputs themselves.
        problems: (what, request in hex) of those that were not treated as they should be.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    slowest_s: float = 0.0

    def problem(self, what: str, frame: bytes) -> None:
        """Keep an input for the report."""
        self.counts[what] += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append((what, frame.hex()))

    def add(self, other: "Report") -> None:
        """Add what another worker found."""
        self.counts += other.counts
        self.problems += other.problems
        self.slowest_s = max(self.slowest_s, other.slowest_s)


def inputs(topic_id: bytes, seed: int, shard: int = 0, shards: int = 1) -> Iterator[bytes]:
    """Yield faulty requests without end: all APIs and versions, round after round."""
    served = SERVED[shard::shards]
    for number in range(1 << 30):
        rng = random.Random(f"{seed} {shard} {number}")
        rng.shuffle(served)
        for key, version in served:
            other = {
                **VALUES,
                "group_id": f"group-{rng.randrange(500)}",
                "validate_only": rng.random() < 0.5,
                "records": batch(b"x" * rng.randrange(60)),
            }
            message = plausible(request_class(key), version, topic_id, other)
            client_id = rng.choice((b"fuzz", b"", b"x" * 40))
            yield from variants(segments(message, version, client_id), rng)
        if number == 0:
            yield from wrong_headers(bytes(40), rng)


@dataclass(slots=True, eq=False)
class _Session:
    """Frames on one connection: `expected` to be answered, then the last one's fate, if any."""

    sock: socket.socket
    frames: list[bytes]
    expected: int
    last: str
    began_s: float
    received: bytearray = field(default_factory=bytearray)
    answered: int = 0


class _Sessions:
    def __init__(self, port: int, report: Report) -> None:
        self._port = port
        self._report = report
        self._selector = selectors.DefaultSelector()
        self._open: set[_Session] = set()
        self._sampled = 0
        # Read but not sent: it came after a request that nothing can follow.
        self._waiting: deque[bytes] = deque()
        self._next_look_s = 0.0

    def run(self, frames: Iterable[bytes]) -> None:
        source = iter(frames)
        more = True
        while more or self._open:
            while more and len(self._open) < SESSIONS:
                more = self._start(source)
            for key, _ in self._selector.select(0.05):
                self._on_readable(key.data)
            now_s = time.monotonic()
            if now_s >= self._next_look_s:
                self._next_look_s = now_s + LOOK_S
                self._look_for_waiting(now_s)
        self._selector.close()

    def _start(self, source: Iterator[bytes]) -> bool:
        chosen: list[bytes] = []
        expected, last, more = 0, "", True
        while len(chosen) < FRAMES_PER_SESSION and not last:
            frame = self._waiting.popleft() if self._waiting else next(source, None)
            if frame is None:
                more = False
                break
            self._report.counts["inputs"] += 1
            kind = fate(frame)
            if len(frame) >= 8:
                frame = frame[:4] + struct.pack(">i", len(chosen)) + frame[8:]
            chosen.append(frame)
            if kind == "answer":
                expected += 1
            else:
                last = kind
        if chosen:
            self._send(_Session(self._connect(), chosen, expected, last, time.monotonic()))
        return more

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), 10)

    def _send(self, session: _Session) -> None:
        data = b"".join(struct.pack(">i", len(frame)) + frame for frame in session.frames)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            session.sock.sendall(data)
        session.sock.setblocking(False)
        self._open.add(session)
        self._selector.register(session.sock, selectors.EVENT_READ, session)

    def _on_readable(self, session: _Session) -> None:
        try:
            data = session.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._on_close(session)
            return
        session.received += data
        buffer, at = session.received, 0
        while len(buffer) - at >= 4:
            (size,) = struct.unpack_from(">i", buffer, at)
            if len(buffer) - at - 4 < size:
                break
            self._on_answer(session, bytes(buffer[at + 4 : at + 4 + size]))
            at += 4 + size
        del buffer[:at]
        settled = session.expected + (session.last == "either")
        if session.answered == settled and session.last != "close":
            self._end(session)

    def _on_answer(self, session: _Session, answer: bytes) -> None:
        frame = session.frames[min(session.answered, len(session.frames) - 1)]
        if session.answered >= session.expected and session.last != "either":
            self._report.problem("answered although unreadable", frame)
        elif answer[:4] != frame[4:8]:
            self._report.problem("answer to another request", frame)
        else:
            self._report.counts["answered"] += 1
            self._sampled += 1
            if self._sampled % _SAMPLE == 0 and session.answered < session.expected:
                self._decode(frame, answer)
        session.answered += 1
        took_s = time.monotonic() - session.began_s
        self._report.slowest_s = max(self._report.slowest_s, took_s)

    def _decode(self, frame: bytes, answer: bytes) -> None:
        key, version = struct.unpack_from(">hh", frame)
        if key == ApiKey.API_VERSIONS and not APIS[key].supports(version):
            version = 0
        try:
            decode_response(key, version, answer)
        except ProtocolError as exc:
            self._report.problem(f"unreadable answer: {exc}", frame)

    def _on_close(self, session: _Session) -> None:
        if session.answered < session.expected:
            self._report.problem("closed although readable", session.frames[session.answered])
            self._give_back(session)
        else:
            self._report.counts["closed"] += 1
        self._end(session)

    def _give_back(self, session: _Session) -> None:
        """Send again what came behind the request that was not answered."""
        rest = session.frames[session.answered + 1 :]
        self._report.counts["inputs"] -= len(rest)
        self._waiting.extend(rest)

    def _look_for_waiting(self, now_s: float) -> None:
        for session in list(self._open):
            waited_s = now_s - session.began_s
            if session.answered >= session.expected:
                if session.last == "either" and waited_s > LOOK_S:
                    self._end(session)
                elif waited_s > STUCK_S:
                    self._report.problem("not closed", session.frames[-1])
                    self._end(session)
                continue
            frame = session.frames[session.answered]
            if waited_s > PARKED_S and struct.unpack_from(">h", frame)[0] in _MAY_WAIT:
                self._report.counts["parked"] += 1
            elif waited_s > STUCK_S:
                self._report.problem("not answered", frame)
            else:
                continue
            self._give_back(session)
            self._end(session)

    def _end(self, session: _Session) -> None:
        self._selector.unregister(session.sock)
        session.sock.close()
        self._open.discard(session)


def fate(frame: bytes) -> str:
    """What the broker must do with a request: "answer", "close", or "either".

    Produce with acks=0 is not answered, nor a Fetch that poses as another broker's. The C path
    reads Produce and Fetch without looking at what it does not need: a client id that is no text,
    null for an empty array, the order of unknown tags.
    """
    try:
        header, message = decode_request(frame)
    except ProtocolError:
        if len(frame) < 8:
            return "close"
        key, version = struct.unpack_from(">hh", frame)
        if key in (ApiKey.PRODUCE, ApiKey.FETCH):
            return "either"
        newer = key == ApiKey.API_VERSIONS and not APIS[key].supports(version)
        return "answer" if newer else "close"
    if header.api_key not in ROUTES:
        return "close"
    if isinstance(message, ProduceRequest) and message.acks == 0:
        return "either"
    if isinstance(message, FetchRequest) and is_replicas(message):
        return "either"
    return "answer"


def is_replicas(fetch: FetchRequest) -> bool:
    """Whether the sender says that it is a broker."""
    return fetch.replica_id >= 0 or (
        fetch.replica_state is not None and fetch.replica_state.replica_id >= 0
    )


def attack(
    port: int, topic_id: bytes, seed: int, count: int, shard: int = 0, shards: int = 1
) -> Report:
    """Send `count` inputs of a seed and report. May run in a process of its own."""
    report = Report()
    sessions = _Sessions(port, report)
    sessions.run(islice(inputs(topic_id, seed, shard, shards), count))
    return report


def replay(port: int, frames: Iterable[bytes]) -> Report:
    """Send given requests."""
    report = Report()
    _Sessions(port, report).run(frames)
    return report
