"""Moves of partitions: what a request does to the row, and how the controller ends it."""

import random

import pytest

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    DropSession,
    Move,
    PartitionState,
    PutBroker,
    PutPartition,
    PutSession,
    PutTopic,
    moving_in,
    plan_cluster,
    plan_moves,
)
from fastmq.cluster.controller import live_brokers
from fastmq.errors import ErrorCode
from fastmq.metastore.interface import Item, Put
from fastmq.metastore.keys import change_of, operation_of

TOPIC = b"t" * 16


def directory(broker):
    return bytes([broker]) * 16


def partition(replicas, isr=None):
    directories = tuple(directory(broker) for broker in replicas)
    return PartitionState(replicas[0], 0, 0, replicas, isr or replicas, directories)


def cluster(states, brokers=(1, 2, 3, 4, 5), dead=()):
    changes: list[Change] = [
        PutBroker(BrokerState(n, 1, (), directories=(directory(n),)), 0) for n in brokers
    ]
    changes += [PutSession(n, 1, 7, 0) for n in brokers if n not in dead]
    changes += [PutPartition(TOPIC, index, state, 0) for index, state in enumerate(states)]
    changes.append(PutTopic("t", TOPIC, len(states), 0))
    return settled(ClusterImage().apply(changes, 1))


def settled(image):
    for _ in range(4):
        changes = plan_cluster(image)
        if not changes:
            return image
        image = image.apply(changes, image.revision + 1)
    raise AssertionError("the controller never comes to rest")


def move(image, target, index=0, **options):
    changes, (answer,) = plan_moves(image, [Move("t", index, target)], **options)
    assert answer.error is None, answer.error
    return image.apply(changes, image.revision + 1)


def in_sync(image, *isr, index=0):
    """As after an AlterPartition."""
    state = image.partition("t", index)
    state = state._replace(isr=isr, partition_epoch=state.partition_epoch + 1)
    return image.apply([PutPartition(TOPIC, index, state, 0)], image.revision + 1)


def refused(image, target, **options):
    changes, (answer,) = plan_moves(image, [Move("t", 0, target)], **options)
    assert not changes
    return answer.error.code


def test_new_replicas_join_first_and_the_old_ones_leave_when_all_are_in_sync():
    image = settled(move(cluster([partition((1, 2))]), (3, 4)))
    state = image.partition("t", 0)
    assert (state.replicas, state.adding, state.removing) == ((3, 4, 1, 2), (3, 4), (1, 2))
    assert state.directories == tuple(map(directory, (3, 4, 1, 2)))
    assert (state.leader, state.isr) == (1, (1, 2)), "it goes on as before"
    image = settled(in_sync(image, 1, 2, 3))
    assert image.partition("t", 0).is_moving, "one of the new ones is not in sync"
    state = settled(in_sync(image, 1, 2, 3, 4)).partition("t", 0)
    assert (state.replicas, state.isr, state.leader) == ((3, 4), (3, 4), 3)
    assert (state.adding, state.removing) == ((), ())
    assert state.directories == (directory(3), directory(4))
    assert state.leader_epoch == 1


def test_a_leader_that_stays_goes_on_in_a_new_epoch():
    image = settled(move(cluster([partition((1, 2))]), (1, 3)))
    state = settled(in_sync(image, 1, 2, 3)).partition("t", 0)
    assert (state.leader, state.replicas, state.leader_epoch) == (1, (1, 3), 1)


def test_another_order_needs_no_catching_up():
    state = settled(move(cluster([partition((1, 2, 3))]), (3, 2, 1))).partition("t", 0)
    assert (state.replicas, state.leader, state.is_moving) == ((3, 2, 1), 1, False)
    assert state.directories == tuple(map(directory, (3, 2, 1)))


def test_fewer_replicas_need_one_that_stays_in_sync():
    image = settled(move(cluster([partition((1, 2, 3), isr=(1,))]), (2, 3)))
    assert image.partition("t", 0).is_moving
    state = settled(in_sync(image, 1, 3)).partition("t", 0)
    assert (state.replicas, state.isr, state.leader) == ((2, 3), (3,), 3)


def test_a_cancelled_move_goes_back_to_the_start():
    image = move(cluster([partition((1, 2))]), (3, 4))
    image = settled(move(in_sync(image, 1, 2, 3), None))
    state = image.partition("t", 0)
    assert (state.replicas, state.isr, state.is_moving) == ((1, 2), (1, 2), False)
    assert refused(image, None) is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS


def test_a_move_that_replaces_another_keeps_what_was_at_the_start():
    image = settled(move(move(cluster([partition((1, 2))]), (3, 4)), (4, 5)))
    state = image.partition("t", 0)
    assert (moving_in(state), state.removing) == ((4, 5), (3, 1, 2))
    done = settled(in_sync(image, 1, 2, 4, 5)).partition("t", 0)
    assert (done.replicas, done.is_moving) == ((4, 5), False)
    back = settled(move(image, None)).partition("t", 0)
    assert back.replicas == (1, 2)


def test_a_move_is_not_cancelled_when_only_new_replicas_are_in_sync():
    image = in_sync(move(cluster([partition((1, 2))]), (3, 4)), 3)
    assert refused(image, None) is ErrorCode.INVALID_REPLICA_ASSIGNMENT


@pytest.mark.parametrize("target", [(), (3, 3), (3, 9)])
def test_a_target_must_be_distinct_brokers_of_the_cluster(target):
    assert refused(cluster([partition((1, 2))]), target) is ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_the_factor_may_be_held():
    image = cluster([partition((1, 2))])
    code = ErrorCode.INVALID_REPLICATION_FACTOR
    assert refused(image, (3,), may_change_factor=False) is code
    image = move(image, (3, 4), may_change_factor=False)
    assert refused(image, (3, 4, 5), may_change_factor=False) is code


def test_unknown_and_repeated_partitions_are_refused_alone():
    image = cluster([partition((1, 2))])
    wanted = [Move("t", 0, (3,)), Move("t", 0, (4,)), Move("t", 7, (3,)), Move("u", 0, None)]
    changes, answers = plan_moves(image, wanted)
    assert len(changes) == 1
    assert [answer.error and answer.error.code for answer in answers] == [
        None,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]


def test_a_row_keeps_its_move():
    state = move(cluster([partition((1, 2))]), (2, 3)).partition("t", 0)
    _, put = operation_of(PutPartition(TOPIC, 0, state, 0))
    assert isinstance(put, Put)
    read = change_of(Item(put.key, put.value, 1))
    assert isinstance(read, PutPartition)
    assert read.state == state._replace(revision=0)


@pytest.mark.parametrize("seed", range(40))
def test_moves_end_where_they_were_sent_whatever_happens(seed):
    """Random moves, cancellations, deaths and in-sync sets; then all is well again."""
    rng = random.Random(seed)
    image = cluster([partition(tuple(rng.sample(range(1, 6), rng.randint(1, 3))))])
    wanted = image.partition("t", 0).replicas
    for _ in range(rng.randint(1, 12)):
        state = image.partition("t", 0)
        match rng.randrange(4):
            case 0:
                wanted = tuple(rng.sample(range(1, 6), rng.randint(1, 3)))
                image = move(image, wanted)
            case 1 if state.is_moving:
                changes, (answer,) = plan_moves(image, [Move("t", 0, None)])
                image = image.apply(changes, image.revision + 1)
                if answer.error is None:
                    wanted = image.partition("t", 0).replicas
            case 2:
                victim = rng.choice(sorted(image.brokers))
                image = image.apply([DropSession(victim, 0)], image.revision + 1)
            case 3:
                image = revived(image)
        image = settled(image)
        state = image.partition("t", 0)
        live = live_brokers(image)
        assert len(set(state.replicas)) == len(state.replicas) == len(state.directories)
        assert state.directories == tuple(map(directory, state.replicas))
        assert set(state.isr) <= set(state.replicas)
        assert set(state.adding) | set(state.removing) <= set(state.replicas)
        assert state.leader == -1 or (state.leader in live and state.leader in state.isr)
        if state.leader >= 0 and rng.random() < 0.5:
            isr = [r for r in state.replicas if r in live and rng.random() < 0.6]
            image = settled(in_sync(image, *{*isr, state.leader}))
    image = settled(revived(image))
    state = image.partition("t", 0)
    state = settled(in_sync(image, *state.replicas)).partition("t", 0)
    assert (state.replicas, state.is_moving) == (wanted, False)
    assert set(state.isr) == set(wanted)


def revived(image):
    changes = [PutBroker(broker._replace(fenced=False), 0) for broker in image.brokers.values()]
    sessions = [PutSession(broker, 1, 7, 0) for broker in image.brokers]
    return image.apply([*changes, *sessions], image.revision + 1)
