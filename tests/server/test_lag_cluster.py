"""Lag where a group's partitions lie on other brokers than its coordinator."""

import json
import time
import urllib.error
import urllib.request

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.cluster import Cluster

WAIT_S = 60.0


def metrics_addresses(cluster):
    """Whatever the brokers listen on beside the addresses for clients."""
    known = {int(address.rpartition(":")[2]) for address in cluster.all_addresses}
    found = []
    for node_id in range(1, cluster.count + 1):
        for connection in cluster.process_of(node_id).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port not in known:
                found.append(f"127.0.0.1:{connection.laddr.port}")
    return found


def lag_of(addresses, group):
    """The page of the broker that coordinates the group, None while nobody knows it."""
    for address in addresses:
        try:
            with urllib.request.urlopen(f"http://{address}/groups/{group}", timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError:
            continue  # this one does not coordinate it
    return None


def test_the_coordinator_asks_the_leaders_where_their_logs_end(tmp_path):
    overrides = {"fastmq.metrics.listener": "127.0.0.1:0", "fastmq.lag.interval.ms": 100}
    with Cluster(tmp_path / "cluster", 3, overrides=overrides) as cluster:
        servers = {"bootstrap.servers": cluster.bootstrap}
        admin = AdminClient(servers)
        admin.create_topics([NewTopic("spread", 6, 1)])["spread"].result(WAIT_S)
        producer = Producer(servers)
        for partition in range(6):
            for _ in range(10):
                producer.produce("spread", b"x", partition=partition)
        assert producer.flush(WAIT_S) == 0
        consumer = Consumer({**servers, "group.id": "far"})
        offsets = [TopicPartition("spread", partition, partition) for partition in range(6)]
        consumer.commit(offsets=offsets, asynchronous=False)
        consumer.close()
        addresses = metrics_addresses(cluster)
        assert len(addresses) == 3
        deadline = time.monotonic() + WAIT_S
        while (seen := lag_of(addresses, "far")) is None or seen["lag"] != 60 - 15:
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)
        (topic,) = seen["topics"]
        assert [row["lag"] for row in topic["partitions"]] == [10, 9, 8, 7, 6, 5]
