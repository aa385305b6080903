"""The controller's answer to leaders that want another in-sync set. Pure.

A proposal counts only on the very state that it was made on: its leader epoch and its partition
epoch are compared, so two changes on their way cannot undo each other. Who is fenced, or has
registered anew since the leader heard of it, is not let in: what it acknowledged, an earlier life
of it did.

Any member may take itself out of the set, as one does that finds damage in what it stores: a new
epoch begins then, in which it is in sync only once it has fetched again. Where it leads, another
member leads afterwards. It stays a member where fewer than `min.insync.replicas` would be left.
Kafka has nothing like it.

Source: KIP-497, KIP-841, KIP-903.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fastmq.cluster.changes import Change, PutPartition
from fastmq.cluster.election import RulesOf, TopicRules, default_rules, led_by, with_isr
from fastmq.cluster.image import ClusterImage
from fastmq.cluster.state import PartitionState
from fastmq.errors import ErrorCode

__all__ = ["IsrAnswer", "IsrProposal", "plan_alter_partition"]


class IsrProposal(NamedTuple):
    """An in-sync set that a leader wants.

    Attributes:
        leader_epoch: in which it leads.
        partition_epoch: of the state that it knows.
        isr: (broker id, its epoch or -1), the leader included.
    """

    topic_id: bytes
    partition: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[tuple[int, int], ...]


class IsrAnswer(NamedTuple):
    """What became of a proposal, and the state afterwards; None when there is no such partition."""

    topic_id: bytes
    partition: int
    error: ErrorCode
    state: PartitionState | None


def plan_alter_partition(
    image: ClusterImage,
    leader_id: int,
    proposals: Iterable[IsrProposal],
    live: Mapping[int, int],
    rules_of: RulesOf = default_rules,
) -> tuple[list[Change], list[IsrAnswer]]:
    """Return the changes to be committed, and the answers that hold once they are.

    Args:
        image: the cluster.
        leader_id: who proposes.
        proposals: of partitions that it leads.
        live: the brokers that may be in sync, with their epochs.
        rules_of: the rules of topics.
    """
    changes: list[Change] = []
    answers = []
    for proposal in proposals:
        state = _state(image, proposal)
        if state is not None and _is_retreat(state, leader_id, proposal):
            rules = rules_of(image.topic_names[proposal.topic_id])
            after, error = _retreat(state, leader_id, proposal, live, rules)
            if after is not state:
                changes.append(
                    PutPartition(proposal.topic_id, proposal.partition, after, state.revision)
                )
            answers.append(IsrAnswer(proposal.topic_id, proposal.partition, error, after))
            continue
        error = _judge(state, leader_id, proposal, live)
        if state is not None and error is ErrorCode.NONE:
            before = state
            isr = tuple(broker for broker, _ in proposal.isr)
            rules = rules_of(image.topic_names[proposal.topic_id])
            state = with_isr(before, isr, rules.min_insync)._replace(
                partition_epoch=before.partition_epoch + 1
            )
            changes.append(
                PutPartition(proposal.topic_id, proposal.partition, state, before.revision)
            )
        answers.append(IsrAnswer(proposal.topic_id, proposal.partition, error, state))
    return changes, answers


def _state(image: ClusterImage, proposal: IsrProposal) -> PartitionState | None:
    topic = image.topic_by_id(proposal.topic_id)
    if topic is None or not 0 <= proposal.partition < len(topic.partitions):
        return None
    return topic.partitions[proposal.partition]


def _is_retreat(state: PartitionState, broker_id: int, proposal: IsrProposal) -> bool:
    members = {broker for broker, _ in proposal.isr}
    return broker_id in state.isr and members == set(state.isr) - {broker_id}


def _retreat(
    state: PartitionState,
    broker_id: int,
    proposal: IsrProposal,
    live: Mapping[int, int],
    rules: TopicRules,
) -> tuple[PartitionState, ErrorCode]:
    """Return the state without a member that leaves by itself."""
    if (proposal.leader_epoch, proposal.partition_epoch) != (
        state.leader_epoch,
        state.partition_epoch,
    ):
        return state, ErrorCode.INVALID_UPDATE_VERSION
    isr = tuple(broker for broker in state.isr if broker != broker_id)
    leads = state.leader == broker_id
    leader = next((r for r in state.replicas if r in isr and r in live), -1)
    if leader < 0 or (not leads and state.leader not in live):
        return state, ErrorCode.INELIGIBLE_REPLICA
    may_leave = len(isr) >= min(rules.min_insync, len(state.replicas))
    if not may_leave and not leads:
        return state, ErrorCode.INELIGIBLE_REPLICA
    after = state._replace(isr=isr, elr=()) if may_leave else state
    return led_by(after, leader if leads else state.leader), ErrorCode.NONE


def _judge(
    state: PartitionState | None,
    leader_id: int,
    proposal: IsrProposal,
    live: Mapping[int, int],
) -> ErrorCode:
    if state is None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    if state.leader != leader_id or proposal.leader_epoch != state.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if proposal.partition_epoch != state.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    members = [broker for broker, _ in proposal.isr]
    if leader_id not in members or not set(members) <= set(state.replicas):
        return ErrorCode.INVALID_REQUEST
    for broker, epoch in proposal.isr:
        if broker in state.isr:
            continue
        if live.get(broker) is None or epoch not in (-1, live[broker]):
            return ErrorCode.INELIGIBLE_REPLICA
    return ErrorCode.NONE
