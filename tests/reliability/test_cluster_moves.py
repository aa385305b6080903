"""Partitions move to other brokers under load, throttled, while brokers are killed; 0 lost.

The log workload of Jepsen's Kafka tests produces and reads meanwhile (acks=all, min.insync.replicas
2). Killed are a replica that a move brings in, and the controller, whose successor goes on from the
partitions' rows. At the end the old replicas have deleted their files.
"""

import time

import pytest

import fastmq

from support.cluster import Cluster
from support.log_workload import LogWorkload

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

WAIT_S = 60.0
PARTITIONS = 4
# The groups' own topic, too: their coordinators move.
MOVED = ("log", "bulk", "__consumer_offsets")
# The first batch of each partition is this large, so that a throttled copy takes a while.
PAYLOAD_BYTES = 1_000_000
RATE = 1_000_000


def until(what):
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


def replicas_of(admin, topic):
    (found,) = admin.describe_topics(topic)
    return {part.partition: part for part in found.partitions}


def test_partitions_move_under_load_while_brokers_are_killed(tmp_path):
    with Cluster(tmp_path / "cluster", 5) as cluster:
        workload = LogWorkload(cluster.bootstrap, partitions=PARTITIONS, grouped=1)
        workload.create()
        with fastmq.Admin(cluster.bootstrap) as admin:
            admin.create_topic("bulk", partitions=PARTITIONS, replication_factor=3)
            with fastmq.Producer(cluster.bootstrap, compression_type="none") as producer:
                for index in range(PARTITIONS):
                    for _ in range(8):
                        producer.produce("bulk", bytes(PAYLOAD_BYTES // 8), partition=index)
            listed = {
                "leader.replication.throttled.replicas": "*",
                "follower.replication.throttled.replicas": "*",
            }
            for topic in (workload.topic, "bulk"):
                admin.alter_topic_config(topic, listed)
            rates = dict.fromkeys(
                ("leader.replication.throttled.rate", "follower.replication.throttled.rate"), RATE
            )
            admin.alter_broker_config(None, rates)
            workload.start()
            workload.wait_progress(WAIT_S)

            targets = {}
            for topic in MOVED:
                for index, part in replicas_of(admin, topic).items():
                    others = [broker for broker in range(1, 6) if broker not in part.replicas]
                    targets[topic, index] = (*others, part.replicas[0])
            admin.reassign(targets)
            assert admin.list_reassignments(), "it takes a while"
            cluster.process_of(targets["bulk", 0][0]).kill()
            workload.wait_progress(WAIT_S)
            cluster.process_of(admin.describe_cluster().controller_id).kill()
            workload.wait_progress(WAIT_S)
            admin.alter_broker_config(None, delete=rates)
            until(lambda: not admin.list_reassignments())

            for topic in MOVED:
                until(
                    lambda topic=topic: all(
                        set(part.isr) == set(targets[topic, index])
                        for index, part in replicas_of(admin, topic).items()
                    )
                )
                for index, part in replicas_of(admin, topic).items():
                    assert part.replicas == targets[topic, index]
            ends = admin.topic_offsets("bulk", "latest")
            assert {end.offset for end in ends.values()} == {8}
        workload.judged()
        print(f"\nmoves under load: {workload.acknowledged:,} acknowledged, 0 lost")
        for (topic, index), target in targets.items():
            until(
                lambda target=target, topic=topic, index=index: (
                    {
                        int(path.parent.name.removeprefix("broker_"))
                        for path in cluster.data_dir.glob(f"broker_*/{topic}-{index}")
                    }
                    == set(target)
                )
            )
