"""Reading what a fetch brought: batches of every codec, markers, aborted ones, cuts, damage."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecordsBuilder

from fastmq._native.consumer import Chunk, RecordStream, end_of
from fastmq.compression import decompress
from fastmq.errors import ErrorCode, KafkaError
from fastmq.records import NewRecord, build_batch
from fastmq.records.control import build_marker


def batch(first, count, *, codec=0, producer_id=-1, transactional=False):
    data = build_batch(
        [NewRecord(b"k", b"%d" % (first + n), timestamp=1000 + n) for n in range(count)],
        base_offset=first,
        codec=codec,
        producer_id=producer_id,
        producer_epoch=0 if producer_id >= 0 else -1,
        base_sequence=0 if producer_id >= 0 else -1,
        transactional=transactional,
    )
    return bytes(data)


def marker(offset, producer_id, *, commit):
    data = build_marker(
        commit=commit,
        producer_id=producer_id,
        producer_epoch=0,
        coordinator_epoch=0,
        timestamp_ms=1,
    )
    data[:8] = offset.to_bytes(8, "big")  # outside of the checksum
    return bytes(data)


def read_all(data, offset=0, **more):
    chunk = Chunk(data, "t", 3, offset, decompress, **more)
    found = []
    while records := chunk.next_records():
        found += records
    return found, chunk


@pytest.mark.parametrize("codec", range(5))
def test_records_of_every_codec(codec):
    data = batch(0, 100, codec=codec) + batch(100, 50, codec=codec)
    found, chunk = read_all(data, 20)
    assert [(r.offset, r.value) for r in found] == [(n, b"%d" % n) for n in range(20, 150)]
    assert (chunk.offset, found[0].topic, found[0].partition) == (150, "t", 3)
    assert found[0].timestamp_ms == 1020
    assert end_of(data, 20) == (150, len(data), -1)


@given(st.integers(0, 2_000), st.integers(0, 170))
@settings(max_examples=60, deadline=None)
def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch(cut, offset):
    data = batch(0, 100) + batch(100, 50)
    part = data[: min(cut, len(data))]
    end, whole, _ = end_of(part, offset)
    found, _ = read_all(part[:whole], offset)
    assert end == max([offset, *(r.offset + 1 for r in found)]) or not found
    assert len(batch(0, 100)) > cut or end >= min(100, max(end, offset))


def test_what_kafka_python_writes():
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=100_000)
    for n in range(50):
        builder.append(timestamp=n, key=None, value=b"%d" % n, headers=[("h", b"x")])
    builder.close()
    found, _ = read_all(bytes(builder.buffer()))
    assert [(r.value, r.headers) for r in found] == [(b"%d" % n, (("h", b"x"),)) for n in range(50)]


def test_markers_are_left_out_and_aborted_records_when_reading_committed():
    data = b"".join(
        [
            batch(0, 2, producer_id=7, transactional=True),
            batch(2, 2),
            batch(4, 2, producer_id=8, transactional=True),
            marker(6, 7, commit=False),
            batch(7, 1, producer_id=7, transactional=True),
            marker(8, 8, commit=True),
            marker(9, 7, commit=True),
        ]
    )
    found, chunk = read_all(data)
    assert [r.offset for r in found] == [0, 1, 2, 3, 4, 5, 7]
    assert chunk.offset == 10
    found, _ = read_all(data, aborted=[(0, 7)])
    assert [r.offset for r in found] == [2, 3, 4, 5, 7]


def test_damage_is_told_with_the_place():
    data = bytearray(batch(0, 3) + batch(3, 3))
    data[-1] ^= 1
    chunk = Chunk(bytes(data), "t", 3, 0, decompress)
    assert len(chunk.next_records()) == 3
    with pytest.raises(KafkaError, match=r"t\[3\].* 3 ") as told:
        chunk.next_records()
    assert told.value.code is ErrorCode.CORRUPT_MESSAGE


def test_a_batch_that_inflates_too_far_is_refused():
    data = build_batch([NewRecord(None, bytes(1 << 20))], codec=4)
    with pytest.raises(KafkaError) as told:
        Chunk(bytes(data), "t", 0, 0, decompress, inflated_max=1 << 16).next_records()
    assert told.value.code in (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.CORRUPT_MESSAGE)


def test_random_bytes_end_in_an_error_or_nothing():
    rng = random.Random(1)
    good = batch(0, 20) + batch(20, 5, codec=2)
    for _ in range(3_000):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        bad = bad[: rng.randint(0, len(bad))]
        end_of(bytes(bad), 0)
        for check in (True, False):
            try:
                read_all(bytes(bad), check_crc=check, inflated_max=1 << 20)
            except KafkaError:
                continue


def test_a_stream_goes_over_runs_and_ends():
    chunk = Chunk(batch(0, 3) + batch(3, 2), "t", 0, 1, decompress)
    stream = RecordStream(chunk.next_run)
    assert stream.position is None
    assert [record.offset for record in stream] == [1, 2, 3, 4]
    assert stream.left == 0
    assert stream.position == 5


def test_a_run_tells_where_it_is_and_what_is_left():
    stream = RecordStream()
    stream.feed(Chunk(batch(0, 3) + batch(3, 2), "t", 0, 1, decompress).next_run())
    assert (stream.left, stream.is_begun, stream.position) == (2, False, 1)
    assert next(stream).offset == 1
    assert (stream.left, stream.is_begun, stream.position) == (1, True, 2)
    rest = stream.take()
    assert (rest.left, rest.is_begun, rest.position) == (1, False, 2)
    assert stream.take() is None
    assert [record.offset for record in rest.rest()] == [2]


def test_awaiting_a_record_that_is_there_does_not_suspend():
    run = Chunk(batch(0, 3) + batch(3, 2), "t", 0, 0, decompress).next_run()
    stream = RecordStream()
    stream.feed(run)

    async def first():
        return await anext(stream)

    with pytest.raises(StopIteration) as ended:
        first().send(None)
    assert ended.value.value.offset == 0
    # What the interpreter asks where it does not know the fast way.
    with pytest.raises(StopIteration) as ended:
        next(anext(stream))
    assert ended.value.value.offset == 1
