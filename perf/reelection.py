"""How soon thousands of partitions are led again after their broker was killed.

Three brokers and three etcd members, the default session. All partitions are led by the broker that
is killed; half of them have `min.insync.replicas` 3, so that their rows change to eligible leaders,
too (KIP-966). Target: 5,000 partitions in < 3 s after the lease has ended (issue: 4 of 4).

Told: from the kill to the end of the lease; from there to the last row with a new leader in etcd;
to when both other brokers tell clients so, and to when each partition has acknowledged a record.
Then the gap in acknowledgements (acks=all) of the slowest of six partitions, over several kills.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import trio
from confluent_kafka import Producer

from fastmq import Admin, NewTopic
from fastmq.metastore.etcd import EtcdMetastore, EtcdOptions

from support.broker import Broker
from support.etcd import EtcdCluster, etcd_cluster
from support.records import NumberedProducer, TimedAcks, create_topic

TOPICS = 10
WAIT_S = 60.0


class Watched(threading.Thread):
    """When the session of broker 1 ended, and when etcd had another leader of each partition."""

    def __init__(self, endpoints: tuple[str, ...], partitions: int) -> None:
        super().__init__(daemon=True)
        self.endpoints = endpoints
        self.left = partitions
        self.watches = threading.Event()
        self.session_ended = self.all_led = 0.0
        self.transactions = 0

    def run(self) -> None:
        trio.run(self._watch)

    async def _watch(self) -> None:
        store = EtcdMetastore(EtcdOptions(self.endpoints))
        await store.open()
        revision = (await store.read("")).revision
        self.watches.set()
        with trio.move_on_after(WAIT_S):
            async for events in store.watch("", revision + 1):
                now = time.monotonic()
                self.transactions += 1
                for event in events:
                    if event.key == "sessions/0000000001" and event.value is None:
                        self.session_ended = now
                    if event.key.startswith("partitions/") and event.value is not None:
                        self.left -= json.loads(event.value)["l"] in (2, 3)
                if self.left <= 0 and self.session_ended:
                    self.all_led = now
                    break
        await store.close()


def led_by_others(broker: Broker, names: list[str]) -> bool:
    with Admin(broker.bootstrap) as admin:
        return all(
            part.leader in (2, 3)
            for topic in admin.describe_topics(names)
            for part in topic.partitions
        )


@contextlib.contextmanager
def cluster(root: Path, session_ms: int | None) -> Iterator[tuple[EtcdCluster, list[Broker]]]:
    """Three members of etcd and three brokers."""
    with etcd_cluster(root / "etcd", members=3) as etcd:
        overrides: dict[str, object] = {
            "fastmq.metastore": "etcd",
            "fastmq.etcd.endpoints": ",".join(etcd.endpoints),
        }
        if session_ms is not None:
            overrides["broker.session.timeout.ms"] = session_ms
        brokers = [Broker(root / f"b{n}", overrides={"node.id": n, **overrides}) for n in (1, 2, 3)]
        try:
            for broker in brokers:
                broker.start()
            yield etcd, brokers
        finally:
            for broker in brokers:
                if broker.process is not None:
                    broker.kill()


def measure(root: Path, partitions: int, session_ms: int | None) -> dict[str, float]:
    """Kill the leader of all partitions."""
    with cluster(root, session_ms) as (etcd, brokers):
        names = [f"t{n}" for n in range(TOPICS)]
        each = partitions // TOPICS
        with Admin(brokers[1].bootstrap, default_api_timeout_ms=120_000) as admin:
            for number, name in enumerate(names):
                replicas = [[1, 2 + n % 2, 3 - n % 2] for n in range(each)]
                config = {"min.insync.replicas": 2 + number % 2}
                admin.create_topics([NewTopic(name, assignments=replicas, config=config)])
        # All settle: followers fetch.
        time.sleep(2)
        watched = Watched(etcd.endpoints, each * TOPICS)
        watched.start()
        assert watched.watches.wait(WAIT_S)
        killed = time.monotonic()
        brokers[0].kill()
        watched.join(WAIT_S)
        assert watched.all_led, "not all partitions have a leader"
        while not all(led_by_others(one, names) for one in brokers[1:]):
            assert time.monotonic() < killed + WAIT_S
        told = time.monotonic()
        acknowledged = all_acknowledge(brokers[1], names[::2], each)
        return {
            "lease_ends_s": round(watched.session_ended - killed, 2),
            "rows_s": round(watched.all_led - watched.session_ended, 2),
            "told_s": round(told - watched.session_ended, 2),
            "acknowledged_s": round(acknowledged - watched.session_ended, 2),
            "transactions": watched.transactions,
        }


def measure_gaps(root: Path, kills: int, session_ms: int | None) -> dict[str, float]:
    """Kill one broker after the other; how long the slowest partition acknowledges nothing."""
    with cluster(root, session_ms) as (_, brokers):
        create_topic(brokers[0], "t", 6, {"min.insync.replicas": "2"}, replicas=3)
        acks = TimedAcks()
        every = ",".join(one.bootstrap for one in brokers)
        producer = NumberedProducer(
            brokers[0], "t", 6, acks, **{"bootstrap.servers": every, "enable.idempotence": True}
        )
        gaps = []
        with Admin(every) as admin:
            for number in range(kills):
                _produce(producer, 1)
                acks.take_gap()
                broker = brokers[number % 3]
                broker.kill()
                _produce(producer, 6)
                gaps.append(acks.take_gap())
                broker.start()
                deadline = time.monotonic() + WAIT_S
                while True:
                    (topic,) = admin.describe_topics("t")
                    if all(len(part.isr) == 3 for part in topic.partitions):
                        break
                    assert time.monotonic() < deadline
                    _produce(producer, 0.1)
                # The preferred leaders lead again, so that each kill takes some away.
                admin.elect_leaders()
        assert producer.flush(WAIT_S) == 0
        assert not acks.errors
        gaps.sort()
        return {
            "kills": kills,
            "median_s": round(gaps[len(gaps) // 2], 2),
            "max_s": round(gaps[-1], 2),
        }


def _produce(producer: NumberedProducer, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        producer.send(6)
        producer.poll(0.02)


def all_acknowledge(broker: Broker, names: list[str], each: int) -> float:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
    errors = []
    for name in names:
        for index in range(each):
            producer.produce(name, b"x", partition=index, callback=lambda e, _: errors.append(e))
    assert producer.flush(WAIT_S) == 0
    assert not any(errors), next(filter(None, errors))
    return time.monotonic()


def main() -> None:
    """Measure."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--partitions", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=10, help="to measure gaps; 0 = do not")
    parser.add_argument("--session-ms", type=int, default=None)
    options = parser.parse_args()
    with harness.scratch(options) as root:
        for number in range(options.rounds):
            found = measure(root / str(number), options.partitions, options.session_ms)
            harness.report("re-election", partitions=options.partitions, **found)
        if options.kills:
            gaps = measure_gaps(root / "gaps", options.kills, options.session_ms)
            harness.report("gap in acknowledgements", **gaps)


if __name__ == "__main__":
    main()
