"""Batches that we build are read by two other implementations, and theirs by us."""

import pytest
from aiokafka.record import default_records as aiokafka
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.record import default_records as kafka_python

from fastmq.compression import Codec
from fastmq.records import NewRecord, build_batch, read_batches

IMPLEMENTATIONS = [kafka_python, aiokafka]
CODECS = list(Codec)

payloads = st.none() | st.binary(max_size=60)
headers = st.lists(st.tuples(st.text(max_size=8), payloads), max_size=3).map(tuple)
new_records = st.lists(
    st.builds(NewRecord, payloads, payloads, headers, st.integers(0, 1 << 41)),
    min_size=1,
    max_size=20,
)
# Producer id, epoch, base sequence: idempotent or not.
producers = st.just((-1, -1, -1)) | st.tuples(
    st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 15) - 1), st.integers(0, (1 << 31) - 1)
)

common = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plain(record):
    """What all three say about a record, in one form."""
    return (
        record.offset,
        record.timestamp,
        None if record.key is None else bytes(record.key),
        None if record.value is None else bytes(record.value),
        [(name, None if value is None else bytes(value)) for name, value in record.headers],
    )


def expected(records, base_offset=0):
    return [
        (base_offset + i, record.timestamp, record.key, record.value, list(record.headers))
        for i, record in enumerate(records)
    ]


def their_reader(module, data):
    reader = getattr(module, "DefaultRecordBatchPy", None) or module.DefaultRecordBatch
    return reader(bytes(data))


def their_batch(module, records, codec, producer, *, transactional):
    name = "DefaultRecordBatchBuilder"
    builder = (getattr(module, "_DefaultRecordBatchBuilderPy", None) or getattr(module, name))(
        magic=2,
        compression_type=codec,
        is_transactional=transactional,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        batch_size=1 << 20,
    )
    for i, record in enumerate(records):
        builder.append(
            i,
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )
    return bytes(builder.build())


@pytest.mark.parametrize("module", IMPLEMENTATIONS, ids=["kafka-python", "aiokafka"])
@pytest.mark.parametrize("codec", CODECS)
@given(records=new_records, producer=producers, base_offset=st.integers(0, 1 << 50))
@common
def test_they_read_ours(module, codec, records, producer, base_offset):
    data = build_batch(
        records,
        codec=codec,
        base_offset=base_offset,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        transactional=producer[0] >= 0,
    )
    batch = their_reader(module, data)
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == producer
    assert batch.is_transactional == (producer[0] >= 0)
    assert [plain(record) for record in batch] == expected(records, base_offset)


@pytest.mark.parametrize("module", IMPLEMENTATIONS, ids=["kafka-python", "aiokafka"])
@pytest.mark.parametrize("codec", CODECS)
@given(records=new_records, producer=producers)
@common
def test_we_read_theirs(module, codec, records, producer):
    transactional = producer[0] >= 0
    data = their_batch(module, records, codec, producer, transactional=transactional)
    (batch,) = read_batches(data)
    header = batch.header
    assert batch.crc_ok()
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == producer
    assert header.is_transactional == transactional
    assert header.codec in (codec, Codec.NONE)  # they skip the codec where it gains nothing
    assert header.record_count == len(records)
    assert header.last_offset == len(records) - 1
    assert header.max_timestamp == max(record.timestamp for record in records)
    assert [plain(record) for record in batch.records()] == expected(records)


@given(records=new_records, producer=producers)
@common
def test_uncompressed_batches_are_equal_byte_for_byte(records, producer):
    ours = build_batch(
        records, producer_id=producer[0], producer_epoch=producer[1], base_sequence=producer[2]
    )
    for module in IMPLEMENTATIONS:
        theirs = bytearray(their_batch(module, records, Codec.NONE, producer, transactional=False))
        theirs[12:16] = ours[12:16]  # the leader epoch, which brokers overwrite
        assert theirs == ours
