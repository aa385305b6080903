"""In-sync sets: what leaders propose, what the controller makes of it, how replicas count."""

from collections.abc import Mapping

import pytest

from fastmq.cluster import (
    ClusterImage,
    IsrProposal,
    PartitionState,
    PutPartition,
    PutTopic,
    plan_alter_partition,
)
from fastmq.cluster.election import TopicRules
from fastmq.errors import ErrorCode
from fastmq.replica import InSyncSets, IsrHint

TOPIC = bytes(range(16))
LIVE = {1: 10, 2: 20, 3: 30}


def image(**fields: object) -> ClusterImage:
    state = PartitionState(
        leader=1,
        leader_epoch=5,
        partition_epoch=7,
        replicas=(1, 2, 3),
        isr=(1, 2),
        directories=(bytes(16),) * 3,
    )._replace(**fields)  # type: ignore[arg-type]
    return ClusterImage().apply(
        [PutPartition(TOPIC, 0, state, 0), PutTopic("events", TOPIC, 1, 0)], 1
    )


def state_of(picture: ClusterImage, index: int = 0) -> PartitionState:
    topic = picture.topic_by_id(TOPIC)
    assert topic is not None
    return topic.partitions[index]


def hint(broker: int, *, caught_up: bool, epoch: int = 5) -> IsrHint:
    return IsrHint(TOPIC, 0, epoch, broker, caught_up)


def propose(
    sets: InSyncSets, *hints: IsrHint, live: Mapping[int, int] = LIVE, **fields: object
) -> list[IsrProposal]:
    picture = image(**fields)
    return sets.propose(hints, lambda _topic, _index: state_of(picture), live)


def test_who_caught_up_joins_and_who_lags_leaves_in_one_proposal() -> None:
    (made,) = propose(InSyncSets(1), hint(3, caught_up=True), hint(2, caught_up=False))
    assert made == IsrProposal(TOPIC, 0, 5, 7, ((1, 10), (3, 30)))


@pytest.mark.parametrize(
    ("which", "fields"),
    [
        pytest.param(hint(3, caught_up=True, epoch=4), {}, id="an older epoch"),
        pytest.param(hint(3, caught_up=True), {"leader": 2}, id="led elsewhere"),
        pytest.param(hint(4, caught_up=True), {}, id="no replica"),
        pytest.param(hint(2, caught_up=True), {}, id="in sync already"),
        pytest.param(hint(3, caught_up=False), {}, id="out of sync already"),
    ],
)
def test_what_changes_nothing_is_not_proposed(which: IsrHint, fields: dict[str, object]) -> None:
    assert propose(InSyncSets(1), which, **fields) == []


def test_a_broker_that_does_not_live_is_not_let_in() -> None:
    assert propose(InSyncSets(1), hint(3, caught_up=True), live={1: 10, 2: 20}) == []


def test_one_proposal_is_under_way_and_holds_the_watermark() -> None:
    sets = InSyncSets(1)
    assert propose(sets, hint(3, caught_up=True))
    assert propose(sets, hint(2, caught_up=False)) == []
    assert sets.joining(TOPIC, 0, state_of(image())) == {3}
    # In another epoch the proposal is void; once it is in sync it does not join any more.
    assert sets.joining(TOPIC, 0, state_of(image(leader_epoch=6))) == set()
    assert sets.joining(TOPIC, 0, state_of(image(isr=(1, 2, 3)))) == set()
    sets.settle(TOPIC, 0)
    assert sets.joining(TOPIC, 0, state_of(image())) == set()
    assert propose(sets, hint(2, caught_up=False))


def answer(proposal: IsrProposal, leader: int = 1, **fields: object) -> ErrorCode:
    picture = image(**fields)
    changes, (told,) = plan_alter_partition(picture, leader, [proposal], LIVE)
    assert bool(changes) == (told.error is ErrorCode.NONE)
    if not changes:
        assert told.state is None or told.state == state_of(picture)
    return told.error


WANTED = IsrProposal(TOPIC, 0, 5, 7, ((1, 10), (2, 20), (3, 30)))


def test_the_controller_commits_a_proposal_on_the_state_it_was_made_on() -> None:
    picture = image()
    (change,), (told,) = plan_alter_partition(picture, 1, [WANTED], LIVE)
    assert isinstance(change, PutPartition)
    assert change.expected == state_of(picture).revision
    assert change.state == told.state
    assert told.state is not None
    assert (told.state.isr, told.state.partition_epoch, told.state.leader_epoch) == (
        (1, 2, 3),
        8,
        5,
    )


@pytest.mark.parametrize(
    ("proposal", "leader", "fields", "error"),
    [
        (WANTED, 2, {}, ErrorCode.FENCED_LEADER_EPOCH),
        (WANTED, 1, {"leader_epoch": 6}, ErrorCode.FENCED_LEADER_EPOCH),
        (WANTED, 1, {"partition_epoch": 8}, ErrorCode.INVALID_UPDATE_VERSION),
        (WANTED._replace(isr=((3, 30),)), 1, {}, ErrorCode.INVALID_REQUEST),
        (WANTED._replace(isr=((1, 10), (4, 40))), 1, {}, ErrorCode.INVALID_REQUEST),
        (WANTED._replace(isr=((1, 10), (3, 29))), 1, {}, ErrorCode.INELIGIBLE_REPLICA),
        (WANTED._replace(topic_id=bytes(16)), 1, {}, ErrorCode.UNKNOWN_TOPIC_ID),
        (WANTED._replace(partition=1), 1, {}, ErrorCode.UNKNOWN_TOPIC_ID),
    ],
)
def test_the_controller_refuses(
    proposal: IsrProposal, leader: int, fields: dict[str, object], error: ErrorCode
) -> None:
    assert answer(proposal, leader, **fields) is error


def test_who_is_not_live_may_stay_but_not_come() -> None:
    proposal = WANTED._replace(isr=((1, 10), (2, -1)))
    _, (told,) = plan_alter_partition(image(), 1, [proposal], {1: 10})
    assert told.error is ErrorCode.NONE
    _, (told,) = plan_alter_partition(image(), 1, [WANTED], {1: 10, 2: 20})
    assert told.error is ErrorCode.INELIGIBLE_REPLICA


def retreat(
    broker: int, min_insync: int = 1, **fields: object
) -> tuple[ErrorCode, PartitionState | None]:
    """What becomes of a member that leaves by itself."""
    picture = image(**fields)
    before = state_of(picture)
    isr = tuple((one, -1) for one in before.isr if one != broker)
    proposal = WANTED._replace(isr=isr)
    rules = TopicRules(min_insync)
    _, (told,) = plan_alter_partition(picture, broker, [proposal], LIVE, lambda _: rules)
    return told.error, told.state


def test_a_member_may_leave_by_itself_and_nobody_elects_it() -> None:
    error, state = retreat(2)
    assert error is ErrorCode.NONE
    assert state is not None
    assert (state.leader, state.isr, state.elr) == (1, (1,), ())
    # The new epoch forgets how far it had come: it is in sync again once it fetches again.
    assert (state.leader_epoch, state.partition_epoch) == (6, 8)


def test_a_leader_that_leaves_is_followed_by_another_in_sync() -> None:
    error, state = retreat(1)
    assert error is ErrorCode.NONE
    assert state is not None
    assert (state.leader, state.isr, state.elr) == (2, (2,), ())
    # Where too few would be left, it gives only the lead away.
    error, state = retreat(1, min_insync=2)
    assert error is ErrorCode.NONE
    assert state is not None
    assert (state.leader, state.isr) == (2, (1, 2))


def test_nobody_leaves_who_cannot_be_spared() -> None:
    assert retreat(2, min_insync=2)[0] is ErrorCode.INELIGIBLE_REPLICA
    assert retreat(1, isr=(1,))[0] is not ErrorCode.NONE
    assert retreat(2, partition_epoch=9)[0] is ErrorCode.INVALID_UPDATE_VERSION
