"""The producer on all three fronts against Apache Kafka, from its jars."""

import pytest

from fastmq.errors import ErrorCode

from support import apache_kafka
from support.fronts import FRONTS, new_producer, run, stored

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    why = apache_kafka.missing()
    if why:
        pytest.skip(why)
    with apache_kafka.ApacheKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_and_offset(kafka, front, codec):
    topic = f"{front}-{codec}"

    async def main():
        options = {"compression_type": codec, "linger_ms": 2, "batch_size": 2000}
        async with new_producer(front, kafka.bootstrap, **options) as producer:
            deliveries = [
                await producer.send(topic, b"%d" % n, b"k", headers={"n": b"%d" % n})
                for n in range(1000)
            ]
            assert [(await producer.done(d)).offset for d in deliveries] == list(range(1000))

    run(front, main)
    records = stored(kafka.bootstrap, topic)
    assert [r.value for r in records] == [b"%d" % n for n in range(1000)]
    assert records[7].headers == (("n", b"7"),)


@pytest.mark.parametrize("front", FRONTS)
def test_refusals_and_splits(kafka, front):
    async def main():
        options = {"linger_ms": 5000, "batch_size": 3_000_000, "max_request_size": 3 << 20}
        async with new_producer(front, kafka.bootstrap, **options) as producer:
            # More than the broker's message.max.bytes in one batch: halved.
            deliveries = [await producer.send(f"large-{front}", b"x" * 100_000) for _ in range(20)]
            await producer.flush()
            assert [(await producer.done(d)).offset for d in deliveries] == list(range(20))
            alone = await producer.send(f"large-{front}", b"x" * 1_500_000)
            await producer.flush()
            assert alone.exception().code == ErrorCode.MESSAGE_TOO_LARGE
            bad = await producer.send("not a topic", b"")
            await producer.flush()
            assert bad.exception().code == ErrorCode.INVALID_TOPIC_EXCEPTION

    run(front, main)


@pytest.mark.parametrize("front", FRONTS)
def test_cut_connections_leave_each_record_once(kafka, front):
    topic = f"cut-{front}"

    async def main():
        options = {"linger_ms": 1, "batch_size": 2000, "retry_backoff_ms": 5}
        async with new_producer(front, kafka.bootstrap, **options) as producer:
            deliveries = []
            for n in range(3000):
                deliveries.append(await producer.send(topic, b"%d" % n))
                if n % 500 == 250:
                    cut_connections(producer)
            return [(await producer.done(d)).offset for d in deliveries]

    assert run(front, main) == list(range(3000))
    assert [int(r.value) for r in stored(kafka.bootstrap, topic)] == list(range(3000))


def cut_connections(producer):
    """Shut every socket of the producer down, as a network would."""
    for transport in list(producer.producer._pump._poller._transports):
        if transport.sock is not None:
            transport.sock.shutdown(2)


def test_the_producer_survives_a_restart(kafka):
    async def main():
        async with new_producer("blocking", kafka.bootstrap, linger_ms=1) as producer:
            first = [await producer.send("restart", b"%d" % n) for n in range(100)]
            await producer.done(first[-1])
            kafka.kill()
            second = [await producer.send("restart", b"%d" % n) for n in range(100, 200)]
            kafka.start()
            return [(await producer.done(d)).offset for d in first + second]

    assert run("blocking", main) == list(range(200))
    assert [int(r.value) for r in stored(kafka.bootstrap, "restart")] == list(range(200))
