"""The cluster's metadata in a broker: an image that follows the store, and commits to it.

`MetadataCache` is the one place where an image meets the store. A commit is in the image when
`commit` returns; what other brokers commit arrives by the watch in `run`. Commits of one process
take turns, so a plan that is made and committed under `lock` never conflicts with its neighbours.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from fastmq.cluster import Change, ClusterImage, PutPartition, PutTopic
from fastmq.ids import RandomBytes, new_uuid, uuid_text
from fastmq.metastore.interface import (
    CompactedError,
    Compare,
    Conflict,
    Event,
    Metastore,
    MetastoreError,
    Op,
    Put,
)
from fastmq.metastore.keys import (
    CLUSTER_KEY,
    change_of,
    decode_json,
    encode_json,
    operation_of,
    partition_key,
)

__all__ = [
    "CommitConflictError",
    "MetadataCache",
    "ensure_cluster_id",
    "load_image",
    "read_cluster_id",
]

# Raised when older versions would misread what is written.
METADATA_LEVEL: Final = 1

OnChange = Callable[[ClusterImage, ClusterImage], None]


class CommitConflictError(MetastoreError):
    """Rows of a plan have changed since it was made: plan anew from the current image.

    What was committed before the conflict, in a plan of several transactions, stays.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        super().__init__(f"changed meanwhile: {', '.join(keys[:3])}")


class MetadataCache:
    """The current image of one broker.

    Args:
        store: open.
        on_change: called, without waiting, with the old and the new image after each change,
            whoever made it.

    Attributes:
        image: the cluster now; never changed, only replaced.
        lock: hold it around plan and commit.
    """

    def __init__(self, store: Metastore, on_change: OnChange | None = None) -> None:
        self._store = store
        self._on_change = on_change
        self.image = ClusterImage()
        self.lock = trio.Lock()

    async def load(self) -> None:
        """Read everything anew.

        Raises:
            MetastoreError: a row cannot be read.
        """
        image = await load_image(self._store)
        # The watch may have been faster.
        if image.revision >= self.image.revision:
            self._replace(image)

    async def run(self) -> None:
        """Follow what happens in the store, until cancelled or the store is closed.

        Raises:
            MetastoreError: the store fails, or holds what cannot be read.
        """
        while True:
            try:
                async for events in self._store.watch("", self.image.revision + 1):
                    self._apply_events(events)
            except CompactedError:
                await self.load()
            else:
                return

    async def commit(
        self, changes: Iterable[Change], *, guards: Sequence[Compare] = (), most: int = 0
    ) -> None:
        """Commit changes; they are in `image` afterwards. Needs `lock`.

        All in one transaction where the store takes that many operations, else in several, cut in
        the order of the changes. One that goes on with the partitions of a topic demands that the
        first of them which this commit has made still stands: who takes these for left over, and
        removes them, begins with it (`fastmq.cluster.orphans`).

        Args:
            changes: each guarded by itself.
            guards: what must hold at each of the transactions too.
            most: changes in one transaction; 0 = as many as the store takes.

        Raises:
            CommitConflictError: a guard failed; this transaction and those after it did not happen.
            MetastoreUnavailableError: it may or may not have happened.
        """
        assert self.lock.locked(), "commit without the lock"
        pending = list(changes)
        size = self._store.ops_max - len(guards)
        size = min(size, most) if most else size
        if len(pending) > size:
            size = min(size, self._store.ops_max - len(guards) - 1)
        begun: dict[bytes, Compare] = {}
        for begin in range(0, len(pending), size):
            part = pending[begin : begin + size]
            compares, ops = _guarded(part)
            held = [begun[topic_id] for topic_id in _made_here(part) if topic_id in begun]
            result = await self._store.txn([*guards, *held, *compares], ops)
            if isinstance(result, Conflict):
                raise CommitConflictError(result.keys)
            for topic_id, index in _made_here(part).items():
                if index >= 0:
                    begun.setdefault(topic_id, Compare(partition_key(topic_id, index), result))
            self._apply_own(part, result)

    def _apply_own(self, changes: Sequence[Change], revision: int) -> None:
        if revision <= self.image.revision:
            return  # the watch was faster
        if revision == self.image.revision + 1:
            self._replace(self.image.apply(changes, revision))
            return
        # Others committed in between. The watch will bring theirs and then ours again, so the
        # image takes our rows but not our revision, which would make it skip theirs.
        rows = ((change, revision) for change in changes)
        self._replace(self.image.load(rows, self.image.revision))

    def _apply_events(self, events: Sequence[Event]) -> None:
        changes = [change for change in map(change_of, events) if change is not None]
        self._replace(self.image.apply(changes, events[0].revision))

    def _replace(self, image: ClusterImage) -> None:
        before, self.image = self.image, image
        if self._on_change is not None and image is not before:
            self._on_change(before, image)


def _made_here(changes: Iterable[Change]) -> dict[bytes, int]:
    """Return the topics that changes make or grow, each with its first new partition, -1 = none."""
    found: dict[bytes, int] = {}
    for change in changes:
        match change:
            case PutPartition(topic_id, index, _, 0):
                found.setdefault(topic_id, index)
            case PutTopic(_, topic_id):
                found.setdefault(topic_id, -1)
    return found


def _guarded(changes: Iterable[Change]) -> tuple[list[Compare], list[Op]]:
    compares = []
    ops = []
    for change in changes:
        compare, op = operation_of(change)
        ops.append(op)
        if compare is not None:
            compares.append(compare)
    return compares, ops


async def load_image(store: Metastore) -> ClusterImage:
    """Return the cluster as the store has it now.

    Raises:
        MetastoreError: a row cannot be read.
    """
    snapshot = await store.read("")
    changes = ((change_of(item), item.revision) for item in snapshot.items)
    known = ((change, revision) for change, revision in changes if change is not None)
    return ClusterImage().load(known, snapshot.revision)


async def read_cluster_id(store: Metastore) -> str | None:
    """Return the cluster's id, None in a new store.

    Raises:
        MetastoreError: what it holds needs a newer fastmq.
    """
    snapshot = await store.read(CLUSTER_KEY)
    for item in snapshot.items:
        if item.key == CLUSTER_KEY:
            found = decode_json(item.key, item.value)
            level = int(found.get("level", 1))
            if level > METADATA_LEVEL:
                raise MetastoreError(
                    f"the cluster's metadata is written for a newer fastmq (level {level}, this "
                    f"one knows up to {METADATA_LEVEL}): install the version that the other "
                    "brokers have"
                )
            return str(found["id"])
    return None


async def ensure_cluster_id(store: Metastore, random_bytes: RandomBytes) -> str:
    """Return the cluster's id (22 characters), drawing it when the store is new."""
    found = await read_cluster_id(store)
    if found is not None:
        return found
    drawn = uuid_text(new_uuid(random_bytes))
    result = await store.txn(
        [Compare(CLUSTER_KEY, 0)],
        [Put(CLUSTER_KEY, encode_json({"id": drawn, "level": METADATA_LEVEL}))],
    )
    if not isinstance(result, Conflict):
        return drawn
    # Another broker was first.
    found = await read_cluster_id(store)
    assert found is not None
    return found
