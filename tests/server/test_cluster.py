"""Several brokers on one machine, from outside: who leads what, deaths, mistakes."""

import os
import signal
import time

import psutil
import pytest
from confluent_kafka import Consumer, ElectionType, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.metadata import MetadataRequest
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch

from support.broker import Broker, BrokerDied
from support.cluster import Cluster, leaders
from support.raw import RawClient

WAIT_S = 30.0


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path / "cluster") as made:
        yield made


def until(what, timeout_s=WAIT_S):
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return found


def take(consumer, seen):
    """Consume a little; how much has been seen in all."""
    seen.update(message.value() for message in consumer.consume(100, 0.2))
    return len(seen)


def create(cluster, name, partitions=6, replicas=1):
    admin = AdminClient({"bootstrap.servers": cluster.all_addresses[0]})
    admin.create_topics([NewTopic(name, partitions, replicas)])[name].result(WAIT_S)
    # The answer is that of one broker; the others hear of it.
    for address in cluster.all_addresses:
        until(lambda address=address: len(leaders(address, name)) == partitions)
    return admin


def produce_request(topic, index):
    records = build_batch([NewRecord(None, b"v", timestamp=int(time.time() * 1000))])
    return ProduceRequest(
        acks=-1,
        timeout_ms=5_000,
        topic_data=[
            ProduceTopic(
                name=topic, partition_data=[ProducePartition(index=index, records=bytes(records))]
            )
        ],
    )


def test_each_broker_leads_its_partitions_and_says_who_leads_the_others(cluster):
    addresses = cluster.all_addresses
    create(cluster, "spread")
    for address in addresses:
        until(lambda address=address: len(leaders(address, "spread")) == 6)
    found = leaders(addresses[1], "spread")
    assert sorted(found.values()) == [1, 1, 2, 2, 3, 3]
    with RawClient(addresses[0]) as client:
        metadata = client.call(MetadataRequest(topics=None), 9)
        assert [f"{b.host}:{b.port}" for b in metadata.brokers] == addresses
        assert metadata.controller_id in (1, 2, 3)
        for index, leader in found.items():
            answer = client.call(produce_request("spread", index), 9)
            code = answer.responses[0].partition_responses[0].error_code
            assert code == (0 if leader == 1 else 6), "6 is NOT_LEADER_OR_FOLLOWER"


def test_records_groups_and_settings_go_through_all_brokers(cluster):
    create(cluster, "work", partitions=6)
    # Another broker than the one that made it.
    servers = {"bootstrap.servers": cluster.all_addresses[2]}
    producer = Producer({**servers, "enable.idempotence": True})
    for number in range(600):
        producer.produce("work", b"%d" % number, partition=number % 6)
    assert producer.flush(WAIT_S) == 0
    admin = AdminClient(servers)
    entry = ConfigEntry("retention.ms", "1234567", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "work", incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(WAIT_S)
    groups = [f"group-{number}" for number in range(4)]
    for group in groups:
        consumer = Consumer({**servers, "group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe(["work"])
        seen: set[bytes] = set()
        until(
            lambda c=consumer, s=seen: (
                s.update(m.value() for m in c.consume(100, 0.2)) or len(s) == 600
            )
        )
        consumer.commit(asynchronous=False)
        consumer.close()
    listed = {g.group_id for g in admin.list_consumer_groups().result(WAIT_S).valid}
    assert listed >= set(groups)
    for address in cluster.all_addresses:
        one = AdminClient({"bootstrap.servers": address})
        asked = ConfigResource(ResourceType.TOPIC, "work")
        until(
            lambda one=one, asked=asked: (
                one.describe_configs([asked])[asked].result(WAIT_S)["retention.ms"].value
                == "1234567"
            )
        )


def test_a_group_is_kept_by_one_broker_and_the_others_say_so(cluster):
    addresses = cluster.all_addresses
    asked = FindCoordinatorRequest(key="someone")
    with RawClient(addresses[0]) as client:
        found = client.call(asked, 3)
    for number, address in enumerate(addresses, 1):
        with RawClient(address) as client:
            until(lambda client=client: client.call(asked, 3).node_id == found.node_id)
            beat = HeartbeatRequest(group_id="someone", generation_id=1, member_id="m")
            code = client.call(beat, 4).error_code
        assert code == (25 if number == found.node_id else 16), "unknown member, or not coordinator"


def test_a_killed_broker_leaves_the_others_at_work_and_comes_back(cluster):
    create(cluster, "killed", partitions=3)
    addresses = cluster.all_addresses
    until(lambda: all(len(leaders(address, "killed")) == 3 for address in addresses))
    owner = {leader: index for index, leader in leaders(addresses[0], "killed").items()}
    producer = Producer({"bootstrap.servers": ",".join(addresses), "enable.idempotence": True})
    failed: list[object] = []

    def send(begin):
        for number in range(begin, begin + 300):
            producer.produce(
                "killed",
                b"%d" % number,
                partition=number % 3,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )

    send(0)
    assert producer.flush(WAIT_S) == 0
    victim = cluster.process_of(2)
    victim.send_signal(signal.SIGSTOP)  # so that it is not back before we look
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: leaders(addresses[0], "killed")[owner[2]] in (-1, 2))
    send(300)
    assert producer.flush(WAIT_S) == 0
    assert failed == []
    until(lambda: leaders(addresses[2], "killed") == {index: n for n, index in owner.items()})
    consumer = Consumer(
        {
            "bootstrap.servers": addresses[0],
            "group.id": "reader",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["killed"])
    seen: list[bytes] = []
    until(lambda: seen.extend(m.value() for m in consumer.consume(100, 0.2)) or len(seen) >= 600)
    assert sorted(seen, key=int) == [b"%d" % number for number in range(600)]
    consumer.close()


def test_the_brokers_stop_when_the_supervisor_has_gone(cluster):
    children = psutil.Process(cluster.pid).children()
    assert len(children) == 3
    cluster.kill()
    gone, alive = psutil.wait_procs(children, timeout=WAIT_S)
    assert len(gone) == 3
    assert not alive
    assert "has gone" in cluster.log_text()


def test_a_stop_and_a_start_keep_everything(tmp_path):
    cluster = Cluster(tmp_path / "cluster")
    with cluster:
        create(cluster, "kept", partitions=3)
        with RawClient(cluster.all_addresses[0]) as client:
            until(lambda: 1 in leaders(cluster.all_addresses[0], "kept").values())
            mine = next(i for i, n in leaders(cluster.all_addresses[0], "kept").items() if n == 1)
            client.call(produce_request("kept", mine), 9)
        cluster_id = cluster.ready()["cluster_id"]
    cluster.port = 0
    with cluster:
        assert cluster.ready()["cluster_id"] == cluster_id
        address = cluster.all_addresses[0]
        until(lambda: sorted(leaders(address, "kept").values()) == [1, 2, 3])
        with RawClient(address) as client:
            answer = client.call(produce_request("kept", mine), 9)
            assert answer.responses[0].partition_responses[0].base_offset == 1


def test_partitions_are_copied_and_outlive_their_leader(cluster):
    admin = create(cluster, "copied", partitions=3, replicas=3)
    servers = cluster.bootstrap
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
    for number in range(300):
        producer.produce("copied", b"%d" % number, partition=number % 3)
    assert producer.flush(WAIT_S) == 0
    victim = leaders(cluster.all_addresses[2], "copied")[0]
    cluster.process_of(victim).kill()
    for number in range(300, 600):
        producer.produce("copied", b"%d" % number, partition=number % 3)
    assert producer.flush(WAIT_S) == 0

    def in_sync():
        topic = admin.list_topics("copied", timeout=WAIT_S).topics["copied"]
        return all(sorted(p.isrs) == [1, 2, 3] for p in topic.partitions.values())

    until(in_sync)
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "r", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["copied"])
    seen: list[bytes] = []
    until(lambda: seen.extend(m.value() for m in consumer.consume(100, 0.2)) or len(seen) >= 600)
    consumer.close()
    assert sorted(seen, key=int) == [b"%d" % number for number in range(600)]


def test_leadership_goes_back_on_request(cluster):
    admin = create(cluster, "back", partitions=3, replicas=3)
    before = leaders(cluster.all_addresses[0], "back")
    victim = before[0]
    cluster.process_of(victim).kill()
    until(lambda: leaders(cluster.all_addresses[victim % 3], "back")[0] not in (victim, -1))

    def in_sync():
        topic = admin.list_topics("back", timeout=WAIT_S).topics["back"]
        return all(sorted(p.isrs) == [1, 2, 3] for p in topic.partitions.values())

    until(in_sync)
    done = admin.elect_leaders(ElectionType.PREFERRED, None).result(WAIT_S)
    assert TopicPartition("back", 0) in done
    for address in cluster.all_addresses:
        until(lambda address=address: leaders(address, "back") == before)


def test_more_replicas_than_brokers_are_refused_in_words(cluster):
    with pytest.raises(KafkaException, match="not possible with 3 available"):
        create(cluster, "too-many", replicas=4)


def test_data_of_one_and_of_several_is_not_mixed(tmp_path):
    with Broker(tmp_path / "one") as single:
        pass
    several = Cluster(tmp_path / "several", data_dir=single.data_dir)
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*data of a single broker"):
        several.start()
    with Cluster(tmp_path / "cluster") as cluster:
        pass
    single = Broker(tmp_path / "single", data_dir=cluster.data_dir)
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*data of several brokers"):
        single.start()
