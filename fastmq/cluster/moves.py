"""Reassignment: partitions move to other brokers while they serve. Pure.

A move is in the partition's row. It begins with the replicas of its target in front of those that
will leave; the new ones follow and catch up. When all of them are in sync, the controller takes out
those that leave (`finish`) and elects another leader where it leaves. So whoever is the controller
finds in the row how far a move is, and nothing else is remembered.

A move that replaces another keeps what was there at the start: cancelling goes back to that. What
the replaced one had brought in and nobody wants any more is both adding and removing.

Source: KIP-455, KIP-860.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from fastmq.cluster.changes import Change, PutPartition
from fastmq.cluster.image import ClusterImage
from fastmq.cluster.placement import Placer, cordoned_text
from fastmq.cluster.state import NO_LEADER, PartitionState
from fastmq.errors import ErrorCode, KafkaError
from fastmq.limits import REPLICATION_FACTOR_MAX

__all__ = ["Move", "MoveAnswer", "finish", "moving_in", "plan_moves"]


class Move(NamedTuple):
    """Where a partition shall be.

    Attributes:
        replicas: broker ids, the preferred leader first; None = cancel what is under way.
    """

    topic: str
    partition: int
    replicas: tuple[int, ...] | None


class MoveAnswer(NamedTuple):
    """What became of a request; no error: it is under way, or done, or cancelled."""

    topic: str
    partition: int
    error: KafkaError | None


def plan_moves(
    image: ClusterImage, moves: Iterable[Move], *, may_change_factor: bool = True
) -> tuple[list[Change], list[MoveAnswer]]:
    """Return the changes that begin, change or cancel moves, and their answers once committed.

    Args:
        image: the cluster.
        moves: of partitions; the second for the same one is refused.
        may_change_factor: whether a move may have more or fewer replicas than there are.
    """
    planner = _Planner(image, may_change_factor=may_change_factor)
    changes: list[Change] = []
    answers = []
    for move in moves:
        error = None
        try:
            changes += planner.plan(move)
        except KafkaError as refusal:
            error = refusal
        answers.append(MoveAnswer(move.topic, move.partition, error))
    return changes, answers


class _Planner:
    """Plans the moves of one request."""

    def __init__(self, image: ClusterImage, *, may_change_factor: bool) -> None:
        self._image = image
        self._may_change_factor = may_change_factor
        self._placer: Placer | None = None
        self._seen: set[tuple[str, int]] = set()

    def plan(self, move: Move) -> list[Change]:
        name, index = move.topic, move.partition
        state = self._image.partition(name, index)
        if state is None:
            text = f"there is no partition {name}-{index}"
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, text)
        if (name, index) in self._seen:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "the partition is twice in the request")
        self._seen.add((name, index))
        after = _cancelled(state) if move.replicas is None else self._begun(state, move.replicas)
        if after is state:
            return []
        after = after._replace(partition_epoch=state.partition_epoch + 1)
        return [PutPartition(self._image.topics[name].id, index, after, state.revision)]

    def _begun(self, state: PartitionState, target: tuple[int, ...]) -> PartitionState:
        _check_target(self._image, state, target, may_change_factor=self._may_change_factor)
        if self._placer is None:
            # Counting walks over all partitions.
            self._placer = Placer(self._image)
        return _begun(state, target, self._placer)


def _check_target(
    image: ClusterImage, state: PartitionState, target: Sequence[int], *, may_change_factor: bool
) -> None:
    code = ErrorCode.INVALID_REPLICA_ASSIGNMENT
    if not target or len(set(target)) != len(target):
        raise KafkaError(code, "a partition needs a list of distinct brokers")
    if len(target) > REPLICATION_FACTOR_MAX:
        raise KafkaError(code, f"a partition has at most {REPLICATION_FACTOR_MAX} replicas")
    for broker in target:
        if broker not in image.brokers:
            known = ", ".join(map(str, sorted(image.brokers)))
            raise KafkaError(code, f"there is no broker {broker}; the cluster has {known}")
        if broker not in state.replicas and image.brokers[broker].is_cordoned:
            raise KafkaError(code, cordoned_text(broker))
    factor = len(state.target)
    if not may_change_factor and len(target) != factor:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"the replication factor would change from {factor} to {len(target)}",
        )


def _begun(state: PartitionState, target: tuple[int, ...], placer: Placer) -> PartitionState:
    at_start = [replica for replica in state.replicas if replica not in state.adding]
    removing = tuple(replica for replica in state.replicas if replica not in target)
    replicas = target + removing
    after = state._replace(
        replicas=replicas,
        directories=tuple(
            state.directory_of(replica) or placer.take_directory(replica) for replica in replicas
        ),
        adding=tuple(replica for replica in replicas if replica not in at_start),
        removing=removing,
    )
    return state if after == state else after


def _cancelled(state: PartitionState) -> PartitionState:
    if not state.is_moving:
        raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "the partition does not move")
    after = state.without(state.adding)._replace(removing=())
    if state.isr and not after.isr:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "only new replicas are in sync: without them the partition would have no leader",
        )
    leader = state.leader
    if leader not in after.replicas and leader != NO_LEADER:
        leader = after.isr[0]
    return after._replace(leader=leader, leader_epoch=state.leader_epoch + 1)


def moving_in(state: PartitionState) -> tuple[int, ...]:
    """Return the new replicas of the move that is under way."""
    return tuple(replica for replica in state.adding if replica not in state.removing)


def finish(state: PartitionState, live: Collection[int]) -> PartitionState:
    """Return a partition without what its move leaves, once that may be; the same object else.

    There is a new leader epoch even where the leader stays: a replica that leaves and comes back
    must not be taken for one that still has what it had. So it is with a cancelled move.
    """
    if not state.is_moving or not set(moving_in(state)) <= set(state.isr):
        return state
    leading = [r for r in state.target if r in state.isr and r in live]
    if not leading:
        return state
    after = state.without(state.removing)._replace(adding=(), removing=())
    return after._replace(
        leader=state.leader if state.leader in leading else leading[0],
        leader_epoch=state.leader_epoch + 1,
        partition_epoch=state.partition_epoch + 1,
    )
