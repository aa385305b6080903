"""The metadata store: an ordered map of small values with revisions, and its drivers.

`Metastore` is the interface: read a prefix with the store's revision, commit a guarded transaction,
watch from a revision, hold keys under a lease. `SQLiteMetastore` is the embedded driver, one writer
process. `keys` says what is stored under which key and turns `fastmq.cluster` changes into
operations and back; `MetadataCache` keeps an image and commits plans; `producer_ids` hands out
blocks.

The store is never on the path of a batch. A transaction that ended in `MetastoreUnavailableError`
may have happened: every caller guards its operations by revisions and reads again before it
repeats them.

Typical use::

    store = SQLiteMetastore(path)
    await store.open()
    nursery.start_soon(store.run)                 # leases run out, watchers hear of it
    cache = MetadataCache(store)
    await cache.load()
    nursery.start_soon(cache.run)                 # what other brokers commit
    async with cache.lock:
        (plan,) = plan_create_topics(cache.image, ...)
        await cache.commit(plan.changes)          # or raises CommitConflictError
    await store.close()
"""

from fastmq.metastore.interface import (
    CompactedError,
    Compare,
    Conflict,
    Delete,
    Event,
    Item,
    Metastore,
    MetastoreError,
    MetastoreUnavailableError,
    Op,
    Put,
    Snapshot,
)
from fastmq.metastore.metadata import (
    CommitConflictError,
    MetadataCache,
    ensure_cluster_id,
    load_image,
    read_cluster_id,
)
from fastmq.metastore.producer_ids import ProducerIdBlock, allocate_producer_ids
from fastmq.metastore.sqlite import SQLiteMetastore

__all__ = [
    "CommitConflictError",
    "CompactedError",
    "Compare",
    "Conflict",
    "Delete",
    "Event",
    "Item",
    "MetadataCache",
    "Metastore",
    "MetastoreError",
    "MetastoreUnavailableError",
    "Op",
    "ProducerIdBlock",
    "Put",
    "SQLiteMetastore",
    "Snapshot",
    "allocate_producer_ids",
    "ensure_cluster_id",
    "load_image",
    "read_cluster_id",
]
