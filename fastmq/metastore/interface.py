"""The interface that every driver of the metadata store has; `tests/metastore` is its contract.

The store holds keys (text, ordered by code point) with values (bytes, small). Each committed
transaction has one revision, larger than all before; each key remembers the revision that wrote it.
A driver owns its threads and connections between `open` and `close`. `run` is the driver's
background work and must be running for leases to end by time and for watches to be fed.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, TypeAlias

from fastmq.errors import FastmqError

__all__ = [
    "CompactedError",
    "Compare",
    "Conflict",
    "Delete",
    "Event",
    "Item",
    "Metastore",
    "MetastoreError",
    "MetastoreUnavailableError",
    "Op",
    "Put",
    "Snapshot",
]


class MetastoreError(FastmqError):
    """The metadata store cannot do what it was asked."""


class MetastoreUnavailableError(MetastoreError):
    """The store did not answer; a transaction may or may not have happened."""


class CompactedError(MetastoreError):
    """The watch begins before what the store remembers: read again and watch from there."""


class Item(NamedTuple):
    """A key with its value and the revision that wrote it."""

    key: str
    value: bytes
    revision: int


class Snapshot(NamedTuple):
    """What `read` returns: the items, by key, and the store's revision they are true at."""

    items: list[Item]
    revision: int


class Event(NamedTuple):
    """A key was written, or deleted (`value` is None)."""

    key: str
    value: bytes | None
    revision: int


class Compare(NamedTuple):
    """A condition: the key was written by exactly this revision; 0 = it does not exist."""

    key: str
    revision: int


class Put(NamedTuple):
    """Write a key. With a lease id, the key is deleted when the lease ends."""

    key: str
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    """Delete a key; nothing happens when it does not exist."""

    key: str


class Conflict(NamedTuple):
    """A transaction was refused because these keys stood at other revisions."""

    keys: tuple[str, ...]


Op: TypeAlias = Put | Delete


class Metastore(ABC):
    """An ordered, revisioned map shared by the brokers of a cluster."""

    # Operations and comparisons that one transaction takes; larger plans are cut.
    ops_max: int

    @abstractmethod
    async def open(self) -> None:
        """Connect, or open the file.

        Raises:
            MetastoreError: the store is damaged or belongs to another process.
        """

    @abstractmethod
    async def run(self) -> None:
        """Do the driver's background work until cancelled."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything; idempotent, and safe in a cancelled scope."""

    @abstractmethod
    async def read(self, prefix: str) -> Snapshot:
        """Return all items whose key begins with `prefix`, as of one moment."""

    @abstractmethod
    async def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        """Do all operations if all comparisons hold, else none.

        Returns:
            The new revision, or the conflict. Without operations, the current revision.

        Raises:
            MetastoreUnavailableError: it may or may not have happened.
            MetastoreError: too many operations, a value too large, an unknown lease.
        """

    @abstractmethod
    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[list[Event]]:
        """Iterate over what happens to keys below `prefix`, from a revision (inclusive) on.

        Each list holds all matching events of one revision, in the order of the operations. Events
        that a lease's end makes are like any others. The iterator ends when the store is closed.

        Raises:
            CompactedError: from the iteration, when the store no longer remembers so far back.
        """

    @abstractmethod
    async def grant_lease(self, ttl_ms: int) -> int:
        """Return a new lease id. Its keys live until `ttl_ms` after the last `keep_alive`."""

    @abstractmethod
    async def keep_alive(self, lease: int) -> bool:
        """Prolong a lease; False when it has ended."""

    @abstractmethod
    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys; nothing happens when it has ended."""
