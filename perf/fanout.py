"""One produce that wakes 500 consumers which wait for one partition: the broker's CPU for each.

Target (DESIGN 10): at most 5 us each. Every consumer is answered over a socket of its own, so the
yardstick is a bare loop that does nothing but 500 sends of as many bytes to 500 sockets, in the
same rounds.
"""

import resource
import socket
import struct
import time
from pathlib import Path

import harness

from fastmq.protocol import encode_request
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch

CONSUMERS = 500
RECORD_BYTES = 100
WAIT_MAX_MS = 20_000
PARKED_TIMEOUT_S = 10.0
_FETCH_VERSION = 12
_PRODUCE_VERSION = 9


def frame(version: int, message: object) -> bytes:
    """A request with its length."""
    data = encode_request(version, 1, "perf", message)
    return struct.pack(">i", len(data)) + data


def fetch_request(offset: int) -> bytes:
    """A Fetch that waits for one byte behind `offset`."""
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    topic = FetchTopic(topic=harness.TOPIC, partitions=[partition])
    return frame(
        _FETCH_VERSION,
        FetchRequest(
            replica_id=-1,
            max_wait_ms=WAIT_MAX_MS,
            min_bytes=1,
            max_bytes=1 << 20,
            topics=[topic],
        ),
    )


def produce_request() -> bytes:
    """One record."""
    batch = build_batch([NewRecord(None, bytes(RECORD_BYTES))])
    partition = ProducePartition(index=0, records=bytes(batch))
    topic = ProduceTopic(name=harness.TOPIC, partition_data=[partition])
    return frame(_PRODUCE_VERSION, ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[topic]))


def answer(sock: socket.socket) -> int:
    """Receive one answer; its size."""
    (size,) = struct.unpack(">i", sock.recv(4, socket.MSG_WAITALL))
    assert len(sock.recv(size, socket.MSG_WAITALL)) == size
    return int(size) + 4


def wait_until_idle(target: harness.Target) -> float:
    """Wait until the broker has taken in all that was sent; its CPU time then."""
    deadline = time.monotonic() + PARKED_TIMEOUT_S
    before = target.cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = target.cpu_seconds()
        if now - before < 0.0005:
            return now
        before = now
    raise TimeoutError("the broker does not come to rest")


def bare_sends(size: int) -> float:
    """CPU in us of a send of so many bytes to each of as many sockets, per socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=CONSUMERS) as server:
        ours, theirs = [], []
        for _ in range(CONSUMERS):
            theirs.append(socket.create_connection(server.getsockname()))
            ours.append(server.accept()[0])
        data = bytes(size)
        before = resource.getrusage(resource.RUSAGE_THREAD)
        for sock in ours:
            sock.send(data)
        after = resource.getrusage(resource.RUSAGE_THREAD)
        for sock in (*ours, *theirs):
            sock.close()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / CONSUMERS * 1e6


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    rounds = max(5, options.rounds)
    with harness.scratch(options) as root, harness.broker(options, Path(root) / "broker") as broker:
        producer = socket.create_connection(("127.0.0.1", broker.port))
        consumers = [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(CONSUMERS)]
        produce = produce_request()
        woken, bare, last_ms = [], [], []
        for offset in range(rounds + 1):
            fetch = fetch_request(offset)
            for sock in consumers:
                sock.sendall(fetch)
            before = wait_until_idle(broker)
            began = time.monotonic()
            producer.sendall(produce)
            sizes = {answer(sock) for sock in consumers}
            took_ms = (time.monotonic() - began) * 1000
            answer(producer)
            used = wait_until_idle(broker) - before
            if offset > 0:  # the first one opens files
                woken.append(used / CONSUMERS * 1e6)
                bare.append(bare_sends(max(sizes)))
                last_ms.append(took_ms)
        for sock in (producer, *consumers):
            sock.close()
    middle = len(woken) // 2
    harness.report(
        f"one produce wakes {CONSUMERS} consumers",
        cpu_us_each=round(sorted(woken)[middle], 2),
        bare_send_us=round(sorted(bare)[middle], 2),
        all_answered_ms=round(sorted(last_ms)[middle], 2),
        rounds=len(woken),
    )


main()
