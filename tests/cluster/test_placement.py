"""Placement: even, over distinct machines and racks, over directories, and repeatable."""

from collections import Counter

import pytest

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    Placer,
    PutBroker,
    PutPartition,
    PutTopic,
)
from fastmq.errors import ErrorCode, KafkaError


def image(*brokers: BrokerState) -> ClusterImage:
    return ClusterImage().apply([PutBroker(broker, 0) for broker in brokers], 1)


def broker(number: int, host: str = "", rack: str | None = None, dirs: int = 1) -> BrokerState:
    directories = tuple(b"%08d%08d" % (number, index) for index in range(dirs))
    return BrokerState(number, 1, (), rack=rack, host=host, directories=directories)


def test_leaders_and_replicas_are_even() -> None:
    states = Placer(image(*(broker(number) for number in range(4)))).place(40, 3)
    leaders = Counter(state.leader for state in states)
    replicas = Counter(replica for state in states for replica in state.replicas)
    assert set(leaders.values()) == {10}
    assert set(replicas.values()) == {30}
    assert all(len(set(state.replicas)) == 3 and state.isr == state.replicas for state in states)


def test_one_topic_after_another_is_as_even_as_one_large_one() -> None:
    placer = Placer(image(*(broker(number) for number in range(3))))
    leaders = Counter(placer.place(1, 1)[0].leader for _ in range(300))
    assert set(leaders.values()) == {100}


def test_existing_partitions_count() -> None:
    cluster = image(broker(0), broker(1))
    (state,) = Placer(cluster).place(1, 1)
    rows: list[Change] = [PutPartition(b"i" * 16, 0, state, 0), PutTopic("t", b"i" * 16, 1, 0)]
    (other,) = Placer(cluster.apply(rows, 2)).place(1, 1)
    assert other.leader != state.leader


def test_distinct_machines_come_before_distinct_racks() -> None:
    brokers = [
        broker(0, "a", "r1"),
        broker(1, "a", "r2"),
        broker(2, "b", "r1"),
        broker(3, "b", "r2"),
        broker(4, "c", "r1"),
    ]
    machine = {state.id: state.host for state in brokers}
    for state in Placer(image(*brokers)).place(30, 3):
        assert len({machine[replica] for replica in state.replicas}) == 3


def test_racks_are_shared_evenly_when_machines_are_distinct() -> None:
    brokers = [broker(number, f"h{number}", f"r{number % 2}") for number in range(4)]
    for state in Placer(image(*brokers)).place(20, 2):
        assert len({replica % 2 for replica in state.replicas}) == 2


def test_directories_of_a_broker_are_filled_evenly() -> None:
    states = Placer(image(broker(0, dirs=3))).place(30, 1)
    assert set(Counter(state.directories[0] for state in states).values()) == {10}


def test_fenced_brokers_get_nothing() -> None:
    placer = Placer(image(broker(0), broker(1)._replace(fenced=True)))
    assert placer.broker_count == 1
    assert all(state.replicas == (0,) for state in placer.place(5, 1))
    with pytest.raises(KafkaError) as caught:
        placer.place(1, 2)
    assert caught.value.code is ErrorCode.INVALID_REPLICATION_FACTOR
