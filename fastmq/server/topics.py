"""Topics as this broker runs them: metadata, directories and engine partitions in step.

The metadata store is the truth about which topics exist; `ClusterImage` is this broker's picture
of it; a `Topic` here adds the engine's partitions that this broker leads and the settings in the
form that C wants. Own changes go through `TopicManager`, one at a time: plan on the image, commit
to the store. Whatever the image then says, by an own commit or by another broker's, is put into
effect by `_put_into_effect`: directories made or removed in a worker thread, partitions led or
given up. Readers see each topic whole or not at all.

Deleting renames a partition's directory and answers; `background` unlinks later.
"""

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from fastmq._native.core import (
    SLOW_FETCH,
    SLOW_PRODUCE,
    Engine,
    Partition,
    PartitionConfig,
    PartitionError,
)
from fastmq.cluster import (
    Change,
    ClusterImage,
    ConfigKind,
    NewPartitions,
    NewTopic,
    PartitionState,
    Quota,
    TopicPlan,
    TopicState,
    plan_add_partitions,
    plan_config,
    plan_create_topics,
    plan_delete_topics,
)
from fastmq.cluster.names import is_internal_topic, topic_name_problem
from fastmq.config import BrokerConfig, TopicConfig
from fastmq.errors import ErrorCode, KafkaError
from fastmq.ids import RandomBytes, new_uuid
from fastmq.limits import PARTITION_OPEN_CHUNK
from fastmq.log import Expected
from fastmq.server.native_config import native_config
from fastmq.server.roles import Roles
from fastmq.server.storage import Home, Storage
from fastmq.server.store import ChangedMeanwhileError, ClusterStore

__all__ = ["Topic", "TopicManager"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Plans that were overtaken by another broker's changes are made anew so often.
_PLANS_MAX = 5


@dataclass(slots=True, eq=False)
class Topic:
    """A topic that exists, with what this broker has of it.

    Attributes:
        state: name, id and partition states, as in the image.
        config: its settings.
        overrides: what they were made of.
        handles: the engine's partitions by index; None where this broker has none.
    """

    state: TopicState
    config: TopicConfig
    native: PartitionConfig
    overrides: Mapping[str, str]
    handles: list[Partition | None] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """The name."""
        return self.state.name

    @property
    def topic_id(self) -> bytes:
        """16 bytes."""
        return self.state.id

    @property
    def is_internal(self) -> bool:
        """Whether the broker keeps its own state in it."""
        return self.state.is_internal

    @property
    def states(self) -> Sequence[PartitionState]:
        """Who leads each partition."""
        return self.state.partitions

    def handle(self, index: int) -> Partition | None:
        """Return the engine's partition, or None when there is none here."""
        return self.handles[index] if 0 <= index < len(self.handles) else None


class TopicManager:
    """The topics of this broker."""

    def __init__(
        self,
        *,
        node_id: int,
        engine: Engine,
        store: ClusterStore,
        storage: Storage,
        config: Callable[[], BrokerConfig],
        roles: Roles,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        self._node_id = node_id
        self._engine = engine
        self._store = store
        self._storage = storage
        self._config = config
        self._roles = roles
        self._random_bytes = random_bytes
        self._topics: dict[str, Topic] = {}
        # Topics without settings of their own share one pair.
        self._plain: tuple[BrokerConfig, int, TopicConfig, PartitionConfig] | None = None
        self._unclean: dict[Partition, Home] = {}
        # Renamed directories that `background` removes.
        self.deletions: deque[str] = deque()
        self.full_directories: set[int] = set()
        self._routed_flags = 0
        # Grows with every change that clients can see.
        self.generation = 0
        self._in_effect = self.image
        self._image_changed = trio.Event()
        # Called after changes were put into effect, with the names of topics that are gone.
        self.on_change: Callable[[list[str]], None] = lambda _: None

    # Reading.

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def __len__(self) -> int:
        return len(self._topics)

    def get(self, name: str) -> Topic | None:
        """Return a topic by name."""
        return self._topics.get(name)

    def by_id(self, topic_id: bytes) -> Topic | None:
        """Return a topic by its 16-byte id."""
        # The image finds the name: a table of our own would cost 40 bytes for each topic.
        topic = self._topics.get(self.image.topic_names.get(topic_id, ""))
        return topic if topic is not None and topic.topic_id == topic_id else None

    def handles(self) -> list[Partition]:
        """Return every partition that this broker has, as a list of its own."""
        return [h for topic in self._topics.values() for h in topic.handles if h is not None]

    @property
    def image(self) -> ClusterImage:
        """The cluster as the store has it."""
        return self._store.image

    def missing_code(self, name: str) -> ErrorCode:
        """Return what to answer about a topic that does not exist."""
        if topic_name_problem(name) is not None:
            return ErrorCode.INVALID_TOPIC_EXCEPTION
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def leader_handle(self, name: str, index: int, current_epoch: int = -1) -> Partition:
        """Return the partition for a request that only its leader answers.

        Args:
            name: topic.
            index: partition.
            current_epoch: the leader epoch that the client knows; -1 is not checked.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH,
                UNKNOWN_LEADER_EPOCH, KAFKA_STORAGE_ERROR.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise KafkaError(self.missing_code(name))
        return self.leader_handle_of(topic, index, current_epoch)

    def leader_handle_of(self, topic: Topic, index: int, current_epoch: int = -1) -> Partition:
        """As `leader_handle`, of a topic that is found already."""
        if not 0 <= index < len(topic.states):
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        state = topic.states[index]
        if state.leader != self._node_id:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if 0 <= current_epoch != state.leader_epoch:
            raise KafkaError(
                ErrorCode.FENCED_LEADER_EPOCH
                if current_epoch < state.leader_epoch
                else ErrorCode.UNKNOWN_LEADER_EPOCH
            )
        handle = topic.handle(index)
        if handle is None:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's directory is offline")
        self._storage.check_online(handle.dir_id)
        return handle

    # Start.

    async def load(self) -> list[str]:
        """Register every partition of the image that this broker has.

        After a clean stop that is all; otherwise each log is checked first, in worker threads, as
        many at once as `num.recovery.threads.per.data.dir` says.

        Returns:
            Directories whose deletion is to be finished.
        """
        topics = [self._make(state) for state in self.image.topics.values()]
        deletions = await trio.to_thread.run_sync(self._register_all, topics)
        if self._unclean:
            await self._recover()
        for topic in topics:
            self._lead(topic, 0)
            self._publish(topic)
        self._in_effect = self.image
        return deletions

    def _register_all(self, topics: list[Topic]) -> list[str]:
        expected = {
            (topic.name, index): Expected(topic.topic_id, directory)
            for topic in topics
            for index, state in enumerate(topic.states)
            if (directory := state.directory_of(self._node_id)) is not None
        }
        homes, found = self._storage.find_partitions(expected)
        for topic in topics:
            self._register(topic, 0, homes)
        return found.deletions

    async def _recover(self) -> None:
        threads = self._config().get_int("num.recovery.threads.per.data.dir")
        limiter = trio.CapacityLimiter(threads * len(self._storage.directories))
        logger.info("checking %d partitions after an unclean stop", len(self._unclean))
        work = list(self._unclean.items())
        self._unclean.clear()

        async def worker() -> None:
            while work:
                handle, home = work.pop()
                await trio.to_thread.run_sync(self._recover_one, handle, home, limiter=limiter)

        async with trio.open_nursery() as nursery:
            for _ in range(int(limiter.total_tokens)):
                nursery.start_soon(worker)

    def _recover_one(self, handle: Partition, home: Home) -> None:
        name = f"{handle.topic}-{handle.index}"
        try:
            found = handle.recover(log_start=home.log_start, recovery_point=home.recovery_point)
        except PartitionError as exc:
            logger.error("%s is offline: %s", name, exc)  # noqa: TRY400
            return
        if found is None:
            return
        if found["bytes_truncated"] or found["reason"]:
            logger.warning(
                "%s: cut %s bytes at offset %s: %s",
                name,
                found["bytes_truncated"],
                found["truncated_at"],
                found["reason"],
            )
        else:
            logger.debug("%s: checked %s bytes", name, found["bytes_scanned"])

    # Changing.

    async def create(
        self,
        requests: Iterable[NewTopic],
        *,
        validate_only: bool = False,
        internal: bool = False,
    ) -> list[TopicPlan]:
        """Create topics; each plan says what became of one request.

        Args:
            requests: what is wanted.
            validate_only: only say whether it could be done.
            internal: it is the broker that wants them; others may not create internal topics.
        """
        requests = list(requests)
        config = self._config()

        def plan() -> list[TopicPlan]:
            plans = plan_create_topics(
                self.image,
                requests,
                default_partitions=config.get_int("num.partitions"),
                default_replication_factor=config.get_int("default.replication.factor"),
                new_id=lambda: new_uuid(self._random_bytes),
                quota=Quota() if internal else self._quota(),
            )
            return plans if internal else [_refuse_internal(plan) for plan in plans]

        return await self._carry_out(plan, validate_only=validate_only)

    async def create_automatically(self, names: Iterable[str]) -> dict[str, ErrorCode]:
        """Create topics with default settings; return the errors that remain by name."""
        plans = await self.create([NewTopic(name) for name in names])
        return {
            plan.name: plan.error.code
            for plan in plans
            if plan.error is not None and plan.error.code != ErrorCode.TOPIC_ALREADY_EXISTS
        }

    async def create_internal(
        self, name: str, *, partitions: int, replication_factor: int, configs: dict[str, str]
    ) -> None:
        """Create a topic of the broker's own, if it does not exist.

        Raises:
            KafkaError: it cannot be created.
        """
        if name in self._topics:
            return
        request = NewTopic(name, partitions, replication_factor, configs=dict(configs))
        for plan in await self.create([request], internal=True):
            if plan.error is not None and plan.error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                raise plan.error

    async def add_partitions(
        self, requests: Iterable[NewPartitions], *, validate_only: bool = False
    ) -> list[TopicPlan]:
        """Add partitions to topics; each plan says what became of one request."""
        requests = list(requests)

        def plan() -> list[TopicPlan]:
            # A group finds its coordinator by the number of partitions: it must never change.
            plans = plan_add_partitions(self.image, requests, self._quota())
            return [_refuse_internal(plan) for plan in plans]

        return await self._carry_out(plan, validate_only=validate_only)

    async def delete(self, names: Iterable[str] = (), ids: Iterable[bytes] = ()) -> list[TopicPlan]:
        """Delete topics; each plan says what became of one request, names first."""
        names, ids = list(names), list(ids)

        def plan() -> list[TopicPlan]:
            return [_refuse_internal(p) for p in plan_delete_topics(self.image, names, ids)]

        return await self._carry_out(plan, validate_only=False)

    async def alter_config(
        self,
        name: str,
        change: Callable[[TopicConfig], dict[str, str]],
        *,
        validate_only: bool = False,
    ) -> None:
        """Change the overrides of a topic.

        Args:
            name: of the topic.
            change: makes the new overrides from the present settings, or refuses. Called when
                nobody else can change them.
            validate_only: change nothing.

        Raises:
            KafkaError: there is no such topic.
            ConfigError: what `change` raises.
        """

        async def attempt() -> None:
            topic = self._topics.get(name)
            if topic is None:
                raise KafkaError(self.missing_code(name), f"there is no topic {name}")
            overrides = change(topic.config)
            changes = plan_config(self.image, ConfigKind.TOPIC, name, overrides)
            if changes and not validate_only:
                await self._commit(list(changes))

        await self._repeat(attempt)

    def reconfigure_all(self) -> None:
        """Work out all settings anew after the broker's own have changed."""
        for topic in self._topics.values():
            self._reconfigure(topic)

    def set_full_directories(self, full: set[int]) -> None:
        """Refuse (or take again) records in directories that ran out of space.

        Their partitions get SLOW_PRODUCE, and the handler of such requests refuses.
        """
        changed = full ^ self.full_directories
        self.full_directories = full
        for topic in self._topics.values() if changed else ():
            for handle in topic.handles:
                if handle is not None and handle.dir_id in changed:
                    handle.set_config(self._native_of(topic, handle.dir_id))

    def route_to_python(self, *, produce: bool, fetch: bool) -> None:
        """Send Produce or Fetch of every partition to the Python handlers, or leave them to C.

        For faults in tests; the handlers answer as C does.
        """
        flags = (SLOW_PRODUCE if produce else 0) | (SLOW_FETCH if fetch else 0)
        if flags != self._routed_flags:
            self._routed_flags = flags
            self.reconfigure_all()

    # Inside.

    def _quota(self) -> Quota:
        config = self._config()
        return Quota(config.get_int("fastmq.topics.max"), config.get_int("fastmq.partitions.max"))

    def _native_of(self, topic: Topic, dir_id: int) -> PartitionConfig:
        flags = self._routed_flags
        if dir_id in self.full_directories:
            flags |= SLOW_PRODUCE
        if not flags:
            return topic.native
        factor = topic.state.replication_factor
        return native_config(
            self._config(),
            topic.config,
            factor,
            flags=flags,
            keep_all=topic.is_internal,
        )

    def _make(self, state: TopicState) -> Topic:
        config, native = self._settings(state)
        return Topic(state, config, native, self.image.config(ConfigKind.TOPIC, state.name), [])

    def _settings(self, state: TopicState) -> tuple[TopicConfig, PartitionConfig]:
        broker = self._config()
        overrides = self.image.config(ConfigKind.TOPIC, state.name)
        factor = state.replication_factor
        if overrides:
            config = TopicConfig.resolve(broker, overrides)
            keep = state.is_internal
            return config, native_config(broker, config, factor, keep_all=keep)
        if self._plain is None or self._plain[0] is not broker or self._plain[1] != factor:
            config = TopicConfig.resolve(broker)
            self._plain = (broker, factor, config, native_config(broker, config, factor))
        return self._plain[2], self._plain[3]

    def _reconfigure(self, topic: Topic) -> None:
        topic.config, topic.native = self._settings(topic.state)
        topic.overrides = self.image.config(ConfigKind.TOPIC, topic.name)
        for handle in topic.handles:
            if handle is not None:
                handle.set_config(self._native_of(topic, handle.dir_id))
        self.generation += 1

    async def _carry_out(
        self, plan: Callable[[], list[TopicPlan]], *, validate_only: bool
    ) -> list[TopicPlan]:
        """Plan and commit; each plan says what became of one request."""

        async def attempt() -> list[TopicPlan]:
            plans = plan()
            # A topic that is asked for by name and by id has two plans and goes once.
            made = {plan.name: plan for plan in plans if plan.error is None}
            if made and not validate_only:
                await self._commit([change for plan in made.values() for change in plan.changes])
            return plans

        return await self._repeat(attempt)

    async def _repeat(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Run an attempt under the lock, again when another broker's changes overtook it."""
        for _ in range(_PLANS_MAX - 1):
            try:
                async with self._store.lock:
                    return await attempt()
            except ChangedMeanwhileError:
                continue
        async with self._store.lock:
            return await attempt()

    async def _commit(self, changes: list[Change]) -> None:
        """Commit and put into effect; a stop waits for it, so that store and disk agree."""
        with trio.CancelScope(shield=True):
            try:
                await self._store.commit(changes)
            finally:
                # Also what others did meanwhile.
                await self._put_into_effect()

    # Following the image.

    def note_image(self) -> None:
        """Take note that there is a new image."""
        self._image_changed.set()

    async def follow(self) -> None:
        """Put into effect what other brokers change, until cancelled."""
        while True:
            await self._image_changed.wait()
            self._image_changed = trio.Event()
            async with self._store.lock:
                with trio.CancelScope(shield=True):
                    await self._put_into_effect()

    async def _put_into_effect(self) -> None:
        """Bring what this broker runs to what the image says. Needs the store's lock."""
        image = self.image
        if image is self._in_effect:
            return
        gone = [
            topic
            for topic in self._topics.values()
            if topic.name not in image.topics or image.topics[topic.name].id != topic.topic_id
        ]
        if gone:
            await self._remove(gone)
        work = []
        for state in image.topics.values():
            topic = self._topics.get(state.name)
            if topic is None:
                work.append((self._make(state), 0))
                continue
            if topic.state is not state:
                first = len(topic.handles)
                self._change_roles(topic, state)
                if len(state.partitions) > first:
                    work.append((topic, first))
            if image.config(ConfigKind.TOPIC, state.name) is not topic.overrides:
                self._reconfigure(topic)
        await self._start(work)
        self._in_effect = image
        self.generation += 1
        self.on_change([topic.name for topic in gone])

    async def _remove(self, gone: list[Topic]) -> None:
        for topic in gone:
            self._withdraw(topic.name)
            for handle in topic.handles:
                if handle is not None:
                    self._roles.release(handle)
        handles = [h for topic in gone for h in topic.handles if h is not None]
        for start in range(0, len(handles), PARTITION_OPEN_CHUNK):
            chunk = handles[start : start + PARTITION_OPEN_CHUNK]
            await trio.to_thread.run_sync(self._delete_chunk, chunk)

    def _change_roles(self, topic: Topic, state: TopicState) -> None:
        """Give the partitions of a topic whose state has changed their roles."""
        before = topic.state.partitions
        topic.state = state
        for handle, old, new in zip(topic.handles, before, state.partitions, strict=False):
            if handle is not None and new != old:
                self._roles.assume(handle, new)

    def reassume(self, topic_id: bytes, index: int) -> None:
        """Give a partition its role anew, by the state that is in effect."""
        topic = self.by_id(topic_id)
        handle = None if topic is None else topic.handle(index)
        if topic is not None and handle is not None:
            self._roles.assume(handle, topic.states[index], is_new=False)

    async def _start(self, work: list[tuple[Topic, int]]) -> None:
        """Open the partitions of topics from an index on, and lead those that are led here."""
        for start in range(0, len(work), PARTITION_OPEN_CHUNK):
            chunk = work[start : start + PARTITION_OPEN_CHUNK]
            await trio.to_thread.run_sync(self._open_chunk, chunk)
            for topic, first in chunk:
                self._lead(topic, first)
                self._publish(topic)

    def _open_chunk(self, work: list[tuple[Topic, int]]) -> None:
        """Make directories and register partitions; in a worker thread."""
        homes = self._storage.create(
            (topic.name, index, topic.topic_id, directory)
            for topic, first in work
            for index in range(first, len(topic.states))
            if (directory := topic.states[index].directory_of(self._node_id)) is not None
        )
        for topic, first in work:
            self._register(topic, first, homes)

    def _register(self, topic: Topic, first: int, homes: dict[tuple[str, int], Home]) -> None:
        made: list[Partition | None] = []
        for index in range(first, len(topic.states)):
            home = homes.get((topic.name, index))
            if home is None:
                made.append(None)
                continue
            handle = self._engine.add_partition(
                topic.name,
                index,
                topic_id=topic.topic_id,
                dir_id=home.dir_id,
                path=home.path,
                config=self._native_of(topic, home.dir_id),
                clean=home.clean,
                log_start=home.log_start,
                recovery_point=home.recovery_point,
            )
            if len(topic.states[index].replicas) > 1:
                handle.set_watermark(home.high_watermark)
            made.append(handle)
            if not home.clean:
                self._unclean[handle] = home
        # A new list is as long as it must be; one that grows keeps room for more.
        topic.handles = [*topic.handles, *made]

    def _lead(self, topic: Topic, first: int) -> None:
        for index in range(first, len(topic.states)):
            handle, state = topic.handles[index], topic.states[index]
            if handle is not None:
                self._roles.assume(handle, state)

    def _publish(self, topic: Topic) -> None:
        self._topics[topic.name] = topic
        self.generation += 1

    def _withdraw(self, name: str) -> Topic | None:
        topic = self._topics.pop(name, None)
        if topic is not None:
            self.generation += 1
        return topic

    def _delete_chunk(self, handles: list[Partition]) -> None:
        for handle in handles:
            try:
                path = self._storage.deletion_path(handle.dir_id, handle.topic, handle.index)
                handle.delete(path)
                self._engine.remove_partition(handle)
                self.deletions.append(path)
            except PartitionError as exc:
                logger.error("cannot remove %s: %s", handle.path, exc)  # noqa: TRY400


def _refuse_internal(plan: TopicPlan) -> TopicPlan:
    """Refuse what clients must not do to the topics that the broker keeps its state in."""
    if plan.error is not None or not is_internal_topic(plan.name):
        return plan
    error = KafkaError(
        ErrorCode.INVALID_TOPIC_EXCEPTION, f"{plan.name} belongs to the broker itself"
    )
    return TopicPlan(plan.name, error, None, {}, ())
