"""Peers that announce, stall, flood or do not read, beside an honest load.

RELIABILITY S1 (announced lengths), S5 (slow senders), S6 (floods), S7 (slow readers). Every test
keeps the honest load going and requires no error in it and a bounded p99; the bound has a floor of
50 ms, because the load shares two cores with the attack.
"""

import contextlib
import resource
import socket
import struct
import time

import pytest

from support.broker import Broker
from support.records import create_topic
from support.wire import (
    API_FETCH,
    API_PRODUCE,
    API_VERSIONS,
    Honest,
    Peer,
    batch,
    fetch_body,
    frame,
    produce_body,
    quiet_p99_ms,
)

pytestmark = pytest.mark.reliability

TOPIC = "honest"
MIB = 1 << 20
P99_FLOOR_MS = 50.0


@pytest.fixture(autouse=True)
def many_descriptors():
    """As many descriptors as the system gives, for us and the broker that we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def honest_beside(broker: Broker):
    """The honest load, judged at the end against its quiet self."""
    quiet = quiet_p99_ms(broker.port, TOPIC)
    with Honest(broker.port, TOPIC) as honest:
        yield honest
    assert not honest.errors, honest.errors[:3]
    assert len(honest.latencies_ms) > 20
    bound = max(2 * quiet, P99_FLOOR_MS)
    assert honest.p99_ms() <= bound, f"p99 {honest.p99_ms():.1f} ms, quiet {quiet:.1f} ms"


def connect_many(broker: Broker, count: int) -> list[socket.socket]:
    """Connections from several loopback addresses: the ports of one would not do."""
    opened = []
    for i in range(count):
        sock = socket.socket()
        sock.bind((f"127.0.0.{2 + i % 8}", 0))
        sock.connect(("127.0.0.1", broker.port))
        opened.append(sock)
    return opened


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "count", [1000, pytest.param(8000, marks=pytest.mark.slow)], ids=["1000", "8000"]
)
def test_an_announced_length_allocates_nothing(make_broker, count, many_descriptors):
    if many_descriptors < 2 * count:
        pytest.skip(f"{count} connections need {2 * count} descriptors, not {many_descriptors}")
    broker = make_broker()
    create_topic(broker, TOPIC, 1)
    with honest_beside(broker):
        before = broker.rss_bytes()
        head = struct.pack(">ihhi", 100 * MIB - 1, API_PRODUCE, 3, 1)
        attackers = connect_many(broker, count)
        for sock in attackers:
            sock.sendall(head + bytes(100 - len(head)))
        time.sleep(1)
        grown = broker.rss_bytes() - before
        close_all(attackers)
    print(f"\n{count} announced 100 MiB each: {grown / MIB:.1f} MiB more")
    assert grown <= 64 * MIB


def test_a_length_over_the_limit_closes_the_connection(make_broker):
    broker = make_broker()
    for announced in (-1, -(2**31), 2**31 - 1, 100 * MIB + 1):
        with Peer(broker.port) as peer:
            peer.socket.sendall(struct.pack(">ihhi", announced, API_PRODUCE, 3, 1))
            assert peer.is_closed(5), announced
    with Peer(broker.port) as peer:
        peer.call(API_VERSIONS, 0, b"")


@pytest.mark.timeout(120)
def test_slow_senders_starve_nobody_and_are_ended(make_broker):
    frame_timeout_s = 3
    broker = make_broker(overrides={"fastmq.frame.timeout.ms": frame_timeout_s * 1000})
    create_topic(broker, TOPIC, 1)
    request = frame(API_VERSIONS, 0, 1, b"")
    with honest_beside(broker):
        attackers = connect_many(broker, 1000)
        for second in range(frame_timeout_s + 3):
            for sock in attackers:
                with contextlib.suppress(OSError):
                    sock.send(request[second : second + 1])
            time.sleep(1)
        ended = 0
        for sock in attackers:
            sock.settimeout(0.01)
            try:
                ended += sock.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                ended += 1
        close_all(attackers)
    assert ended == len(attackers), f"{len(attackers) - ended} still there after the deadline"


@pytest.mark.timeout(120)
def test_more_connections_than_descriptors_are_survived(make_broker):
    """The broker may open 400 files; 600 peers connect. It accepts again when they go."""
    broker = make_broker(wrap=("prlimit", "--nofile=400:400"))
    create_topic(broker, TOPIC, 1)
    with Peer(broker.port) as early:
        early.call(API_VERSIONS, 0, b"")
        attackers = connect_many(broker, 600)
        time.sleep(1)
        early.call(API_VERSIONS, 0, b"")
        cpu = broker.cpu_seconds()
        time.sleep(1)
        assert broker.cpu_seconds() - cpu < 0.5, "accept spins without descriptors"
        close_all(attackers)
        early.call(API_VERSIONS, 0, b"")
    deadline = time.monotonic() + 10
    while True:
        try:
            with Peer(broker.port, timeout_s=1) as late:
                late.call(API_VERSIONS, 0, b"")
            break
        except OSError:
            assert time.monotonic() < deadline, "no new connection is served"


@pytest.mark.timeout(120)
def test_connection_limits_in_all_and_per_address(make_broker):
    broker = make_broker(overrides={"max.connections": 50, "max.connections.per.ip": 20})

    def served(address: str, count: int) -> list[socket.socket]:
        alive = []
        for _ in range(count):
            sock = socket.socket()
            sock.bind((address, 0))
            sock.settimeout(5)
            sock.connect(("127.0.0.1", broker.port))
            try:
                sock.sendall(frame(API_VERSIONS, 0, 1, b""))
                if sock.recv(4):
                    alive.append(sock)
                    continue
            except OSError:
                pass
            sock.close()
        return alive

    per_address = served("127.0.0.2", 25)
    assert len(per_address) == 20
    others = [s for i in range(3, 6) for s in served(f"127.0.0.{i}", 20)]
    assert len(per_address) + len(others) == 50
    close_all(per_address + others)


@pytest.mark.timeout(120)
def test_a_flood_of_connections_that_say_nothing_or_reset(make_broker):
    broker = make_broker()
    create_topic(broker, TOPIC, 1)
    before = broker.fd_count()
    with honest_beside(broker):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for sock in connect_many(broker, 40):
                # A reset instead of an orderly end.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            time.sleep(0.02)
    deadline = time.monotonic() + 10
    while broker.fd_count() > before + 10:
        assert time.monotonic() < deadline, f"{broker.fd_count()} descriptors, {before} before"
        time.sleep(0.1)


@pytest.mark.timeout(120)
def test_consumers_that_never_read_are_bounded(make_broker):
    broker = make_broker()
    create_topic(broker, TOPIC, 2)
    with Peer(broker.port) as peer:
        records = batch(b"y" * 900_000)
        for _ in range(60):
            peer.call(API_PRODUCE, 3, produce_body(TOPIC, 1, records))
    with honest_beside(broker):
        before = broker.rss_bytes()
        attackers = connect_many(broker, 100)
        request = frame(API_FETCH, 4, 1, fetch_body(TOPIC, 1, 0, 50 * MIB))
        for sock in attackers:
            sock.sendall(request * 4)
        time.sleep(3)
        grown = broker.rss_bytes() - before
        close_all(attackers)
    print(f"\n100 consumers that do not read 50 MiB: {grown / MIB:.1f} MiB more")
    assert grown <= 512 * MIB
