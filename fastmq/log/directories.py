"""Log directories: who owns them, what is in them, and their checkpoints.

The life of a set of directories::

    dirs = LogDirs.open(paths, node_id=1, random_bytes=os.urandom)  # create, lock, read identity
    dirs.join(cluster_id)                                           # check or write identity
    found = dirs.reconcile(expected)                                # compare with the metadata
    directory.create_partitions([...])                              # what is missing, what is new
    ... serve; directory.write_offsets(RECOVERY_POINT, {...}) now and then ...
    directory.mark_clean()                                          # last, when all logs are closed
    dirs.close()

What is on disk after which call: `join` leaves a durable `meta.properties`; `create_partitions`
leaves durable directories (their `partition.metadata` may be empty after a power cut, and
`reconcile` writes it anew); `write_offsets` leaves the old file or the new. The clean marker is
removed by `open` before anything else is touched, so a crash later finds none.

A directory that cannot be used is offline: the others go on. A partition's directory that the
metadata does not know is renamed to `*-stray` and never deleted; `*-delete` ones are left overs of
a deletion that was under way, or of partitions that have moved to other brokers, and may be removed
(`remove_tree`, slow, for a worker thread).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fastmq.errors import ConfigError
from fastmq.ids import RandomBytes, new_uuid
from fastmq.limits import CHECKPOINT_BYTES_MAX, LOG_DIRS_MAX, SMALL_FILE_BYTES_MAX
from fastmq.log.checkpoints import (
    DirectoryIdentity,
    OffsetTable,
    PartitionKey,
    decode_identity,
    decode_offsets,
    decode_partition_metadata,
    encode_identity,
    encode_offsets,
    encode_partition_metadata,
)
from fastmq.log.disk import Disk
from fastmq.log.names import (
    DELETE_SUFFIX,
    STRAY_SUFFIX,
    parse_partition_dir,
    partition_dir,
    renamed_partition_dir,
)

__all__ = [
    "HIGH_WATERMARK",
    "LOG_START",
    "RECOVERY_POINT",
    "DirectoryInUseError",
    "Expected",
    "Found",
    "LogDir",
    "LogDirs",
    "NewPartition",
    "Reconciled",
    "remove_tree",
]

RECOVERY_POINT: Final = "recovery-point-offset-checkpoint"
LOG_START: Final = "log-start-offset-checkpoint"
HIGH_WATERMARK: Final = "replication-offset-checkpoint"

_META: Final = "meta.properties"
_LOCK: Final = ".lock"
_CLEAN: Final = ".kafka_cleanshutdown"
_PARTITION_METADATA: Final = "partition.metadata"


_OWN_STORE_HINT: Final = (
    "Is metadata.log.dir (or the first of log.dirs) another directory than before, or was the "
    "store removed?"
)


class DirectoryInUseError(ConfigError):
    """Another process has the directory."""


class NewPartition(NamedTuple):
    """A partition to create a directory for."""

    topic: str
    partition: int
    topic_id: bytes


class Expected(NamedTuple):
    """What the metadata says of one partition of this broker."""

    topic_id: bytes
    directory_id: bytes


class Found(NamedTuple):
    """A partition and the directory it is in."""

    topic: str
    partition: int
    directory: "LogDir"


class Reconciled(NamedTuple):
    """The comparison of the directories with the metadata.

    Attributes:
        present: partitions that are where the metadata says, or in another directory.
        missing: partitions without a directory; its log directory is online.
        offline: partitions whose log directory is offline or gone.
        strays: new paths of directories that were set aside.
        deletions: paths of directories whose deletion is to be finished.
    """

    present: list[Found]
    missing: list[PartitionKey]
    offline: list[PartitionKey]
    strays: list[str]
    deletions: list[str]


class LogDir:
    """One log directory, locked by this process.

    Attributes:
        path: absolute.
        id: 16 bytes; zero until `LogDirs.join`.
        was_clean: the last broker on it stopped cleanly, so the ends of its logs can be trusted.
        error: why it is offline, or None.
        problems: for the log: files that were found damaged and are treated as absent.
    """

    def __init__(self, path: str, disk: Disk, random_bytes: RandomBytes) -> None:
        self.path = path
        self.id = bytes(16)
        self.was_clean = False
        self.error: OSError | None = None
        self.problems: list[str] = []
        self.identity: DirectoryIdentity | None = None
        self._disk = disk
        self._random_bytes = random_bytes
        self._lock_fd: int | None = None

    @property
    def is_online(self) -> bool:
        """Whether it can be used."""
        return self.error is None

    def mark_offline(self, error: OSError) -> None:
        """Stop using the directory until the next start."""
        self.error = self.error or error

    def open(self) -> None:
        """Create, lock and look at the directory.

        Raises:
            DirectoryInUseError: another process has it.
            ConfigError: its identity cannot be read.
            OSError: the disk fails.
        """
        self._disk.make_dirs(self.path)
        self._lock()
        meta = self._read_small(_META)
        if meta is not None:
            self.identity = decode_identity(meta, name=self._in(_META))
            self.id = self.identity.directory_id
        self.was_clean = self._read_small(_CLEAN) is not None
        if self.was_clean:
            self._disk.unlink(self._in(_CLEAN))
            self._disk.sync_dir(self.path)

    def _lock(self) -> None:
        self._lock_fd = self._disk.lock(self._in(_LOCK))
        if self._lock_fd is None:
            holder = (self._read_small(_LOCK) or b"").strip().decode(errors="replace")
            raise DirectoryInUseError(
                f"{self.path} is in use by another broker (process {holder or 'unknown'}); "
                "stop it, or choose another data directory"
            )

    def join(self, cluster_id: str, node_id: int, directory_id: bytes) -> None:
        """Write the directory's identity, durably."""
        self.identity = DirectoryIdentity(cluster_id, node_id, directory_id)
        self.id = directory_id
        self._disk.write_atomic(self._in(_META), encode_identity(self.identity))

    def partition_path(self, topic: str, index: int) -> str:
        """Return the path of a partition's directory here."""
        return self._in(partition_dir(topic, index))

    def deletion_path(self, topic: str, index: int) -> str:
        """Return a new path to rename a partition's directory to before its files are removed."""
        return self._in(renamed_partition_dir(topic, index, self._random_bytes(16), DELETE_SUFFIX))

    def create_partitions(self, partitions: Iterable[NewPartition]) -> None:
        """Create directories for partitions; the names are durable when this returns.

        Raises:
            OSError: the disk fails or is full; some directories may be there.
        """
        for topic, index, topic_id in partitions:
            path = self.partition_path(topic, index)
            self._disk.make_dir(path)
            self._disk.write_new(
                f"{path}/{_PARTITION_METADATA}", encode_partition_metadata(topic_id)
            )
            # The first append then creates nothing, which a hanging disk would make it wait for.
            self._disk.touch(f"{path}/{0:020}.log")
        self._disk.sync_dir(self.path)

    def read_offsets(self, name: str) -> dict[PartitionKey, int]:
        """Return a checkpoint: `RECOVERY_POINT`, `LOG_START` or `HIGH_WATERMARK`.

        An absent one is empty, and so is a damaged one, with a line in `problems`: without a
        recovery point a log is checked from its beginning, which is slow and safe.
        """
        try:
            return decode_offsets(self._disk.read(self._in(name), CHECKPOINT_BYTES_MAX))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            self.problems.append(f"{self._in(name)} is damaged and ignored: {error}")
            return {}

    def write_offsets(self, name: str, offsets: OffsetTable) -> None:
        """Replace a checkpoint, durably."""
        self._disk.write_atomic(self._in(name), encode_offsets(offsets))

    def mark_clean(self) -> None:
        """Say that every log here was closed, with its recovery point at its end; durable."""
        self._disk.write_atomic(self._in(_CLEAN), b'{"version":0,"brokerEpoch":-1}')

    def scan(self) -> tuple[dict[PartitionKey, str], list[str]]:
        """Return the partitions found, with their directories' names, and `*-delete` paths."""
        partitions = {}
        deletions = []
        for name, is_dir in self._disk.list_dir(self.path):
            if not is_dir or name.endswith(STRAY_SUFFIX):
                continue
            if name.endswith(DELETE_SUFFIX):
                deletions.append(self._in(name))
                continue
            key = parse_partition_dir(name)
            if key is not None:
                partitions[key] = name
        return partitions, deletions

    def topic_id_of(self, topic: str, index: int) -> bytes | None:
        """Return the topic id that a partition's directory carries, None when it has none."""
        data = self._read_small(f"{partition_dir(topic, index)}/{_PARTITION_METADATA}")
        return None if data is None else decode_partition_metadata(data)

    def name_topic(self, topic: str, index: int, topic_id: bytes) -> None:
        """Write a partition's `partition.metadata` anew, durably."""
        path = f"{partition_dir(topic, index)}/{_PARTITION_METADATA}"
        self._disk.write_atomic(self._in(path), encode_partition_metadata(topic_id))

    def quarantine(self, topic: str, index: int) -> str:
        """Rename a partition's directory out of the way; return the new path."""
        unique = self._random_bytes(16)
        new = self._in(renamed_partition_dir(topic, index, unique, STRAY_SUFFIX))
        self._disk.rename(self.partition_path(topic, index), new)
        self._disk.sync_dir(self.path)
        return new

    def discard(self, topic: str, index: int) -> str:
        """Rename a partition's directory for its deletion; return the new path."""
        new = self.deletion_path(topic, index)
        self._disk.rename(self.partition_path(topic, index), new)
        self._disk.sync_dir(self.path)
        return new

    def space(self) -> tuple[int, int]:
        """Return (bytes in all, bytes usable) of the file system."""
        return self._disk.space(self.path)

    def close(self) -> None:
        """Give the lock back."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            self._disk.unlock(fd)

    def _in(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _read_small(self, name: str) -> bytes | None:
        try:
            return self._disk.read(self._in(name), SMALL_FILE_BYTES_MAX)
        except FileNotFoundError:
            return None


class LogDirs:
    """All log directories of a broker.

    Attributes:
        directories: in the order of the configuration; the index is the engine's `dir_id`.
    """

    def __init__(
        self, directories: Sequence[LogDir], node_id: int, random_bytes: RandomBytes
    ) -> None:
        self.directories = tuple(directories)
        self._node_id = node_id
        self._random_bytes = random_bytes

    @classmethod
    def open(
        cls,
        paths: Sequence[str],
        *,
        node_id: int,
        random_bytes: RandomBytes,
        disk: Disk | None = None,
    ) -> "LogDirs":
        """Create, lock and look at the directories. One whose disk fails is offline.

        Raises:
            DirectoryInUseError: another process has one.
            ConfigError: a directory belongs to another broker or is given twice, or none can be
                used.
        """
        if len(paths) > LOG_DIRS_MAX:
            raise ConfigError(f"log.dirs: at most {LOG_DIRS_MAX} directories are possible")
        absolute = [str(Path(path).absolute()) for path in paths]
        real = [Path(path).resolve() for path in absolute]
        if len(set(real)) != len(real):
            raise ConfigError("log.dirs: two of the directories are the same")
        disk = disk or Disk()
        dirs = cls([LogDir(path, disk, random_bytes) for path in absolute], node_id, random_bytes)
        try:
            for directory in dirs.directories:
                try:
                    directory.open()
                except OSError as error:
                    directory.mark_offline(error)
            dirs._check()
        except BaseException:
            dirs.close()
            raise
        return dirs

    def _check(self) -> None:
        if not self.online():
            first = self.directories[0]
            raise ConfigError(f"no data directory can be used; {first.path}: {first.error}")
        ids = [directory.id for directory in self.online() if directory.identity is not None]
        if len(set(ids)) != len(ids):
            raise ConfigError("log.dirs: two directories have the same directory.id; one is a copy")
        clusters = {one.cluster_id for one in self._identities()}
        if len(clusters) > 1:
            raise ConfigError(f"log.dirs belong to several clusters: {', '.join(sorted(clusters))}")
        for directory in self.online():
            identity = directory.identity
            if identity is not None and identity.node_id != self._node_id:
                raise ConfigError(
                    f"{directory.path} belongs to node.id {identity.node_id}, "
                    f"but this broker has node.id {self._node_id}: give it node.id "
                    f"{identity.node_id} again, or another data directory"
                )

    def _identities(self) -> list[DirectoryIdentity]:
        return [one.identity for one in self.online() if one.identity is not None]

    def online(self) -> list[LogDir]:
        """Return the directories that can be used."""
        return [directory for directory in self.directories if directory.is_online]

    def by_id(self, directory_id: bytes) -> LogDir | None:
        """Return the online directory with an id."""
        for directory in self.directories:
            if directory.is_online and directory.id == directory_id:
                return directory
        return None

    @property
    def cluster_id(self) -> str | None:
        """The cluster that the directories belong to, None when all are new."""
        identities = self._identities()
        return identities[0].cluster_id if identities else None

    def join(self, cluster_id: str, hint: str = "") -> None:
        """Check that the directories belong to a cluster, and give new ones their identity.

        Args:
            cluster_id: of the metadata store.
            hint: what the operator may look at when they do not.

        Raises:
            ConfigError: they belong to another cluster.
        """
        if self.cluster_id not in (None, cluster_id):
            raise ConfigError(
                f"{self.online()[0].path} belongs to cluster {self.cluster_id}, "
                f"but the metadata store to cluster {cluster_id}. {hint or _OWN_STORE_HINT}"
            )
        for directory in self.online():
            if directory.identity is not None:
                continue
            try:
                directory.join(cluster_id, self._node_id, new_uuid(self._random_bytes))
            except OSError as error:
                directory.mark_offline(error)
        if not self.online():
            raise ConfigError(f"no data directory can be written: {self.directories[0].error}")

    def reconcile(
        self,
        expected: Mapping[PartitionKey, Expected],
        elsewhere: Callable[[PartitionKey], bytes | None] = lambda _: None,
    ) -> Reconciled:
        """Compare what is in the directories with what the metadata says should be.

        A directory whose `partition.metadata` is missing or empty, as after a power cut, gets it
        written anew; one that carries another topic's id is a stray.

        Args:
            expected: the partitions that should be here.
            elsewhere: gives the topic id of a partition that others have and lead; what is here of
                it is to be deleted.
        """
        scans: dict[LogDir, dict[PartitionKey, str]] = {}
        result = Reconciled([], [], [], [], [])
        for directory in self.online():
            try:
                scans[directory], deletions = directory.scan()
            except OSError as error:
                directory.mark_offline(error)
            else:
                result.deletions.extend(deletions)
        homes: dict[PartitionKey, LogDir] = {}
        for directory, partitions in scans.items():
            try:
                left = {key for key in partitions if self._has_left(directory, key, elsewhere)}
                result.deletions.extend(directory.discard(*key) for key in sorted(left))
                here = [key for key in partitions if key not in left]
                self._settle(directory, here, expected, homes, result)
            except OSError as error:
                directory.mark_offline(error)
        for key, wanted in expected.items():
            home = homes.get(key)
            if home is not None and home.is_online:
                result.present.append(Found(*key, home))
            elif self.by_id(wanted.directory_id) is not None:
                result.missing.append(key)
            else:
                result.offline.append(key)
        return result

    def _has_left(
        self,
        directory: LogDir,
        key: PartitionKey,
        elsewhere: Callable[[PartitionKey], bytes | None],
    ) -> bool:
        topic_id = elsewhere(key)
        return topic_id is not None and directory.topic_id_of(*key) == topic_id

    def _settle(
        self,
        directory: LogDir,
        partitions: Iterable[PartitionKey],
        expected: Mapping[PartitionKey, Expected],
        homes: dict[PartitionKey, LogDir],
        result: Reconciled,
    ) -> None:
        """Find the home of each partition in one directory, and set strays aside."""
        for key in partitions:
            wanted = expected.get(key)
            carried = None if wanted is None else directory.topic_id_of(*key)
            is_right = carried is not None and wanted is not None and carried == wanted.topic_id
            if wanted is None or not (carried is None or _is_nearly(carried, wanted.topic_id)):
                result.strays.append(directory.quarantine(*key))
                continue
            if not is_right:
                directory.name_topic(*key, wanted.topic_id)
            other = homes.get(key)
            if other is None:
                homes[key] = directory
            elif other.id == wanted.directory_id:
                result.strays.append(directory.quarantine(*key))
            else:
                result.strays.append(other.quarantine(*key))
                homes[key] = directory

    def close(self) -> None:
        """Give all locks back."""
        for directory in self.directories:
            directory.close()


def _is_nearly(carried: bytes, topic_id: bytes) -> bool:
    """Return whether an id is a topic's, or was before some bits of it flipped.

    Ids of two topics are random: no two share half of their bytes.
    """
    same = sum(one == other for one, other in zip(carried, topic_id, strict=True))
    return same >= len(topic_id) // 2


def remove_tree(disk: Disk, path: str) -> None:
    """Remove a directory and all in it. Slow: call it in a worker thread.

    Links are removed, not followed. What is gone already is no error, so it can be repeated.

    Raises:
        OSError: something cannot be removed; the rest may be gone.
    """
    pending = [path]
    emptied = []
    while pending:
        current = pending.pop()
        emptied.append(current)
        try:
            entries = disk.list_dir(current)
        except FileNotFoundError:
            continue
        for name, is_dir in entries:
            entry = f"{current}/{name}"
            if is_dir:
                pending.append(entry)
            else:
                _ignoring_absence(disk.unlink, entry)
    for directory in reversed(emptied):
        _ignoring_absence(disk.remove_dir, directory)


def _ignoring_absence(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except FileNotFoundError:
        return
