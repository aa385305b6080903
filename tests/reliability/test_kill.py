"""kill -9 at random moments while records are produced with acks=all.

Every acknowledged record must be there afterwards, at the offset that was acknowledged, in order,
and once where the producer is idempotent. librdkafka retries what was in flight; what it never got
an answer for may be there or not. The seed is in the test's name and in every message.
"""

import random
import threading
import time
from collections import defaultdict

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.broker import Broker

pytestmark = pytest.mark.reliability

TOPIC = "kill"
PARTITIONS = 4
KILLS_QUICK = 4
KILLS_FULL = 50
BURST = 100


class Killer(threading.Thread):
    """Kills and restarts the broker at random moments."""

    def __init__(self, broker: Broker, kills: int, rng: random.Random) -> None:
        super().__init__(name="killer", daemon=True)
        self.broker = broker
        self.kills = kills
        self.rng = rng
        self.restart_s: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(self.kills):
                time.sleep(self.rng.uniform(0.02, 1.0))
                self.broker.kill()
                self.restart_s.append(self.broker.start())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.error = error


class Acks:
    """What the producer was told: per partition, offset -> number."""

    def __init__(self) -> None:
        self.offsets: dict[int, dict[int, int]] = defaultdict(dict)
        self.count = 0
        self.errors: list[str] = []

    def on_delivery(self, error: object, message: object) -> None:
        if error is not None:
            self.errors.append(str(error))
            return
        self.count += 1
        number = int(message.value().split(b":")[0])
        before = self.offsets[message.partition()].setdefault(message.offset(), number)
        assert before == number, f"two records acknowledged at offset {message.offset()}"


def produce_until_done(broker: Broker, killer: Killer, *, idempotent: bool) -> Acks:
    acks = Acks()
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "acks": "all",
            "enable.idempotence": idempotent,
            # Without idempotence a retry may only keep the order alone.
            "max.in.flight.requests.per.connection": 5 if idempotent else 1,
            "linger.ms": 2,
            "retry.backoff.ms": 20,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
            "delivery.timeout.ms": 120_000,
            "log_level": 2,
        }
    )
    number = 0
    while killer.is_alive():
        for _ in range(BURST):
            partition = number % PARTITIONS
            value = f"{number}:".encode().ljust(20 + number % 700, b"x")
            while True:
                try:
                    producer.produce(
                        TOPIC, value, partition=partition, on_delivery=acks.on_delivery
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
            number += 1
        producer.poll(0.01)
    left = producer.flush(60)
    assert left == 0, f"{left} records never answered"
    return acks


def read_all(broker: Broker) -> dict[int, list[tuple[int, int]]]:
    """Per partition the (offset, number) of every record."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "judge"})
    found: dict[int, list[tuple[int, int]]] = {}
    for partition in range(PARTITIONS):
        place = TopicPartition(TOPIC, partition, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        rows: list[tuple[int, int]] = []
        deadline = time.monotonic() + 30
        while (rows[-1][0] + 1 if rows else 0) < end and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.5):
                assert message.error() is None, message.error()
                rows.append((message.offset(), int(message.value().split(b":")[0])))
        found[partition] = rows
    consumer.close()
    return found


def judge(acks: Acks, found: dict[int, list[tuple[int, int]]], *, idempotent: bool) -> None:
    for partition, acknowledged in acks.offsets.items():
        rows = found[partition]
        log = dict(rows)
        lost = [(o, n) for o, n in acknowledged.items() if log.get(o) != n]
        assert not lost, f"partition {partition}: {len(lost)} acknowledged lost: {lost[:5]}"
        offsets = [offset for offset, _ in rows]
        assert offsets == list(range(len(offsets))), f"partition {partition}: a hole"
        numbers = [number for _, number in rows]
        if idempotent:
            assert len(set(numbers)) == len(numbers), f"partition {partition}: duplicates"
            assert numbers == sorted(numbers), f"partition {partition}: order"
        else:
            first = list(dict.fromkeys(numbers))
            assert first == sorted(first), f"partition {partition}: order of first copies"


def run_kills(make_broker, *, kills: int, idempotent: bool, seed: int) -> None:
    broker = make_broker(dev=False)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(20)
    killer = Killer(broker, kills, random.Random(seed))
    killer.start()
    try:
        acks = produce_until_done(broker, killer, idempotent=idempotent)
    finally:
        killer.join(120)
    assert killer.error is None, killer.error
    found = read_all(broker)
    total = sum(map(len, found.values()))
    print(
        f"\nkill -9 x {kills}, seed {seed}, {'idempotent' if idempotent else 'acks=all'}:"
        f" {acks.count:,} acknowledged, {total:,} in the log, {len(acks.errors)} refused,"
        f" restarts {min(killer.restart_s):.2f} to {max(killer.restart_s):.2f} s"
    )
    assert acks.count > 0
    assert not acks.errors, acks.errors[:3]
    judge(acks, found, idempotent=idempotent)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "acks-all"])
def test_nothing_acknowledged_is_lost_by_kill_9(make_broker, idempotent):
    run_kills(make_broker, kills=KILLS_QUICK, idempotent=idempotent, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "acks-all"])
def test_nothing_acknowledged_is_lost_by_50_times_kill_9(make_broker, idempotent):
    run_kills(make_broker, kills=KILLS_FULL, idempotent=idempotent, seed=time.time_ns() % 100_000)
