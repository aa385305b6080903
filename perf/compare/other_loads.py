"""Loads for NATS JetStream, Redis Streams and RabbitMQ streams, through their own protocols.

Producing to NATS and Redis is done by `perf/build/load` with the request in a file: each message
is a request of its own, as their clients send it, many in flight. RabbitMQ's frames hold many
messages, as its clients send them. Consuming is done here, over raw sockets, in large pieces.
"""

import socket
import time
from collections.abc import Callable
from typing import Any

from compare import rabbit_stream
from compare.peers import Running, nats, redis
from compare.session import Session, generator, python_load

RECEIVE_BYTES = 1 << 20
RABBIT_BATCH = 64
SOCKET_TIMEOUT_S = 10
XREAD_COUNT = 500


def produce(
    session: Session,
    running: Running,
    *,
    record_bytes: int,
    connections: int = 4,
    inflight: int = 256,
    durable: bool = False,
) -> dict[str, Any]:
    """Single messages, many in flight, each acknowledged."""
    load = {"nats": _nats_produce, "redis": _redis_produce, "rabbitmq": _rabbit_produce}
    return load[running.name](session, running, record_bytes, connections, inflight, durable)


def _nats_produce(
    session: Session,
    running: Running,
    record_bytes: int,
    connections: int,
    inflight: int,
    durable: bool,
) -> dict[str, Any]:
    running = _restarted_nats(session, durable) if durable else running
    try:
        new_nats_stream(running.port)
        directory = session.scratch
        request, hello = directory / "nats.request", directory / "nats.hello"
        request.write_bytes(
            b"PUB perf.0 _INBOX.@@@@@@ %d\r\n%s\r\n" % (record_bytes, b"x" * record_bytes)
        )
        hello.write_bytes(nats.HELLO)
        return generator(
            "load",
            running,
            record_bytes,
            request=request,
            hello=hello,
            hello_lines=1,
            answer_lines=2,
            connections=connections,
            inflight=min(256, inflight),
            seconds=session.seconds,
            warmup=session.warmup_ms,
            bytes_max=session.bytes_max,
        )
    finally:
        if durable:
            running.stop()


def _restarted_nats(session: Session, durable: bool) -> Running:
    """A second server that syncs before each acknowledgement: NATS decides that at its start."""
    peer = nats.Nats(session.scratch / session.new_name("nats-durable"), may_install=False)
    if not peer.can_sync_always():
        raise RuntimeError(f"nats-server {peer.version()} does not know sync_interval: always")
    peer.durable = durable
    return peer.start()


def new_nats_stream(port: int) -> None:
    """An empty stream for the subjects `perf.*`."""
    nats.ask(port, f"STREAM.DELETE.{nats.STREAM}", None)
    made = nats.ask(
        port,
        f"STREAM.CREATE.{nats.STREAM}",
        {
            "name": nats.STREAM,
            "subjects": ["perf.*"],
            "storage": "file",
            "num_replicas": 1,
            "retention": "limits",
            "discard": "old",
            "max_msgs": -1,
            "max_bytes": -1,
        },
    )
    if "error" in made:
        raise RuntimeError(f"nats: {made['error']}")


def _redis_produce(
    session: Session,
    running: Running,
    record_bytes: int,
    connections: int,
    inflight: int,
    durable: bool,
) -> dict[str, Any]:
    redis.ask(running.port, b"FLUSHALL")
    redis.ask(running.port, b"CONFIG", b"SET", b"appendfsync", b"always" if durable else b"no")
    request = session.scratch / "redis.request"
    request.write_bytes(redis.command(b"XADD", b"perf", b"*", b"v", b"x" * record_bytes))
    try:
        return generator(
            "load",
            running,
            record_bytes,
            request=request,
            answer_lines=2,
            connections=connections,
            inflight=min(256, inflight),
            seconds=session.seconds,
            warmup=session.warmup_ms,
            bytes_max=session.bytes_max,
        )
    finally:
        redis.ask(running.port, b"CONFIG", b"SET", b"appendfsync", b"no")
        redis.ask(running.port, b"FLUSHALL")


def _rabbit_produce(
    session: Session,
    running: Running,
    record_bytes: int,
    connections: int,
    inflight: int,
    durable: bool,
) -> dict[str, Any]:
    if durable:
        raise RuntimeError("RabbitMQ streams do not sync before they confirm")
    streams = [session.new_name("perf") for _ in range(connections)]
    for stream in streams:
        rabbit_stream.create(running.port, stream)
    try:
        return python_load(
            running,
            record_bytes,
            lambda on_counting: rabbit_stream.produce(
                running.port,
                streams,
                records=RABBIT_BATCH,
                record_bytes=record_bytes,
                window=max(1, inflight // RABBIT_BATCH),
                warmup_s=session.warmup_ms / 1000,
                seconds=session.seconds,
                on_counting=on_counting,
            ),
        )
    finally:
        for stream in streams:
            rabbit_stream.delete(running.port, stream)


def consume(session: Session, running: Running, *, record_bytes: int) -> dict[str, Any]:
    """Read what was written before, once through, as fast as it comes."""
    load = {"nats": _nats_consume, "redis": _redis_consume, "rabbitmq": _rabbit_consume}
    return load[running.name](session, running, record_bytes)


def _nats_consume(session: Session, running: Running, record_bytes: int) -> dict[str, Any]:
    filled = _nats_produce(session, running, record_bytes, 4, 256, durable=False)
    del filled
    state = nats.ask(running.port, f"STREAM.INFO.{nats.STREAM}", None)["state"]
    total = int(state["messages"])

    def read(on_counting: Callable[[], None]) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", running.port), SOCKET_TIMEOUT_S) as sock:
            sock.settimeout(SOCKET_TIMEOUT_S)
            sock.sendall(nats.HELLO.replace(b"@@@@@@", b"reader"))
            on_counting()
            began = time.monotonic()
            nats.ask(
                running.port,
                f"CONSUMER.CREATE.{nats.STREAM}",
                {
                    "stream_name": nats.STREAM,
                    "config": {
                        "deliver_subject": "_INBOX.reader",
                        "deliver_policy": "all",
                        "ack_policy": "none",
                    },
                },
            )
            count = _count_marks(sock, b"\nMSG perf.0 ", total, began + 4 * session.seconds)
            return {"records": count, "seconds": time.monotonic() - began}

    return python_load(running, record_bytes, read)


def _count_marks(sock: socket.socket, mark: bytes, total: int, deadline: float) -> int:
    """How often a mark comes, until `total` or the deadline; it may be cut by a receive."""
    tail = b"\n"
    count = 0
    while count < total and time.monotonic() < deadline:
        data = sock.recv(RECEIVE_BYTES)
        if not data:
            raise RuntimeError("the broker closed the connection")
        data = tail + data
        count += data.count(mark)
        tail = data[-(len(mark) - 1) :]
    return count


def _redis_consume(session: Session, running: Running, record_bytes: int) -> dict[str, Any]:
    redis.ask(running.port, b"FLUSHALL")
    request = session.scratch / "redis.request"
    request.write_bytes(redis.command(b"XADD", b"perf", b"*", b"v", b"x" * record_bytes))
    generator(
        "load",
        running,
        record_bytes,
        request=request,
        answer_lines=2,
        connections=4,
        inflight=256,
        seconds=session.seconds,
        warmup=0,
        bytes_max=session.bytes_max,
    )
    mark = b"$1\r\nv\r\n$%d\r\n" % record_bytes

    def read(on_counting: Callable[[], None]) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", running.port), SOCKET_TIMEOUT_S) as sock:
            sock.settimeout(SOCKET_TIMEOUT_S)
            on_counting()
            began = time.monotonic()
            count, position = 0, b"0"
            while time.monotonic() - began < session.seconds:
                ask = (b"XREAD", b"COUNT", str(XREAD_COUNT).encode(), b"STREAMS", b"perf", position)
                sock.sendall(redis.command(*ask))
                answer = _xread_answer(sock, mark, record_bytes)
                found = answer.count(mark)
                count += found
                last = answer.rfind(b"\r\n*2\r\n" + mark)
                position = answer[answer.rfind(b"\r\n", 0, last) + 2 : last] if found else b"0"
            return {"records": count, "seconds": time.monotonic() - began}

    try:
        return python_load(running, record_bytes, read)
    finally:
        redis.ask(running.port, b"FLUSHALL")


def _xread_answer(sock: socket.socket, mark: bytes, record_bytes: int) -> bytes:
    """A whole answer: as many entries as it announces, the last one to its end."""
    data = bytearray()
    while True:
        data += sock.recv(RECEIVE_BYTES)
        if data.startswith((b"*-1", b"$-1")):
            return b""
        # *1 / *2 / the key's length, the key / the number of entries
        lines = bytes(data[:64]).split(b"\r\n", 5)
        if len(lines) < 6:
            continue
        entries = int(lines[4][1:])
        end = data.rfind(mark) + len(mark) + record_bytes + 2
        if data.count(mark) == entries and len(data) == end:
            return bytes(data)


def _rabbit_consume(session: Session, running: Running, record_bytes: int) -> dict[str, Any]:
    stream = session.new_name("perf")
    rabbit_stream.create(running.port, stream)
    try:
        filled = rabbit_stream.produce(
            running.port,
            [stream],
            records=RABBIT_BATCH,
            record_bytes=record_bytes,
            window=16,
            warmup_s=0,
            seconds=session.seconds,
            on_counting=lambda: None,
        )
        return python_load(
            running,
            record_bytes,
            lambda on_counting: rabbit_stream.consume(
                running.port,
                stream,
                seconds=session.seconds,
                records_max=int(filled["records"]),
                on_counting=on_counting,
            ),
        )
    finally:
        rabbit_stream.delete(running.port, stream)
