"""What one request may cost, whatever it says."""

import struct
import time
from pathlib import Path

import pytest

from fastmq._native.core import EVENT_FRAME

from support.batches import batch
from support.engine import Client, Harness, fetch, only, produce

ENTRIES_MAX = 512 << 10
EMPTY_TOPIC = b"\x01\x01\x00"  # no name, no partitions, no tags


def frame(api_key: int, version: int, body: bytes) -> bytes:
    head = struct.pack(">hhih", api_key, version, 7, -1) + b"\x00"
    return struct.pack(">i", len(head) + len(body)) + head + body


def compact_count(count: int) -> bytes:
    out, left = bytearray(), count + 1
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def fetch_of(topics: int) -> bytes:
    body = struct.pack(">iiiibii", -1, 0, 0, 1 << 20, 0, 0, -1)
    return frame(1, 12, body + compact_count(topics) + EMPTY_TOPIC * topics + b"\x01\x01\x00")


def produce_of(topics: int) -> bytes:
    body = b"\x00" + struct.pack(">hi", 1, 1000)
    return frame(0, 9, body + compact_count(topics) + EMPTY_TOPIC * topics + b"\x00")


@pytest.mark.parametrize("request_of", [fetch_of, produce_of])
def test_a_request_that_names_more_than_there_can_be_is_refused(tmp_path: Path, request_of) -> None:
    harness = Harness(tmp_path)
    harness.partition()
    client, other = harness.client(), harness.client()
    client.sock.sendall(request_of(1000))
    assert client.receive_raw().count(EMPTY_TOPIC) >= 1000 - 1
    client.sock.sendall(request_of(ENTRIES_MAX + 1))
    assert client.closed()
    assert only(other.call(9, produce((0, batch(b"x"))))).error_code == 0
    assert only(other.call(12, fetch((0, 0)))).error_code == 0
    harness.close()


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_requests_that_python_has_count_as_memory_in_use(tmp_path: Path) -> None:
    size, room = 600_000, 2_000_000
    harness = Harness(tmp_path, max_buffered_bytes=room)
    engine = harness.engine
    large = frame(3, 12, bytes(size))

    def send(client: Client, expected: int) -> None:
        client.sock.sendall(large)
        until(lambda: engine.metrics()["bytes_in"] >= expected * len(large))

    first, second = harness.client(), harness.client()
    send(first, 1)
    ((kind, conn_id, *_),) = engine.take()
    assert kind == EVENT_FRAME
    assert size <= engine.metrics()["buffered_bytes"] < 2 * size
    send(second, 2)
    assert engine.take() == [], "there is no room for another copy"
    engine.reply(conn_id, b"done")
    found: list[tuple] = []
    until(lambda: found.extend(engine.take()) or found)
    assert found[0][1] != conn_id
    engine.close_connection(found[0][1])
    engine.close_connection(conn_id)
    assert engine.metrics()["buffered_bytes"] == 0
    harness.close()


def test_a_peer_that_goes_away_gives_back_the_memory_that_others_wait_for(tmp_path: Path) -> None:
    harness = Harness(tmp_path, max_buffered_bytes=2_000_000)
    engine = harness.engine
    greedy = harness.client()
    greedy.sock.setblocking(False)
    begun = memoryview(struct.pack(">i", 3_000_000) + bytes(2_999_999))
    sent, refusals = 0, 0
    deadline = time.monotonic() + 20
    while refusals < 20:  # the engine has room for no more, and leaves the rest in the socket
        assert time.monotonic() < deadline
        try:
            sent += greedy.sock.send(begun[sent : sent + 65_536])
            refusals = 0
        except BlockingIOError:
            refusals += engine.metrics()["buffered_bytes"] > 500_000
            time.sleep(0.001)
    assert sent < len(begun)
    greedy.sock.close()
    until(lambda: engine.metrics()["connections"] == 0)
    assert engine.metrics()["buffered_bytes"] == 0
    harness.close()
