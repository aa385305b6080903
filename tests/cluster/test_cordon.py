"""Cordoned brokers and directories get no new partitions; what they have stays."""

import pytest

from fastmq.cluster import (
    BrokerState,
    ClusterImage,
    Move,
    NewPartitions,
    NewTopic,
    PutBroker,
    plan_add_partitions,
    plan_create_topics,
    plan_moves,
)
from fastmq.cluster.balance import Assignment, Member, plan_balance

A, B, C = (bytes([n]) * 16 for n in (65, 66, 67))


def cluster(*brokers):
    return ClusterImage().apply([PutBroker(broker, 0) for broker in brokers], 1)


OPEN = BrokerState(1, 1, (), directories=(A,))
SHUT = BrokerState(2, 1, (), directories=(A, B), cordoned=(A, B))
HALF = BrokerState(3, 1, (), directories=(A, B, C), cordoned=(A, C))


def create(image, *requests, factor=1):
    return plan_create_topics(
        image,
        requests,
        default_partitions=8,
        default_replication_factor=factor,
        new_id=lambda: b"t" * 16,
    )


def test_new_partitions_go_around_what_is_cordoned():
    assert (OPEN.is_cordoned, SHUT.is_cordoned, HALF.is_cordoned) == (False, True, False)
    image = cluster(OPEN, SHUT, HALF)
    (plan,) = create(image, NewTopic("t"))
    assert {state.replicas for state in plan.topic.partitions} == {(1,), (3,)}
    directories = {state.directories for state in plan.topic.partitions if state.leader == 3}
    assert directories == {(B,)}
    image = image.apply(plan.changes, 2)
    (grown,) = plan_add_partitions(image, [NewPartitions("t", 16)])
    assert 2 not in {state.leader for state in grown.topic.partitions}


def test_who_needs_a_cordoned_broker_is_told_how_to_get_it():
    image = cluster(OPEN, SHUT, BrokerState(4, 1, (), fenced=True))
    (plan,) = create(image, NewTopic("t"), factor=2)
    assert "1 available broker(s) (not serving: 4; cordoned: 2)" in plan.error.message
    (plan,) = create(image, NewTopic("t", assignments={0: [2]}))
    assert "fastmq cluster uncordon 2" in plan.error.message
    (plan,) = create(image, NewTopic("t", assignments={0: [4]}))
    assert "does not serve now" in plan.error.message
    (plan,) = create(image, NewTopic("t", assignments={0: [9]}))
    assert "there is no broker 9; the cluster has 1, 2, 4" in plan.error.message


def test_partitions_do_not_move_to_a_cordoned_broker_and_may_stay_there():
    before = cluster(OPEN, SHUT._replace(cordoned=()))
    (plan,) = create(before, NewTopic("t", assignments={0: [1], 1: [2]}))
    image = before.apply([*plan.changes, PutBroker(SHUT, 0)], 2)
    changes, answers = plan_moves(image, [Move("t", 0, (2,)), Move("t", 1, (2, 1))])
    assert "cordoned" in answers[0].error.message
    assert answers[1].error is None
    assert len(changes) == 1


def test_balance_gives_a_cordoned_broker_nothing_and_takes_nothing_away_needlessly():
    members = [Member(1), Member(2, is_cordoned=True), Member(3)]
    found = [Assignment("t", n, (1,)) for n in range(4)] + [Assignment("t", 4, (2,))]
    shifts = plan_balance(members, found)
    assert [one.after for one in shifts] == [(3,), (3,)]


def test_a_broker_whose_partitions_nobody_may_take_cannot_go():
    members = [Member(1), Member(2, is_cordoned=True), Member(3, room_bytes=99)]
    found = [Assignment("t", 0, (1,), 100)]
    with pytest.raises(ValueError, match="nobody can take t-0") as told:
        plan_balance(members, found, leaving=[1], only_leaving=True)
    assert "2 is cordoned" in str(told.value)
    assert "3 has room for 99 bytes" in str(told.value)
