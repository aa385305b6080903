"""Who leads a partition, and who may: in-sync sets and eligible leader replicas (ELR). Pure.

Whoever is in sync has everything that is committed, and may lead. While fewer than
`min.insync.replicas` are in sync nothing is committed, so those that were in sync until then keep
everything: they are the eligible ones. When nobody in sync is left, one of them leads, and nothing
is lost. They are forgotten when enough are in sync again, because then the log goes on without
them.

| who is there                            | leads                          |
|-----------------------------------------|--------------------------------|
| the leader, in sync                     | the same                       |
| another in sync                         | the first in assignment order  |
| nobody in sync, an eligible one         | the first of them              |
| neither exists any more, the last leader | it: nobody has more than it has |
| only others, `unclean.leader.election`  | the first that lives; records are lost |
| only others                             | nobody                         |

Source: KIP-966, KIP-106.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from fastmq.cluster.changes import Change, ConfigKind, PutPartition
from fastmq.cluster.image import ClusterImage
from fastmq.cluster.state import NO_LEADER, PartitionState
from fastmq.config import BrokerConfig
from fastmq.ids import DIRECTORY_UNASSIGNED

__all__ = [
    "DEFAULT_RULES",
    "RulesOf",
    "TopicRules",
    "default_rules",
    "elect",
    "led_by",
    "plan_distrust",
    "plan_lost_directories",
    "plan_power_loss",
    "rules_of",
    "with_isr",
]


class TopicRules(NamedTuple):
    """The settings of a topic that elections depend on.

    Attributes:
        min_insync: `min.insync.replicas`.
        is_unclean: `unclean.leader.election.enable`.
    """

    min_insync: int = 1
    is_unclean: bool = False


RulesOf: TypeAlias = Callable[[str], TopicRules]
"""Gives the rules of a topic by its name."""

DEFAULT_RULES: Final = TopicRules()


def default_rules(_topic: str) -> TopicRules:
    """Return Kafka's defaults."""
    return DEFAULT_RULES


def rules_of(image: ClusterImage, broker: BrokerConfig) -> RulesOf:
    """Return the rules that overrides and a broker's settings give."""
    default = TopicRules(
        broker.get_int("min.insync.replicas"), broker.get_bool("unclean.leader.election.enable")
    )

    def of(topic: str) -> TopicRules:
        overrides = image.config(ConfigKind.TOPIC, topic)
        if not overrides:
            return default
        least, unclean = map(
            overrides.get, ("min.insync.replicas", "unclean.leader.election.enable")
        )
        return TopicRules(
            default.min_insync if least is None else int(least),
            default.is_unclean if unclean is None else unclean == "true",
        )

    return of


def with_isr(state: PartitionState, isr: tuple[int, ...], min_insync: int) -> PartitionState:
    """Return the state with another in-sync set, and with who is eligible then."""
    min_insync = min(min_insync, len(state.replicas))
    if len(isr) >= min_insync:
        return state._replace(isr=isr, elr=())
    # With enough in sync the log has gone on: who was eligible by an older setting is not.
    before = state.elr if len(state.isr) < min_insync else ()
    elr = tuple(r for r in state.replicas if r not in isr and (r in state.isr or r in before))
    return state._replace(isr=isr, elr=elr)


def led_by(state: PartitionState, leader: int) -> PartitionState:
    """Return the state with another leader, in a new epoch."""
    return state._replace(
        leader=leader,
        leader_epoch=state.leader_epoch + 1,
        partition_epoch=state.partition_epoch + 1,
        last_known=state.leader if leader == NO_LEADER else NO_LEADER,
    )


def elect(
    state: PartitionState, live: Collection[int], rules: TopicRules = DEFAULT_RULES
) -> PartitionState:
    """Return the partition as it should be with these brokers; the same object when it is."""
    isr = tuple(replica for replica in state.isr if replica in live)
    if state.leader in isr and isr == state.isr and not state.elr:
        return state
    after = with_isr(state, isr, rules.min_insync)
    if state.leader not in isr:
        leader = next((replica for replica in state.replicas if replica in isr), NO_LEADER)
        if leader == NO_LEADER:
            leader = _rescuer(after, live, rules)
            if leader in after.elr:
                after = with_isr(after, (leader,), rules.min_insync)
            elif leader != NO_LEADER:
                after = after._replace(isr=(leader,), elr=())
        if leader != state.leader:
            return led_by(after, leader)
    return state if after == state else _next_epoch(after)


def _rescuer(state: PartitionState, live: Collection[int], rules: TopicRules) -> int:
    """Return who leads where nobody in sync is left."""
    candidates = [replica for replica in state.replicas if replica in live]
    for replica in candidates:
        if replica in state.elr:
            return replica
    if not state.elr and state.last_known in candidates:
        return state.last_known
    return candidates[0] if candidates and rules.is_unclean else NO_LEADER


def plan_power_loss(
    image: ClusterImage, broker_id: int, is_synced: Callable[[str], bool]
) -> list[Change]:
    """Plan that a broker, whose machine lost what was not synced, counts as complete no more.

    It leaves in-sync and eligible sets until it has caught up. Where nobody else is left, it is
    remembered as the last that led.

    Args:
        image: the cluster.
        broker_id: starts anew.
        is_synced: whether all that counts of a topic was synced.
    """
    return [
        PutPartition(topic.id, index, _without_trust(state, broker_id), state.revision)
        for topic in image.topics.values()
        if not is_synced(topic.name)
        for index, state in enumerate(topic.partitions)
        if broker_id in state.isr or broker_id in state.elr
    ]


def plan_lost_directories(
    image: ClusterImage, broker_id: int, directories: Sequence[bytes]
) -> list[Change]:
    """Plan for replicas of a broker whose log directories are not among those that it has now.

    They begin empty in one of these: so the broker leaves in-sync and eligible sets. Nor is it the
    last that led: where nobody else has everything, the partition waits for the directory, or for
    an unclean election.

    Args:
        image: the cluster.
        broker_id: starts.
        directories: the ids of all directories that it has; none of them is offline.
    """
    held = dict.fromkeys(directories, 0)
    lost: list[tuple[bytes, int, PartitionState]] = []
    for topic in image.topics.values():
        for index, state in enumerate(topic.partitions):
            directory = state.directory_of(broker_id)
            if directory in held:
                held[directory] += 1
            elif directory not in (None, DIRECTORY_UNASSIGNED):
                lost.append((topic.id, index, state))
    changes: list[Change] = []
    for topic_id, index, state in lost:
        new = min(held, key=held.__getitem__)
        held[new] += 1
        pairs = zip(state.replicas, state.directories, strict=True)
        placed = tuple(new if replica == broker_id else known for replica, known in pairs)
        after = _without_trust(state, broker_id)._replace(directories=placed)
        if after.last_known == broker_id:
            after = after._replace(last_known=NO_LEADER)
        changes.append(PutPartition(topic_id, index, after, state.revision))
    return changes


def plan_distrust(
    image: ClusterImage, broker_id: int, partitions: Iterable[tuple[str, int]]
) -> list[Change]:
    """Plan that a broker counts as complete no more where it has found that records are missing.

    Args:
        image: the cluster.
        broker_id: starts anew.
        partitions: (topic, index).
    """
    changes: list[Change] = []
    for name, index in partitions:
        state = image.partition(name, index)
        if state is None or len(state.replicas) == 1:
            continue
        if broker_id in state.isr or broker_id in state.elr:
            after = _without_trust(state, broker_id)
            changes.append(PutPartition(image.topics[name].id, index, after, state.revision))
    return changes


def _without_trust(state: PartitionState, broker_id: int) -> PartitionState:
    after = state._replace(
        isr=tuple(replica for replica in state.isr if replica != broker_id),
        elr=tuple(replica for replica in state.elr if replica != broker_id),
    )
    if state.leader == broker_id:
        return led_by(after, NO_LEADER)
    if state.leader == state.last_known == NO_LEADER and not after.isr and not after.elr:
        after = after._replace(last_known=broker_id)
    return _next_epoch(after)


def _next_epoch(state: PartitionState) -> PartitionState:
    return state._replace(partition_epoch=state.partition_epoch + 1)
