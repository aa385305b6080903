"""A leader's proposals of who is in sync, on their way to the controller.

The engine notices followers that have caught up or lag; `fastmq.replica` makes proposals of that;
here they are sent, again and again while nobody answers. What became of one, the image tells: the
next state of the partition settles the proposal, where it takes effect. Only a refusal that changes
nothing is settled by the answer, because no new state comes then.

A leader whose session may have ended proposes nothing: others may lead already, and one that took
them out of its in-sync set would acknowledge alone.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, cast

import trio

from fastmq.cluster import ClusterImage, IsrAnswer, IsrProposal, PartitionState
from fastmq.cluster.controller import live_brokers
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.protocol.messages.alter_partition import (
    AlterPartitionData,
    AlterPartitionReplica,
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionTopic,
)
from fastmq.replica import InSyncSets, IsrHint
from fastmq.server.peers import AddressOf, PeerCredentials, PeerLink

if TYPE_CHECKING:
    from fastmq.server.context import BrokerContext

__all__ = ["ControllerLink", "InSyncWatch"]

logger = logging.getLogger(__name__)

ALTER_PARTITION_VERSION: Final = 3
# A new state is on its way, to us or to the controller: only then is it clear what became of a
# proposal. Until then it holds, because an earlier copy of it may have been carried out.
_OUT_OF_STEP: Final = (ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.FENCED_LEADER_EPOCH)
_RETRY_S: Final = 0.1
# Between two looks whether the session has come back.
_SESSION_LOOK_S: Final = 0.5
_TIMEOUT_S: Final = 5.0

AlterPartition = Callable[[int, list[IsrProposal]], Awaitable[list[IsrAnswer]]]
"""What the controller does, when it is this broker: (who leads, proposals) -> answers."""


class ControllerLink:
    """Brings proposals to the controller: a call when it is this broker, a request else.

    Args:
        credentials: ours.
        address_of: where brokers listen.
        decide: what this broker does as the controller.
    """

    def __init__(
        self, credentials: PeerCredentials, address_of: AddressOf, decide: AlterPartition
    ) -> None:
        self._credentials = credentials
        self._address_of = address_of
        self._decide = decide
        self._link: PeerLink | None = None
        self._linked_to = -1

    async def propose(
        self, controller_id: int, proposals: list[IsrProposal]
    ) -> dict[tuple[bytes, int], ErrorCode]:
        """Return what became of each proposal.

        Raises:
            KafkaError: the controller does not answer, or is none any more.
        """
        own_id = self._credentials.identity.broker_id
        if controller_id == own_id:
            answers = await self._decide(own_id, proposals)
            return {(a.topic_id, a.partition): a.error for a in answers}
        try:
            link = await self._linked(controller_id)
            request = _request(self._credentials, proposals)
            answer = await link.call(request, ALTER_PARTITION_VERSION, timeout_s=_TIMEOUT_S)
        except BaseException:
            await self.close()
            raise
        response = cast("AlterPartitionResponse", answer)
        if response.error_code:
            raise KafkaError(ErrorCode(response.error_code), "the controller refuses")
        return {
            (topic.topic_id, part.partition_index): ErrorCode(part.error_code)
            for topic in response.topics
            for part in topic.partitions
        }

    async def _linked(self, controller_id: int) -> PeerLink:
        if self._link is not None and self._linked_to == controller_id:
            return self._link
        await self.close()
        address = self._address_of(controller_id)
        if address is None:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, "the controller's address is unknown")
        self._link = await PeerLink.open(*address, self._credentials)
        self._linked_to = controller_id
        return self._link

    async def close(self) -> None:
        """Close the link, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            with trio.CancelScope(shield=True):
                await link.close()


class InSyncWatch:
    """The task that looks after the in-sync sets of the partitions led here.

    Args:
        context: the broker.
        sets: proposals under way, shared with the roles.
        link: to the controller.
        reassume: gives a partition its role anew, after the standing of a replica changed.
        lag_max_ms: `replica.lag.time.max.ms`.
    """

    def __init__(
        self,
        context: "BrokerContext",
        sets: InSyncSets,
        link: ControllerLink,
        reassume: Callable[[bytes, int], None],
        lag_max_ms: int,
    ) -> None:
        self._context = context
        self._sets = sets
        self._link = link
        self._reassume = reassume
        self._lag_max_ms = lag_max_ms

    @property
    def _image(self) -> ClusterImage:
        return self._context.topics.image

    @property
    def _may_propose(self) -> bool:
        membership = self._context.membership
        return membership is not None and membership.may_lead

    def _state(self, topic_id: bytes, index: int) -> PartitionState | None:
        """Return the state that is in effect: a newer one settles the proposals made on it."""
        topic = self._context.topics.by_id(topic_id)
        if topic is None or not 0 <= index < len(topic.states):
            return None
        return topic.states[index]

    async def run(self) -> None:
        """Look and propose, until cancelled."""
        context = self._context
        try:
            while True:
                context.replicas_changed = trio.Event()
                if not self._may_propose:
                    await trio.sleep(_SESSION_LOOK_S)
                    continue
                image = self._image
                live = {broker: image.brokers[broker].epoch for broker in live_brokers(image)}
                rows = context.engine.isr_hints(self._lag_max_ms)
                hints = [hint for hint in map(IsrHint._make, rows) if self._is_of_now(hint, live)]
                proposals = self._sets.propose(hints, self._state, live)
                if proposals:
                    for proposal in proposals:
                        self._reassume(proposal.topic_id, proposal.partition)
                    await self._bring(proposals)
                    continue
                with trio.move_on_after(self._lag_max_ms / 1000 / 2):
                    await context.replicas_changed.wait()
        finally:
            await self._link.close()

    def _is_of_now(self, hint: IsrHint, live: dict[int, int]) -> bool:
        """Return whether it was the present life of a follower that caught up.

        An earlier one may have had what a power cut has taken since (KIP-903).
        """
        topic = self._context.topics.by_id(hint.topic_id)
        handle = None if topic is None else topic.handle(hint.partition)
        if not hint.caught_up or handle is None:
            return True
        return any(
            broker == hint.broker_id and epoch == live.get(broker)
            for broker, _, _, _, epoch in handle.replicas()
        )

    async def _bring(self, proposals: list[IsrProposal]) -> None:
        """Send proposals until each is answered, or overtaken by a new state."""
        told = ""
        while proposals := [p for p in proposals if self._is_open(p)]:
            if not self._may_propose:
                await trio.sleep(_SESSION_LOOK_S)
                continue
            try:
                answers = await self._link.propose(self._context.controller_id, proposals)
            except (KafkaError, ProtocolError) as exc:
                if str(exc) != told:
                    told = str(exc)
                    logger.info("proposals of in-sync sets wait: %s", exc)
                await trio.sleep(_RETRY_S)
                continue
            unsettled = []
            for proposal in proposals:
                error = answers.get((proposal.topic_id, proposal.partition))
                if error in _OUT_OF_STEP:
                    unsettled.append(proposal)
                else:
                    self._on_answer(proposal, error)
            proposals = unsettled
            if proposals:
                await trio.sleep(_RETRY_S)

    def _is_open(self, proposal: IsrProposal) -> bool:
        state = self._state(proposal.topic_id, proposal.partition)
        if state is not None and state.partition_epoch == proposal.partition_epoch:
            return True
        self._sets.settle(proposal.topic_id, proposal.partition)
        return False

    def _on_answer(self, proposal: IsrProposal, error: ErrorCode | None) -> None:
        topic_id, index = proposal.topic_id, proposal.partition
        if error is ErrorCode.NONE:
            return  # the new state settles it
        logger.info("the controller refuses an in-sync set: %s", error)
        self._sets.settle(topic_id, index)
        self._reassume(topic_id, index)


def _request(credentials: PeerCredentials, proposals: list[IsrProposal]) -> AlterPartitionRequest:
    topics: dict[bytes, AlterPartitionTopic] = {}
    for proposal in proposals:
        topic = topics.setdefault(
            proposal.topic_id, AlterPartitionTopic(topic_id=proposal.topic_id, partitions=[])
        )
        topic.partitions.append(
            AlterPartitionData(
                partition_index=proposal.partition,
                leader_epoch=proposal.leader_epoch,
                partition_epoch=proposal.partition_epoch,
                new_isr_with_epochs=[
                    AlterPartitionReplica(broker_id=broker, broker_epoch=epoch)
                    for broker, epoch in proposal.isr
                ],
            )
        )
    identity = credentials.identity
    return AlterPartitionRequest(
        broker_id=identity.broker_id,
        broker_epoch=identity.broker_epoch,
        topics=list(topics.values()),
    )
