"""Which followers a leader wants to be in sync, and how each counts meanwhile. Pure.

The controller alone changes an in-sync set; a leader proposes. Until it has an answer, the larger
of the two sets counts: who is proposed to join holds the high watermark back already (the
controller may have let it in, and elect it, before we know), and who is proposed to leave still
does (the controller may refuse). One proposal of a partition is under way at a time.

Source: KIP-497 (AlterPartition), KIP-841 (fenced brokers), KIP-903 (broker epochs).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from fastmq.cluster import IsrProposal, PartitionState

__all__ = ["InSyncSets", "IsrHint"]

Key = tuple[bytes, int]
"""(topic id, partition index)"""


class IsrHint(NamedTuple):
    """What the engine noticed of one follower, as `Engine.isr_hints` tells it."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    broker_id: int
    caught_up: bool


class InSyncSets:
    """The proposals of one broker that have no answer yet.

    Args:
        node_id: this broker.
    """

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._proposed: dict[Key, IsrProposal] = {}

    def propose(
        self,
        hints: Iterable[IsrHint],
        state_of: Callable[[bytes, int], PartitionState | None],
        live: Mapping[int, int],
    ) -> list[IsrProposal]:
        """Make proposals of what the engine noticed; they are under way from now on.

        Args:
            hints: of partitions that are led here.
            state_of: the current state of a partition, by topic id and index.
            live: the brokers that may be in sync, with their epochs.
        """
        wanted: dict[Key, set[int]] = {}
        for hint in hints:
            key = (hint.topic_id, hint.partition)
            state = state_of(*key)
            if state is None or key in self._proposed or not self._leads(state, hint):
                continue
            isr = wanted.setdefault(key, set(state.isr))
            if not hint.caught_up:
                isr.discard(hint.broker_id)
            elif hint.broker_id in state.replicas and hint.broker_id in live:
                isr.add(hint.broker_id)
        made = []
        for key, isr in wanted.items():
            state = state_of(*key)
            assert state is not None
            if isr != set(state.isr):
                made.append(self._proposal(key, state, isr, live))
        self._proposed.update(((p.topic_id, p.partition), p) for p in made)
        return made

    def _leads(self, state: PartitionState, hint: IsrHint) -> bool:
        return state.leader == self._node_id and state.leader_epoch == hint.leader_epoch

    def _proposal(
        self, key: Key, state: PartitionState, isr: set[int], live: Mapping[int, int]
    ) -> IsrProposal:
        members = tuple(
            (broker, live.get(broker, -1)) for broker in state.replicas if broker in isr
        )
        return IsrProposal(*key, state.leader_epoch, state.partition_epoch, members)

    def settle(self, topic_id: bytes, index: int) -> None:
        """Forget a proposal that was answered, or whose partition is not led here any more."""
        self._proposed.pop((topic_id, index), None)

    def settle_all(self) -> None:
        """Forget all proposals: their answers are lost, and may have been anything."""
        self._proposed.clear()

    def joining(self, topic_id: bytes, index: int, state: PartitionState) -> set[int]:
        """Return who is out of sync by `state` and has been proposed to join in its epoch."""
        proposal = self._proposed.get((topic_id, index))
        if proposal is None or proposal.leader_epoch != state.leader_epoch:
            return set()
        return {broker for broker, _ in proposal.isr} - set(state.isr)
