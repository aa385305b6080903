"""kill -9 of brokers of a cluster while records are produced: RF 3, acks=all, min.insync 2.

One broker at a time: the next one is killed when all replicas are in sync again. Nothing that was
acknowledged may be lost, doubled or out of order; how long each partition was without an answer is
printed.
"""

import random
import statistics
import threading
import time

import pytest
from confluent_kafka.admin import AdminClient

from support.cluster import Cluster
from support.records import NumberedProducer, TimedAcks, create_topic, judge, read_all

pytestmark = pytest.mark.reliability

TOPIC = "replicated"
PARTITIONS = 6
REPLICAS = 3
BURST = 100
IN_SYNC_TIMEOUT_S = 60.0


class Killer(threading.Thread):
    """Kills one broker after the other."""

    def __init__(self, cluster: Cluster, acks: TimedAcks, kills: int, rng: random.Random) -> None:
        super().__init__(name="killer", daemon=True)
        self.cluster = cluster
        self.acks = acks
        self.kills = kills
        self.rng = rng
        self.gaps_s: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap, "log_level": 2})
            for _ in range(self.kills):
                time.sleep(self.rng.uniform(0.1, 0.6))
                self.acks.take_gap()
                self.cluster.process_of(self.rng.randint(1, REPLICAS)).kill()
                time.sleep(0.2)  # the controller sees it before we ask who is in sync
                self.wait_in_sync(admin)
                self.gaps_s.append(self.acks.take_gap())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.error = error

    def wait_in_sync(self, admin: AdminClient) -> None:
        deadline = time.monotonic() + IN_SYNC_TIMEOUT_S
        while True:
            topic = admin.list_topics(TOPIC, timeout=20).topics[TOPIC]
            if all(len(p.isrs) == REPLICAS for p in topic.partitions.values()):
                return
            assert time.monotonic() < deadline, "the replicas are not in sync again"
            time.sleep(0.1)


def run_kills(tmp_path, *, kills: int, seed: int) -> None:
    with Cluster(tmp_path / "cluster", REPLICAS, dev=False) as cluster:
        create_topic(cluster, TOPIC, PARTITIONS, {"min.insync.replicas": "2"}, replicas=REPLICAS)
        acks = TimedAcks()
        producer = NumberedProducer(
            cluster,
            TOPIC,
            PARTITIONS,
            acks,
            **{"enable.idempotence": True, "delivery.timeout.ms": 120_000},
        )
        killer = Killer(cluster, acks, kills, random.Random(seed))
        killer.start()
        while killer.is_alive():
            producer.send(BURST)
            producer.poll(0.02)
        assert killer.error is None, killer.error
        left = producer.flush(60)
        assert left == 0, f"{left} records never answered"
        found = read_all(cluster, TOPIC, PARTITIONS)
        print(
            f"\nkill -9 x {kills} of {REPLICAS} brokers, seed {seed}: {acks.count:,} acknowledged,"
            f" {len(acks.errors)} refused, longest wait of a partition per kill: median"
            f" {statistics.median(killer.gaps_s):.2f} s, max {max(killer.gaps_s):.2f} s"
        )
        assert acks.count > 0
        assert not acks.errors, acks.errors[:3]
        judge(producer, found, once=True)


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_by_killed_leaders(tmp_path):
    run_kills(tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_by_25_killed_brokers(tmp_path):
    run_kills(tmp_path, kills=25, seed=time.time_ns() % 100_000)
