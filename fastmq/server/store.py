"""The broker's end of the metadata store: its driver, its picture of the cluster, commits to it."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import trio

from fastmq.cluster import Change, ClusterImage
from fastmq.config import BrokerConfig
from fastmq.errors import ConfigError, ErrorCode, KafkaError
from fastmq.metastore import (
    CommitConflictError,
    Compare,
    MetadataCache,
    Metastore,
    MetastoreError,
    MetastoreUnavailableError,
    ProducerIdBlock,
    SQLiteMetastore,
    allocate_producer_ids,
)
from fastmq.server.storage import Storage

__all__ = [
    "CLUSTER_DIRECTORY",
    "METADATA_FILE",
    "ChangedMeanwhileError",
    "ClusterStore",
    "ProducerIds",
    "make_store",
    "stands_alone",
]

# The embedded store, in the data directory; that of several brokers is in a directory below.
METADATA_FILE: Final = "fastmq-metadata.sqlite"
CLUSTER_DIRECTORY: Final = "cluster"

logger = logging.getLogger(__name__)

_NO_STORE: Final = (
    "the metadata store does not answer: nothing can be changed until it does, records go on "
    "(is etcd, or the supervisor of `fastmq serve --brokers`, running?)"
)
# Between two attempts to take a block of producer ids ahead.
_RESERVE_RETRY_S: Final = 1.0


def stands_alone(config: BrokerConfig) -> bool:
    """Return whether this broker is its own cluster, with the metadata in its own process."""
    return config.get_str("fastmq.metastore") == "embedded"


def make_store(config: BrokerConfig, storage: Storage) -> Metastore:
    """Return the metadata store that the configuration names, not open yet.

    Raises:
        ConfigError: what it needs is not given or not installed.
    """
    kind = config.get_str("fastmq.metastore")
    if kind == "embedded":
        place = Path(storage.metadata_dir)
        if (place / CLUSTER_DIRECTORY / METADATA_FILE).exists():
            raise ConfigError(
                f"{place} holds the data of several brokers; start them with --brokers, or give "
                "a single one another --data-dir"
            )
        return SQLiteMetastore(place / METADATA_FILE, durable=storage.is_durable)
    if kind == "socket":
        from fastmq.metastore.socket_client import SocketMetastore

        path = config.get_str("fastmq.metastore.socket")
        if not path:
            raise ConfigError("fastmq.metastore=socket needs fastmq.metastore.socket")
        return SocketMetastore(path)
    try:
        from fastmq.metastore.etcd import EtcdMetastore, EtcdOptions
    except ImportError as exc:
        raise ConfigError(
            "fastmq.metastore=etcd needs the package httpx: pip install '.[etcd]'"
        ) from exc
    endpoints = config.get_list("fastmq.etcd.endpoints")
    if not endpoints:
        raise ConfigError(
            "fastmq.metastore=etcd needs fastmq.etcd.endpoints, such as http://etcd1:2379,..."
        )
    try:
        options = EtcdOptions(
            endpoints,
            prefix=config.get_str("fastmq.etcd.prefix"),
            user=config.get_str("fastmq.etcd.user"),
            password=config.get_str("fastmq.etcd.password"),
            ca_file=config.get_str("fastmq.etcd.ca.file"),
            cert_file=config.get_str("fastmq.etcd.cert.file"),
            key_file=config.get_str("fastmq.etcd.key.file"),
            timeout_ms=config.get_int("fastmq.etcd.timeout.ms"),
        )
    except MetastoreError as exc:
        raise ConfigError(str(exc)) from exc
    return EtcdMetastore(options)


class ChangedMeanwhileError(KafkaError):
    """Somebody else changed the same rows; the image has been read anew: plan again."""


class ClusterStore:
    """Commits to the store, with its errors as those of the protocol."""

    def __init__(self, cache: MetadataCache) -> None:
        self._cache = cache
        self.lock = cache.lock

    @property
    def image(self) -> ClusterImage:
        """The cluster as the store has it."""
        return self._cache.image

    async def commit(
        self, changes: Iterable[Change], *, guards: Sequence[Compare] = (), most: int = 0
    ) -> None:
        """Commit a plan that was made on `image` under `lock`; see `MetadataCache.commit`.

        Raises:
            ChangedMeanwhileError: somebody else changed the same rows; plan again, or let the
                client ask again (REQUEST_TIMED_OUT).
            KafkaError: REQUEST_TIMED_OUT when the store does not answer: the client may ask again.
        """
        try:
            try:
                await self._cache.commit(changes, guards=guards, most=most)
            except CommitConflictError as exc:
                logger.info("the metadata store was changed by somebody else: %s", exc)
                await self._cache.load()
                raise ChangedMeanwhileError(
                    ErrorCode.REQUEST_TIMED_OUT, "changed meanwhile, try again"
                ) from exc
        except MetastoreUnavailableError as exc:
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, _NO_STORE) from exc
        except MetastoreError as exc:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, str(exc)) from exc


class ProducerIds:
    """Producer ids, taken from the store by the block.

    `keep_reserve` holds a block ready, so that producers can begin while the store is away.
    """

    def __init__(self, store: Metastore) -> None:
        self._store = store
        self._next = 0
        self._end = 0
        self._reserve: ProducerIdBlock | None = None
        self._reserve_taken = trio.Event()

    async def keep_reserve(self) -> None:
        """Hold a block ready, until cancelled."""
        while True:
            self._reserve_taken = trio.Event()
            try:
                self._reserve = await allocate_producer_ids(self._store)
            except MetastoreError as exc:
                logger.debug("no block of producer ids in reserve yet: %s", exc)
                await trio.sleep(_RESERVE_RETRY_S)
                continue
            await self._reserve_taken.wait()

    async def next(self) -> int:
        """Return an id that was never given out before.

        Raises:
            KafkaError: COORDINATOR_NOT_AVAILABLE when the store does not answer.
        """
        while (drawn := self.next_nowait()) is None:
            try:
                block = await allocate_producer_ids(self._store)
            except MetastoreError as exc:
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE, str(exc)) from exc
            # Somebody else may have brought a block while this one was on its way; either will do.
            self._next, self._end = block.first, block.end
        return drawn

    def next_nowait(self) -> int | None:
        """Return an id of the blocks at hand, None when they are used up."""
        if self._next >= self._end:
            if self._reserve is None:
                return None
            self._next, self._end = self._reserve
            self._reserve = None
            self._reserve_taken.set()
        self._next += 1
        return self._next - 1

    def was_given(self, producer_id: int) -> bool:
        """Return whether an id may have been given out already, now or in an earlier life."""
        return producer_id < self._next
