"""The parts of a broker that copy partitions: roles, fetchers, in-sync sets."""

import trio

from fastmq._native.core import Engine
from fastmq.auth import PeerIdentity
from fastmq.cluster import ClusterImage
from fastmq.config import BrokerConfig
from fastmq.replica import InSyncSets
from fastmq.server.context import BrokerContext
from fastmq.server.fetchers import ReplicaFetchers
from fastmq.server.in_sync import ControllerLink, InSyncWatch
from fastmq.server.membership import Membership
from fastmq.server.peers import PeerCredentials
from fastmq.server.remote_ends import RemoteEnds
from fastmq.server.repairs import Repairs
from fastmq.server.roles import ClusterRoles
from fastmq.server.world import World

__all__ = ["Replication"]


class Replication:
    """What a broker of a cluster has beside one that stands alone.

    Args:
        config: of the broker.
        engine: with the partitions.
        membership: registered.
        secret: by which brokers of the cluster know each other.
        world: how they are reached.

    Attributes:
        roles: for the topic manager.
    """

    def __init__(
        self,
        config: BrokerConfig,
        engine: Engine,
        membership: Membership,
        secret: bytes,
        world: World,
    ) -> None:
        self._engine = engine
        self._membership = membership
        self._listener = config.listeners[0].name
        self._lag_max_ms = config.get_int("replica.lag.time.max.ms")
        identity = PeerIdentity(config.node_id, membership.epoch)
        self._credentials = PeerCredentials(secret, identity, world.connect, world.random_bytes)
        self._sets = InSyncSets(config.node_id)
        self._fetchers = ReplicaFetchers(
            engine,
            credentials=self._credentials,
            address_of=self._address_of,
            max_wait_ms=config.get_int("replica.fetch.wait.max.ms"),
            partition_max_bytes=config.get_int("replica.fetch.max.bytes"),
        )
        self._repairs = Repairs(config.node_id, self._credentials, self._address_of)
        self.roles = ClusterRoles(config.node_id, self._fetchers, self._sets, self._repairs.is_held)

    @property
    def _image(self) -> ClusterImage:
        return self._membership.image

    def _address_of(self, broker_id: int) -> tuple[str, int] | None:
        """Return where a broker listens for others: at its listener of our first one's name."""
        broker = self._image.brokers.get(broker_id)
        endpoint = None if broker is None else broker.endpoint(self._listener)
        return None if endpoint is None else (endpoint.host, endpoint.port)

    def configure(self, config: BrokerConfig) -> None:
        """Take up how fast replicas may catch up."""
        self._engine.set_throttle(config.get_int("leader.replication.throttled.rate"))
        self._fetchers.set_rate(config.get_int("follower.replication.throttled.rate"))

    async def run(self, context: BrokerContext) -> None:
        """Fetch what is followed here and look after what is led here, until cancelled."""
        context.fetchers = self._fetchers
        context.repairs = self._repairs
        context.remote_ends = RemoteEnds(self._credentials, self._address_of)
        decide = self._membership.alter_partition
        link = ControllerLink(self._credentials, self._address_of, decide)
        reassume = context.topics.reassume
        watch = InSyncWatch(context, self._sets, link, reassume, self._lag_max_ms)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fetchers.run)
            nursery.start_soon(watch.run)
            nursery.start_soon(self._repairs.run, context, decide)
