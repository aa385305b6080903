"""One broker, from start to stop.

Start: lock the directories, open the metadata store, load the cluster image, register, start the
engine, register partitions (after an unclean stop, check their logs first), load the coordinators,
listen, enter the cluster, write the ready file. Each step needs what the one before it made.

Stop, on SIGTERM or SIGINT: stop accepting, let the engine answer what is parked and take no new
frames, answer those who wait for a coordinator, close partitions, write checkpoints and the clean
marker. A second signal, or `fastmq.shutdown.timeout.ms`, cuts the waiting short; the logs are then
closed all the same, since closing is what makes the next start quick.
"""

import json
import logging
import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from fastmq._native.core import Engine
from fastmq._native.syscalls import trim_memory
from fastmq.cluster import ClusterImage, Endpoint
from fastmq.cluster.names import CONSUMER_OFFSETS
from fastmq.config import BrokerConfig
from fastmq.coordinator.group import GroupConfig, GroupCoordinatorShard
from fastmq.errors import ErrorCode, FastmqError, KafkaError
from fastmq.metastore import (
    MetadataCache,
    Metastore,
    MetastoreUnavailableError,
    ensure_cluster_id,
)
from fastmq.metastore.peer_secret import ensure_peer_secret
from fastmq.protocol.api import ApiKey
from fastmq.server.background import Background
from fastmq.server.batches import build_batch, iter_records
from fastmq.server.clock import Clock
from fastmq.server.connections import Connection, ConnectionLimits, ConnectionTable
from fastmq.server.context import BrokerContext
from fastmq.server.coordinators import CoordinatorDriver
from fastmq.server.dispatch import Dispatcher
from fastmq.server.handlers import ROUTES
from fastmq.server.listeners import OpenListener
from fastmq.server.membership import Membership
from fastmq.server.replication import Replication
from fastmq.server.roles import LoneRoles, Roles
from fastmq.server.storage import Storage
from fastmq.server.store import ClusterStore, ProducerIds, stands_alone
from fastmq.server.topics import TopicManager
from fastmq.server.world import World

if TYPE_CHECKING:
    from fastmq._native.sim_env import SimEnv
    from fastmq.server.test_mode import TestMode

__all__ = ["Announcement", "StorageFailedError", "run_broker"]

logger = logging.getLogger(__name__)

# The engine has no event for the last reply sent, so draining looks now and then.
_DRAIN_LOOK_S = 0.005

# How long a broker that stops waits for others to lead its partitions.
_RETIRE_TIMEOUT_S = 5.0


class StorageFailedError(FastmqError):
    """Every data directory has failed; the broker cannot serve anything."""


class Announcement(NamedTuple):
    """What the operator is told when the broker serves.

    Attributes:
        listeners: (name, host:port), as bound.
        data_dirs: where logs are kept.
        metrics: host:port of the metrics page, empty when there is none.
    """

    listeners: list[tuple[str, str]]
    data_dirs: tuple[str, ...]
    metrics: str


async def run_broker(
    config: BrokerConfig,
    *,
    ready_file: Path | None = None,
    announce: Callable[[Announcement], None] = lambda _: None,
    stop: trio.Event | None = None,
    test_mode: "TestMode | None" = None,
    world: World | None = None,
    on_context: Callable[[BrokerContext], None] = lambda _: None,
) -> None:
    """Run one broker until it is told to stop.

    Args:
        config: its settings.
        ready_file: written when clients can connect, removed at the stop.
        announce: called at the same moment.
        stop: ends it when set; None = SIGTERM and SIGINT do.
        test_mode: of `fastmq.testing`: faults and a clock that can be moved.
        world: the machine that it runs on; None = the real one.
        on_context: gets the broker's parts when it serves.

    Raises:
        ConfigError: the configuration cannot work here (AddressInUseError: a port is taken), or
            it is in test mode and not on loopback.
        DirectoryInUseError: another broker has a data directory.
        StorageFailedError: all data directories have failed.
    """
    if test_mode is not None:
        test_mode.check(config)
    broker = _Broker(config, test_mode, world or World())
    try:
        await broker.live(ready_file, announce, stop, on_context)
    except BaseExceptionGroup as group:
        # Nurseries wrap what is raised in them; the operator's mistakes are told plainly.
        told = [exc for exc in _leaves(group) if isinstance(exc, FastmqError)]
        if len(told) == 1 and all(
            isinstance(exc, FastmqError | trio.Cancelled) for exc in _leaves(group)
        ):
            raise told[0] from told[0].__cause__
        raise
    if broker.failed:
        raise StorageFailedError("every data directory has failed; the log says why")


class _Broker:
    """The life of one broker; `started` is the whole of it."""

    def __init__(self, config: BrokerConfig, test_mode: "TestMode | None", world: World) -> None:
        self._config = config
        self._world = world
        self._test_mode = test_mode
        self._stop = trio.Event()
        self._serves = False
        self._accept_scope = trio.CancelScope()
        self._drain_scope = trio.CancelScope()
        self._context: BrokerContext
        self._dispatcher: Dispatcher
        self._cache: MetadataCache
        self._membership: Membership | None = None
        self._replication: Replication | None = None
        self.metrics_address = ""
        self.failed = False

    async def live(
        self,
        ready_file: Path | None,
        announce: Callable[[Announcement], None],
        stop: trio.Event | None,
        on_context: Callable[[BrokerContext], None],
    ) -> None:
        """Start, serve until told to stop, stop."""
        async with trio.open_nursery() as nursery:
            if stop is None:
                await nursery.start(self._watch_signals, nursery.cancel_scope)
            else:
                nursery.start_soon(self._watch_event, stop)
            async with self.started() as context:
                announcement = Announcement(
                    [(listener.name, listener.address) for listener in context.listeners],
                    self._config.log_dirs,
                    self.metrics_address,
                )
                with _ready(ready_file, context, announcement):
                    announce(announcement)
                    on_context(context)
                    self._serves = True
                    await trio.to_thread.run_sync(trim_memory)  # what the start took for a moment
                    await self._stop.wait()
                    await self._drain()
            nursery.cancel_scope.cancel()

    async def _watch_event(self, stop: trio.Event) -> None:
        await stop.wait()
        self._stop.set()

    async def _watch_signals(
        self,
        whole: trio.CancelScope,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """First signal: stop, or give the start up. Second: stop waiting for answers."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                logger.info("%s: stopping", signal.Signals(number).name)
                if not self._serves:
                    whole.cancel()
                elif self._stop.is_set():
                    self._drain_scope.cancel()
                self._stop.set()

    @asynccontextmanager
    async def started(self) -> AsyncIterator[BrokerContext]:
        """Start everything, and stop it in the opposite order."""
        config = self._config
        with Storage.opened(config, self._world) as storage:
            store = self._world.store(config, storage)
            try:
                await store.open()
            except MetastoreUnavailableError as exc:
                raise MetastoreUnavailableError(f"{exc}; {_store_hint(config)}") from None
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(store.run, name="metadata store")
                    engine = _make_engine(
                        config, test_mode=self._test_mode is not None, env=self._world.env
                    )
                    try:
                        async with self._serving(storage, store, engine) as context:
                            yield context
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.to_thread.run_sync(engine.stop)
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await store.close()

    @asynccontextmanager
    async def _serving(
        self, storage: Storage, store: Metastore, engine: Engine
    ) -> AsyncIterator[BrokerContext]:
        context = self._context = await self._make_context(storage, store, engine)
        self._tell_racks(context.topics.image)
        background = Background(context)
        if self._replication is not None:
            context.on_config = self._replication.configure
        context.reload_broker_config()
        # Until all logs have been checked, a stop leaves them to the check of the next start.
        context.topics.deletions.extend(await context.topics.load())
        if not storage.any_online():
            raise StorageFailedError("no data directory can be used; the log says why")
        try:
            engine.start()
            async with trio.open_nursery() as nursery:
                if _is_nested(self._config):
                    nursery.start_soon(_drive, engine, name="reactor")
                if self._test_mode is not None:
                    self._test_mode.attach(context, nursery)
                self._dispatcher = Dispatcher(
                    engine,
                    context.connections,
                    ROUTES,
                    context,
                    None if self._test_mode is None else self._test_mode.intercept,
                )
                nursery.start_soon(self._dispatcher.run, name="dispatch")
                nursery.start_soon(context.groups.run, name="group coordinators")
                context.adopt_offsets_topic()
                nursery.start_soon(self._cache.run, name="metadata watch")
                nursery.start_soon(context.topics.follow, name="topics")
                nursery.start_soon(background.run, name="background")
                context.listeners = self._world.open_listeners(self._config)
                if self._replication is not None:
                    nursery.start_soon(self._replication.run, context, name="replication")
                if self._membership is not None:
                    context.topics.on_effect = self._membership.note_image
                    await self._membership.distrust(context.topics.incomplete)
                    await self._membership.enter(_endpoints(context.listeners))
                    nursery.start_soon(self._membership.run, name="membership")
                    nursery.start_soon(context.producer_ids.keep_reserve, name="producer ids")
                if self._config.get_str("fastmq.metrics.listener"):
                    self.metrics_address = await nursery.start(self._serve_metrics)
                nursery.start_soon(self._accept_all, name="accept")
                if self._membership is not None:
                    nursery.start_soon(self._world.check_advertised, context.listeners)
                nursery.start_soon(self._prepare_groups, name="offsets topic")
                yield context
                nursery.cancel_scope.cancel()
        finally:
            # Only now that no task waits for them.
            _close_listeners(context.listeners)
            if self._membership is not None:
                await self._membership.leave()
            with trio.CancelScope(shield=True):
                await background.close_partitions()

    async def _make_context(
        self, storage: Storage, store: Metastore, engine: Engine
    ) -> BrokerContext:
        config = self._config
        cluster_id = await ensure_cluster_id(store, self._world.random_bytes)
        storage.join(cluster_id)
        cache = self._cache = MetadataCache(store, self._on_image)
        await cache.load()
        cluster = ClusterStore(cache)
        roles: Roles
        peer_secret = None
        if stands_alone(config):
            async with cluster.lock:
                await cluster.commit(storage.registration(cluster.image))
            roles = LoneRoles(config.node_id)
        else:
            self._membership = _make_membership(
                self._current_config,
                store,
                cluster,
                storage,
                engine,
                self._world.boot_time_ms,
                self._effect_revision,
            )
            await self._membership.register()
            peer_secret = await ensure_peer_secret(store, self._world.random_bytes)
            self._replication = Replication(
                config, engine, self._membership, peer_secret, self._world
            )
            roles = self._replication.roles
        clock = Clock(wall_s=self._world.wall_s())
        topics = TopicManager(
            node_id=config.node_id,
            engine=engine,
            store=cluster,
            storage=storage,
            config=self._current_config,
            roles=roles,
            random_bytes=self._world.random_bytes,
        )
        group_config = _group_config(config)
        return BrokerContext(
            config=config,
            cluster_id=cluster_id,
            clock=clock,
            engine=engine,
            connections=ConnectionTable(ConnectionLimits.of(config)),
            storage=storage,
            store=cluster,
            topics=topics,
            producer_ids=ProducerIds(store),
            groups=CoordinatorDriver(
                clock=clock,
                make_shard=lambda _: GroupCoordinatorShard(group_config, self._new_id),
                build_batch=build_batch,
                iter_records=iter_records,
            ),
            on_all_dirs_offline=self._fail,
            peer_secret=peer_secret,
            membership=self._membership,
        )

    def _current_config(self) -> BrokerConfig:
        return self._context.config if hasattr(self, "_context") else self._config

    def _effect_revision(self) -> int:
        return self._context.topics.effect_revision if hasattr(self, "_context") else 0

    def _tell_racks(self, image: ClusterImage) -> None:
        """Let the engine send consumers to replicas in their rack, where that is wanted."""
        if self._config.get_str("replica.selector.class").endswith(".RackAwareReplicaSelector"):
            self._context.engine.set_racks(
                {number: one.rack for number, one in image.brokers.items() if one.rack}
            )

    def _on_image(self, before: ClusterImage, after: ClusterImage) -> None:
        if self._membership is not None:
            self._membership.note_image()
        if hasattr(self, "_context"):
            if before.brokers != after.brokers:
                self._tell_racks(after)
            self._context.topics.note_image()

    def _new_id(self) -> str:
        raw = self._world.random_bytes(16).hex()
        return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"

    async def _prepare_groups(self) -> None:
        """Do ahead what the first consumer group would wait for."""
        context = self._context
        # In a cluster it waits until somebody asks: by then all brokers can be given their part.
        if stands_alone(self._config) and context.topics.get(CONSUMER_OFFSETS) is None:
            try:
                await context.create_offsets_topic()
            except KafkaError as exc:
                logger.warning("cannot create %s yet: %s", CONSUMER_OFFSETS, exc.message)
        await trio.to_thread.run_sync(ROUTES[ApiKey.JOIN_GROUP].load)

    async def _accept_all(self) -> None:
        with self._accept_scope:
            async with trio.open_nursery() as nursery:
                connections = self._context.connections
                for listener in self._context.listeners:
                    nursery.start_soon(
                        self._world.accept, listener, self._take_over, connections.accept_delay_s
                    )

    def _take_over(self, listener: OpenListener, sock: socket.socket, host: str) -> None:
        context = self._context
        context.connections.spend()
        refusal = context.connections.refusal(host)
        if refusal is not None:
            sock.close()
            context.connections.refused_total += 1
            logger.warning("refused a connection from %s: %s", host, refusal)
            return
        try:
            conn_id = context.engine.add_connection(sock.detach(), listener_id=listener.listener_id)
        except OSError as exc:
            # The engine has closed the descriptor.
            logger.error("cannot take a connection over: %s", exc)  # noqa: TRY400
            return
        context.connections.add(Connection(conn_id, listener, host))

    async def _serve_metrics(self, task_status: trio.TaskStatus[str]) -> None:
        from fastmq.server.metrics import serve_metrics

        await serve_metrics(self._context, self._dispatcher, task_status=task_status)

    def _fail(self) -> None:
        logger.critical("every data directory has failed: stopping")
        self.failed = True
        self._stop.set()

    async def _drain(self) -> None:
        """Stop accepting and answer what has been asked, for a bounded time."""
        context = self._context
        timeout_s = self._config.get_int("fastmq.shutdown.timeout.ms") / 1000
        self._drain_scope.deadline = trio.current_time() + timeout_s
        if self._membership is not None and self._config.get_bool("controlled.shutdown.enable"):
            with trio.move_on_after(min(_RETIRE_TIMEOUT_S, timeout_s / 2)):
                await self._membership.retire()
        self._accept_scope.cancel()
        with self._drain_scope:
            context.draining = True
            context.engine.set_draining()
            # Nothing new comes in now; what was written is answered with its success.
            while not context.groups.is_settled():  # noqa: ASYNC110 - as said at the constant
                await trio.sleep(_DRAIN_LOOK_S)
            context.groups.resign_all(ErrorCode.NOT_COORDINATOR)
            while (  # noqa: ASYNC110 - as said at the constant
                self._dispatcher.open_requests or context.engine.unsent_replies()
            ):
                await trio.sleep(_DRAIN_LOOK_S)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc


def _store_hint(config: BrokerConfig) -> str:
    if config.get_str("fastmq.metastore") == "etcd":
        return "is etcd running, and are fastmq.etcd.endpoints right?"
    return "is `fastmq serve --brokers`, which serves it, still running?"


def _is_nested(config: BrokerConfig) -> bool:
    return config.get_str("fastmq.reactor") == "nested"


async def _drive(engine: Engine) -> None:
    """Run the reactor inside the event loop: one call for each time it has something to do."""
    descriptor = engine.poll_fileno()
    while True:
        with trio.CancelScope() as scope:  # for many waits: to make one costs
            while True:
                wait_ms = engine.next_timeout_ms()
                scope.deadline = math.inf if wait_ms < 0 else trio.current_time() + wait_ms / 1000
                await trio.lowlevel.wait_readable(descriptor)
                engine.run_once(0)
        engine.run_once(0)


def _make_engine(config: BrokerConfig, *, test_mode: bool, env: "SimEnv | None") -> Engine:
    return Engine(
        env=env,
        node_id=config.node_id,
        test_mode=test_mode,
        thread=not _is_nested(config),
        max_open_files=config.get_int("fastmq.files.open.max"),
        max_request_bytes=config.get_int("socket.request.max.bytes"),
        max_buffered_bytes=config.get_int("queued.max.request.bytes"),
        max_unanswered_frames=config.get_int("fastmq.connection.frames.max"),
        fetch_max_bytes=config.get_int("fetch.max.bytes"),
        fetch_sessions=config.get_int("max.incremental.fetch.session.cache.slots"),
        idle_timeout_ms=config.get_int("connections.max.idle.ms"),
        frame_timeout_ms=config.get_int("fastmq.frame.timeout.ms"),
        # Nothing happens beside the event loop of a simulated broker.
        sync_threads=config.get_int("fastmq.sync.threads") if env is None else 0,
        flush_interval_ms=config.get_int("fastmq.flush.interval.ms"),
        has_peers=not stands_alone(config),
    )


def _endpoints(listeners: list[OpenListener]) -> list[Endpoint]:
    return [Endpoint(one.name, one.advertised_host, one.advertised_port) for one in listeners]


def _make_membership(
    current: Callable[[], BrokerConfig],
    store: Metastore,
    cluster: ClusterStore,
    storage: Storage,
    engine: Engine,
    boot_time_ms: Callable[[], int],
    effect_revision: Callable[[], int],
) -> Membership:
    return Membership(
        node_id=current().node_id,
        store=store,
        cluster=cluster,
        registration=lambda image: storage.registration(image, fenced=True),
        config=current,
        boot_time_ms=boot_time_ms,
        on_valid=engine.set_lease,
        vitals=engine.vitals,
        effect_revision=effect_revision,
    )


def _close_listeners(listeners: list[OpenListener]) -> None:
    for listener in listeners:
        listener.close()


def _group_config(config: BrokerConfig) -> GroupConfig:
    return GroupConfig(
        initial_rebalance_delay_ms=config.get_int("group.initial.rebalance.delay.ms"),
        min_session_timeout_ms=config.get_int("group.min.session.timeout.ms"),
        max_session_timeout_ms=config.get_int("group.max.session.timeout.ms"),
        max_size=config.get_int("group.max.size"),
        offset_metadata_max_size=config.get_int("offset.metadata.max.bytes"),
        offsets_retention_ms=config.get_int("offsets.retention.minutes") * 60_000,
        offsets_retention_check_interval_ms=config.get_int("offsets.retention.check.interval.ms"),
    )


@contextmanager
def _ready(path: Path | None, context: BrokerContext, announcement: Announcement) -> Iterator[None]:
    """Write the ready file in one step, so that nobody reads half of it, and remove it after."""
    if path is None:
        yield
        return
    ready = {
        "pid": os.getpid(),
        "node_id": context.node_id,
        "cluster_id": context.cluster_id,
        "listeners": dict(announcement.listeners),
        "metrics": announcement.metrics,
        "data_dirs": list(announcement.data_dirs),
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(ready) + "\n", encoding="utf-8")
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
