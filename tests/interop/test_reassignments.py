"""Kafka's own reassignment tool, and kafka-python, move partitions of our cluster."""

import json
import time
from contextlib import closing

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from fastmq import Admin, NewTopic, Producer

from support import apache_kafka
from support.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.interop]

TOOL = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
WAIT_S = 60.0


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path / "cluster", 3) as made:
        yield made


def until_moved(admin):
    deadline = time.monotonic() + WAIT_S
    while admin.list_reassignments():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def replicas_of(admin, topic):
    (found,) = admin.describe_topics(topic)
    return [part.replicas for part in found.partitions]


def fill(cluster, admin, topic, assignments):
    admin.create_topics([NewTopic(topic, assignments=assignments)])
    with Producer(cluster.bootstrap, compression_type="none") as producer:
        for number in range(200):
            producer.produce(topic, b"x" * 10_000, partition=number % len(assignments))


def test_kafkas_tool_moves_with_a_throttle_and_takes_it_off(cluster, tmp_path):
    if why := apache_kafka.missing():
        pytest.skip(why)
    plan = tmp_path / "plan.json"
    where = ("--bootstrap-server", cluster.bootstrap)

    def tool(*args):
        done = apache_kafka.tool(TOOL, *where, *args)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with Admin(cluster.bootstrap) as admin:
        fill(cluster, admin, "t", [[1, 2], [2, 1]])
        moves = [
            {"topic": "t", "partition": 0, "replicas": [3, 1]},
            {"topic": "t", "partition": 1, "replicas": [3]},
        ]
        plan.write_text(json.dumps({"version": 1, "partitions": moves}))
        slow = ("--reassignment-json-file", str(plan), "--execute", "--throttle", "1000")
        assert "Successfully started" in tool(*slow)
        assert "t-0: replicas: 3,1,2" in tool("--list")
        assert admin.topic_config("t")["follower.replication.throttled.replicas"].value == "0:3,1:3"
        told = tool("--reassignment-json-file", str(plan), "--cancel")
        assert "Successfully cancelled" in told
        assert replicas_of(admin, "t") == [(1, 2), (2, 1)]
        fast = (*slow[:-1], "100000000")
        assert "Successfully started" in tool(*fast)
        until_moved(admin)
        assert "is completed" in tool("--reassignment-json-file", str(plan), "--verify")
        assert replicas_of(admin, "t") == [(3, 1), (3,)]
        for name, value in admin.topic_config("t").items():
            assert "throttled" not in name or not value.value
        ends = admin.topic_offsets("t", "latest")
        assert [end.offset for end in ends.values()] == [100, 100]


def test_kafka_python_moves_lists_and_cancels(cluster):
    client = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    with Admin(cluster.bootstrap) as admin, closing(client):
        fill(cluster, admin, "p", [[1, 2]])
        admin.alter_topic_config("p", {"follower.replication.throttled.replicas": "*"})
        admin.alter_broker_config(None, {"follower.replication.throttled.rate": 1})
        name = TopicPartition("p", 0)
        client.alter_partition_reassignments({name: [2, 3]})
        assert name in client.list_partition_reassignments()
        client.alter_partition_reassignments({name: None})
        assert name not in client.list_partition_reassignments()
        assert set(replicas_of(admin, "p")[0]) == {1, 2}
        admin.alter_broker_config(None, delete=["follower.replication.throttled.rate"])
        client.alter_partition_reassignments({name: [2, 3]})
        until_moved(admin)
        assert replicas_of(admin, "p") == [(2, 3)]
