"""Producing numbered records with confluent-kafka and reading a topic back, for several tests."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.broker import Broker


def create_topic(
    broker: Broker,
    name: str,
    partitions: int,
    config: Mapping[str, str] | None = None,
    *,
    replicas: int = 1,
) -> None:
    """Create a topic and wait until that is done."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    topic = NewTopic(name, partitions, replicas, config=dict(config or {}))
    admin.create_topics([topic])[name].result(20)


def value_of(number: int) -> bytes:
    """A record's value: its number, and padding of a size that depends on it."""
    return f"{number}:".encode().ljust(20 + number % 700, b"x")


def number_of(value: bytes) -> int:
    """The number in a value."""
    return int(value.split(b":", 1)[0])


class Acks:
    """What a producer was told: per partition, offset -> number; and what was refused."""

    def __init__(self) -> None:
        self.offsets: dict[int, dict[int, int]] = defaultdict(dict)
        self.count = 0
        self.errors: list[Any] = []

    def on_delivery(self, error: Any, message: Any) -> None:
        """The callback for `produce`."""
        if error is not None:
            self.errors.append(error)
            return
        self.count += 1
        number = number_of(message.value())
        before = self.offsets[message.partition()].setdefault(message.offset(), number)
        assert before == number, f"two records acknowledged at offset {message.offset()}"

    def lost(self, found: Mapping[int, list[tuple[int, int]]]) -> list[tuple[int, int, int]]:
        """(partition, offset, number) of what was acknowledged and is not there."""
        return [
            (partition, offset, number)
            for partition, acknowledged in self.offsets.items()
            for log in [dict(found[partition])]
            for offset, number in acknowledged.items()
            if log.get(offset) != number
        ]


class TimedAcks(Acks):
    """Also notes how long each partition waits for an answer."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[int, float] = {}
        self._longest = 0.0

    def on_delivery(self, error: Any, message: Any) -> None:
        """The callback for `produce`."""
        now = time.monotonic()
        partition = message.partition()
        self._longest = max(self._longest, now - self._last.get(partition, now))
        self._last[partition] = now
        super().on_delivery(error, message)

    def take_gap(self) -> float:
        """The longest gap since the last call."""
        longest, self._longest = self._longest, 0.0
        return longest


class NumberedProducer:
    """Sends 0, 1, 2, ... round robin over the partitions of a topic, and keeps the answers."""

    def __init__(
        self, broker: Broker, topic: str, partitions: int, acks: Acks | None = None, **config: Any
    ) -> None:
        self.topic = topic
        self.partitions = partitions
        self.acks = acks or Acks()
        self.number = 0
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap,
                "acks": "all",
                "linger.ms": 2,
                "retry.backoff.ms": 20,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "log_level": 2,
                **config,
            }
        )

    def send(self, count: int) -> None:
        """Queue the next records, waiting for room where there is none."""
        for _ in range(count):
            while True:
                try:
                    self._producer.produce(
                        self.topic,
                        value_of(self.number),
                        partition=self.number % self.partitions,
                        on_delivery=self.acks.on_delivery,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.05)
            self.number += 1

    def poll(self, seconds: float) -> None:
        """Serve delivery reports."""
        self._producer.poll(seconds)

    def flush(self, seconds: float) -> int:
        """Wait for the answers; how many are still missing."""
        return self._producer.flush(seconds)


def read_all(broker: Broker, topic: str, partitions: int) -> dict[int, list[tuple[int, int]]]:
    """Per partition the (offset, number) of every record, in the order of the log."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "read-all"})
    found: dict[int, list[tuple[int, int]]] = {}
    for partition in range(partitions):
        start, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
        consumer.assign([TopicPartition(topic, partition, start)])
        rows: list[tuple[int, int]] = []
        deadline = time.monotonic() + 60
        while (rows[-1][0] + 1 if rows else start) < end and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.5):
                assert message.error() is None, message.error()
                rows.append((message.offset(), number_of(message.value())))
        found[partition] = rows
    consumer.close()
    return found


def judge(
    producer: NumberedProducer, found: Mapping[int, list[tuple[int, int]]], *, once: bool
) -> None:
    """Check that what was acknowledged is there, in order, and once where that is promised."""
    lost = producer.acks.lost(found)
    assert not lost, f"{len(lost)} acknowledged records lost: {lost[:5]}"
    for partition, rows in found.items():
        offsets = [offset for offset, _ in rows]
        assert offsets == list(range(len(offsets))), f"partition {partition}: a hole"
        numbers = [number for _, number in rows]
        copies = len(numbers) - len(set(numbers))
        assert copies == 0 or not once, f"partition {partition}: {copies} duplicates"
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts), f"partition {partition}: out of order"
