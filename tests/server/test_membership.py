"""A broker's session and its duties as controller, when answers of the store get lost."""

import pytest
import trio

from fastmq.cluster import ClusterImage
from fastmq.cluster.changes import PutBroker, PutController
from fastmq.cluster.state import BrokerState
from fastmq.config import BrokerConfig
from fastmq.errors import ErrorCode, KafkaError
from fastmq.server.membership import Membership

pytestmark = pytest.mark.trio


class Store:
    """Gives a lease that lives."""

    async def grant_lease(self, _ttl_ms):
        return 1

    async def keep_alive(self, _lease):
        return True


class Cluster:
    """Carries out every change; the answer to a claim of the controller's key may be lost."""

    def __init__(self):
        self.lock = trio.Lock()
        self.image = ClusterImage()
        self.revision = 0
        self.loses_claims = False
        self.on_change = lambda: None

    async def commit(self, changes, **_):
        changes = list(changes)
        self.revision += 1
        self.image = self.image.apply(changes, self.revision)
        self.on_change()
        if self.loses_claims and any(isinstance(change, PutController) for change in changes):
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "the store did not answer")


@pytest.fixture
async def cluster():
    return Cluster()


@pytest.fixture
async def membership(cluster):
    made = Membership(
        node_id=1,
        store=Store(),
        cluster=cluster,
        registration=lambda _image: [PutBroker(BrokerState(1, 1, (), fenced=True), 0)],
        config=lambda: BrokerConfig({}),
        boot_time_ms=lambda: int(trio.current_time() * 1000),
    )
    cluster.on_change = made.note_image
    return made


@pytest.mark.parametrize("loses_claims", [False, True], ids=["answered", "answer lost"])
async def test_whoever_has_the_controllers_key_rules(
    cluster, membership, loses_claims, autojump_clock
):
    cluster.loses_claims = loses_claims
    await membership.register()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(membership.run)
        await membership.enter([])
        await trio.sleep(2)
        assert cluster.image.controller.id == 1
        assert membership.is_controller
        nursery.cancel_scope.cancel()


async def test_the_key_of_another_makes_nobody_rule(cluster, membership, autojump_clock):
    await cluster.commit([PutController(2, 7, 0)])
    await membership.register()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(membership.run)
        await membership.enter([])
        await trio.sleep(2)
        assert not membership.is_controller
        nursery.cancel_scope.cancel()
