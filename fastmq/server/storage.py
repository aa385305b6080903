"""The log directories of a running broker: who is where, what the checkpoints say.

`fastmq.log` knows directories; this keeps what the broker has learned of them at the start (which
were clean, what their checkpoints said, where each partition was found) and writes checkpoints and
the clean marker. Every method blocks on the disk unless it says otherwise.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    ConfigKind,
    PutBroker,
    plan_lost_directories,
    plan_new_epochs,
    plan_power_loss,
)
from fastmq.config import BrokerConfig, TopicConfig
from fastmq.errors import ErrorCode, KafkaError
from fastmq.log import (
    HIGH_WATERMARK,
    LOG_START,
    RECOVERY_POINT,
    Disk,
    Expected,
    LogDir,
    LogDirs,
    NewPartition,
    PartitionKey,
    Reconciled,
)

if TYPE_CHECKING:
    from fastmq.server.world import World

__all__ = ["Home", "Storage", "holds_records"]

logger = logging.getLogger(__name__)


class Home:
    """Where a partition lies and what was known of it at the start.

    Attributes:
        dir_id: the engine's number of the directory.
        clean: its end can be trusted; otherwise the log has to be checked.
    """

    __slots__ = ("clean", "dir_id", "high_watermark", "log_start", "path", "recovery_point")

    def __init__(
        self,
        dir_id: int,
        path: str,
        *,
        clean: bool,
        log_start: int = 0,
        recovery_point: int = 0,
        high_watermark: int = 0,
    ) -> None:
        self.dir_id = dir_id
        self.path = path
        self.clean = clean
        self.log_start = log_start
        self.recovery_point = recovery_point
        self.high_watermark = high_watermark


class Storage:
    """The open log directories."""

    def __init__(self, dirs: LogDirs, config: BrokerConfig, disk: Disk, boot_id: str) -> None:
        self._dirs = dirs
        self._config = config
        self._boot_id = boot_id
        self.disk = disk
        # Per directory: the checkpoints as they are on disk, kept up to date by `checkpoint`.
        self._tables: list[dict[str, dict[PartitionKey, int]]] = []
        self._locks = [Lock() for _ in dirs.directories]
        self._fresh = [directory.identity is None for directory in dirs.directories]

    @classmethod
    @contextmanager
    def opened(cls, config: BrokerConfig, world: "World") -> Iterator["Storage"]:
        """Lock the directories for the time of the context.

        Raises:
            DirectoryInUseError: another broker has one of them.
            ConfigError: a directory cannot be used for another reason.
        """
        disk = world.disk(durable=_is_durable(config))
        dirs = LogDirs.open(
            config.log_dirs, node_id=config.node_id, random_bytes=world.random_bytes, disk=disk
        )
        try:
            yield cls(dirs, config, disk, world.boot_id())
        finally:
            dirs.close()

    @property
    def is_durable(self) -> bool:
        """Whether anything is to survive a power cut; does not block."""
        return _is_durable(self._config)

    @property
    def metadata_dir(self) -> str:
        """The directory of the embedded metadata store; it exists."""
        place = self._config.get_str("metadata.log.dir") or self._dirs.online()[0].path
        self.disk.make_dirs(place)
        return place

    @property
    def cluster_id(self) -> str | None:
        """The cluster that the directories belong to, None when they are new."""
        return self._dirs.cluster_id

    @property
    def directories(self) -> tuple[LogDir, ...]:
        """All directories; the index is the engine's `dir_id`. Does not block."""
        return self._dirs.directories

    def join(self, cluster_id: str) -> None:
        """Give new directories their identity and read the checkpoints.

        Raises:
            ConfigError: they belong to another cluster.
        """
        hint = ""
        if self._config.get_str("fastmq.metastore") == "etcd":
            hint = (
                "Are fastmq.etcd.endpoints and fastmq.etcd.prefix those of the cluster that it "
                "was used in? In another cluster a broker begins with an empty data directory"
            )
        self._dirs.join(cluster_id, hint)
        for directory in self.directories:
            tables: dict[str, dict[PartitionKey, int]] = {}
            for name in (RECOVERY_POINT, LOG_START, HIGH_WATERMARK):
                tables[name] = directory.read_offsets(name) if directory.is_online else {}
            self._tables.append(tables)
            for problem in directory.problems:
                logger.warning("%s", problem)
            if directory.error is not None:
                logger.error("%s is offline: %s", directory.path, directory.error)

    def registration(self, image: ClusterImage, *, fenced: bool = False) -> list[Change]:
        """Plan the broker's row and, after an unclean stop, new leader epochs. Does not block.

        When the machine has stopped meanwhile, what was not synced may be gone: among others the
        broker then leaves in-sync and eligible sets, before its row tells of the new run.

        Args:
            image: the cluster now.
            fenced: the broker cannot be given partitions or clients yet.
        """
        node_id = self._config.node_id
        before = image.brokers.get(node_id)
        state = BrokerState(
            node_id,
            1 if before is None else before.epoch + 1,
            (),
            rack=self._config.get_str("broker.rack") or None,
            host=self._config.get_str("fastmq.host") or socket.gethostname(),
            boot_id=self._boot_id,
            fenced=fenced,
            directories=tuple(directory.id for directory in self._dirs.online()),
            cordoned=self.cordoned(self._settings(image)),
        )
        row = PutBroker(state, 0 if before is None else before.revision)
        lost: list[Change] = []
        if fenced and len(state.directories) == len(self.directories):
            lost = plan_lost_directories(image, node_id, state.directories)
            if lost:
                logger.warning(
                    "%d partitions of this broker were in log directories that are not here any "
                    "more: they begin empty, and are copied from others; those that no other "
                    "replica in sync has wait for the directory to come back, or `fastmq cluster "
                    "elect --unclean`. If a disk is not mounted: stop, mount it, start again",
                    len(lost),
                )
            image = image.load(((change, image.revision) for change in lost), image.revision)
        if all(self._is_clean(dir_id) for dir_id in range(len(self.directories))):
            return [*lost, row]
        left: list[Change] = []
        if fenced and (before is None or not state.boot_id or before.boot_id != state.boot_id):
            left = plan_power_loss(image, node_id, self._synced_topics(image).__contains__)
            image = image.load(((change, image.revision) for change in left), image.revision)
        return [*lost, *left, row, *plan_new_epochs(image, node_id)]

    def _synced_topics(self, image: ClusterImage) -> set[str]:
        """Return the topics of which all that counts was on the disk."""
        broker = self._settings(image)
        return {
            name
            for name, topic in image.topics.items()
            if TopicConfig.resolve(broker, image.config(ConfigKind.TOPIC, name)).flush_mode(
                topic.replication_factor
            )
            == "ack"
        }

    def _settings(self, image: ClusterImage) -> BrokerConfig:
        return self._config.with_dynamic(
            image.config(ConfigKind.BROKER, str(self._config.node_id)),
            image.config(ConfigKind.BROKER, ""),
        )

    def cordoned(self, config: BrokerConfig) -> tuple[bytes, ...]:
        """Return the ids of the directories that get no new partitions. Does not block."""
        paths = config.get_list("cordoned.log.dirs")
        named = {str(Path(path).absolute()) for path in paths}
        return tuple(
            directory.id
            for directory in self._dirs.online()
            if "*" in paths or directory.path in named
        )

    def find_partitions(
        self,
        expected: Mapping[PartitionKey, Expected],
        elsewhere: Callable[[PartitionKey], bytes | None] = lambda _: None,
    ) -> tuple[dict[PartitionKey, Home], Reconciled]:
        """Compare the directories with the metadata, and make what is missing.

        Args:
            expected: the partitions that should be here.
            elsewhere: see `LogDirs.reconcile`.

        Returns:
            The home of each partition that is online, and what was found.
        """
        usable = set(self._dirs.online())
        found = self._dirs.reconcile(expected, elsewhere)
        for directory in usable.difference(self._dirs.online()):
            logger.error("%s is offline: %s", directory.path, directory.error)
        for path in found.strays:
            logger.warning("%s is not in the metadata; it was set aside", path)
        homes = {
            (topic, index): self._home(directory, topic, index)
            for topic, index, directory in found.present
        }
        for key in found.missing:
            logger.warning("%s-%d has no directory here; it begins empty", *key)
        missing = [(key, expected[key]) for key in found.missing]
        homes.update(
            self.create((key[0], key[1], want.topic_id, want.directory_id) for key, want in missing)
        )
        return homes, found

    def create(
        self, partitions: Iterable[tuple[str, int, bytes, bytes]]
    ) -> dict[PartitionKey, Home]:
        """Make directories for new partitions; those whose directory fails are left out.

        Args:
            partitions: (topic, index, topic id, directory id).
        """
        by_dir: dict[bytes, list[NewPartition]] = {}
        for topic, index, topic_id, directory_id in partitions:
            by_dir.setdefault(directory_id, []).append(NewPartition(topic, index, topic_id))
        homes = {}
        for directory_id, wanted in by_dir.items():
            directory = self._dirs.by_id(directory_id)
            if directory is None:
                continue
            try:
                directory.create_partitions(wanted)
            except OSError as exc:
                logger.error("cannot make directories in %s: %s", directory.path, exc)  # noqa: TRY400
                continue
            dir_id = self.directories.index(directory)
            for new in wanted:
                path = directory.partition_path(new.topic, new.partition)
                homes[new.topic, new.partition] = Home(dir_id, path, clean=True)
        return homes

    def _home(self, directory: LogDir, topic: str, index: int) -> Home:
        dir_id = self.directories.index(directory)
        tables = self._tables[dir_id]
        return Home(
            dir_id,
            directory.partition_path(topic, index),
            clean=self._is_clean(dir_id),
            log_start=tables[LOG_START].get((topic, index), 0),
            recovery_point=tables[RECOVERY_POINT].get((topic, index), 0),
            high_watermark=tables[HIGH_WATERMARK].get((topic, index), 0),
        )

    def _is_clean(self, dir_id: int) -> bool:
        return self._fresh[dir_id] or self.directories[dir_id].was_clean

    def deletion_path(self, dir_id: int, topic: str, index: int) -> str:
        """Return what to rename a partition's directory to. Does not block."""
        return self.directories[dir_id].deletion_path(topic, index)

    def checkpoint(
        self, dir_id: int, name: str, offsets: Mapping[PartitionKey, int | None]
    ) -> None:
        """Bring a checkpoint up to date; None removes an entry. Writes only when it differs.

        May be called from several threads.

        Raises:
            OSError: the disk fails.
        """
        with self._locks[dir_id]:
            table = self._tables[dir_id][name]
            new = dict(table)
            for key, offset in offsets.items():
                if offset is None:
                    new.pop(key, None)
                else:
                    new[key] = offset
            if new != table and self.directories[dir_id].is_online:
                self.directories[dir_id].write_offsets(name, new)
                self._tables[dir_id][name] = new

    def checkpointed(self, dir_id: int, name: str) -> list[PartitionKey]:
        """Return the partitions that a checkpoint has an entry of. Does not block."""
        return list(self._tables[dir_id][name])

    def forget(self, dir_id: int, partitions: Iterable[PartitionKey]) -> None:
        """Take partitions that have left out of all checkpoints."""
        gone = dict.fromkeys(partitions)
        for name in self._tables[dir_id]:
            try:
                self.checkpoint(dir_id, name, gone)
            except OSError as exc:
                logger.error("cannot write %s: %s", name, exc)  # noqa: TRY400

    def mark_clean(self, dir_id: int) -> None:
        """Write the clean marker of a directory whose logs are all closed.

        Raises:
            OSError: the disk fails.
        """
        if self.directories[dir_id].is_online:
            self.directories[dir_id].mark_clean()

    def on_offline(self, dir_id: int, errno: int) -> None:
        """Stop using a directory. Does not block."""
        directory = self.directories[dir_id]
        logger.error("%s is offline: %s", directory.path, os.strerror(errno))
        directory.mark_offline(OSError(errno, os.strerror(errno), directory.path))

    def check_online(self, dir_id: int) -> None:
        """Check that a directory works. Does not block.

        Raises:
            KafkaError: KAFKA_STORAGE_ERROR.
        """
        if not self.directories[dir_id].is_online:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's directory is offline")

    def any_online(self) -> bool:
        """Return whether anything can be stored at all. Does not block."""
        return bool(self._dirs.online())


def _is_durable(config: BrokerConfig) -> bool:
    return config.get_str("fastmq.flush") != "never"


def holds_records(path: str) -> bool:
    """Return whether a partition's directory has any bytes of a log, without opening the log."""
    try:
        with os.scandir(path) as entries:
            return any(e.name.endswith(".log") and e.stat().st_size > 0 for e in entries)
    except OSError:
        return True  # whoever opens it finds out what is wrong
