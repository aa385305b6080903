"""`fastmq cluster`: where partitions are, and moving them."""

import time

import pytest

from fastmq import Admin, NewTopic, Producer
from fastmq.cluster.balance import Shift
from fastmq.errors import KafkaError

from support.cluster import Cluster


def eventually(look):
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_back(cluster, node_id):
    """Whether a broker that was killed takes connections again: then it has entered the cluster."""
    try:
        with Admin(cluster.all_addresses[node_id - 1], default_api_timeout_ms=1_000) as admin:
            return node_id in {one.node_id for one in admin.describe_cluster().brokers}
    except KafkaError:
        return False


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
            call("cluster", "cordon", 3, *where)
            told = call("cluster", "rebalance", "--dry-run", *where).out
            assert "nothing is to be moved" in told
            admin.create_topic("around", partitions=4, replication_factor=2)
            rows = call("cluster", "brokers", "--json", *where).json
            assert [row["is_cordoned"] for row in rows] == [False, False, True]
            before = cluster.process_of(3)
            before.kill()
            before.wait(10)
            eventually(lambda: is_back(cluster, 3))
            eventually(lambda: call("cluster", "brokers", "--json", *where).json[2]["is_cordoned"])
            admin.create_topic("still", partitions=4, replication_factor=2)
            (around, still) = admin.describe_topics(["around", "still"])
            assert not any(3 in p.replicas for p in (*around.partitions, *still.partitions))
            admin.delete_topics(["around", "still"])
            call("cluster", "uncordon", 3, *where)
            plan = call(
                "cluster",
                "rebalance",
                "--by",
                "bytes",
                "--throttle",
                "1MB",
                "--dry-run",
                "--json",
                *where,
            ).json
            assert plan["copied_bytes"] > 400_000
            assert 0 < plan["expected_s"] < 5
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
            call("cluster", "cordon", 2, *where)
            told = call("cluster", "decommission", 3, "--yes", *where, code=1).err
            assert "2 is cordoned" in told
            assert not call("cluster", "brokers", "--json", *where).json[2]["is_cordoned"]
            call("cluster", "uncordon", 2, *where)
            told = call("cluster", "decommission", 3, "--yes", *where)
            assert "broker 3 is removed" in told.out
            ends = admin.topic_offsets("t", "latest")
            assert {end.offset for end in ends.values()} == {100}
        rows = call("cluster", "brokers", "--json", *where).json
        assert [(row["node_id"], row["replicas"]) for row in rows] == [(1, 6), (2, 6)]


def test_a_cordoned_broker_gets_no_topics_until_it_is_uncordoned(fastmq, served):
    (row,) = fastmq("cluster", "brokers", "--json").json
    node = row["node_id"]
    (directory,) = fastmq("cluster", "disks", "--json").json
    try:
        for extra in ((), ("-d", directory["path"])):
            assert "no new partitions" in fastmq("cluster", "cordon", node, *extra).out
            assert f"cordoned: {node}" in fastmq("topic", "create", "nowhere", code=1).err
            assert "cordoned" in fastmq("cluster", "brokers").out
            assert fastmq("cluster", "disks", "--json").json[0]["is_cordoned"]
            fastmq("cluster", "uncordon", node)
        wrong = fastmq("cluster", "cordon", node, "-d", "/nowhere", code=1).err
        assert "none of the directories of this broker" in wrong
        assert "there is no broker 77" in fastmq("cluster", "cordon", 77, code=1).err
    finally:
        fastmq("cluster", "uncordon", node)
    fastmq("topic", "create", "somewhere")
    (row,) = fastmq("cluster", "brokers", "--json").json
    assert not row["is_cordoned"]


def test_partitions_of_many_topics_need_one_question_for_their_settings(
    fastmq, served, monkeypatch
):
    fastmq("topic", "create", "least", "-c", "min.insync.replicas=1")
    asked = []
    from fastmq.client.fronts.admin import Admin as Front

    known = Front._run
    monkeypatch.setattr(Front, "_run", lambda *args, **kw: asked.append(args) or known(*args, **kw))
    assert len(fastmq("cluster", "partitions", "--json").json) > 1
    assert len(asked) == 3


def test_looking_again_and_again_ends_with_the_broker(fastmq, served, monkeypatch):
    looks = iter((None, None))

    def sleep(_):
        if next(looks, 0) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr("fastmq.cli.support.options.time.sleep", sleep)
    told = fastmq("cluster", "brokers", "--watch", "1s", code=130).out
    assert told.count("BROKER") == 3
    assert (
        "--watch only looks"
        in fastmq("cluster", "reassignments", "--watch", "1s", "--wait", code=2).err
    )


def test_leaders_are_elected(fastmq, served):
    fastmq("topic", "create", "led", "--partitions", 2)
    assert "no partition needs another leader" in fastmq("cluster", "elect").err
    for extra in ((), ("-p", 1), ("--unclean", "--yes")):
        assert fastmq("cluster", "elect", "-t", "led", *extra, "--json").json == []
    assert "name each --topic" in fastmq("cluster", "elect", "--unclean", code=2).err
    assert "needs one --topic" in fastmq("cluster", "elect", "-p", 1, code=2).err


def test_a_shift_tells_what_it_copies():
    shift = Shift("t", 0, (1, 2), (3, 1), 10)
    assert (shift.added, shift.copied_bytes) == ((3,), 10)
