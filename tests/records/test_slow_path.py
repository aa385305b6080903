"""Time searches, full validation, recompression, control records."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch

from fastmq._native.records import BATCH_HEADER_SIZE, RecordsBuilder
from fastmq.compression import Codec
from fastmq.errors import ErrorCode, KafkaError
from fastmq.records import (
    BatchHeader,
    ControlRecord,
    ControlType,
    NewRecord,
    build_batch,
    build_marker,
    find_max_timestamp,
    find_timestamp,
    read_batches,
    read_control,
    recompress,
    validate_batch,
)


def code(call, *args, **kwargs):
    with pytest.raises(KafkaError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def timed(times, base_offset=0, codec=Codec.NONE):
    records = [NewRecord(None, b"v" * 20, timestamp=time) for time in times]
    return build_batch(records, base_offset=base_offset, codec=codec)


# ---- searching


@pytest.mark.parametrize("codec", list(Codec))
def test_the_first_record_at_or_after_a_time(codec):
    data = timed([10, 30, 20, 40], base_offset=100, codec=codec)
    assert find_timestamp(data, 0) == ((100, 10), 104)
    assert find_timestamp(data, 11) == ((101, 30), 104)
    assert find_timestamp(data, 31) == ((103, 40), 104)
    assert find_timestamp(data, 41) == (None, 104)
    assert find_timestamp(data, 11, min_offset=102) == ((102, 20), 104)
    assert find_timestamp(data, 0, min_offset=104) == (None, 104)


def test_a_search_over_no_batches():
    assert find_timestamp(b"", 5, min_offset=7) == (None, 7)
    assert find_max_timestamp(b"") is None


def test_the_first_record_with_the_largest_time():
    assert find_max_timestamp(timed([10, 40, 40, 20], 5)) == (6, 40)
    data = timed([10, 20], 0) + timed([30, 25], 2) + timed([30], 4)
    assert find_max_timestamp(data) == (2, 30)


def test_log_append_time_is_searched_by_the_batch():
    builder = RecordsBuilder()
    builder.append(5, None, None)
    builder.append(6, None, None)
    data = builder.finish(base_offset=10, attributes=0x08, max_timestamp=50)
    assert find_timestamp(data, 20) == ((10, 50), 12)
    assert find_max_timestamp(data) == (10, 50)


@given(
    batches=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), max_size=5),
    timestamp=st.integers(0, 55),
    min_offset=st.integers(0, 25),
    codec=st.sampled_from([Codec.NONE, Codec.LZ4]),
)
@settings(max_examples=200, deadline=None)
def test_searches_agree_with_a_plain_walk(batches, timestamp, min_offset, codec):
    data = bytearray()
    flat = []
    for times in batches:
        data += timed(times, base_offset=len(flat), codec=codec)
        flat += times
    matches = [(i, t) for i, t in enumerate(flat) if t >= timestamp and i >= min_offset]
    found, following = find_timestamp(data, timestamp, min_offset)
    assert found == (matches[0] if matches else None)
    if not matches:
        assert following == (len(flat) if flat else min_offset)
    largest = max(flat, default=None)
    assert find_max_timestamp(data) == ((flat.index(largest), largest) if flat else None)


# ---- validation


@pytest.mark.parametrize("codec", list(Codec))
def test_good_batches_pass(codec):
    records = [NewRecord(b"k", None, (("h", b"v"),)), NewRecord(b"", b"v")]
    validate_batch(build_batch(records, codec=codec), need_key=True)


@pytest.mark.parametrize("codec", list(Codec))
def test_compacted_topics_want_keys(codec):
    data = build_batch([NewRecord(b"k", b"v"), NewRecord(None, b"v")], codec=codec)
    validate_batch(data, need_key=False)
    assert code(validate_batch, data, need_key=True) is ErrorCode.INVALID_RECORD


def test_gaps_are_refused_from_clients():
    builder = RecordsBuilder()
    builder.append(1, b"k", b"v", (), 1)
    assert code(validate_batch, builder.finish(), need_key=False) is ErrorCode.INVALID_RECORD


def test_wrong_counts_are_refused():
    data = build_batch([NewRecord(b"k", b"v")] * 3)
    for count in (0, 2, 4, 1 << 30):
        struct.pack_into(">i", data, 57, count)
        assert code(validate_batch, data, need_key=False) is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_validation_inflates_no_bombs(codec):
    data = build_batch([NewRecord(b"k", bytes(2_000_000))], codec=codec)
    refusal = code(validate_batch, data, need_key=True, max_inflated=100_000)
    assert refusal is ErrorCode.MESSAGE_TOO_LARGE
    broken = data[: BATCH_HEADER_SIZE + 5]
    assert code(validate_batch, broken, need_key=True) is ErrorCode.CORRUPT_MESSAGE


# ---- recompression


@pytest.mark.parametrize("source", list(Codec))
@pytest.mark.parametrize("target", list(Codec))
def test_recompression_changes_only_codec_size_and_checksum(source, target):
    records = [NewRecord(b"k%d" % i, b"v" * i, timestamp=1000 + i) for i in range(50)]
    data = build_batch(records, codec=source, producer_id=5, producer_epoch=6, base_sequence=7)
    again = recompress(data, target)
    if source == target:
        assert again is None
        return
    (before,), (after,) = read_batches(data), read_batches(again)
    assert after.crc_ok()
    assert after.header.codec == target
    assert again[0:8] == data[0:8]
    assert again[12:17] == data[12:17]
    assert again[23:61] == data[23:61]
    assert [r.value for r in after.records()] == [r.value for r in before.records()]
    assert DefaultRecordBatch(bytes(again)).validate_crc()


def test_recompression_is_bounded():
    data = build_batch([NewRecord(None, bytes(500_000))], codec=Codec.ZSTD)
    refusal = code(recompress, data, Codec.GZIP, max_inflated=1000)
    assert refusal is ErrorCode.MESSAGE_TOO_LARGE


# ---- control records


@pytest.mark.parametrize("commit", [True, False])
def test_markers(commit):
    data = build_marker(
        commit=commit, producer_id=9, producer_epoch=3, coordinator_epoch=17, timestamp_ms=1000
    )
    (batch,) = read_batches(data)
    header = batch.header
    assert (header.is_control, header.is_transactional) == (True, True)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 3, -1)
    (record,) = batch.records()
    assert record.key == b"\0\0\0" + (b"\x01" if commit else b"\0")
    assert record.value == b"\0\0\0\0\0\x11"
    kind = ControlType.COMMIT if commit else ControlType.ABORT
    assert read_control(record) == ControlRecord(kind, 17)
    theirs = DefaultRecordBatch(bytes(data))
    assert theirs.is_control_batch
    assert theirs.validate_crc()


def control(key, value):
    (record,) = next(read_batches(build_batch([NewRecord(key, value)], control=True))).records()
    return record


def test_types_of_later_versions_are_read():
    assert read_control(control(b"\0\0\0\x02", None)) == ControlRecord(ControlType.LEADER_CHANGE)
    assert read_control(control(b"\0\x05\0\x63", b"x")) == ControlRecord(99)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"\0\0\0\0\0\1"),
        (b"\0\0\0", b"\0\0\0\0\0\1"),
        (b"\0\0\0\1", None),
        (b"\0\0\0\1", b"\0"),
    ],
)
def test_malformed_control_records_are_refused(key, value):
    assert code(read_control, control(key, value)) is ErrorCode.CORRUPT_MESSAGE


def test_a_header_is_shown_in_a_line():
    assert "0..1" in repr(BatchHeader(timed([1, 2])))
