"""What handlers and background tasks get to work with: one object per broker.

It holds the parts and passes engine events on to them. It decides nothing.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import trio

from fastmq._native.core import Engine
from fastmq.cluster import ConfigKind
from fastmq.cluster.names import CONSUMER_OFFSETS
from fastmq.config import BrokerConfig
from fastmq.coordinator.group import GroupCoordinatorShard
from fastmq.server.appends import FIRST_TOKEN, Appends
from fastmq.server.clock import Clock
from fastmq.server.connections import ConnectionLimits, ConnectionTable
from fastmq.server.coordinators import CoordinatorDriver, ShardState
from fastmq.server.listeners import OpenListener
from fastmq.server.metadata_cache import MetadataCache
from fastmq.server.storage import Storage, holds_records
from fastmq.server.store import ClusterStore, ProducerIds
from fastmq.server.topics import TopicManager

if TYPE_CHECKING:
    from fastmq.server.fetchers import ReplicaFetchers

__all__ = ["BrokerAddress", "BrokerContext"]


class BrokerAddress(NamedTuple):
    """A broker as clients of one listener see it."""

    node_id: int
    host: str
    port: int
    rack: str | None


class BrokerContext:
    """The parts of a running broker."""

    def __init__(
        self,
        *,
        config: BrokerConfig,
        cluster_id: str,
        clock: Clock,
        engine: Engine,
        connections: ConnectionTable,
        storage: Storage,
        store: ClusterStore,
        topics: TopicManager,
        producer_ids: ProducerIds,
        groups: CoordinatorDriver[GroupCoordinatorShard],
        on_all_dirs_offline: Callable[[], None],
        peer_secret: bytes | None = None,
    ) -> None:
        self.config = config
        self.cluster_id = cluster_id
        self.node_id = config.node_id
        self.clock = clock
        self.engine = engine
        self.connections = connections
        self.storage = storage
        self.store = store
        self.topics = topics
        self.producer_ids = producer_ids
        self.groups = groups
        self.listeners: list[OpenListener] = []
        self.appends = Appends()
        self.metadata_cache = MetadataCache()
        self.draining = False
        self._on_all_dirs_offline = on_all_dirs_offline
        # By which other brokers prove that they are of this cluster; None: there are no others.
        self.peer_secret = peer_secret
        self.fetchers: ReplicaFetchers | None = None
        # Set when a follower of ours has caught up; whoever looks replaces it.
        self.replicas_changed = trio.Event()

    def own_address(self, listener: OpenListener) -> BrokerAddress:
        """Return this broker's address for clients of a listener."""
        rack = self.config.get_str("broker.rack") or None
        return BrokerAddress(self.node_id, listener.advertised_host, listener.advertised_port, rack)

    def brokers(self, listener: OpenListener) -> list[BrokerAddress]:
        """Return all live brokers as clients of a listener reach them."""
        return [self.own_address(listener)]

    async def create_offsets_topic(self) -> None:
        """Make `__consumer_offsets` and its coordinators, if they are not there.

        Raises:
            KafkaError: it cannot be created.
        """
        config = self.config
        await self.topics.create_internal(
            CONSUMER_OFFSETS,
            partitions=config.get_int("offsets.topic.num.partitions"),
            replication_factor=config.get_int("offsets.topic.replication.factor"),
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config.get_int("offsets.topic.segment.bytes")),
            },
        )
        self.adopt_offsets_topic()

    def adopt_offsets_topic(self) -> None:
        """Start a coordinator for each partition of `__consumer_offsets` that is led here."""
        topic = self.topics.get(CONSUMER_OFFSETS)
        if topic is None or self.groups.shard_count:
            return
        for handle in topic.handles:
            if handle is not None:
                self.groups.add_partition(handle, is_empty=not holds_records(handle.path))

    def forget_offsets(self, topics: list[str]) -> None:
        """Let the groups forget what they committed for topics that were deleted.

        A coordinator that is loading keeps them, until they expire.
        """
        if not topics:
            return
        for runner in self.groups.runners():
            if runner.state is ShardState.ACTIVE:
                runner.step(lambda shard, now_ms: shard.forget_topics(topics, now_ms))

    # The broker's own settings.

    def check_broker_config(self, name: str, values: Mapping[str, str]) -> None:
        """Check that the broker could run with other dynamic values.

        Args:
            name: this broker's id as text, or empty for the values of all brokers.
            values: texts by key.

        Raises:
            ConfigError: it could not.
        """
        ConnectionLimits.of(self._dynamic_config({name: values}))

    def reload_broker_config(self) -> None:
        """Take up what the metadata store says about this broker's settings.

        Raises:
            ConfigError: it cannot be used; the settings stay as they were.
        """
        config = self._dynamic_config({})
        self.connections.limits = ConnectionLimits.of(config)
        self.config = config
        self.topics.reconfigure_all()

    def _dynamic_config(self, instead: Mapping[str, Mapping[str, str]]) -> BrokerConfig:
        own = str(self.node_id)
        image = self.topics.image
        return self.config.with_dynamic(
            instead.get(own, image.config(ConfigKind.BROKER, own)),
            instead.get("", image.config(ConfigKind.BROKER, "")),
        )

    # Events of the engine.

    def after_events(self) -> None:
        """Run what waits for the end of a round of events."""
        self.groups.flush()

    def on_appended(self, token: int, code: int) -> None:
        """Pass a commit on to whoever waits for it."""
        if token >= FIRST_TOKEN:
            self.appends.on_appended(token, code)
        else:
            self.groups.on_appended(token, code)

    def on_fetcher(self, leader_id: int) -> None:
        """Go on fetching from a leader: what this broker follows is synced."""
        if self.fetchers is not None:
            self.fetchers.on_synced(leader_id)

    def on_replicas(self) -> None:
        """Look at who has caught up."""
        self.replicas_changed.set()

    def on_dir_offline(self, dir_id: int, errno: int) -> None:
        """Take note that a directory has failed; with the last one, the broker stops."""
        self.storage.on_offline(dir_id, errno)
        self.groups.on_dir_offline(dir_id)
        if not self.storage.any_online():
            self._on_all_dirs_offline()
