"""Consumers that read from the replica in their rack (KIP-392), over three brokers."""

import json
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import fastmq

from support.cluster import Cluster, leaders

pytestmark = pytest.mark.slow

WAIT_S = 30.0
COUNT = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    overrides = {
        "broker.rack": "r1,r2,r3",
        "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        "min.insync.replicas": "3",
        "fastmq.metrics.listener": "127.0.0.1:0",
    }
    with Cluster(tmp_path_factory.mktemp("racks"), overrides=overrides) as made:
        admin = AdminClient({"bootstrap.servers": made.bootstrap})
        admin.create_topics([NewTopic("t", 1, 3)])["t"].result(WAIT_S)
        producer = Producer({"bootstrap.servers": made.bootstrap, "acks": "all"})
        for i in range(COUNT):
            producer.produce("t", b"%d" % i)
        producer.flush(WAIT_S)
        yield made


def other_rack(cluster) -> tuple[int, str]:
    """Return a follower and its rack."""
    (leader,) = leaders(cluster.all_addresses[0], "t").values()
    follower = 1 + leader % 3
    return follower, f"r{follower}"


def test_confluent_kafka_reads_from_its_rack(cluster):
    follower, rack = other_rack(cluster)
    told = []
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "g",
            "client.rack": rack,
            "statistics.interval.ms": 100,
            "stats_cb": lambda text: told.append(json.loads(text)),
        }
    )
    consumer.assign([TopicPartition("t", 0, 0)])
    seen = []
    deadline = time.monotonic() + WAIT_S
    while len(seen) < COUNT or not any(bytes_from(one, follower) > COUNT for one in told):
        assert time.monotonic() < deadline, (len(seen), told[-1:])
        seen += [int(m.value()) for m in consumer.consume(100, 0.1) if not m.error()]
    consumer.close()
    assert seen == list(range(COUNT))


def bytes_from(statistics, node_id) -> int:
    found = [b for b in statistics["brokers"].values() if b["nodeid"] == node_id]
    return sum(b["rxbytes"] for b in found if b["req"].get("Fetch", 0) > 0)


def test_the_bundled_consumer_reads_from_its_rack(cluster):
    follower, rack = other_rack(cluster)
    with fastmq.Consumer(cluster.bootstrap, client_rack=rack) as consumer:
        consumer.assign([("t", 0)])
        consumer.seek_to_beginning()
        seen = []
        deadline = time.monotonic() + WAIT_S
        while len(seen) < COUNT:
            assert time.monotonic() < deadline
            batch = consumer.poll_batch(timeout=0.2)
            seen += [int(record.value) for record in batch]
        (state,) = consumer._machine.fetcher._states().values()
        assert state.preferred == follower
    assert seen == list(range(COUNT))
