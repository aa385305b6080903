"""The controller's plans: what they elect, and that they end in the same place from anywhere."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    DropSession,
    PartitionState,
    PutBroker,
    PutPartition,
    PutSession,
    PutTopic,
    plan_cluster,
    plan_elections,
    plan_preferred_leaders,
)
from fastmq.cluster.controller import live_brokers
from fastmq.cluster.election import elect
from fastmq.errors import ErrorCode

TOPIC = b"t" * 16


def partition(replicas, isr=None, leader=None, epoch=0):
    leader = replicas[0] if leader is None else leader
    directories = (b"d" * 16,) * len(replicas)
    return PartitionState(leader, epoch, epoch, replicas, isr or replicas, directories)


def cluster(live, partitions, *, dead=()):
    changes: list[Change] = [PutBroker(BrokerState(n, 1, ()), 0) for n in (*live, *dead)]
    changes += [PutSession(n, 1, 7, 0) for n in live]
    changes += [PutPartition(TOPIC, index, state, 0) for index, state in enumerate(partitions)]
    changes.append(PutTopic("t", TOPIC, len(partitions), 0))
    return ClusterImage().apply(changes, 1)


def settle(image):
    """Carry out plans until there is nothing left."""
    for _ in range(3):
        changes = plan_cluster(image)
        if not changes:
            return image
        image = image.apply(changes, image.revision + 1)
    raise AssertionError("the controller never comes to rest")


def states(image):
    return [(p.leader, p.leader_epoch, set(p.isr)) for p in image.topics["t"].partitions]


def test_a_dead_leader_is_followed_by_the_first_replica_in_sync():
    image = settle(cluster([2, 3], [partition((1, 3, 2), isr=(1, 2))], dead=[1]))
    assert states(image) == [(2, 1, {2})]
    assert image.brokers[1].fenced


def test_without_a_replica_in_sync_nobody_leads_and_who_has_everything_is_known():
    image = settle(cluster([2, 3], [partition((1, 2), isr=(1,)), partition((1,))], dead=[1]))
    assert states(image) == [(-1, 1, set()), (-1, 1, set())]
    assert [p.elr for p in image.topics["t"].partitions] == [(1,), (1,)]


def test_who_comes_back_leads_again_in_a_new_epoch():
    image = settle(cluster([2], [partition((1,))], dead=[1]))
    back = image.brokers[1]._replace(epoch=2, fenced=False)
    image = image.apply([PutBroker(back, 0), PutSession(1, 2, 9, 0)], image.revision + 1)
    assert states(settle(image)) == [(1, 2, {1})]


def test_a_session_of_an_earlier_registration_does_not_count():
    image = cluster([1], [partition((1,))])
    image = image.apply([PutBroker(BrokerState(1, 2, ()), 0)], 2)
    assert live_brokers(image) == set()
    assert states(settle(image)) == [(-1, 1, set())]


def test_a_dead_follower_leaves_the_set_and_the_leader_stays():
    image = settle(cluster([1], [partition((1, 2))], dead=[2]))
    assert states(image) == [(1, 0, {1})]
    assert image.topics["t"].partitions[0].partition_epoch == 1


def test_leadership_goes_back_to_the_preferred_replica():
    image = cluster([1, 2], [partition((1, 2), leader=2, epoch=4), partition((2, 1))])
    assert plan_cluster(image) == []
    image = image.apply(plan_preferred_leaders(image), 2)
    assert states(image) == [(1, 5, {1, 2}), (2, 0, {1, 2})]
    half = cluster([1, 2], [partition((1, 2)), partition((1, 2), leader=2)])
    assert plan_preferred_leaders(half, imbalance_percent=50) == []
    assert len(plan_preferred_leaders(half, imbalance_percent=49)) == 1
    out_of_sync = cluster([1, 2], [partition((1, 2), isr=(2,), leader=2)])
    assert plan_preferred_leaders(out_of_sync) == []


def test_elections_on_request():
    image = cluster(
        [2, 3],
        [
            partition((2, 3), leader=3, epoch=1),
            partition((2, 3)),
            partition((1, 2), isr=(1,), leader=-1, epoch=5),
            partition((1,), leader=-1),
        ],
        dead=[1],
    )
    wanted = [("t", 0), ("t", 1), ("t", 2), ("t", 3), ("t", 4)]
    changes, elections = plan_elections(image, wanted, is_unclean=False)
    assert [e.error for e in elections] == [
        ErrorCode.NONE,
        ErrorCode.ELECTION_NOT_NEEDED,
        ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert [c.state.leader for c in changes] == [2]
    changes, elections = plan_elections(image, None, is_unclean=True)
    assert [e.error for e in elections] == [
        ErrorCode.ELECTION_NOT_NEEDED,
        ErrorCode.ELECTION_NOT_NEEDED,
        ErrorCode.NONE,
        ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
    ]
    (change,) = changes
    assert (change.state.leader, change.state.leader_epoch, change.state.isr) == (2, 6, (2,))
    # Who had everything comes back as a follower of the new epoch.
    assert states(settle(image.apply(changes, 2)))[2] == (2, 6, {2})


BROKERS = st.sets(st.integers(1, 5))


@st.composite
def partitions(draw):
    replicas = tuple(draw(st.permutations(range(1, 6)))[: draw(st.integers(1, 4))])
    isr = tuple(r for r in replicas if draw(st.booleans())) or replicas[:1]
    return partition(replicas, isr, draw(st.sampled_from((*isr, -1))), draw(st.integers(0, 9)))


@given(st.lists(partitions(), min_size=1, max_size=6), BROKERS, st.data())
@settings(max_examples=200, deadline=None)
def test_the_next_controller_ends_where_the_first_would_have(drawn, live, data):
    image = cluster(sorted(live), drawn, dead=sorted(set(range(1, 6)) - live))
    whole = settle(image)
    changes = plan_cluster(image)
    cut = data.draw(st.integers(0, len(changes)))
    resumed = settle(image.apply(changes[:cut], 2)) if changes else whole
    assert states(resumed) == states(whole)
    for before, after in zip(drawn, whole.topics["t"].partitions, strict=True):
        # Only who has everything leads, and a leader is never changed without a new epoch.
        assert after.leader == -1 or (after.leader in before.isr and after.leader in live)
        assert (after.leader == -1) == (not set(before.isr) & live)
        assert set(after.isr) <= set(before.isr)
        changed = after.leader != before.leader
        assert after.leader_epoch == before.leader_epoch + changed
        assert elect(after, live) is after


@given(st.lists(partitions(), min_size=1, max_size=4), st.lists(BROKERS, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_deaths_and_returns_in_any_order_leave_no_partition_behind(drawn, moments):
    image = settle(cluster(range(1, 6), drawn))
    for live in [*moments, set(range(1, 6))]:
        changes: list[Change] = []
        for n in range(1, 6):
            epoch = image.brokers[n].epoch
            if n not in live:
                changes.append(DropSession(n, -1))
            elif n not in image.sessions:
                back = image.brokers[n]._replace(epoch=epoch + 1, fenced=False)
                changes += [PutBroker(back, -1), PutSession(n, epoch + 1, 1, -1)]
        if changes:
            image = image.apply(changes, image.revision + 1)
        image = settle(image)
    assert all(p.leader in p.isr for p in image.topics["t"].partitions)
