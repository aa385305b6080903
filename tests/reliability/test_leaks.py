"""R23: memory, descriptors and latency stay where they are under five minutes of mixed load."""

import contextlib
import threading
import time
from typing import Self

import pytest
from confluent_kafka import Consumer

from support.broker import Broker
from support.records import NumberedProducer, create_topic
from support.wire import API_VERSIONS, Honest, Peer

pytestmark = pytest.mark.reliability

TOPIC = "mixed"
PARTITIONS = 6
MIB = 1 << 20


class MixedLoad:
    """Producers, a group that keeps being joined and left, and connections that come and go."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self.produce, self.consume, self.connect)
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)

    def produce(self) -> None:
        while not self.stop.is_set():
            producer = NumberedProducer(self.broker, TOPIC, PARTITIONS)
            for _ in range(200):
                producer.send(100)
                producer.poll(0.02)
                if self.stop.is_set():
                    break
            producer.flush(10)

    def consume(self) -> None:
        while not self.stop.is_set():
            consumer = Consumer(
                {
                    "bootstrap.servers": self.broker.bootstrap,
                    "group.id": "mixed",
                    "auto.offset.reset": "earliest",
                    "log_level": 2,
                }
            )
            consumer.subscribe([TOPIC])
            end = time.monotonic() + 4
            while time.monotonic() < end and not self.stop.is_set():
                consumer.consume(1000, 0.2)
            consumer.close()

    def connect(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(OSError), Peer(self.broker.port) as peer:
                peer.call(API_VERSIONS, 0, b"")
            time.sleep(0.01)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_minutes_of_mixed_load_leak_nothing(make_broker):
    warm_up_s, window_s, total_s = 60, 30, 300
    retention = {"retention.bytes": str(16 * MIB), "segment.bytes": str(4 * MIB)}
    broker = make_broker(overrides={"log.retention.check.interval.ms": 5000})
    create_topic(broker, TOPIC, PARTITIONS, retention)
    create_topic(broker, "probe", 1)
    samples: list[tuple[float, int, int]] = []
    with MixedLoad(broker), Honest(broker.port, "probe", rate=50) as honest:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < total_s:
            if passed > warm_up_s:
                samples.append((passed, broker.rss_bytes(), broker.fd_count()))
            time.sleep(1)
    assert not honest.errors, honest.errors[:3]
    first = [s for s in samples if s[0] < warm_up_s + window_s]
    last = [s for s in samples if s[0] > total_s - window_s]
    rss = [median([float(s[1]) for s in part]) / MIB for part in (first, last)]
    fds = [median([float(s[2]) for s in part]) for part in (first, last)]
    print(f"\nRSS {rss[0]:.1f} to {rss[1]:.1f} MiB, descriptors {fds[0]:.0f} to {fds[1]:.0f}")
    assert rss[1] - rss[0] < 8, "memory grows"
    assert fds[1] - fds[0] < 20, "descriptors grow"
