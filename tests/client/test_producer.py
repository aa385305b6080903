"""The producer on all three fronts against a real broker."""

import gc
import itertools
import os
import subprocess
import sys
import threading
import time

import anyio
import pytest

import fastmq
import fastmq.aio
from fastmq._native.producer import murmur2
from fastmq.errors import (
    BufferFull,
    ClientClosed,
    ConfigError,
    ErrorCode,
    KafkaError,
    RequestTimedOut,
)

from support.fronts import FRONTS, new_producer, run, stored
from support.records import create_topic

every_front = pytest.mark.parametrize("front", FRONTS)


@every_front
def test_records_arrive_in_order_with_everything_they_had(broker, front, t):
    async def main():
        async with new_producer(front, broker.bootstrap) as producer:
            deliveries = [
                producer.produce(
                    t,
                    b"v%d" % n,
                    key="ké" if n % 2 else None,
                    headers={"a": b"1", "b": None, "c": "é"} if n == 3 else None,
                    timestamp_ms=1_700_000_000_000 + n,
                )
                for n in range(100)
            ]
            found = await producer.done(deliveries[-1])
            assert (found.topic, found.partition, found.offset) == (t, 0, 99)
            assert [(await producer.done(d)).offset for d in deliveries] == list(range(100))
            assert all(d.done() and d.exception() is None for d in deliveries)

    run(front, main)
    records = stored(broker.bootstrap, t)
    assert [r.value for r in records] == [b"v%d" % n for n in range(100)]
    assert [r.key for r in records[:2]] == [None, "ké".encode()]
    assert records[3].headers == (("a", b"1"), ("b", None), ("c", "é".encode()))
    assert [r.timestamp for r in records] == [1_700_000_000_000 + n for n in range(100)]


@every_front
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec(broker, front, codec, t):
    async def main():
        options = {"compression_type": codec, "linger_ms": 20}
        async with new_producer(front, broker.bootstrap, **options) as producer:
            for n in range(2000):
                await producer.send(t, b"%d " % n * 20)

    run(front, main)
    assert [r.value for r in stored(broker.bootstrap, t)] == [b"%d " % n * 20 for n in range(2000)]


@every_front
@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_every_acks(broker, front, acks, t):
    async def main():
        async with new_producer(front, broker.bootstrap, acks=acks) as producer:
            deliveries = [await producer.send(t, b"%d" % n) for n in range(50)]
            await producer.flush()
            offsets = [(await producer.done(d)).offset for d in deliveries]
            assert offsets == ([-1] * 50 if acks == 0 else list(range(50)))

    run(front, main)
    # With acks=0 nobody says when they are there.
    deadline = time.monotonic() + 20
    while len(stored(broker.bootstrap, t)) < 50 and time.monotonic() < deadline:
        pass
    assert [r.value for r in stored(broker.bootstrap, t)] == [b"%d" % n for n in range(50)]


@every_front
def test_keys_go_where_java_sends_them(broker, front, t):
    create_topic(broker, f"{t}-six", 6)

    async def main():
        async with new_producer(front, broker.bootstrap) as producer:
            assert await producer.partitions_for(f"{t}-six") == 6
            for n in range(200):
                delivery = producer.produce(f"{t}-six", b"", key=b"key-%d" % n)
                assert delivery.partition == (murmur2(b"key-%d" % n) & 0x7FFFFFFF) % 6
            found = await producer.done(producer.produce(f"{t}-six", b"", partition=4))
            assert found.partition == 4
            with pytest.raises(KafkaError, match="6 partitions"):
                producer.produce(f"{t}-six", b"", partition=6)

    run(front, main)


def test_murmur2_is_javas():
    # Values of Kafka's own test of its hash.
    signed = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    for key, hashed in signed.items():
        assert murmur2(key) == hashed & 0xFFFFFFFF


@every_front
def test_without_a_key_a_batch_sticks_and_batches_spread(broker, front, t):
    create_topic(broker, f"{t}-four", 4)

    async def main():
        options = {"linger_ms": 60_000, "batch_size": 1000}
        async with new_producer(front, broker.bootstrap, **options) as producer:
            await producer.partitions_for(f"{t}-four")
            places = [producer.produce(f"{t}-four", b"x" * 90).partition for _ in range(400)]
            await producer.flush()
        changes = sum(a != b for a, b in itertools.pairwise(places))
        assert set(places) == {0, 1, 2, 3}
        assert changes < 60  # a batch holds nine or ten records

    run(front, main)


@every_front
def test_a_partitioner_chooses(broker, front, t):
    create_topic(broker, f"{t}-three", 3)
    seen = []

    def partitioner(topic, key, count):
        seen.append((topic, key, count))
        return None if key is None else len(key) % count

    async def main():
        async with new_producer(front, broker.bootstrap, partitioner=partitioner) as producer:
            places = [
                await producer.done(producer.produce(f"{t}-three", b"", key=b"k" * n))
                for n in range(1, 5)
            ]
            assert [p.partition for p in places] == [1, 2, 0, 1]
            await producer.done(producer.produce(f"{t}-three", b""))
            producer.produce(f"{t}-three", b"", key=b"k")
            assert (f"{t}-three", b"k", 3) in seen

        bad = new_producer(front, broker.bootstrap, partitioner=lambda *_: 7)
        async with bad as producer:
            with pytest.raises(KafkaError, match="the partitioner"):
                await producer.done(producer.produce(f"{t}-three", b""))
            with pytest.raises(ValueError, match="7 of 3 partitions"):
                producer.produce(f"{t}-three", b"")

    run(front, main)


@every_front
def test_serializers(broker, front, t):
    options = {"value_serializer": fastmq.serialize_json, "key_serializer": lambda n: str(n)}

    async def main():
        async with new_producer(front, broker.bootstrap, **options) as producer:
            await producer.done(producer.produce(t, {"n": 1, "é": [None]}, 42))
        async with new_producer(front, broker.bootstrap) as producer:
            with pytest.raises(TypeError, match="value_serializer"):
                producer.produce(t, {"n": 1})

    run(front, main)
    (record,) = stored(broker.bootstrap, t)
    assert (record.key, record.value) == (b"42", '{"n":1,"é":[null]}'.encode())


@every_front
def test_callbacks_tell_offsets_and_errors(make_broker, front, t):
    broker = make_broker(overrides={"auto.create.topics.enable": False})
    create_topic(broker, f"{t}-small", 1, {"max.message.bytes": "300"})
    told, failed = [], []

    async def main():
        options = {"on_error": failed.append, "max_block_ms": 1_000}
        async with new_producer(front, broker.bootstrap, **options) as producer:
            for n in range(3):
                producer.produce(f"{t}-small", b"%d" % n, on_delivery=lambda *row: told.append(row))
            await producer.flush()
            too_large = producer.produce(
                f"{t}-small", b"x" * 400, on_delivery=lambda *row: told.append(row)
            )
            nowhere = producer.produce(f"{t}-none", b"", on_delivery=lambda *row: told.append(row))
            producer.produce(f"{t}-small", b"", on_delivery=lambda *_: 1 / 0)  # logged, no more
            await producer.flush()
            assert too_large.exception().code == ErrorCode.MESSAGE_TOO_LARGE
            assert "UNKNOWN_TOPIC" in str(nowhere.exception())
            with pytest.raises(RequestTimedOut, match=f"{t}-none"):
                await producer.done(nowhere)

    run(front, main)
    assert [(error, found.offset) for error, found in told[:3]] == [(None, 0), (None, 1), (None, 2)]
    assert {error.code for error, found in told[3:]} == {
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.REQUEST_TIMED_OUT,
    }
    assert {error.code for error in failed} == {
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.REQUEST_TIMED_OUT,
    }
    assert len(stored(broker.bootstrap, f"{t}-small")) == 4


@every_front
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_batch_that_is_too_large_for_the_topic_is_split(broker, front, codec, t):
    create_topic(broker, f"{t}-small", 1, {"max.message.bytes": "2000"})
    noise = [os.urandom(150) for _ in range(100)]
    told = []

    async def main():
        options = {"linger_ms": 60_000, "compression_type": codec}
        async with new_producer(front, broker.bootstrap, **options) as producer:
            deliveries = [
                producer.produce(f"{t}-small", v, on_delivery=lambda _, m: told.append(m.offset))
                for v in noise
            ]
            await producer.flush()
            assert [(await producer.done(d)).offset for d in deliveries] == list(range(100))

    run(front, main)
    assert told == list(range(100))
    assert [r.value for r in stored(broker.bootstrap, f"{t}-small")] == noise


@every_front
def test_flush_does_not_linger_and_waits_for_held_back_records(broker, front, t):
    async def main():
        async with new_producer(front, broker.bootstrap, linger_ms=600_000) as producer:
            first = producer.produce(t, b"1")
            assert first.partition == -1  # the topic is not known yet
            await producer.flush()
            assert first.done()
            assert first.partition == 0
            second = producer.produce(t, b"2")
            assert not second.done()
            await producer.flush()
            assert second.done()

    run(front, main)


@every_front
def test_records_larger_than_a_request_are_refused_at_once(broker, front, t):
    async def main():
        async with new_producer(front, broker.bootstrap) as producer:
            with pytest.raises(KafkaError, match="max_request_size") as caught:
                producer.produce(t, b"x" * (1 << 20))
            assert caught.value.code == ErrorCode.MESSAGE_TOO_LARGE

    run(front, main)


@every_front
def test_memory_is_bounded_while_the_broker_is_gone(make_broker, front, t):
    broker = make_broker()
    create_topic(broker, t, 1)
    limit = 256 * 1024

    async def main():
        options = {
            "buffer_memory": limit,
            "batch_size": 16_384,
            "max_block_ms": 300,
            "delivery_timeout_ms": 2_000,
            "linger_ms": 0,
        }
        async with new_producer(front, broker.bootstrap, **options) as producer:
            await producer.done(producer.produce(t, b"first"))
            broker.kill()
            taken = []
            with pytest.raises(BufferFull, match="buffer_memory"):
                for _ in range(10_000):
                    taken.append(producer.produce(t, b"x" * 1000))
            assert 150 < len(taken) < 256
            machine = producer.producer._machine
            assert machine.accumulator.memory_used <= limit
            for delivery in (taken[0], taken[-1]):
                with pytest.raises(RequestTimedOut):
                    await producer.done(delivery)
            await producer.flush()
            assert machine.accumulator.memory_used == 0

    run(front, main)


@every_front
def test_send_waits_for_room(broker, front, t):
    async def main():
        options = {"buffer_memory": 64 * 1024, "batch_size": 4096}
        async with new_producer(front, broker.bootstrap, **options) as producer:
            for n in range(1000):
                await producer.send(t, b"%d" % n + b"x" * 1000)

    run(front, main)
    assert len(stored(broker.bootstrap, t)) == 1000


@every_front
def test_a_closed_producer_says_so(broker, front, t):
    async def main():
        producer = new_producer(front, broker.bootstrap)
        async with producer:
            producer.produce(t, b"1")
        with pytest.raises(ClientClosed, match="closed"):
            producer.produce(t, b"2")
        with pytest.raises(ClientClosed):
            await producer.flush()

    run(front, main)
    assert len(stored(broker.bootstrap, t)) == 1  # leaving the block delivered it


@every_front
def test_an_error_in_the_block_comes_out_as_it_is(broker, front, t):
    async def main():
        async with new_producer(front, broker.bootstrap) as producer:
            producer.produce(t, b"1")
            raise KafkaError(ErrorCode.INVALID_REQUEST, "mine")

    with pytest.raises(KafkaError, match="mine"):
        run(front, main)


@every_front
def test_a_forked_child_is_told(broker, front, t):
    async def main():
        async with new_producer(front, broker.bootstrap) as producer:
            await producer.done(producer.produce(t, b"1"))
            child = os.fork()
            if child == 0:
                try:
                    producer.produce(t, b"2")
                except ClientClosed as error:
                    os._exit(0 if "fork" in str(error) else 1)
                os._exit(2)
            _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
            assert status == 0
            await producer.done(producer.produce(t, b"3"))

    run(front, main)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_cancelling_a_wait_leaves_the_record_and_the_producer(broker, backend, t):
    async def main():
        async with fastmq.aio.Producer(broker.bootstrap, linger_ms=300) as producer:
            delivery = producer.produce(t, b"1")
            with anyio.move_on_after(0.05) as scope:
                await delivery
            assert scope.cancelled_caught
            with anyio.move_on_after(0.05):
                await producer.flush()
            assert (await delivery).offset == 0
            assert (await producer.produce(t, b"2")).offset == 1
        with anyio.move_on_after(5) as scope:
            async with fastmq.aio.Producer(broker.bootstrap, linger_ms=60_000) as producer:
                delivery = producer.produce(t, b"3")
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(ClientClosed):
            await delivery

    anyio.run(main, backend=backend)


@pytest.fixture
def restless():
    """Threads are switched and garbage is collected as often as can be."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)


def test_many_threads_share_a_producer(broker, t, restless):
    told, deliveries = {}, {}

    def work(producer, number):
        for n in range(1000):
            value = b"%d %d" % (number, n)

            def on_delivery(error, found, value=value):
                assert error is None
                assert value not in told
                told[value] = found.offset

            deliveries[value] = producer.produce(t, value, on_delivery=on_delivery)

    options = {"batch_size": 700, "linger_ms": 0, "buffer_memory": 40_000}
    with fastmq.Producer(broker.bootstrap, **options) as producer:
        threads = [threading.Thread(target=work, args=(producer, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    records = stored(broker.bootstrap, t)
    assert {r.value: r.offset for r in records} == told
    assert {v: d.result().offset for v, d in deliveries.items()} == told
    pairs = [tuple(map(int, r.value.split())) for r in records]
    for number in range(4):
        assert [n for who, n in pairs if who == number] == list(range(1000))


def test_waiting_in_a_callback_and_awaiting_a_blocking_delivery_are_refused(broker, t):
    refused = []
    with fastmq.Producer(broker.bootstrap) as producer:
        other = producer.produce(t, b"1")

        def on_delivery(error, found):
            late = producer.produce(t, b"3")
            for wait in (late.result, producer.flush):
                try:
                    wait()
                except RuntimeError as error:
                    refused.append(str(error))

        producer.produce(t, b"2", on_delivery=on_delivery).result(30)
        with pytest.raises(TypeError, match="result"):
            other.__await__()
    assert len(refused) == 2
    assert all("I/O thread" in text for text in refused)
    assert len(stored(broker.bootstrap, t)) == 3


def test_ctrl_c_ends_a_wait_and_the_program(broker, t):
    program = f"""
import os, signal, threading, fastmq
with fastmq.Producer("{broker.bootstrap}", linger_ms=600_000) as producer:
    delivery = producer.produce("{t}", b"1")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        delivery.result()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "interrupted\n", done.stderr
    assert done.returncode != 0
    assert len(stored(broker.bootstrap, t)) == 1


def test_the_blocking_client_loads_no_async_library():
    program = (
        "import sys, fastmq; fastmq.Producer; print({'trio','anyio','asyncio'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lingerms": 5}, "did you mean linger_ms"),
        ({"linger_ms": "5"}, "linger_ms takes"),
        ({"acks": 2}, "acks must be one of"),
        ({"enable_idempotence": True, "acks": 1}, "needs acks"),
        ({"compression_type": "brotli"}, "compression_type must be"),
        ({"partitioner": 5}, "callable"),
    ],
)
def test_wrong_options_are_refused(options, message):
    for kind in (fastmq.Producer, fastmq.aio.Producer):
        with pytest.raises(ConfigError, match=message):
            kind("localhost:9092", **options)


def test_msgspec_serializers():
    pytest.importorskip("msgspec")
    assert fastmq.serialize_msgspec({"n": [1]}) == b'{"n":[1]}'
    assert fastmq.serialize_msgpack([1]) == b"\x91\x01"


def test_a_forgotten_producer_warns(broker):
    producer = fastmq.Producer(broker.bootstrap)
    with pytest.warns(ResourceWarning, match="not closed"):
        producer.__del__()
