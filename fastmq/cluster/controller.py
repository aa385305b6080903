"""What the controller does: from a picture of the cluster to the changes that it needs. Pure.

Nothing is remembered between two calls. A plan compares what is with what should be, so it does not
matter whether it is the first or the next controller that makes it, how far the one before came, or
which event was the reason: a call after every event and one call after many of them end in the
same place. Each change is guarded by the revision of its row.

Who leads a partition, `fastmq.cluster.election` says; who does not live leaves the in-sync set.
When a move has done its work, `fastmq.cluster.moves` ends it.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from fastmq.cluster.changes import Change, PutBroker, PutPartition
from fastmq.cluster.election import RulesOf, TopicRules, default_rules, elect, led_by
from fastmq.cluster.image import ClusterImage
from fastmq.cluster.moves import finish
from fastmq.cluster.state import NO_LEADER, PartitionState
from fastmq.errors import ErrorCode

__all__ = [
    "Election",
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


def plan_cluster(image: ClusterImage, rules_of: RulesOf = default_rules) -> list[Change]:
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
    for topic in image.topics.values():
        rules = rules_of(topic.name)
        for index, before in enumerate(topic.partitions):
            after = finish(elect(before, live, rules), live)
            if after is not before:
                change = PutPartition(topic.id, index, after, before.revision)
                (changes if after.leader != before.leader else shrunk).append(change)
    return changes + shrunk


def plan_preferred_leaders(image: ClusterImage, *, imbalance_percent: int = 0) -> list[Change]:
    """Return the changes that give partitions to their first replicas, where these are in sync.

    Args:
        image: the cluster.
        imbalance_percent: of a broker's preferred partitions, that others may lead meanwhile.
    """
    live = live_brokers(image)
    preferred: dict[int, int] = {}
    missing: dict[int, list[Change]] = {}
    for topic_id, index, state in _partitions(image):
        first = state.replicas[0]
        preferred[first] = preferred.get(first, 0) + 1
        if state.leader in (first, NO_LEADER) or first not in live or first not in state.isr:
            continue
        change = PutPartition(topic_id, index, led_by(state, first), state.revision)
        missing.setdefault(first, []).append(change)
    return [
        change
        for first, changes in missing.items()
        if 100 * len(changes) > imbalance_percent * preferred[first]
        for change in changes
    ]


class Election(NamedTuple):
    """What became of an election that was asked for; NONE = there is another leader."""

    topic: str
    partition: int
    error: ErrorCode


def plan_elections(
    image: ClusterImage,
    wanted: Iterable[tuple[str, int]] | None,
    *,
    is_unclean: bool,
    rules_of: RulesOf = default_rules,
) -> tuple[list[Change], list[Election]]:
    """Return the changes that elections need, and their results once these are committed.

    Args:
        image: the cluster.
        wanted: (topic, partition); None = all.
        is_unclean: where nobody in sync is left, let the first live replica lead. What it does not
            have is lost. Otherwise: let the preferred replica lead.
        rules_of: the rules of topics.
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
        after = choose(state, live, rules_of(name))
        if isinstance(after, ErrorCode):
            elections.append(Election(name, index, after))
            continue
        topic_id = image.topics[name].id
        changes.append(PutPartition(topic_id, index, after, state.revision))
        elections.append(Election(name, index, ErrorCode.NONE))
    return changes, elections


def _choose_preferred(
    state: PartitionState, live: Collection[int], _rules: TopicRules
) -> PartitionState | ErrorCode:
    preferred = state.replicas[0]
    if state.leader == preferred:
        return ErrorCode.ELECTION_NOT_NEEDED
    if preferred not in live or preferred not in state.isr:
        return ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    return led_by(state, preferred)


def _choose_unclean(
    state: PartitionState, live: Collection[int], rules: TopicRules
) -> PartitionState | ErrorCode:
    if state.leader in live:
        return ErrorCode.ELECTION_NOT_NEEDED
    after = elect(state, live, rules._replace(is_unclean=True))
    return ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE if after.leader == NO_LEADER else after


def _partitions(image: ClusterImage) -> Iterator[tuple[bytes, int, PartitionState]]:
    for topic in image.topics.values():
        for index, state in enumerate(topic.partitions):
            yield topic.id, index, state
