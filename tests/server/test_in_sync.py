"""What a leader proposes, and when it must not."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from fastmq.cluster import ClusterImage, PartitionState
from fastmq.errors import ErrorCode
from fastmq.replica import InSyncSets
from fastmq.server.in_sync import ControllerLink, InSyncWatch

pytestmark = pytest.mark.trio

TOPIC_ID = bytes(16)
STATE = PartitionState(1, 3, 4, replicas=(1, 2), isr=(1, 2), directories=(b"", b""))


class Controller:
    """Notes what is proposed to it."""

    def __init__(self, *errors: ErrorCode) -> None:
        self.proposals: list[Any] = []
        self.errors = list(errors)

    async def propose(self, _controller_id: int, proposals: list[Any]) -> dict[Any, ErrorCode]:
        self.proposals += proposals
        error = self.errors.pop(0) if self.errors else ErrorCode.NONE
        return {(p.topic_id, p.partition): error for p in proposals}

    async def close(self) -> None:
        pass


async def test_without_its_session_a_leader_does_not_shrink_the_in_sync_set(
    autojump_clock: trio.testing.MockClock,
) -> None:
    membership = SimpleNamespace(may_lead=False)
    topic = SimpleNamespace(states=[STATE], handle=lambda _: None)
    context = SimpleNamespace(
        membership=membership,
        topics=SimpleNamespace(image=ClusterImage(), by_id=lambda _: topic),
        engine=SimpleNamespace(isr_hints=lambda _: [(TOPIC_ID, 0, 3, 2, False)]),
        controller_id=1,
        replicas_changed=trio.Event(),
    )
    controller = Controller()
    link = cast("ControllerLink", controller)
    watch = InSyncWatch(cast("Any", context), InSyncSets(1), link, lambda *_: None, 1_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(60)
        assert not controller.proposals
        membership.may_lead = True
        await trio.sleep(2)
        assert [p.partition_epoch for p in controller.proposals[:1]] == [4]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "error", [ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.FENCED_LEADER_EPOCH], ids=lambda e: e.name
)
async def test_what_a_controller_out_of_step_refuses_is_proposed_again(
    error: ErrorCode, autojump_clock: trio.testing.MockClock
) -> None:
    """It may be behind: then no new state comes that would settle the proposal."""
    topic = SimpleNamespace(states=[STATE], handle=lambda _: None)
    context = SimpleNamespace(
        membership=SimpleNamespace(may_lead=True),
        topics=SimpleNamespace(image=ClusterImage(), by_id=lambda _: topic),
        engine=SimpleNamespace(isr_hints=lambda _: [(TOPIC_ID, 0, 3, 2, False)]),
        controller_id=1,
        replicas_changed=trio.Event(),
    )
    controller = Controller(error, error)
    link = cast("ControllerLink", controller)
    watch = InSyncWatch(cast("Any", context), InSyncSets(1), link, lambda *_: None, 1_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(10)
        assert len(controller.proposals) == 3, "until it is taken, and not after that"
        nursery.cancel_scope.cancel()
