"""Building and walking: fields, gaps, limits, and what every cut and changed byte does."""

import contextlib
import struct

import pytest

from fastmq._native.records import BATCH_HEADER_SIZE, RecordsBuilder, read_records
from fastmq.compression import Codec
from fastmq.errors import ErrorCode, KafkaError
from fastmq.records import BatchHeader, NewRecord, Record, build_batch, read_batches

NOW = 1_700_000_000_000
THREE = [
    NewRecord(b"a", b"1", (("h", b"v"), ("n", None)), NOW),
    NewRecord(None, None, (), NOW + 50),
    NewRecord(b"", b"", (("", b""),), NOW - 50),
]


def code(call, *args, **kwargs):
    with pytest.raises(KafkaError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_every_header_field_is_read_back():
    data = build_batch(
        THREE,
        codec=Codec.ZSTD,
        base_offset=1 << 40,
        leader_epoch=7,
        producer_id=1 << 50,
        producer_epoch=9,
        base_sequence=123,
        transactional=True,
        control=True,
    )
    header = BatchHeader(data)
    assert header.base_offset == 1 << 40
    assert header.last_offset == (1 << 40) + 2
    assert header.size == header.batch_length + 12 == len(data)
    assert (header.leader_epoch, header.magic) == (7, 2)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (1 << 50, 9, 123)
    assert (header.record_count, header.last_offset_delta) == (3, 2)
    assert (header.base_timestamp, header.max_timestamp) == (NOW, NOW + 50)
    assert header.attributes == 0x30 | Codec.ZSTD
    assert header.codec == Codec.ZSTD
    assert header.is_transactional
    assert header.is_control
    assert not header.is_log_append_time
    assert not header.has_delete_horizon
    assert header.crc == struct.unpack_from(">I", data, 17)[0]


def test_records_come_back():
    (batch,) = read_batches(build_batch(THREE, base_offset=10))
    first, second, third = batch.records()
    assert (first.offset, first.timestamp) == (10, NOW)
    assert (first.key, first.value) == (b"a", b"1")
    assert first.headers == (("h", b"v"), ("n", None))
    assert (second.key, second.value, second.headers) == (None, None, ())
    assert second.timestamp == NOW + 50
    assert (third.key, third.value, third.headers) == (b"", b"", (("", b""),))
    assert third.timestamp == NOW - 50


def test_values_are_immutable():
    (batch,) = read_batches(build_batch(THREE))
    (record, *_) = batch.records()
    with pytest.raises(AttributeError):
        record.offset = 5
    with pytest.raises(AttributeError):
        batch.header.base_offset = 5
    with pytest.raises(TypeError):
        Record()


def test_any_buffer_is_a_key_and_text_is_none():
    data = build_batch([NewRecord(bytearray(b"k"), memoryview(b"-v-")[1:2], ((b"h", b""),))])
    (record,) = next(read_batches(data)).records()
    assert (record.key, record.value, record.headers) == (b"k", b"v", (("h", b""),))
    with pytest.raises(TypeError):
        build_batch([NewRecord("text", None)])


def test_header_names_that_are_no_text_survive():
    (batch,) = read_batches(build_batch([NewRecord(None, None, ((b"\xff\xfe", b"x"),))]))
    (record,) = batch.records()
    assert build_batch([NewRecord(None, None, record.headers)]) == bytes(batch.data)


def test_log_append_time_is_the_time_of_all_records():
    builder = RecordsBuilder()
    for time in (5, 6, 7):
        builder.append(time, None, b"v")
    (batch,) = read_batches(builder.finish(attributes=0x08, max_timestamp=99))
    assert batch.header.is_log_append_time
    assert [record.timestamp for record in batch.records()] == [99, 99, 99]


def test_gaps_that_compaction_leaves():
    builder = RecordsBuilder()
    assert builder.append(1, b"a", b"1", (), 2) == 2
    assert builder.append(1, b"b", b"1") == 3
    with pytest.raises(ValueError, match="go up"):
        builder.append(1, b"c", b"1", (), 3)
    (batch,) = read_batches(builder.finish(base_offset=100, last_offset_delta=9))
    assert [record.offset for record in batch.records()] == [102, 103]
    assert batch.header.last_offset == 109
    with pytest.raises(ValueError, match="last offset"):
        builder.finish(last_offset_delta=2)


@pytest.mark.parametrize("codec", list(Codec))
def test_an_empty_batch_is_read(codec):
    data = RecordsBuilder().finish(attributes=codec, last_offset_delta=4, producer_id=1)
    (batch,) = read_batches(data)
    assert batch.records() == []
    assert batch.header.last_offset == 4


def test_a_batch_needs_a_record():
    with pytest.raises(ValueError, match="needs a record"):
        build_batch([])


def test_the_builder_counts():
    builder = RecordsBuilder()
    assert (builder.count, builder.size, builder.max_timestamp) == (0, BATCH_HEADER_SIZE, -1)
    builder.append(NOW, b"k", b"v" * 1000)
    builder.append(NOW - 1, b"k", b"v" * 1000)
    assert (builder.count, builder.base_timestamp, builder.max_timestamp) == (2, NOW, NOW)
    assert len(builder.finish()) == builder.size == BATCH_HEADER_SIZE + len(builder.records())


def test_several_batches_in_a_row():
    data = b"".join(build_batch(THREE, base_offset=offset) for offset in (0, 3, 6))
    batches = list(read_batches(data))
    assert [batch.header.base_offset for batch in batches] == [0, 3, 6]
    assert [batch.position for batch in batches] == [0, len(data) // 3, len(data) // 3 * 2]
    assert b"".join(batch.data for batch in batches) == data
    assert all(batch.crc_ok() for batch in batches)


def test_every_cut_is_found_or_allowed():
    data = bytes(build_batch(THREE)) * 2
    half = len(data) // 2
    for cut in range(len(data)):
        whole = cut // half
        assert len(list(read_batches(data[:cut], allow_partial=True))) == whole
        if cut % half:
            assert code(list, read_batches(data[:cut])) is ErrorCode.CORRUPT_MESSAGE


def test_every_flipped_bit_is_found():
    data = build_batch(THREE, base_offset=5)
    for i in range(len(data)):
        for bit in range(8):
            data[i] ^= 1 << bit
            with contextlib.suppress(KafkaError):
                (batch,) = read_batches(data)
                outside = i < 8 or 12 <= i < 16  # base offset, leader epoch
                assert batch.crc_ok() == outside
            data[i] ^= 1 << bit


def test_any_byte_in_the_records_is_survived():
    data = build_batch(THREE)
    header = BatchHeader(data)
    block = bytearray(data[BATCH_HEADER_SIZE:])
    refused = 0
    for i in range(len(block)):
        kept = block[i]
        for value in range(256):
            block[i] = value
            try:
                assert len(read_records(block, header)) == 3
            except KafkaError as error:
                refused += error.code is ErrorCode.CORRUPT_MESSAGE
        block[i] = kept
    assert refused > 1000
    for cut in range(len(block)):
        assert code(read_records, block[:cut], header) is ErrorCode.CORRUPT_MESSAGE
    assert code(read_records, block + b"\0", header) is ErrorCode.CORRUPT_MESSAGE


def test_a_record_outside_its_batch_is_refused():
    builder = RecordsBuilder()
    builder.append(1, None, None, (), 5)
    block = builder.records()
    (batch,) = read_batches(build_batch([NewRecord(None, None)]))
    assert code(read_records, block, batch.header) is ErrorCode.CORRUPT_MESSAGE


def test_old_formats_are_refused():
    data = build_batch(THREE)
    for magic in (0, 1, 3, 255):
        data[16] = magic
        assert code(list, read_batches(data)) is ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT


def test_a_header_outside_the_data_is_refused():
    data = build_batch(THREE)
    assert BatchHeader(data * 2, len(data)).record_count == 3
    assert code(BatchHeader, data, len(data) - 60) is ErrorCode.CORRUPT_MESSAGE
    assert code(BatchHeader, b"") is ErrorCode.CORRUPT_MESSAGE
    for position in (-1, len(data) + 1):
        with pytest.raises(ValueError, match="outside"):
            BatchHeader(data, position)


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_inflating_is_bounded(codec):
    data = build_batch([NewRecord(None, bytes(1_000_000))], codec=codec)
    (batch,) = read_batches(data, max_inflated=1_000_000)
    assert code(batch.records) is ErrorCode.MESSAGE_TOO_LARGE
    (batch,) = read_batches(data, max_inflated=1_001_000)
    assert len(batch.records()[0].value) == 1_000_000


def test_unknown_codecs_are_refused():
    data = build_batch(THREE)
    data[22] = 5
    (batch,) = read_batches(data)
    assert code(batch.records) is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
