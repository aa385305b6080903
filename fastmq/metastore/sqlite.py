"""The embedded driver: one SQLite file, one process.

All SQL runs in a worker thread, one statement batch at a time under a lock, so that watchers see
revisions in order and the event loop never waits for the disk. The file is in WAL mode with
`synchronous=FULL`: a transaction that returned is on the disk. `synchronous=OFF` is for throw-away
data. The process holds SQLite's exclusive lock while the store is open.

A transaction that finds the disk full gives back the space that `<file>-reserve` holds and is tried
once more, so that topics can be deleted, and a broker can start, on a full disk.

Leases live in memory: a lease belongs to the only process there is, so keys that are still under a
lease when the file is opened are left over from one that died, and are deleted then. Events are
remembered in memory only, for watchers of this process, up to a limit.
"""

import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import trio

from fastmq.limits import (
    METASTORE_HISTORY_EVENTS_MAX,
    METASTORE_LEASES_MAX,
    METASTORE_RESERVE_BYTES,
    METASTORE_VALUE_BYTES_MAX,
)
from fastmq.metastore.interface import (
    CompactedError,
    Compare,
    Conflict,
    Delete,
    Event,
    Item,
    MetastoreError,
    MetastoreUnavailableError,
    Op,
    Put,
    Snapshot,
)
from fastmq.metastore.polled import PollableStore, PolledWatch
from fastmq.metastore.reserve import SpaceReserve

__all__ = ["SQLiteMetastore"]

_Result = TypeVar("_Result")

# "fmqs": tells our files from other SQLite databases.
_APPLICATION_ID: Final = 0x666D7173
_SCHEMA_VERSION: Final = 1
# The broker has its own picture of all rows; pages are read again from the system's cache, rarely.
_PAGE_CACHE_KIB: Final = 256
_SCHEMA: Final = """
CREATE TABLE kv (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    revision INTEGER NOT NULL,
    lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0);
"""


class _Lease(NamedTuple):
    ttl_s: float
    deadline: float


class SQLiteMetastore(PollableStore):
    """A metadata store in one file.

    Args:
        path: the file, created when it does not exist; its directory exists.
        durable: sync each transaction to the disk.
    """

    ops_max = 20_000

    def __init__(self, path: str | Path, *, durable: bool = True) -> None:
        self._path = Path(path)
        self._durable = durable
        self._reserve = SpaceReserve(Path(f"{path}-reserve"), METASTORE_RESERVE_BYTES)
        self._connection: sqlite3.Connection | None = None
        self._lock = trio.Lock()
        self._revision = 0
        # Events of revisions up to this one are forgotten.
        self._forgotten = 0
        self._history: deque[tuple[int, list[Event]]] = deque()
        self._history_size = 0
        self._news = trio.Event()
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        self._lease_news = trio.Event()

    async def open(self) -> None:
        """Open the file, or create it.

        Raises:
            MetastoreError: it is damaged, not ours, or another process has it open.
        """
        async with self._lock:
            assert self._connection is None, "the store is open"
            self._connection, self._revision = await trio.to_thread.run_sync(self._open_sync)
        self._forgotten = self._revision

    def _open_sync(self) -> tuple[sqlite3.Connection, int]:
        try:
            connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise MetastoreError(f"cannot open {self._path}: {error}") from None
        try:
            revision = self._with_reserve(self._prepare, connection)
            return connection, revision
        except sqlite3.Error as error:
            connection.close()
            if "locked" in str(error):
                raise MetastoreError(f"{self._path} is in use by another process") from None
            raise MetastoreError(
                f"{self._path} cannot be used as a metadata store: {_explain(error)}"
            ) from None
        except BaseException:
            connection.close()
            raise

    def _with_reserve(
        self, work: Callable[[sqlite3.Connection], _Result], connection: sqlite3.Connection
    ) -> _Result:
        """Run SQL; where the disk is full, once more with the space held back."""
        try:
            result = work(connection)
        except sqlite3.OperationalError as error:
            is_full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            if not is_full or connection.in_transaction or not self._reserve.release():
                raise
            return work(connection)
        self._reserve.hold()
        return result

    def _prepare(self, connection: sqlite3.Connection) -> int:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA cache_size=-{_PAGE_CACHE_KIB}")
        connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'OFF'}")
        with _transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if version == 0 and application == 0:
                self._create(connection)
            elif application != _APPLICATION_ID:
                raise MetastoreError(f"{self._path} is another program's database")
            elif version != _SCHEMA_VERSION:
                raise MetastoreError(f"{self._path} was written by another version of fastmq")
            (left_over,) = connection.execute("SELECT count(*) FROM kv WHERE lease > 0").fetchone()
            (revision,) = connection.execute("SELECT value FROM counters").fetchone()
            if left_over:
                connection.execute("DELETE FROM kv WHERE lease > 0")
                revision += 1
                connection.execute("UPDATE counters SET value = ?", (revision,))
        return int(revision)

    def _create(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise MetastoreError(f"{self._path} is another program's database")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    async def close(self) -> None:
        """Close the file; watches end. Idempotent."""
        with trio.CancelScope(shield=True):
            async with self._lock:
                connection, self._connection = self._connection, None
                if connection is not None:
                    await trio.to_thread.run_sync(connection.close)
        self._announce()
        self._lease_news.set()

    async def read(self, prefix: str) -> Snapshot:
        """Return all items whose key begins with `prefix`, as of one moment."""

        def select(connection: sqlite3.Connection) -> list[Item]:
            rows = connection.execute(
                "SELECT key, value, revision FROM kv WHERE key >= ? AND key < ? ORDER BY key",
                (prefix, _end_of(prefix)),
            )
            return [Item(*row) for row in rows]

        async with self._lock:
            return Snapshot(await self._in_thread(select), self._revision)

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        """Do all operations if all comparisons hold, else none."""
        self._check(compares, ops)
        async with self._lock:
            return await self._commit(compares, ops)

    def _check(self, compares: Sequence[Compare], ops: Sequence[Op]) -> None:
        if max(len(compares), len(ops)) > self.ops_max:
            raise MetastoreError(f"a transaction has at most {self.ops_max} operations")
        for op in ops:
            if isinstance(op, Put):
                if len(op.value) > METASTORE_VALUE_BYTES_MAX:
                    raise MetastoreError(f"{op.key}: the value has {len(op.value)} bytes")
                if op.lease and op.lease not in self._leases:
                    raise MetastoreError(f"{op.key}: lease {op.lease} has ended")

    async def _commit(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        revision = self._revision + 1

        def work(connection: sqlite3.Connection) -> list[Event] | Conflict:
            return _transact(connection, revision, compares, ops)

        done = await self._in_thread(work)
        if isinstance(done, Conflict):
            return done
        if ops:
            self._remember(revision, done)
        return self._revision

    async def _in_thread(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run SQL in a worker thread; the caller holds the lock."""
        connection = self._connection
        if connection is None:
            raise MetastoreUnavailableError("the metadata store is closed")
        try:
            # Never abandoned when cancelled: the connection must not be used by two threads.
            return await trio.to_thread.run_sync(self._with_reserve, work, connection)
        except sqlite3.Error as error:
            raise MetastoreUnavailableError(f"{self._path}: {_explain(error)}") from error

    def _remember(self, revision: int, events: list[Event]) -> None:
        self._revision = revision
        self._history.append((revision, events))
        self._history_size += len(events)
        # The newest revision stays whatever its size: watchers are told of it all the same.
        while self._history_size > METASTORE_HISTORY_EVENTS_MAX and len(self._history) > 1:
            self._forgotten, forgotten = self._history.popleft()
            self._history_size -= len(forgotten)
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[list[Event]]:
        """Iterate over the events below `prefix`, a list per revision."""
        return PolledWatch(self, prefix, from_revision)

    async def next_events(self, prefix: str, from_revision: int) -> tuple[int, list[Event]] | None:
        """Wait for the first events below `prefix` from a revision on.

        Returns:
            Their revision and the events; None when the store is closed.

        Raises:
            CompactedError: events of that revision may have been forgotten.
        """
        while self._connection is not None:
            if from_revision <= self._forgotten:
                raise CompactedError(f"revision {from_revision} is no longer known")
            for revision, events in self._history:
                if revision < from_revision:
                    continue
                found = [event for event in events if event.key.startswith(prefix)]
                if found:
                    await trio.lowlevel.checkpoint()
                    return revision, found
            # Nothing so far concerns this watcher: it need not remember that far back.
            from_revision = max(from_revision, self._revision + 1)
            await self._news.wait()
        return None

    async def grant_lease(self, ttl_ms: int) -> int:
        """Return a new lease id."""
        if ttl_ms <= 0:
            raise MetastoreError("a lease lasts at least 1 ms")
        if len(self._leases) >= METASTORE_LEASES_MAX:
            raise MetastoreError(f"more than {METASTORE_LEASES_MAX} leases")
        await trio.lowlevel.checkpoint()
        self._last_lease += 1
        ttl_s = ttl_ms / 1000
        self._leases[self._last_lease] = _Lease(ttl_s, trio.current_time() + ttl_s)
        self._lease_news.set()
        return self._last_lease

    async def keep_alive(self, lease: int) -> bool:
        """Prolong a lease; False when it has ended."""
        await trio.lowlevel.checkpoint()
        found = self._leases.get(lease)
        now = trio.current_time()
        if found is None or found.deadline <= now:
            return False
        self._leases[lease] = found._replace(deadline=now + found.ttl_s)
        return True

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys."""
        async with self._lock:
            if self._leases.pop(lease, None) is not None:
                await self._delete_leased([lease])

    async def run(self) -> None:
        """End leases whose time has come, until cancelled or closed."""
        while self._connection is not None:
            self._lease_news = trio.Event()
            deadline = min((lease.deadline for lease in self._leases.values()), default=None)
            if deadline is None:
                await self._lease_news.wait()
                continue
            with trio.move_on_at(deadline):
                await self._lease_news.wait()
            await self._expire()

    async def _expire(self) -> None:
        async with self._lock:
            now = trio.current_time()
            ended = [number for number, lease in self._leases.items() if lease.deadline <= now]
            for number in ended:
                del self._leases[number]
            if ended and self._connection is not None:
                await self._delete_leased(ended)

    async def _delete_leased(self, leases: Iterable[int]) -> None:
        """Delete the keys of leases that have ended; the caller holds the lock."""

        def select(connection: sqlite3.Connection) -> list[str]:
            return [
                key
                for lease in leases
                for (key,) in connection.execute(
                    "SELECT key FROM kv WHERE lease = ? ORDER BY key", (lease,)
                )
            ]

        keys = await self._in_thread(select)
        if keys:
            await self._commit([], [Delete(key) for key in keys])


def _end_of(prefix: str) -> str:
    """Return the first text after all that begin with `prefix`."""
    # The last code point is never the end of a key: keys are names, numbers and base64.
    return prefix + chr(0x10FFFF)


def _transact(
    connection: sqlite3.Connection, revision: int, compares: Sequence[Compare], ops: Sequence[Op]
) -> list[Event] | Conflict:
    """Run one transaction, with `revision` for what it writes."""
    with _transaction(connection):
        conflict = tuple(compare.key for compare in compares if not _stands(connection, compare))
        if conflict:
            return Conflict(conflict)
        events = [_perform(connection, revision, op) for op in ops]
        if ops:
            connection.execute("UPDATE counters SET value = ?", (revision,))
    return [event for event in events if event is not None]


def _explain(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return "the disk is full; the broker starts again when a few megabytes of it are free"
    return str(error)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _stands(connection: sqlite3.Connection, compare: Compare) -> bool:
    row = connection.execute("SELECT revision FROM kv WHERE key = ?", (compare.key,)).fetchone()
    return (0 if row is None else row[0]) == compare.revision


def _perform(connection: sqlite3.Connection, revision: int, op: Op) -> Event | None:
    if isinstance(op, Put):
        connection.execute(
            "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)",
            (op.key, op.value, revision, op.lease),
        )
        return Event(op.key, op.value, revision)
    done = connection.execute("DELETE FROM kv WHERE key = ?", (op.key,))
    return Event(op.key, None, revision) if done.rowcount else None
