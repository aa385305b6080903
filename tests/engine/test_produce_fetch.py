"""Produce and Fetch through the C engine, over real sockets."""

import random
import struct
import threading
import time
from pathlib import Path

import pytest

from fastmq._native.core import (
    EVENT_APPENDED,
    EVENT_CLOSED,
    EVENT_FRAME,
    FLUSH_ACK,
    FLUSH_INTERVAL,
    FLUSH_NEVER,
    SLOW_FETCH,
    SLOW_PRODUCE,
    PartitionConfig,
)
from fastmq.protocol import encode_request
from fastmq.protocol.messages.metadata import MetadataRequest

from support.batches import as_stored, base_offsets, batch
from support.engine import Harness, fetch, only, produce


@pytest.mark.parametrize("version", range(3, 14))
def test_produce_answers_offsets_in_every_version(harness: Harness, version: int) -> None:
    partition = harness.partition()
    client = harness.client()
    for expected in (0, 2, 4):
        part = only(client.call(version, produce((0, batch(b"a", b"b")))))
        assert (part.error_code, part.base_offset) == (0, expected)
        assert part.log_append_time_ms == -1
    assert partition.log_end() == partition.high_watermark() == partition.synced() == 6


@pytest.mark.parametrize("version", range(4, 19))
def test_fetch_returns_the_stored_bytes_in_every_version(harness: Harness, version: int) -> None:
    harness.partition()
    client = harness.client()
    first, second = batch(b"a"), batch(b"b" * 5_000, b"c")
    client.call(9, produce((0, first)))
    client.call(9, produce((0, second)))
    part = only(client.call(version, fetch((0, 0))))
    assert part.error_code == 0
    assert part.high_watermark == part.last_stable_offset == 3
    assert bytes(part.records) == as_stored(first, 0, 3) + as_stored(second, 1, 3)
    # The batch that contains the offset is returned whole.
    part = only(client.call(version, fetch((0, 2))))
    assert bytes(part.records) == as_stored(second, 1, 3)
    assert bytes(only(client.call(version, fetch((0, 3)))).records) == b""


@pytest.mark.parametrize("flush", [FLUSH_ACK, FLUSH_INTERVAL, FLUSH_NEVER])
@pytest.mark.parametrize("acks", [0, 1, -1])
def test_every_flush_mode_and_acks_makes_records_visible(
    harness: Harness, flush: int, acks: int
) -> None:
    partition = harness.partition(flush=flush)
    client = harness.client()
    client.send(9, produce((0, batch(b"a")), acks=acks))
    if acks != 0:
        assert only(client.receive(0, 9)[1]).error_code == 0
    reader = harness.client()
    part = only(reader.call(12, fetch((0, 0), max_wait_ms=5_000)))
    assert base_offsets(bytes(part.records)) == [0]
    assert partition.high_watermark() == 1
    assert client.silent(0.05)


def test_large_slices_leave_by_sendfile_between_small_ones(harness: Harness) -> None:
    for index in range(4):
        harness.partition(index)
    client = harness.client()
    big, small = batch(b"x" * 300_000), batch(b"y")
    for index, data in enumerate((small, big, small, big)):
        client.call(9, produce((index, data)))
    before = harness.engine.metrics()["sendfile_calls"]
    (topic,) = client.call(16, fetch((0, 0), (1, 0), (2, 0), (3, 0))).responses
    got = [bytes(part.records) for part in topic.partitions]
    assert got == [as_stored(data, 0, 3) for data in (small, big, small, big)]
    assert harness.engine.metrics()["sendfile_calls"] > before


def test_fetch_honours_the_limits_but_returns_one_whole_batch(harness: Harness) -> None:
    harness.partition(0)
    harness.partition(1)
    client = harness.client()
    data = batch(b"x" * 10_000)
    for _ in range(5):
        client.call(9, produce((0, data), (1, data)))
    size = len(data)
    assert len(only(client.call(12, fetch((0, 0), partition_max_bytes=1))).records) == size
    part = only(client.call(12, fetch((0, 1), partition_max_bytes=3 * size)))
    assert base_offsets(bytes(part.records)) == [1, 2, 3]
    (topic,) = client.call(12, fetch((0, 0), (1, 0), max_bytes=size // 2)).responses
    assert [len(part.records) for part in topic.partitions] == [size, 0]


def test_fetch_waits_for_min_bytes_and_no_longer_than_max_wait(harness: Harness) -> None:
    harness.partition()
    reader, writer = harness.client(), harness.client()
    data = batch(b"x" * 100)
    reader.send(12, fetch((0, 0), max_wait_ms=10_000, min_bytes=2 * len(data)))
    writer.call(9, produce((0, data)))
    assert reader.silent()
    writer.call(9, produce((0, data)))
    assert base_offsets(bytes(only(reader.receive(1, 12)[1]).records)) == [0, 1]
    began = time.monotonic()
    part = only(reader.call(12, fetch((0, 2), max_wait_ms=150)))
    assert 0.14 < time.monotonic() - began < 5
    assert part.error_code == 0
    assert part.records == b""


def test_many_waiting_fetches_are_woken_by_one_produce(harness: Harness) -> None:
    harness.partition()
    readers = [harness.client() for _ in range(200)]
    for reader in readers:
        reader.send(12, fetch((0, 0), max_wait_ms=20_000))
    while harness.engine.metrics()["parked_fetches"] < len(readers):
        time.sleep(0.005)
    harness.client().call(9, produce((0, batch(b"a"))))
    for reader in readers:
        assert base_offsets(bytes(only(reader.receive(1, 12)[1]).records)) == [0]
    assert harness.engine.metrics()["parked_fetches"] == 0


def test_errors_are_answered_at_once_and_per_partition(harness: Harness) -> None:
    harness.partition()
    client = harness.client()
    (topic,) = client.call(9, produce((0, batch(b"a")), (7, batch(b"a")))).responses
    assert [part.error_code for part in topic.partition_responses] == [0, 3]
    assert [part.base_offset for part in topic.partition_responses] == [0, -1]
    assert only(client.call(9, produce((0, batch(b"a")), topic="none"))).error_code == 3
    (topic,) = client.call(12, fetch((0, 1), (7, 0), max_wait_ms=60_000)).responses
    assert [part.error_code for part in topic.partitions] == [0, 3]
    assert [part.high_watermark for part in topic.partitions] == [1, -1]
    assert only(client.call(12, fetch((0, 2)))).error_code == 1
    assert only(client.call(12, fetch((0, -1)))).error_code == 1


@pytest.mark.parametrize(("epoch", "code"), [(2, 74), (3, 0), (4, 75), (-1, 0)])
def test_fetch_checks_the_leader_epoch(harness: Harness, epoch: int, code: int) -> None:
    harness.partition()
    request = fetch((0, 0))
    request.topics[0].partitions[0].current_leader_epoch = epoch
    assert only(harness.client().call(12, request)).error_code == code


def test_bad_batches_are_refused_with_a_reason_and_leave_nothing(harness: Harness) -> None:
    partition = harness.partition(max_message_bytes=1_000)
    client = harness.client()
    good = batch(b"a")
    torn = bytearray(good)
    torn[-1] ^= 1
    cases = {
        bytes(torn): 2,
        good[:-1]: 2,
        good + good: 87,
        batch(b"x" * 2_000): 10,
        batch(b"a", attributes=0x20): 87,
        batch(b"a", attributes=0x10, producer_id=1, epoch=0, sequence=0): 48,
        b"": 87,
    }
    for data, code in cases.items():
        part = only(client.call(9, produce((0, data))))
        assert part.error_code == code, data
        assert part.error_message
    assert partition.log_end() == 0
    assert only(client.call(9, produce((0, good), acks=2))).error_code == 21


def test_a_duplicate_is_answered_with_the_original_offset(harness: Harness) -> None:
    partition = harness.partition()
    client = harness.client()
    for sequence in (0, 1, 2):
        data = batch(b"a", producer_id=7, epoch=0, sequence=sequence)
        assert only(client.call(9, produce((0, data)))).base_offset == sequence
    again = batch(b"a", producer_id=7, epoch=0, sequence=1)
    part = only(client.call(9, produce((0, again))))
    assert (part.error_code, part.base_offset) == (0, 1)
    gap = batch(b"a", producer_id=7, epoch=0, sequence=9)
    assert only(client.call(9, produce((0, gap)))).error_code == 45
    assert partition.log_end() == 3


def test_log_append_time_is_set_and_answered(harness: Harness) -> None:
    harness.partition(log_append_time=True)
    client = harness.client()
    before = int(time.time() * 1000)
    part = only(client.call(9, produce((0, batch(b"a")))))
    assert before <= part.log_append_time_ms <= int(time.time() * 1000)
    records = bytes(only(client.call(12, fetch((0, 0)))).records)
    assert struct.unpack_from(">q", records, 35)[0] == part.log_append_time_ms


def test_answers_keep_the_order_of_requests(harness: Harness) -> None:
    """Pipelined produces, a frame for Python between them, a fetch behind."""
    harness.partition()
    client = harness.client()
    for _ in range(20):
        client.send(9, produce((0, batch(b"a"))))
    client.send(9, MetadataRequest())
    client.send(9, produce((0, batch(b"b"))))
    client.send(12, fetch((0, 20)))
    for expected in range(20):
        correlation_id, answer = client.receive(0, 9)
        assert correlation_id == expected + 1
        assert only(answer).base_offset == expected
    assert client.silent()
    events = []
    while not events:
        events = [e for e in harness.engine.take() if e[0] == EVENT_FRAME]
    ((_, conn_id, api_key, version, correlation_id, frame),) = events
    assert (api_key, version, correlation_id) == (3, 9, 21)
    assert frame[:4] == b"\0\x03\0\x09"
    harness.engine.reply(conn_id, b"answer")
    assert client.receive_raw() == b"answer"
    assert only(client.receive(0, 9)[1]).base_offset == 20
    assert base_offsets(bytes(only(client.receive(1, 12)[1]).records)) == [20]


def test_flagged_partitions_go_to_python(harness: Harness) -> None:
    harness.partition(0, flags=SLOW_PRODUCE)
    harness.partition(1, flags=SLOW_FETCH)
    client = harness.client()
    for message, version in ((produce((0, batch(b"a"))), 9), (fetch((1, 0)), 12)):
        client.send(version, message)
        events = []
        while not events:
            events = harness.engine.take()
        (event,) = events
        assert event[2] == message.API_KEY
        harness.engine.reply(event[1], None)
    assert only(client.call(9, produce((1, batch(b"a"))))).error_code == 0


def test_frames_survive_any_cut_of_the_stream(harness: Harness) -> None:
    partition = harness.partition(max_message_bytes=1 << 23)
    client = harness.client()
    rng = random.Random(5)
    stream = bytearray()
    count = 0
    for size in (10, 70_000, 1_000, 3_000_000, 10, 400_000, 400_000, 400_000, 20):
        count += 1
        frame = encode_request(9, count, "t", produce((0, batch(b"z" * size))))
        stream += struct.pack(">i", len(frame)) + frame

    def feed() -> None:
        at = 0
        while at < len(stream):
            part = rng.choice((1, 3, 100, 5_000, 200_000))
            client.sock.sendall(stream[at : at + part])
            at += part

    thread = threading.Thread(target=feed)
    thread.start()
    for expected in range(count):
        assert only(client.receive(0, 9)[1]).base_offset == expected
    thread.join()
    assert partition.log_end() == count
    got = b"".join(
        bytes(only(client.call(12, fetch((0, i), partition_max_bytes=1))).records)
        for i in range(count)
    )
    assert base_offsets(got) == list(range(count))


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">i", -5),
        struct.pack(">i", 3) + b"abc",
        struct.pack(">i", 2**30),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">ihhih", 12, 0, 9, 1, -1) + b"\x00\xff",
        struct.pack(">ihhih", 14, 1, 12, 1, 5) + b"abcd",
    ],
)
def test_nonsense_closes_the_connection(harness: Harness, frame: bytes) -> None:
    client = harness.client()
    client.sock.sendall(frame)
    assert client.closed()
    kinds = [event[0] for event in harness.engine.take()]
    assert kinds == [EVENT_CLOSED]
    assert harness.engine.connection_count() == 0


def test_acks_zero_that_fails_closes_the_connection(harness: Harness) -> None:
    client = harness.client()
    client.send(9, produce((0, batch(b"a")), acks=0))
    assert client.closed()


def test_python_appends_and_hears_when_they_are_durable(harness: Harness) -> None:
    partition = harness.partition()
    code, base, _, reason = partition.append(bytearray(batch(b"a")), trusted=True, wait_token=99)
    assert (code, base, reason) == (0, 0, None)
    events = []
    while not events:
        events = harness.engine.take()
    assert events == [(EVENT_APPENDED, 99, 0)]
    assert partition.high_watermark() == 1
    assert partition.read(0, 1 << 20) == as_stored(batch(b"a"), 0, 3)
    assert partition.read(1, 1 << 20) == b""


def test_losing_the_lead_answers_everyone(harness: Harness) -> None:
    partition = harness.partition()
    reader = harness.client()
    reader.send(12, fetch((0, 0), max_wait_ms=60_000))
    while harness.engine.metrics()["parked_fetches"] == 0:
        time.sleep(0.005)
    partition.become_offline()
    assert only(reader.receive(1, 12)[1]).error_code == 6
    assert only(harness.client().call(9, produce((0, batch(b"a"))))).error_code == 6
    harness.engine.remove_partition(partition)
    assert only(harness.client().call(12, fetch((0, 0)))).error_code == 3


def test_drain_answers_waiting_fetches_and_begins_nothing_new(harness: Harness) -> None:
    harness.partition()
    reader, writer = harness.client(), harness.client()
    reader.send(12, fetch((0, 0), max_wait_ms=60_000))
    while harness.engine.metrics()["parked_fetches"] == 0:
        time.sleep(0.005)
    harness.engine.set_draining()
    assert only(reader.receive(1, 12)[1]).error_code == 0
    writer.send(9, produce((0, batch(b"a"))))
    assert writer.silent()
    assert harness.engine.unsent_replies() == 0


def test_records_survive_a_restart_clean_or_not(tmp_path: Path) -> None:
    data = [batch(b"%d" % i, producer_id=5, epoch=0, sequence=i) for i in range(50)]
    for clean in (True, False):
        path = tmp_path / str(clean)
        path.mkdir()
        harness = Harness(path)
        partition = harness.partition()
        client = harness.client()
        for one in data:
            client.call(9, produce((0, one)))
        partition.close(clean=clean)
        harness.close()
        harness = Harness(path)
        where = path / "events-0"
        partition = harness.engine.add_partition(
            "events",
            0,
            topic_id=bytes(16),
            dir_id=0,
            path=str(where),
            config=PartitionConfig(),
            clean=clean,
        )
        if not clean:
            found = partition.recover(log_start=0, recovery_point=0)
            assert found is not None
            assert found["truncated_at"] == -1
        partition.become_leader(4)
        assert partition.log_end() == partition.high_watermark() == 50
        client = harness.client()
        part = only(client.call(12, fetch((0, 0))))
        assert bytes(part.records) == b"".join(as_stored(d, i, 3) for i, d in enumerate(data))
        again = only(client.call(9, produce((0, data[49]))))
        assert (again.error_code, again.base_offset) == (0, 49)
        harness.close()


def test_latencies_count_every_answer_with_its_wait(harness: Harness) -> None:
    harness.partition()
    client = harness.client()
    for _ in range(5):
        client.call(9, produce((0, batch(b"a"))))
    client.call(12, fetch((0, 0)))
    client.call(12, fetch((0, 5), max_wait_ms=120))
    latencies = harness.engine.latencies()
    assert sum(latencies["produce"]) == 5
    assert sum(latencies["fetch"]) == 2
    slow = sum(
        count
        for count, limit in zip(latencies["fetch"], [*latencies["limits_us"], 1 << 62], strict=True)
        if limit > 100_000
    )
    assert slow == 1
    assert latencies["fetch_sum_ns"] >= 120_000_000


def test_an_open_partition_may_be_removed_and_registered_again(harness: Harness) -> None:
    client = harness.client()
    for expected in range(3):
        partition = harness.partition()
        assert only(client.call(9, produce((0, batch(b"a"))))).base_offset == expected
        assert partition.is_open()
        harness.engine.remove_partition(partition)
        assert not partition.is_open()


def test_readers_keep_up_with_writers_and_see_every_byte(harness: Harness) -> None:
    """Consumers at the tail while batches of all sizes are appended, synced and fetched."""
    harness.partition(max_message_bytes=1 << 20, segment_bytes=1 << 20)
    rng = random.Random(9)
    batches = [
        batch(bytes(rng.choices(b"ab", k=rng.choice((1, 50, 5_000, 60_000))))) for _ in range(400)
    ]
    writer = harness.client()

    def write() -> None:
        for data in batches:
            writer.send(9, produce((0, data)))

    thread = threading.Thread(target=write)
    thread.start()
    readers = [harness.client() for _ in range(3)]
    stored = b"".join(as_stored(data, i, 3) for i, data in enumerate(batches))
    for reader in readers:
        got = bytearray()
        while len(got) < len(stored):
            offset = len(base_offsets(bytes(got)))
            part = only(reader.call(12, fetch((0, offset), max_wait_ms=5_000)))
            assert part.error_code == 0
            got += part.records
        assert got == stored
    for expected in range(len(batches)):
        assert only(writer.receive(0, 9)[1]).base_offset == expected
    thread.join()
