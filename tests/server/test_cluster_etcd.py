"""Brokers that are a cluster over etcd: mistakes of operators, deaths, etcd gone for a while."""

import base64
import json
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq import Admin
from fastmq import NewTopic as AdminTopic
from fastmq.cli import main
from fastmq.errors import KafkaError
from fastmq.ids import uuid_text
from fastmq.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestTopic,
)

from support.broker import Broker, BrokerDied
from support.cluster import leaders
from support.etcd import EtcdCluster, etcd_cluster, etcd_missing
from support.raw import RawClient
from support.records import NumberedProducer, TimedAcks, judge, read_all

MISSING = etcd_missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

WAIT_S = 30.0
SESSION_MS = 2_000


def until(what, timeout_s=WAIT_S):
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "etcd", members=3) as cluster:
        yield cluster


def broker(etcd: EtcdCluster, root: Path, node_id: int, **overrides: object) -> Broker:
    return Broker(
        root / f"broker-{node_id}",
        overrides={
            "node.id": node_id,
            "fastmq.metastore": "etcd",
            "fastmq.etcd.endpoints": ",".join(etcd.endpoints),
            "fastmq.etcd.timeout.ms": 1_000,
            "broker.session.timeout.ms": SESSION_MS,
            "offsets.topic.num.partitions": 3,
            **overrides,
        },
    )


@pytest.fixture
def brokers(etcd: EtcdCluster, tmp_path: Path) -> Iterator[list[Broker]]:
    made = [broker(etcd, tmp_path, node_id) for node_id in (1, 2, 3)]
    try:
        for one in made:
            one.start()
        yield made
    finally:
        for one in made:
            if one.process is not None:
                one.kill()


def create(brokers: list[Broker], name: str, partitions: int, replicas: int) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": brokers[0].bootstrap, "log_level": 2})
    topic = NewTopic(name, partitions, replicas, config={"min.insync.replicas": "2"})
    admin.create_topics([topic])[name].result(WAIT_S)
    return admin


def in_sync(admin: AdminClient, name: str, count: int) -> bool:
    topic = admin.list_topics(name, timeout=WAIT_S).topics[name]
    return all(len(p.isrs) == count and p.leader > 0 for p in topic.partitions.values())


def test_mistakes_are_told_in_words(etcd, brokers, tmp_path):
    twice = broker(etcd, tmp_path / "twice", 2)
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*node.id 2 belongs to a running"):
        twice.start()
    brokers[2].stop()
    moved = broker(etcd, tmp_path, 3, **{"fastmq.etcd.prefix": "another/"})
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*cluster.*fastmq.etcd.prefix those"):
        moved.start()
    renamed = broker(etcd, tmp_path, 3)
    renamed.overrides["node.id"] = 4
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*give it node.id 3 again"):
        renamed.start()
    told = f"PLAINTEXT://{brokers[0].bootstrap}"
    posing = broker(etcd, tmp_path / "posing", 5, **{"advertised.listeners": told})
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*is the address of broker 1"):
        posing.start()
    unheard = "PLAINTEXT://nowhere.invalid:9092"
    lost = broker(etcd, tmp_path / "lost", 6, **{"advertised.listeners": unheard})
    lost.start()
    try:
        until(lambda: "is advertised.listeners right?" in lost.log_path.read_text())
        missing = r"3 available broker.*\(not serving: 3, 5\): start more"
        with Admin(brokers[0].bootstrap) as admin, pytest.raises(KafkaError, match=missing):
            admin.create_topic("too-many", replication_factor=5)
    finally:
        lost.kill()
    nobody = broker(etcd, tmp_path / "nobody", 4)
    nobody.overrides["fastmq.etcd.endpoints"] = "http://127.0.0.1:1"
    nobody.overrides["fastmq.etcd.timeout.ms"] = 100
    with pytest.raises(
        BrokerDied, match=r"ended with 1[\s\S]*etcd does not answer.*is etcd running"
    ):
        nobody.start()
    put(etcd, "future/cluster", b'{"id":"AAAAAAAAAAAAAAAAAAAAAA","level":9}')
    old = broker(etcd, tmp_path / "old", 1, **{"fastmq.etcd.prefix": "future/"})
    with pytest.raises(BrokerDied, match=r"ended with 1[\s\S]*newer fastmq \(level 9"):
        old.start()
    # Another cluster below the prefix of this one disturbs nobody.
    below = broker(etcd, tmp_path / "below", 1, **{"fastmq.etcd.prefix": "fastmq/below/"})
    below.start()
    below.kill()
    assert brokers[0].is_running()


def put(etcd, key, value):
    """Write to etcd as an operator with etcdctl could."""
    call(etcd, "put", key, value=base64.b64encode(value).decode())


def found(etcd, key):
    """Whether etcd has a key."""
    return "kvs" in call(etcd, "range", key)


def call(etcd, what, key, **more):
    row = {"key": base64.b64encode(key.encode()).decode(), **more}
    asked = urllib.request.Request(f"{etcd.endpoints[0]}/v3/kv/{what}", json.dumps(row).encode())
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_what_is_lost_is_copied_anew_and_what_is_left_over_goes(etcd, brokers):
    """A data directory is gone; beside that, rows of topics that were made by half."""
    with Admin(brokers[0].bootstrap) as admin:
        admin.create_topic("grown")
        (grown,) = admin.describe_topics("grown")
        row = b'{"l":1,"e":0,"p":0,"r":[1],"i":[1],"d":["AAAAAAAAAAAAAAAAAAAAAA"]}'
        half = json.dumps({"id": uuid_text(bytes(range(16))), "n": 2}).encode()
        rows = {
            f"partitions/{grown.topic_id}/000001": row,
            "configs/topic/ghost": b'{"retention.ms":"1"}',
            "topics/half": half,
        }
        for key, value in rows.items():
            put(etcd, f"fastmq/{key}", value)
        admin.create_topic("after")  # the broker has seen the rows when it has made this one
        with pytest.raises(KafkaError, match="made by half"):
            admin.create_topic("half")
        with pytest.raises(KafkaError, match="grown by half"):
            admin.add_partitions("grown", 2)
    lose_a_directory(brokers)
    until(lambda: not any(found(etcd, f"fastmq/{key}") for key in rows), 60)
    with Admin(brokers[0].bootstrap) as admin:
        admin.add_partitions("grown", 2)
        admin.create_topic("half")
        admin.create_topic("ghost")
        assert admin.topic_config("ghost")["retention.ms"].is_default


def lose_a_directory(brokers):
    with Admin(brokers[0].bootstrap) as admin:
        replicas = [[2, 1, 3], [1, 2, 3]]
        admin.create_topics(
            [AdminTopic("copied", assignments=replicas), AdminTopic("only", assignments=[[2]])]
        )
        producer = NumberedProducer(brokers[0], "copied", 2)
        producer.send(200)
        assert producer.flush(WAIT_S) == 0
        brokers[1].stop()
        kept = brokers[1].root / "kept"
        brokers[1].data_dir.rename(kept)
        brokers[1].start()
        assert "log directories that are not here" in brokers[1].log_path.read_text()

        def parts(name):
            (topic,) = admin.describe_topics(name)
            return topic.partitions

        until(lambda: all(len(part.isr) == 3 for part in parts("copied")))
        judge(producer, read_all(brokers[1], "copied", 2), once=True)
        # Nobody leads what nobody has, until the directory is back.
        assert parts("only")[0].leader == -1
        brokers[1].stop()
        shutil.rmtree(brokers[1].data_dir)
        kept.rename(brokers[1].data_dir)
        brokers[1].start()
        until(lambda: all(len(part.isr) == 3 for part in parts("copied")))
        judge(producer, read_all(brokers[1], "copied", 2), once=True)
        command = ("cluster", "elect", "-t", "only", "--unclean", "-y", "-b", brokers[0].bootstrap)
        result = CliRunner().invoke(main, command)
        assert "elected" in result.output
        until(lambda: parts("only")[0].leader == 2)


@pytest.mark.slow
def test_a_dead_leader_is_followed_and_a_stopped_one_comes_back_as_follower(brokers):
    admin = create(brokers, "led", 3, 3)
    # A client notices a broker that does not answer by its own time-out only.
    config = {
        "delivery.timeout.ms": 60_000,
        "request.timeout.ms": 2_000,
        "socket.timeout.ms": 3_000,
    }
    producer = NumberedProducer(brokers[0], "led", 3, **{"enable.idempotence": True, **config})
    producer.send(300)
    assert producer.flush(WAIT_S) == 0
    brokers[1].kill()
    producer.send(300)
    assert producer.flush(WAIT_S) == 0
    brokers[1].start()
    until(lambda: in_sync(admin, "led", 3))
    # It lives and does not move: others take over, and it finds that out when it wakes.
    brokers[2].pause()
    try:
        producer.send(300)
        assert producer.flush(WAIT_S) == 0
        until(lambda: 3 not in leaders(brokers[0].bootstrap, "led").values())
    finally:
        brokers[2].resume()
    producer.send(300)
    assert producer.flush(WAIT_S) == 0
    until(lambda: in_sync(admin, "led", 3))
    assert not producer.acks.errors
    judge(producer, read_all(brokers[0], "led", 3), once=True)


@pytest.mark.slow
def test_a_rolling_restart_is_not_noticed(brokers):
    admin = create(brokers, "rolling", 3, 3)
    acks = TimedAcks()
    producer = NumberedProducer(brokers[0], "rolling", 3, acks, **{"enable.idempotence": True})
    done = threading.Event()
    failed: list[BaseException] = []

    def restart_all() -> None:
        try:
            for one in brokers:
                one.stop()
                one.start()
                until(lambda: in_sync(admin, "rolling", 3))
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=restart_all)
    thread.start()
    while not done.is_set():
        producer.send(30)
        producer.poll(0.01)
    thread.join()
    assert not failed, failed
    assert producer.flush(WAIT_S) == 0
    assert not acks.errors
    judge(producer, read_all(brokers[0], "rolling", 3), once=True)
    print(f"\nrolling restart: {acks.count:,} acknowledged, longest wait {acks.take_gap():.2f} s")


@pytest.mark.slow
def test_records_go_on_while_etcd_is_away(etcd, brokers):
    create(brokers, "on", 3, 3)
    producer = Producer({"bootstrap.servers": brokers[0].bootstrap, "acks": "all", "log_level": 2})

    def send() -> None:
        failed: list[object] = []
        for number in range(30):
            producer.produce(
                "on",
                b"v",
                partition=number % 3,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        assert producer.flush(WAIT_S) == 0
        assert not failed

    send()
    before = leaders(brokers[0].bootstrap, "on")
    for member in range(3):
        etcd.signal(member, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 2 * SESSION_MS / 1000
        while time.monotonic() < deadline:
            send()
        assert leaders(brokers[0].bootstrap, "on") == before, "nobody can be elected meanwhile"
    finally:
        for member in range(3):
            etcd.signal(member, signal.SIGCONT)
    admin = AdminClient({"bootstrap.servers": brokers[0].bootstrap, "log_level": 2})

    def creates() -> bool:
        name = f"after-{time.monotonic_ns()}"
        try:
            admin.create_topics([NewTopic(name, 1, 3)])[name].result(WAIT_S)
        except Exception:  # noqa: BLE001 - whatever it was, it is asked again
            return False
        return True

    until(creates)
    send()
    until(lambda: in_sync(admin, "on", 3))


@pytest.mark.slow
def test_the_store_is_not_written_while_records_are_produced(etcd, brokers):
    """How often etcd is written does not grow with the records."""
    admin = create(brokers, "figures", 3, 3)
    producer = Producer({"bootstrap.servers": brokers[0].bootstrap, "linger.ms": 5})
    writes = []
    for count in (1_000, 20_000, 200_000):
        until(lambda: in_sync(admin, "figures", 3))
        before, began = etcd.revision(), time.monotonic()
        for number in range(count):
            producer.produce("figures", b"x" * 100, partition=number % 3)
            producer.poll(0)
        assert producer.flush(WAIT_S) == 0
        took_s = time.monotonic() - began
        writes.append(etcd.revision() - before)
        print(f"\n{count:,} records in {took_s:.1f} s: {writes[-1]} writes to etcd")
    # A machine that is busy may take a follower out of sync, and in again; records never do.
    assert max(writes) <= 6


def described(one: Broker, name: str):
    request = DescribeTopicPartitionsRequest(
        topics=[DescribeTopicPartitionsRequestTopic(name=name)]
    )
    with RawClient(one.bootstrap) as client:
        (topic,) = client.call(request, 0).topics
    return topic.partitions[0]


@pytest.mark.slow
def test_a_lagging_replica_leads_only_where_the_topic_allows_it(brokers):
    """The last replica in sync dies: it is waited for, unless unclean elections are allowed."""
    wanted = {"waits": False, "goes-on": True}
    with Admin(brokers[0].bootstrap) as admin:
        admin.create_topics(
            AdminTopic(
                name, assignments=[[3, 2]], config={"unclean.leader.election.enable": is_unclean}
            )
            for name, is_unclean in wanted.items()
        )
    brokers[1].kill()
    for name in wanted:
        until(lambda name=name: described(brokers[0], name).isr_nodes == [3])
    producer = Producer({"bootstrap.servers": brokers[0].bootstrap})
    for name in wanted:
        producer.produce(name, b"only the leader has it")
    assert producer.flush(WAIT_S) == 0
    brokers[2].kill()
    brokers[1].start()
    until(lambda: described(brokers[0], "goes-on").leader_id == 2)
    waiting = described(brokers[0], "waits")
    assert (waiting.leader_id, waiting.isr_nodes) == (-1, [])
    assert (waiting.eligible_leader_replicas, waiting.last_known_elr) == ([3], [3])
    brokers[2].start()
    until(lambda: set(described(brokers[0], "waits").isr_nodes) == {2, 3})
    led = described(brokers[0], "waits")
    assert (led.leader_id, led.eligible_leader_replicas, led.last_known_elr) == (3, [], [])
    until(lambda: set(described(brokers[0], "goes-on").isr_nodes) == {2, 3})


@pytest.mark.slow
def test_a_broker_that_comes_back_leads_again_and_drops_what_moved_away(etcd, tmp_path):
    made = [
        broker(etcd, tmp_path, n, **{"leader.imbalance.check.interval.seconds": 1}) for n in (1, 2)
    ]
    try:
        for one in made:
            one.start()
        with Admin(made[0].bootstrap) as admin:
            admin.create_topics(
                [
                    AdminTopic("back", assignments=[[2, 1]] * 3),
                    AdminTopic("away", assignments=[[1, 2]]),
                ]
            )
            home = made[1].data_dir / "away-0"
            assert home.is_dir()

            def led_by() -> set[int]:
                (topic,) = admin.describe_topics("back")
                return {part.leader for part in topic.partitions}

            made[1].stop()
            until(lambda: led_by() == {1})
            admin.reassign({("away", 0): [1]})
            until(lambda: not admin.list_reassignments())
            made[1].start()
            until(lambda: not list(made[1].data_dir.glob("away-0*")))
            until(lambda: led_by() == {2})
            admin.reassign({("away", 0): [2]})
            until(lambda: not admin.list_reassignments())
            assert home.is_dir()
            until(lambda: not list(made[0].data_dir.glob("away-0*")))
    finally:
        for one in made:
            if one.process is not None:
                one.kill()
