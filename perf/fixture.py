"""The test fixture: how long a test waits for a broker, a topic, a group, and a hundred of them.

One JSON line for each figure, times in ms unless the name says otherwise:

* `first broker`: from `Broker().__enter__` to the broker that serves, imports done; a thread of
  this process, and a child process;
* `fresh topic`: `create_topic` on a running broker, the median of 200;
* `group`: from a new consumer's subscription to its first record, by client library;
* `100 tests`: a pytest run of 100 tests, each with a topic and a group of its own, in seconds, and
  without the time that pytest takes for 100 empty tests.

`--kafka` runs the last two beside Apache Kafka 4.3 as its own process (a JVM and Maven's jars are
needed; a container adds its image and its own start to that), and its start.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq.testing import Broker

ROUNDS = 5
TOPICS = 200
TESTS = 100

HEAD = """
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
"""

FASTMQ = """
@pytest.fixture
def place(fastmq_broker, fastmq_topic):
    return fastmq_broker.bootstrap_servers, str(fastmq_topic)
"""

OTHER = """
import itertools, os
names = itertools.count()

@pytest.fixture
def place():
    bootstrap = os.environ["BOOTSTRAP"]
    name = f"topic-{next(names)}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    yield bootstrap, name
    admin.delete_topics([name])[name].result(30)
"""

TEST = """
@pytest.mark.parametrize("number", range(%d))
def test_a_group_gets_what_was_produced(place, number):
    bootstrap, topic = place
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    producer.produce(topic, b"x")
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic,
                         "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    message = consumer.poll(30)
    assert message is not None and message.value() == b"x"
    consumer.close()
"""

TEST_AIOKAFKA = """
import asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

async def there_and_back(bootstrap, topic):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(topic, b"x")
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=topic,
                                auto_offset_reset="earliest") as consumer:
        return (await consumer.getone()).value

@pytest.mark.parametrize("number", range(%d))
def test_a_group_gets_what_was_produced(place, number):
    assert asyncio.run(there_and_back(*place)) == b"x"
"""

EMPTY = """
@pytest.mark.parametrize("number", range(%d))
def test_nothing(number):
    pass
"""


def tell(what: str, **figures: object) -> None:
    print(json.dumps({"what": what, **figures}), flush=True)


def ms(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return round((time.perf_counter() - began) * 1000, 2)


def first_broker(in_process: bool) -> None:
    times, ends = [], []
    for _ in range(ROUNDS):
        broker = Broker(in_process=in_process)
        times.append(ms(broker.start))
        ends.append(ms(broker.close))
    tell(
        "first broker",
        kind="thread" if in_process else "child",
        first_ms=times[0],
        median_ms=statistics.median(times),
        stop_ms=statistics.median(ends),
    )


def fresh_topic(broker: Broker) -> None:
    times = sorted(ms(broker.create_topic) for _ in range(TOPICS))
    p99 = times[int(TOPICS * 0.99) - 1]
    tell("fresh topic", median_ms=statistics.median(times), p99_ms=p99)


def confluent_group(bootstrap: str, topic: str) -> float:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )

    def first() -> None:
        consumer.subscribe([topic])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None

    took = ms(first)
    consumer.close()
    return took


def kafka_python_group(bootstrap: str, topic: str) -> float:
    from kafka import KafkaConsumer

    def first() -> None:
        made.subscribe([topic])
        next(made)

    made = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=topic,
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,
    )
    took = ms(first)
    made.close()
    return took


def aiokafka_group(bootstrap: str, topic: str) -> float:
    from aiokafka import AIOKafkaConsumer

    async def run() -> float:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=topic, auto_offset_reset="earliest"
        )
        began = time.perf_counter()
        await consumer.start()
        await consumer.getone()
        took = round((time.perf_counter() - began) * 1000, 2)
        await consumer.stop()
        return took

    return asyncio.run(run())


def bundled_group(bootstrap: str, topic: str) -> float:
    import fastmq

    consumer = fastmq.Consumer(bootstrap, group_id=topic, auto_offset_reset="earliest")

    def first() -> None:
        consumer.subscribe([topic])
        next(iter(consumer))

    took = ms(first)
    consumer.close()
    return took


CLIENTS = {
    "confluent-kafka": confluent_group,
    "kafka-python": kafka_python_group,
    "aiokafka": aiokafka_group,
    "fastmq": bundled_group,
}


def groups(broker_name: str, bootstrap: str, make: Callable[[], str]) -> None:
    for client, measure in CLIENTS.items():
        times = [measure(bootstrap, make()) for _ in range(ROUNDS)]
        tell(
            "group",
            broker=broker_name,
            client=client,
            median_ms=statistics.median(times),
            best_ms=min(times),
        )


def run_pytest(source: str, *args: str, **env: str) -> float:
    """Seconds of a whole pytest process."""
    with tempfile.TemporaryDirectory() as root:
        Path(root, "test_it.py").write_text(source)
        Path(root, "pytest.ini").write_text("[pytest]\n")
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "fastmq._pytest_plugin", *args],
            cwd=root,
            env={
                **os.environ,
                "PYTHONPATH": str(harness.ROOT),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
        if not re.search(rf"{TESTS} passed", done.stdout):
            sys.exit(done.stdout + done.stderr)
    return took


def hundred_tests(
    name: str, fixture: str, empty_s: float, start_s: float = 0.0, *args: str, **env: str
) -> None:
    for client, test in (("confluent-kafka", TEST), ("aiokafka", TEST_AIOKAFKA)):
        took_s = run_pytest(HEAD + fixture + test % TESTS, *args, **env) + start_s
        tell(
            f"{TESTS} tests",
            broker=name,
            client=client,
            seconds=round(took_s, 2),
            broker_start_seconds=round(start_s, 2),
            per_test_ms=round((took_s - start_s - empty_s) / TESTS * 1000, 1),
        )


def beside_kafka(empty_s: float) -> None:
    from support.apache_kafka import ApacheKafka, missing

    reason = missing()
    if reason is not None:
        tell("Apache Kafka", skipped=reason)
        return
    with tempfile.TemporaryDirectory() as root:
        kafka = ApacheKafka(Path(root, "kafka"))
        began = time.perf_counter()
        with kafka:
            start_s = time.perf_counter() - began
            tell("first broker", kind="Apache Kafka, a process", first_ms=round(start_s * 1000))
            admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

            def make() -> str:
                name = f"group-{time.monotonic_ns()}"
                admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
                from confluent_kafka import Producer

                producer = Producer({"bootstrap.servers": kafka.bootstrap})
                producer.produce(name, b"x")
                producer.flush(30)
                return name

            groups("Apache Kafka", kafka.bootstrap, make)
            hundred_tests(
                "Apache Kafka, a process", OTHER, empty_s, start_s, BOOTSTRAP=kafka.bootstrap
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kafka", action="store_true", help="beside Apache Kafka")
    options = parser.parse_args()
    first_broker(in_process=True)
    first_broker(in_process=False)
    with Broker() as broker:
        fresh_topic(broker)

        def make() -> str:
            topic = broker.create_topic()
            topic.produce("x")
            return topic.name

        groups("fastmq", broker.bootstrap_servers, make)
    empty_s = run_pytest(HEAD + EMPTY % TESTS)
    hundred_tests("fastmq, child", FASTMQ, empty_s)
    hundred_tests("fastmq, in process", FASTMQ, empty_s, 0.0, "--fastmq-in-process")
    if options.kafka:
        beside_kafka(empty_s)


if __name__ == "__main__":
    main()
