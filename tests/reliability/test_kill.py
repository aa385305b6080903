"""kill -9 at random moments while records are produced with acks=all.

Every acknowledged record must be there afterwards, at the offset that was acknowledged, in order,
and once where the producer is idempotent. librdkafka retries what was in flight; what it never got
an answer for may be there or not. The seed is printed.
"""

import random
import threading
import time

import pytest

from support.broker import Broker
from support.records import NumberedProducer, create_topic, judge, read_all

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


def run_kills(make_broker, *, kills: int, idempotent: bool, seed: int) -> None:
    broker = make_broker(dev=False)
    create_topic(broker, TOPIC, PARTITIONS)
    producer = NumberedProducer(
        broker,
        TOPIC,
        PARTITIONS,
        **{
            "enable.idempotence": idempotent,
            # Without idempotence retries keep the order only when one request is in flight.
            "max.in.flight.requests.per.connection": 5 if idempotent else 1,
            "delivery.timeout.ms": 120_000,
        },
    )
    killer = Killer(broker, kills, random.Random(seed))
    killer.start()
    while killer.is_alive():
        producer.send(BURST)
        producer.poll(0.01)
    assert killer.error is None, killer.error
    left = producer.flush(60)
    assert left == 0, f"{left} records never answered"
    found = read_all(broker, TOPIC, PARTITIONS)
    acks = producer.acks
    print(
        f"\nkill -9 x {kills}, seed {seed}, {'idempotent' if idempotent else 'acks=all'}:"
        f" {acks.count:,} acknowledged, {sum(map(len, found.values())):,} in the log,"
        f" {len(acks.errors)} refused,"
        f" restarts {min(killer.restart_s):.2f} to {max(killer.restart_s):.2f} s"
    )
    assert acks.count > 0
    assert not acks.errors, acks.errors[:3]
    judge(producer, found, once=idempotent)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "acks-all"])
def test_nothing_acknowledged_is_lost_by_kill_9(make_broker, idempotent):
    run_kills(make_broker, kills=KILLS_QUICK, idempotent=idempotent, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "acks-all"])
def test_nothing_acknowledged_is_lost_by_50_times_kill_9(make_broker, idempotent):
    run_kills(make_broker, kills=KILLS_FULL, idempotent=idempotent, seed=time.time_ns() % 100_000)
