"""What the controller does: from a picture of the cluster to the changes that it needs. Pure.

Nothing is remembered between two calls. A plan compares what is with what should be, so it does not
matter whether it is the first or the next controller that makes it, how far the one before came, or
which event was the reason: a call after every event and one call after many of them end in the
same place. Each change is guarded by the revision of its row.

A partition should be led by a broker that lives and is in sync: its leader as long as it lives,
else the first replica, in the order of the assignment, that is. When there is none, nobody leads it
and its in-sync set stays as it was, because only those have everything. Each change of the leader
is a new leader epoch. Who does not live leaves the in-sync set, unless it would be empty.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from fastmq.cluster.changes import Change, PutBroker, PutPartition
from fastmq.cluster.image import ClusterImage
from fastmq.cluster.moves import finish
from fastmq.cluster.state import NO_LEADER, PartitionState
from fastmq.errors import ErrorCode

__all__ = [
    "Election",
    "elect",
    "live_brokers",
    "plan_cluster",
    "plan_elections",
    "plan_preferred_leaders",
]


def live_brokers(image: ClusterImage) -> set[int]:
    """Return the brokers that may lead: not fenced, with the session of their registration."""
    return {
        broker.id
        for broker in image.brokers.values()
        if not broker.fenced
        and (session := image.sessions.get(broker.id)) is not None
        and session.epoch == broker.epoch
    }


def plan_cluster(image: ClusterImage) -> list[Change]:
    """Return what is to be changed now; empty when all is as it should be.

    Fences brokers whose session has ended, elects leaders of what they led and of what has none,
    takes them out of in-sync sets, and ends moves whose new replicas are in sync; in this order,
    because clients wait for leaders.
    """
    live = live_brokers(image)
    changes: list[Change] = [
        PutBroker(broker._replace(fenced=True), broker.revision)
        for broker in image.brokers.values()
        if not broker.fenced and broker.id not in live
    ]
    shrunk: list[Change] = []
    for topic_id, index, before in _partitions(image):
        after = finish(elect(before, live), live)
        if after is not before:
            change = PutPartition(topic_id, index, after, before.revision)
            (changes if after.leader != before.leader else shrunk).append(change)
    return changes + shrunk


def elect(state: PartitionState, live: Collection[int]) -> PartitionState:
    """Return the partition as it should be with these brokers; the same object when it is."""
    in_sync = tuple(replica for replica in state.isr if replica in live)
    if state.leader in in_sync:
        leader = state.leader
    else:
        leader = next((replica for replica in state.replicas if replica in in_sync), NO_LEADER)
    isr = in_sync or state.isr
    if leader == state.leader and isr == state.isr:
        return state
    return state._replace(
        leader=leader,
        leader_epoch=state.leader_epoch + (leader != state.leader),
        partition_epoch=state.partition_epoch + 1,
        isr=isr,
    )


def plan_preferred_leaders(image: ClusterImage) -> list[Change]:
    """Return the changes that give each partition to its first replica, where that is in sync."""
    live = live_brokers(image)
    return [
        PutPartition(topic_id, index, _led_by(state, state.replicas[0]), state.revision)
        for topic_id, index, state in _partitions(image)
        if state.leader not in (state.replicas[0], NO_LEADER)
        and state.replicas[0] in live
        and state.replicas[0] in state.isr
    ]


class Election(NamedTuple):
    """What became of an election that was asked for; NONE = there is another leader."""

    topic: str
    partition: int
    error: ErrorCode


def plan_elections(
    image: ClusterImage, wanted: Iterable[tuple[str, int]] | None, *, is_unclean: bool
) -> tuple[list[Change], list[Election]]:
    """Return the changes that elections need, and their results once these are committed.

    Args:
        image: the cluster.
        wanted: (topic, partition); None = all.
        is_unclean: where nobody in sync is left, let the first live replica lead. What it does not
            have is lost. Otherwise: let the preferred replica lead.
    """
    if wanted is None:
        topics = image.topics.items()
        wanted = [(name, index) for name, topic in topics for index in range(len(topic.partitions))]
    live = live_brokers(image)
    choose = _choose_unclean if is_unclean else _choose_preferred
    changes: list[Change] = []
    elections = []
    for name, index in dict.fromkeys(wanted):
        state = image.partition(name, index)
        if state is None:
            elections.append(Election(name, index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            continue
        after = choose(state, live)
        if isinstance(after, ErrorCode):
            elections.append(Election(name, index, after))
            continue
        topic_id = image.topics[name].id
        changes.append(PutPartition(topic_id, index, after, state.revision))
        elections.append(Election(name, index, ErrorCode.NONE))
    return changes, elections


def _choose_preferred(state: PartitionState, live: Collection[int]) -> PartitionState | ErrorCode:
    preferred = state.replicas[0]
    if state.leader == preferred:
        return ErrorCode.ELECTION_NOT_NEEDED
    if preferred not in live or preferred not in state.isr:
        return ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    return _led_by(state, preferred)


def _choose_unclean(state: PartitionState, live: Collection[int]) -> PartitionState | ErrorCode:
    if state.leader in live:
        return ErrorCode.ELECTION_NOT_NEEDED
    clean = elect(state, live)
    if clean.leader != NO_LEADER:
        return clean
    for replica in state.replicas:
        if replica in live:
            return _led_by(state, replica)._replace(isr=(replica,))
    return ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE


def _led_by(state: PartitionState, leader: int) -> PartitionState:
    return state._replace(
        leader=leader,
        leader_epoch=state.leader_epoch + 1,
        partition_epoch=state.partition_epoch + 1,
    )


def _partitions(image: ClusterImage) -> Iterator[tuple[bytes, int, PartitionState]]:
    for topic in image.topics.values():
        for index, state in enumerate(topic.partitions):
            yield topic.id, index, state
