"""Topics as this broker runs them: metadata, directories and engine partitions in step.

The metadata store is the truth about which topics exist; `ClusterImage` is this broker's picture
of it; a `Topic` here adds the engine's partitions that this broker has a replica of and the
settings in the form that C wants. Whatever the image says, by an own commit or by another broker's,
is put into effect by `_put_into_effect`: directories made or removed in a worker thread, partitions
led, followed or given up. Readers see each topic whole or not at all.

Deleting renames a partition's directory and answers; `background` unlinks later.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from fastmq._native.core import (
    SLOW_FETCH,
    SLOW_PRODUCE,
    Engine,
    Partition,
    PartitionConfig,
    PartitionError,
)
from fastmq.cluster import ClusterImage, ConfigKind, PartitionState, TopicState
from fastmq.cluster.names import topic_name_problem
from fastmq.config import BrokerConfig, TopicConfig
from fastmq.errors import ErrorCode, KafkaError
from fastmq.ids import RandomBytes
from fastmq.limits import PARTITION_OPEN_CHUNK
from fastmq.log import Expected
from fastmq.server.native_config import native_config
from fastmq.server.roles import Roles
from fastmq.server.storage import Home, Storage
from fastmq.server.store import ClusterStore

__all__ = ["RunningTopics", "Topic"]

logger = logging.getLogger(__name__)


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


class RunningTopics:
    """The topics of this broker, kept as the image says."""

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
        # What the start has found: replicas that have lost records, and damaged ones.
        self.incomplete: list[tuple[str, int]] = []
        self.damaged: list[tuple[str, int]] = []
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
        self.on_effect: Callable[[], None] = lambda: None

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
        homes, found = self._storage.find_partitions(expected, self._elsewhere)
        self.incomplete += found.missing
        for topic in topics:
            self._register(topic, 0, homes)
        return found.deletions

    def _elsewhere(self, key: tuple[str, int]) -> bytes | None:
        """Return the topic id of a partition that has moved to others, or never was here."""
        state = self.image.partition(*key)
        if state is None or state.leader < 0 or self._node_id in state.replicas:
            return None
        return self.image.topics[key[0]].id

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
        key = handle.topic, handle.index
        if found["bytes_truncated"] or "left as it is" not in str(
            found["reason"] or "left as it is"
        ):
            self.incomplete.append(key)
        elif found["reason"]:
            self.damaged.append(key)
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

    # Settings.

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
        before = _throttled(topic.config)
        topic.config, topic.native = self._settings(topic.state)
        topic.overrides = self.image.config(ConfigKind.TOPIC, topic.name)
        for handle in topic.handles:
            if handle is not None:
                handle.set_config(self._native_of(topic, handle.dir_id))
                if _throttled(topic.config) != before:
                    state = topic.states[handle.index]
                    self._roles.assume(handle, state, topic.config, is_new=False)
        self.generation += 1

    # Following the image.

    @property
    def effect_revision(self) -> int:
        """Of the newest image by which the partitions here have their roles."""
        return self._in_effect.revision

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
                await self._change_replicas(topic, state)
                if len(state.partitions) > first:
                    work.append((topic, first))
            if image.config(ConfigKind.TOPIC, state.name) is not topic.overrides:
                self._reconfigure(topic)
        await self._start(work)
        self._in_effect = image
        self.generation += 1
        self.on_effect()
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

    async def _change_replicas(self, topic: Topic, state: TopicState) -> None:
        """Give the partitions of a topic whose state has changed their roles.

        Where a move brought a replica here, its directory is made; where one has left, its
        directory goes.
        """
        before = topic.state.partitions
        topic.state = state
        came, left = [], []
        for index, (old, new) in enumerate(zip(before, state.partitions, strict=False)):
            handle = topic.handles[index]
            had, has = (self._node_id in one.replicas for one in (old, new))
            if handle is None:
                if has and not had:
                    came.append(index)
            elif new != old:
                self._roles.assume(handle, new, topic.config)
                if not has:
                    self._roles.release(handle)
                    topic.handles[index] = None
                    left.append(handle)
        if left:
            logger.info("%d replica(s) of %s have moved away", len(left), topic.name)
            await trio.to_thread.run_sync(self._delete_moved, left)
        if came:
            await trio.to_thread.run_sync(self._open_moved, topic, came)
            for index in came:
                self._lead_one(topic, index)

    def _open_moved(self, topic: Topic, indexes: list[int]) -> None:
        """Make directories of single partitions and register them; in a worker thread."""
        homes = self._make_homes(topic, indexes)
        for index in indexes:
            topic.handles[index] = self._add(topic, index, homes.get((topic.name, index)))

    def _delete_moved(self, handles: list[Partition]) -> None:
        """Remove replicas of topics that go on elsewhere; in a worker thread."""
        self._delete_chunk(handles)
        # A replica that comes back must not find what the checkpoints say of this one.
        for dir_id in {handle.dir_id for handle in handles}:
            self._storage.forget(
                dir_id, [(h.topic, h.index) for h in handles if h.dir_id == dir_id]
            )

    def reassume(self, topic_id: bytes, index: int) -> None:
        """Give a partition its role anew, by the state that is in effect."""
        topic = self.by_id(topic_id)
        handle = None if topic is None else topic.handle(index)
        if topic is not None and handle is not None:
            self._roles.assume(handle, topic.states[index], topic.config, is_new=False)

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
        homes: dict[tuple[str, int], Home] = {}
        for topic, first in work:
            homes.update(self._make_homes(topic, range(first, len(topic.states))))
        for topic, first in work:
            self._register(topic, first, homes)

    def _make_homes(self, topic: Topic, indexes: Iterable[int]) -> dict[tuple[str, int], Home]:
        return self._storage.create(
            (topic.name, index, topic.topic_id, directory)
            for index in indexes
            if (directory := topic.states[index].directory_of(self._node_id)) is not None
        )

    def _register(self, topic: Topic, first: int, homes: dict[tuple[str, int], Home]) -> None:
        made = [
            self._add(topic, index, homes.get((topic.name, index)))
            for index in range(first, len(topic.states))
        ]
        # A new list is as long as it must be; one that grows keeps room for more.
        topic.handles = [*topic.handles, *made]

    def _add(self, topic: Topic, index: int, home: Home | None) -> Partition | None:
        """Give the engine a partition; None where it has no home here."""
        if home is None:
            return None
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
        if not home.clean:
            self._unclean[handle] = home
        return handle

    def _lead(self, topic: Topic, first: int) -> None:
        for index in range(first, len(topic.states)):
            self._lead_one(topic, index)

    def _lead_one(self, topic: Topic, index: int) -> None:
        handle = topic.handles[index]
        if handle is not None:
            self._roles.assume(handle, topic.states[index], topic.config)

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


def _throttled(config: TopicConfig) -> tuple[tuple[str, ...], ...]:
    """Return the settings that roles depend on."""
    return (
        config.get_list("leader.replication.throttled.replicas"),
        config.get_list("follower.replication.throttled.replicas"),
    )
