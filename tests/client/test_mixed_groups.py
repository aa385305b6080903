"""Groups whose members are ours, librdkafka's and kafka-python's, with one cooperative assignor."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Consumer as LibrdkafkaConsumer
from confluent_kafka import Producer
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

import fastmq

from support.broker import Broker

pytestmark = [
    pytest.mark.interop,
    # kafka-python leaves sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TOPIC = "events"
PARTITIONS = 6
PATIENCE_S = 60


@pytest.fixture
def broker(make_broker: Any) -> Iterator[Broker]:
    made = make_broker(overrides={"group.min.session.timeout.ms": 100})
    with fastmq.Admin(made.bootstrap) as admin:
        admin.create_topic(TOPIC, PARTITIONS)
    return made


class Ours:
    """A member of ours."""

    def __init__(self, broker: Broker) -> None:
        self.real = fastmq.Consumer(
            broker.bootstrap,
            TOPIC,
            group_id="g",
            auto_offset_reset="earliest",
            partition_assignment_strategy="cooperative-sticky",
            heartbeat_interval_ms=50,
        )

    def owned(self) -> set[int]:
        return {name.partition for name in self.real.assignment()}

    def poll(self) -> list[int]:
        batch = self.real.poll_batch(0.02)
        return [int(r.value) for r in batch or ()]

    def close(self) -> None:
        self.real.close()


class Librdkafka:
    """A member of confluent-kafka."""

    def __init__(self, broker: Broker) -> None:
        self.real = LibrdkafkaConsumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": "g",
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "heartbeat.interval.ms": 50,
            }
        )
        self.real.subscribe([TOPIC])

    def owned(self) -> set[int]:
        return {name.partition for name in self.real.assignment()}

    def poll(self) -> list[int]:
        found = self.real.consume(100, 0.02)
        return [int(message.value()) for message in found if not message.error()]

    def close(self) -> None:
        self.real.close()


class KafkaPython:
    """A member of kafka-python."""

    def __init__(self, broker: Broker) -> None:
        self.real = KafkaConsumer(
            bootstrap_servers=broker.bootstrap,
            group_id="g",
            auto_offset_reset="earliest",
            partition_assignment_strategy=[CooperativeStickyAssignor],
            heartbeat_interval_ms=50,
            session_timeout_ms=10_000,
        )
        self.real.subscribe([TOPIC])

    def owned(self) -> set[int]:
        return {name.partition for name in self.real.assignment()}

    def poll(self) -> list[int]:
        # The client loses an assignment that arrives just when the time of a poll is over.
        found = self.real.poll(timeout_ms=200)
        return [int(r.value) for records in found.values() for r in records]

    def close(self) -> None:
        self.real.close()


def settle(members: list[Any], seen: list[int]) -> None:
    """Poll until all partitions are shared evenly, each by one."""
    deadline = time.monotonic() + PATIENCE_S
    share = PARTITIONS // len(members)
    while True:
        for member in members:
            seen += member.poll()
        owned = [member.owned() for member in members]
        if all(len(names) == share for names in owned) and len(set().union(*owned)) == PARTITIONS:
            return
        assert time.monotonic() < deadline, owned


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_three_clients_share_a_group_whoever_leads_it(broker, order):
    kinds: list[Any] = [Ours, Librdkafka, KafkaPython]
    if order == "ours last":
        kinds.reverse()
    seen: list[int] = []
    members: list[Any] = []
    for kind in kinds:
        members.append(kind(broker))
        settle(members, seen)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(600):
        producer.produce(TOPIC, b"%d" % n, partition=n % PARTITIONS)
    assert producer.flush(20) == 0
    deadline = time.monotonic() + PATIENCE_S
    while len(set(seen)) < 600:
        for member in members:
            seen += member.poll()
        assert time.monotonic() < deadline
    # Nobody moves meanwhile, so nothing comes twice.
    assert sorted(seen) == list(range(600))
    while members:
        with closing(members.pop(0)):
            pass
        if members:
            settle(members, seen)
