"""`fastmq cluster`: where partitions are, and moving them."""

import pytest

from fastmq import Admin, NewTopic, Producer
from fastmq.cluster.balance import Shift

from support.cluster import Cluster


def test_brokers_and_partitions(fastmq, served):
    (row,) = fastmq("cluster", "brokers", "--json").json
    assert (row["port"], row["serves"], row["is_controller"]) == (served.port, True, True)
    assert "serves" in fastmq("cluster", "brokers").out
    fastmq("topic", "create", "states")
    (row,) = fastmq("cluster", "partitions", "-t", "states", "--json").json
    assert (row["leader"], row["states"]) == (row["replicas"][0], [])
    assert "no partition is in such a state" in fastmq("cluster", "partitions", "--offline").err


def test_one_broker_has_nothing_to_move_and_cannot_go(fastmq, served):
    assert "nothing is to be moved" in fastmq("cluster", "rebalance", "--dry-run").out
    plan = fastmq("cluster", "rebalance", "--json").json
    assert (plan["moves"], plan["is_done"]) == ([], True)
    assert "no partition is on the move" in fastmq("cluster", "reassignments").err
    assert fastmq("cluster", "reassignments", "--wait", "--json").json == []
    (row,) = fastmq("cluster", "brokers", "--json").json
    told = fastmq("cluster", "decommission", row["node_id"], "--yes", code=1).err
    assert "cannot go" in told
    assert "there is no broker 77" in fastmq("cluster", "decommission", 77, code=1).err


@pytest.mark.slow
def test_a_cluster_is_spread_and_a_broker_leaves(call, tmp_path):
    with Cluster(tmp_path / "cluster", 3) as cluster:
        where = ("-b", cluster.bootstrap)
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics(
                [NewTopic("t", assignments=[[1 + n % 2, 2 - n % 2] for n in range(6)])]
            )
            with Producer(cluster.bootstrap) as producer:
                for number in range(600):
                    producer.produce("t", b"x" * 1000, partition=number % 6)
            plan = call("cluster", "rebalance", "--dry-run", "--json", *where).json
            assert sum(3 in move["after"] for move in plan["moves"]) == 4
            assert plan["copied_bytes"] > 400_000
            assert not plan["is_done"]
            done = call("cluster", "rebalance", "--throttle", "10MB", "--json", *where).json
            assert done["moves"] == plan["moves"]
            rows = call("cluster", "brokers", "--json", *where).json
            assert [(row["leaders"], row["replicas"]) for row in rows] == [(2, 4)] * 3
            assert not any(
                value.source.name == "TOPIC"
                for name, value in admin.topic_config("t").items()
                if "throttled" in name
            )
            told = call("cluster", "decommission", 3, "--yes", *where)
            assert "broker 3 is removed" in told.out
            ends = admin.topic_offsets("t", "latest")
            assert {end.offset for end in ends.values()} == {100}
        rows = call("cluster", "brokers", "--json", *where).json
        assert [(row["node_id"], row["replicas"]) for row in rows] == [(1, 6), (2, 6)]


def test_a_shift_tells_what_it_copies():
    shift = Shift("t", 0, (1, 2), (3, 1), 10)
    assert (shift.added, shift.copied_bytes) == ((3,), 10)
