"""The producer's batches: read by others, checked by the broker's checks, counted to the byte."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.record import default_records as kafka_python

from fastmq._native.core import FLUSH_NEVER
from fastmq._native.producer import Accumulator
from fastmq.compression import Codec, compress, decompress
from fastmq.errors import BufferFull, ClientClosed, ErrorCode, KafkaError
from fastmq.records import RecordBatch, read_batches, validate_batch

from support.engine import Harness, only, produce

payloads = st.none() | st.binary(max_size=80)
headers = st.lists(st.tuples(st.text(max_size=8), payloads), max_size=3)
new_records = st.lists(
    st.tuples(payloads, payloads, headers, st.integers(0, 1 << 41)), min_size=1, max_size=30
)
common = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def new_accumulator(*, partitions=1, **options):
    settings_ = {
        "batch_size": 1000,
        "record_size_max": 100_000,
        "memory_limit": 1 << 20,
        "wake": lambda: None,
        "on_topic": lambda name: None,
        "clock": lambda: 0,
        "choose": lambda count: 0,
        "make_result": lambda *row: row,
        **options,
    }
    accumulator = Accumulator(**settings_)
    if partitions:
        accumulator.set_partitions("t", partitions, list(range(partitions)))
    return accumulator


def taken(accumulator, *, codec=Codec.NONE, numbers=(-1, -1, -1)):
    """Every batch, stamped."""
    batches = []
    for queue in accumulator.take_dirty():
        while (batch := queue.take()) is not None:
            batch.producer_id, batch.epoch, batch.sequence = numbers
            if codec:
                records = batch.records()
                payload = compress(codec, records)
                records.release()
                batch.replace_records(payload, codec)
            batch.stamp()
            batches.append(batch)
    return batches


def fill(accumulator, records):
    for key, value, pairs, timestamp in records:
        accumulator.produce("t", value, key, headers=pairs, timestamp_ms=timestamp, partition=0)


@given(new_records, st.sampled_from(list(Codec)))
@common
def test_batches_are_what_others_read(records, codec):
    accumulator = new_accumulator()
    fill(accumulator, records)
    batches = taken(accumulator, codec=codec, numbers=(7, 3, 11))
    found = []
    for batch in batches:
        data = bytes(batch)
        assert len(data) <= 1000 or batch.count == 1 or codec
        (ours,) = read_batches(data)
        assert ours.crc_ok()
        assert ours.header.record_count == batch.count
        validate_batch(data, need_key=False)
        theirs = kafka_python.DefaultRecordBatch(data)
        assert theirs.validate_crc()
        assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (7, 3, 11)
        assert theirs.max_timestamp == max(r.timestamp for r in ours.records())
        found += [
            (
                None if r.key is None else bytes(r.key),
                None if r.value is None else bytes(r.value),
                [(name, None if v is None else bytes(v)) for name, v in r.headers],
                r.timestamp,
            )
            for r in theirs
        ]
    assert found == records


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    harness = Harness(tmp_path_factory.mktemp("engine"))
    harness.partition(0, flush=FLUSH_NEVER)
    yield harness.client()
    harness.close()


@given(records=new_records, codec=st.sampled_from(list(Codec)))
@settings(max_examples=30, deadline=None)
def test_the_broker_takes_the_batches(engine, records, codec):
    accumulator = new_accumulator()
    fill(accumulator, [(*record[:3], record[3] % 1_700_000_000_000) for record in records])
    for batch in taken(accumulator, codec=codec):
        row = only(engine.call(9, produce((0, bytes(batch)))))
        assert row.error_code == 0, row


@given(new_records.filter(lambda r: len(r) > 1), st.sampled_from(list(Codec)))
@common
def test_a_split_keeps_records_deliveries_and_callbacks(records, codec):
    accumulator = new_accumulator(batch_size=100_000)
    told = []
    deliveries = [
        accumulator.produce(
            "t", v, k, headers=h, timestamp_ms=t, on_delivery=lambda e, m, n=n: told.append((n, e))
        )
        for n, (k, v, h, t) in enumerate(records)
    ]
    (batch,) = taken(accumulator, codec=codec)
    view = batch.records()
    payload = decompress(codec, view, 1 << 24)
    view.release()
    whole = [(r.key, r.value, r.headers, r.timestamp) for r in RecordBatch_of(batch).records()]
    first, second = batch.split(payload)
    assert batch.is_done
    assert batch.has_successors
    parts = []
    for half in (first, second):
        half.stamp()
        parts += [(r.key, r.value, r.headers, r.timestamp) for r in RecordBatch_of(half).records()]
    assert parts == whole
    assert not any(d.done() for d in deliveries)
    for index, callback in second.complete(KafkaError(ErrorCode.INVALID_RECORD)):
        callback(second.error, index)
    for index, callback in first.complete(None, 50):
        callback(None, index)
    for n, delivery in enumerate(deliveries):
        assert delivery.done()
        if n < first.count:
            assert delivery.result() == ("t", 0, 50 + n, -1)
        else:
            with pytest.raises(KafkaError):
                delivery.result()
    assert sorted(n for n, _ in told) == list(range(len(records)))
    assert all((error is None) == (n < first.count) for n, error in told)
    assert accumulator.memory_used == 0


def RecordBatch_of(batch):  # noqa: N802 - a constructor of sorts
    (found,) = read_batches(bytes(batch))
    assert isinstance(found, RecordBatch)
    return found


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000)), max_size=150))
@common
def test_memory_is_counted_and_bounded(steps):
    """Append, take, send (a view held) and complete in any order."""
    limit = 40_000
    accumulator = new_accumulator(memory_limit=limit, batch_size=2000)
    held, views = [], []
    queues = set()
    for what, size in steps:
        if what <= 1:
            try:
                accumulator.produce("t", b"x" * size)
            except BufferFull:
                assert accumulator.memory_used + size + 700 > limit / 2
                assert accumulator.is_starved
        queues |= set(accumulator.take_dirty())
        if what == 2:
            for queue in queues:
                if (batch := queue.take()) is not None:
                    batch.stamp()
                    held.append(batch)
                    views.append(memoryview(batch))
        if what == 3 and held:
            batch = held.pop(size % len(held))
            batch.complete(None, 0)
            if views and size % 2:
                views.pop(0).release()
        assert 0 <= accumulator.memory_used <= limit
    for view in views:
        view.release()
    for queue in queues | set(accumulator.take_dirty()):
        held += queue.batches()
        while queue.take() is not None:
            pass
    for batch in held:
        batch.complete(None, 0)
    assert accumulator.memory_used == 0


def test_whoever_waits_for_room_learns_what_was_used_without_it():
    """The sender may free it all before the wait begins: less than nothing is never used."""
    waits = []

    def send_at_once():
        for batch in taken(accumulator):
            batch.complete(None, 0)

    def wait_room(used):
        assert accumulator.memory_used == 0
        waits.append(used)

    accumulator = new_accumulator(
        memory_limit=8_000, wake=lambda: accumulator.is_starved and send_at_once()
    )
    accumulator.wait_room = wait_room
    for _ in range(20):
        accumulator.produce("t", b"x" * 700)
    assert waits
    assert all(4_000 < used <= 8_000 for used in waits)


def test_a_batch_that_is_being_sent_keeps_its_bytes():
    accumulator = new_accumulator()
    accumulator.produce("t", b"hello")
    (batch,) = taken(accumulator)
    view = memoryview(batch)
    before = bytes(view)
    batch.complete(None, 0)
    assert accumulator.memory_used > 0
    for _ in range(50):
        accumulator.produce("t", b"other" * 100)
    assert bytes(view) == before
    view.release()
    with pytest.raises(BufferError):
        memoryview(batch)


def test_records_wait_for_their_topic_and_keep_their_order():
    accumulator = new_accumulator(partitions=0)
    told = []
    early = [
        accumulator.produce("t", b"%d" % n, partition=n % 2, on_delivery=lambda *r: told.append(r))
        for n in range(6)
    ]
    impossible = accumulator.produce("t", b"", partition=9, on_delivery=lambda *r: told.append(r))
    assert {d.partition for d in early} == {-1}
    assert len(accumulator.pending_batches()) == 1
    ((callback, error),) = accumulator.set_partitions("t", 2, [0, 1])
    assert error.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert callback is not None
    assert impossible.exception() is error
    late = accumulator.produce("t", b"late", partition=0)
    assert accumulator.pending_batches() == []
    values = {}
    for batch in taken(accumulator):
        values[batch.partition] = [r.value for r in RecordBatch_of(batch).records()]
        for index, fn in batch.complete(None, 100):
            fn(None, batch.result(index))
    assert values == {0: [b"0", b"2", b"4", b"late"], 1: [b"1", b"3", b"5"]}
    assert [d.result() for d in early] == [("t", n % 2, 100 + n // 2, -1) for n in range(6)]
    assert late.result()[2] == 103
    assert len(told) == 6
    assert accumulator.memory_used == 0


def test_records_of_a_topic_that_does_not_come_fail_together():
    accumulator = new_accumulator(partitions=0, memory_limit=20_000)
    deliveries = [accumulator.produce("t", b"x" * 100) for _ in range(10)]
    with pytest.raises(BufferFull):
        for _ in range(1000):
            accumulator.produce("t", b"x" * 100)
    accumulator.fail_pending("t", KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION))
    assert all(d.exception().code == ErrorCode.INVALID_TOPIC_EXCEPTION for d in deliveries)
    assert accumulator.memory_used == 0


def test_errors_are_raised_as_copies():
    accumulator = new_accumulator()
    delivery = accumulator.produce("t", b"")
    (batch,) = taken(accumulator)
    error = KafkaError(ErrorCode.INVALID_RECORD, "why")
    batch.complete(error)
    for _ in range(2):
        with pytest.raises(KafkaError, match="why") as caught:
            delivery.result()
        assert caught.value is not error
        assert caught.value.code == ErrorCode.INVALID_RECORD
    assert error.__traceback__ is None


def test_done_callbacks_and_refusals():
    accumulator = new_accumulator()
    delivery = accumulator.produce("t", b"")
    told = []
    delivery.add_done_callback(told.append)
    (batch,) = taken(accumulator)
    assert told == []
    batch.complete(None, 5)
    delivery.add_done_callback(told.append)
    assert told == [delivery, delivery]
    assert "offset 5" in repr(delivery)
    accumulator.refuse(ClientClosed, "closed for good")
    with pytest.raises(ClientClosed, match="for good"):
        accumulator.produce("t", b"")


@pytest.mark.parametrize("value", [5, 1.5, ["x"], object()])
def test_values_without_a_serializer_are_bytes_or_text(value):
    accumulator = new_accumulator()
    with pytest.raises(TypeError, match="value_serializer"):
        accumulator.produce("t", value)
    for good in (b"b", "é", bytearray(b"b"), memoryview(b"b"), None):
        accumulator.produce("t", good, good)


@pytest.mark.parametrize("moment", ["clock", "wake"])
def test_partitions_turn_up_while_the_first_record_is_held(moment):
    """The network thread may run wherever a record's thread runs Python."""

    def turn_up():
        if not accumulator.pending_batches() or moment == "wake":
            accumulator.set_partitions("t", 2, [0, 1])
        return 0

    accumulator = new_accumulator(partitions=0, **{moment: turn_up})
    accumulator.produce("t", b"v", timestamp_ms=1)
    assert accumulator.pending_batches() == []  # a flush would wait for it forever
    assert sum(batch.count for batch in taken(accumulator)) == 1


def test_the_topic_is_given_up_while_the_first_record_is_held():
    def give_up():
        if accumulator.pending_batches() and not tries:
            tries.append(accumulator.fail_pending("t", KafkaError(ErrorCode.REQUEST_TIMED_OUT)))

    tries = []
    accumulator = new_accumulator(partitions=0, wake=give_up)
    accumulator.produce("t", b"v", timestamp_ms=1)
    assert len(tries) == 1
    assert [batch.count for batch in accumulator.pending_batches()] == [1]
    accumulator.set_partitions("t", 1, [0])
    assert sum(batch.count for batch in taken(accumulator)) == 1
