"""What handlers and background tasks get to work with: one object per broker.

It holds the parts and passes engine events on to them. It decides nothing.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from fastmq._native.core import Engine, Partition
from fastmq.cluster import Change, ConfigKind, PutBroker
from fastmq.cluster.names import CONSUMER_OFFSETS
from fastmq.config import BrokerConfig
from fastmq.config.types import ConfigSource
from fastmq.coordinator.group import GroupCoordinatorShard
from fastmq.errors import ConfigError
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
    from fastmq.server.membership import Membership
    from fastmq.server.remote_ends import RemoteEnds
    from fastmq.server.repairs import Repairs

__all__ = ["BrokerAddress", "BrokerContext"]

logger = logging.getLogger(__name__)

# Replicas of internal topics where nobody says otherwise and there are brokers for them.
_OFFSETS_REPLICAS: Final = 3


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
        membership: "Membership | None" = None,
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
        self.remote_ends: RemoteEnds | None = None
        # None: there are no other replicas.
        self.repairs: Repairs | None = None
        # Set when a follower of ours has caught up; whoever looks replaces it.
        self.replicas_changed = trio.Event()
        # None: this broker stands alone.
        self.membership = membership
        # Called with the broker's settings, at the start and when they have changed.
        self.on_config: Callable[[BrokerConfig], None] = lambda _: None
        self._broker_overrides = self._own_overrides()
        topics.on_change = self._on_topics_changed

    def own_address(self, listener: OpenListener) -> BrokerAddress:
        """Return this broker's address for clients of a listener."""
        rack = self.config.get_str("broker.rack") or None
        return BrokerAddress(self.node_id, listener.advertised_host, listener.advertised_port, rack)

    def brokers(self, listener: OpenListener) -> list[BrokerAddress]:
        """Return all live brokers as clients of a listener reach them."""
        if self.membership is None:
            return [self.own_address(listener)]
        found = []
        for broker_id, broker in sorted(self.topics.image.brokers.items()):
            endpoint = None if broker.fenced else broker.endpoint(listener.name)
            if endpoint is not None:
                found.append(BrokerAddress(broker_id, endpoint.host, endpoint.port, broker.rack))
        return found

    def address_of(self, broker_id: int, listener: OpenListener) -> BrokerAddress | None:
        """Return one live broker's address for clients of a listener."""
        return next((b for b in self.brokers(listener) if b.node_id == broker_id), None)

    def fenced_brokers(self) -> frozenset[int]:
        """Return the brokers that do not serve now."""
        if self.membership is None:
            return frozenset()
        brokers = self.topics.image.brokers.values()
        return frozenset(broker.id for broker in brokers if broker.fenced)

    @property
    def controller_id(self) -> int:
        """The controller, -1 while there is none."""
        if self.membership is None:
            return self.node_id
        controller = self.topics.image.controller
        return -1 if controller is None else controller.id

    async def create_offsets_topic(self) -> None:
        """Make `__consumer_offsets` and its coordinators, if they are not there.

        Raises:
            KafkaError: it cannot be created.
        """
        config = self.config
        await self.topics.create_internal(
            CONSUMER_OFFSETS,
            partitions=config.get_int("offsets.topic.num.partitions"),
            replication_factor=self._offsets_factor(),
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config.get_int("offsets.topic.segment.bytes")),
            },
        )
        self.adopt_offsets_topic()

    def _offsets_factor(self) -> int:
        """Return what is configured; without it, as many as a cluster has, up to three."""
        (entry,) = self.config.describe(["offsets.topic.replication.factor"])
        configured = self.config.get_int("offsets.topic.replication.factor")
        if self.membership is None or entry.source != ConfigSource.DEFAULT:
            return configured
        brokers = self.topics.image.brokers.values()
        live = sum(not broker.fenced and not broker.is_cordoned for broker in brokers)
        return max(configured, min(_OFFSETS_REPLICAS, live))

    def adopt_offsets_topic(self) -> None:
        """Have a coordinator for each partition of `__consumer_offsets` that is led here."""
        topic = self.topics.get(CONSUMER_OFFSETS)
        self.groups.partition_count = 0 if topic is None else len(topic.states)
        if topic is None:
            return
        for index, state in enumerate(topic.states):
            handle = topic.handle(index) if state.leader == self.node_id else None
            epoch = None if handle is None else state.leader_epoch
            if self.groups.epoch_of(index) == epoch:
                continue
            self.groups.drop_partition(index)
            if handle is not None:
                is_empty = _is_empty(handle)
                self.groups.add_partition(handle, is_empty=is_empty, epoch=state.leader_epoch)

    def _on_topics_changed(self, gone: list[str]) -> None:
        self.adopt_offsets_topic()
        self.forget_offsets(gone)
        if self._own_overrides() != self._broker_overrides:
            try:
                self.reload_broker_config()
            except ConfigError as exc:
                logger.error("cannot take up changed settings: %s", exc)  # noqa: TRY400

    def _own_overrides(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        image = self.topics.image
        own = image.config(ConfigKind.BROKER, str(self.node_id))
        return own, image.config(ConfigKind.BROKER, "")

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
        config = self._dynamic_config({name: values})
        ConnectionLimits.of(config)
        if "cordoned.log.dirs" in values:
            if not name:
                raise ConfigError("cordoned.log.dirs cannot be set for all brokers at once")
            config.check_cordons(config.get("cordoned.log.dirs"))

    def cordon_change(self, values: Mapping[str, str]) -> list[Change]:
        """Plan this broker's row as other dynamic values of its own make it.

        Args:
            values: texts by key.
        """
        row = self.topics.image.brokers.get(self.node_id)
        if row is None:
            return []
        cordoned = self.storage.cordoned(self._dynamic_config({str(self.node_id): values}))
        if row.cordoned == cordoned:
            return []
        return [PutBroker(row._replace(cordoned=cordoned), row.revision)]

    def reload_broker_config(self) -> None:
        """Take up what the metadata store says about this broker's settings.

        Raises:
            ConfigError: it cannot be used; the settings stay as they were.
        """
        config = self._dynamic_config({})
        self._broker_overrides = self._own_overrides()
        self.connections.limits = ConnectionLimits.of(config)
        self.config = config
        self.on_config(config)
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

    def on_fetcher(self, tag: int) -> None:
        """Go on fetching from a leader: what this broker follows is synced."""
        if self.fetchers is not None:
            self.fetchers.on_synced(tag)

    def on_replicas(self) -> None:
        """Look at who has caught up."""
        self.replicas_changed.set()

    def on_corrupt(self, topic_id: bytes, index: int, begin: int, end: int) -> None:
        """Tell that stored bytes were found damaged; the engine serves them to nobody."""
        topic = self.topics.by_id(topic_id)
        logger.error(
            "%s-%d: what is stored at offsets %d to %d does not fit its checksum: it is served to"
            " nobody, readers get CORRUPT_MESSAGE; see 'Damaged data' in docs/DELIVERY.md",
            topic_id.hex() if topic is None else topic.name,
            index,
            begin,
            end - 1,
        )
        if self.repairs is not None:
            self.repairs.on_corrupt(topic_id, index)

    def on_dir_offline(self, dir_id: int, errno: int) -> None:
        """Take note that a directory has failed; with the last one, the broker stops."""
        self.storage.on_offline(dir_id, errno)
        self.groups.on_dir_offline(dir_id)
        if not self.storage.any_online():
            self._on_all_dirs_offline()


def _is_empty(handle: Partition) -> bool:
    """Return whether a partition has no records, without opening its log.

    What an open one has may not be in its files yet.
    """
    if handle.is_open():
        return handle.log_end() == handle.log_start()
    return not holds_records(handle.path)
