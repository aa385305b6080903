"""The consumer against Apache Kafka: groups, codecs of its own clients, transactions."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer as OtherConsumer
from confluent_kafka import Producer

import fastmq

from support import apache_kafka
from support.apache_kafka import ApacheKafka
from support.consumer_fronts import FRONTS, new_consumer, run_on

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(300)]
every_front = pytest.mark.parametrize("front", FRONTS)

PATIENCE_S = 60


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    why = apache_kafka.missing()
    if why:
        pytest.skip(why)
    with ApacheKafka(tmp_path_factory.mktemp("kafka") / "broker") as made:
        yield made


def create(kafka: ApacheKafka, topic: str, partitions: int) -> None:
    with fastmq.Admin(kafka.bootstrap) as admin:
        admin.create_topic(topic, partitions)


def fill(
    kafka: ApacheKafka, topic: str, values: range, *, partitions: int = 1, **options: Any
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5, **options})
    for n in values:
        producer.produce(topic, b"%d" % n, partition=n % partitions)
    assert producer.flush(PATIENCE_S) == 0


@every_front
def test_every_codec_and_what_is_committed(kafka, front):
    topic = f"codecs-{front}"
    create(kafka, topic, 2)
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    for number, codec in enumerate(codecs):
        begin = number * 500
        options = {"compression.type": codec}
        fill(kafka, topic, range(begin, begin + 500), partitions=2, **options)
    options = {"group_id": topic, "auto_offset_reset": "earliest"}

    async def main() -> None:
        async with new_consumer(front, kafka.bootstrap, topic, **options) as consumer:
            seen = sorted(int(r.value) for r in await consumer.take(2_000))
        async with new_consumer(front, kafka.bootstrap, topic, **options) as consumer:
            seen += sorted(int(r.value) for r in await consumer.take(500))
            assert sorted(seen) == list(range(2_500))
            assert await consumer.end_offsets() == {(topic, 0): 1_250, (topic, 1): 1_250}
            await consumer.seek_to_beginning((topic, 1))
            assert [int(r.value) for r in await consumer.take(2)] == [1, 3]

    run_on(front, main)


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_a_group_with_librdkafka_members(kafka, strategy):
    topic = f"mixed-{strategy}"
    create(kafka, topic, 6)
    fill(kafka, topic, range(60), partitions=6)
    other = OtherConsumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": strategy,
            "heartbeat.interval.ms": 100,
        }
    )
    other.subscribe([topic])
    seen: set[int] = set()
    with fastmq.Consumer(
        kafka.bootstrap,
        topic,
        group_id=topic,
        auto_offset_reset="earliest",
        partition_assignment_strategy=strategy,
        heartbeat_interval_ms=100,
    ) as ours:
        deadline = time.monotonic() + PATIENCE_S
        while len(seen) < 60 or len(ours.assignment()) != 3 or len(other.assignment()) != 3:
            record = ours.poll(0.05)
            if record is not None:
                seen.add(int(record.value))
            message = other.poll(0.05)
            if message is not None and not message.error():
                seen.add(int(message.value()))
            assert time.monotonic() < deadline
        other.close()
        while len(ours.assignment()) != 6:
            ours.poll(0.05)
            assert time.monotonic() < deadline
    assert seen == set(range(60))


def test_a_group_with_more_than_one_round_of_rebalances_loses_nothing(kafka):
    """Members come and go while records pass; each record is read, whoever reads it."""
    topic = "come-and-go"
    create(kafka, topic, 4)
    options = {
        "group_id": topic,
        "auto_offset_reset": "earliest",
        "partition_assignment_strategy": "cooperative-sticky",
        "heartbeat_interval_ms": 100,
    }
    seen: list[int] = []
    with fastmq.Consumer(kafka.bootstrap, topic, **options) as stays:
        for number in range(4):
            fill(kafka, topic, range(number * 100, number * 100 + 100), partitions=4)
            with fastmq.Consumer(kafka.bootstrap, topic, **options) as comes:
                deadline = time.monotonic() + PATIENCE_S
                while len(comes.assignment()) != 2 or len(stays.assignment()) != 2:
                    for one in (comes, stays):
                        record = one.poll(0.02)
                        if record is not None:
                            seen.append(int(record.value))
                    assert time.monotonic() < deadline
        while len(set(seen)) < 400:
            record = stays.poll(0.1)
            if record is not None:
                seen.append(int(record.value))
            assert time.monotonic() < deadline
    assert set(seen) == set(range(400))


@every_front
def test_records_of_aborted_transactions_are_left_out(kafka, front):
    topic = f"transactions-{front}"
    create(kafka, topic, 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(PATIENCE_S)
    kept = []
    for number in range(6):
        producer.begin_transaction()
        for index in range(10):
            producer.produce(topic, b"%d" % (number * 10 + index))
        assert producer.flush(PATIENCE_S) == 0  # or those to be aborted are never sent
        if number % 2:
            producer.abort_transaction(PATIENCE_S)
        else:
            producer.commit_transaction(PATIENCE_S)
            kept += range(number * 10, number * 10 + 10)
    options = {"auto_offset_reset": "earliest"}

    async def main() -> None:
        async with new_consumer(
            front, kafka.bootstrap, isolation_level="read_committed", **options
        ) as consumer:
            await consumer.assign([(topic, 0)])
            assert [int(r.value) for r in await consumer.take(30)] == kept
            assert await consumer.poll(0.3) is None
        async with new_consumer(front, kafka.bootstrap, **options) as consumer:
            await consumer.assign([(topic, 0)])
            assert [int(r.value) for r in await consumer.take(60)] == list(range(60))

    run_on(front, main)
    table = fastmq.read_topic(
        kafka.bootstrap, topic, isolation_level="read_committed", text=True, timeout=PATIENCE_S
    )
    assert [int(v) for v in table.column("value").to_pylist()] == kept


def test_times_static_members_and_durations(kafka):
    topic = "others"
    create(kafka, topic, 1)
    now_ms = time.time_ns() // 1_000_000
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for n, hours in enumerate((3, 2, 1)):
        producer.produce(topic, b"%d" % n, timestamp=now_ms - hours * 3_600_000)
    assert producer.flush(PATIENCE_S) == 0
    options = {"group_id": topic, "group_instance_id": "one", "enable_auto_commit": False}
    policy = "by_duration:PT2H30M"
    for _ in range(2):
        with fastmq.Consumer(
            kafka.bootstrap, topic, auto_offset_reset=policy, **options
        ) as consumer:
            record = consumer.poll(PATIENCE_S)
            assert record is not None
            assert record.value == b"1"
            found = consumer.offsets_for_times({(topic, 0): now_ms - 5_400_000})
            assert found[topic, 0].offset == 2
