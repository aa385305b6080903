"""The broker's end of the metadata store: its picture of the cluster, and commits to it."""

import logging
from collections.abc import Iterable

from fastmq.cluster import Change, ClusterImage
from fastmq.errors import ErrorCode, KafkaError
from fastmq.metastore import (
    CommitConflictError,
    MetadataCache,
    Metastore,
    MetastoreError,
    MetastoreUnavailableError,
    allocate_producer_ids,
)

__all__ = ["ClusterStore", "ProducerIds"]

logger = logging.getLogger(__name__)


class ClusterStore:
    """Commits to the store, with its errors as those of the protocol."""

    def __init__(self, cache: MetadataCache) -> None:
        self._cache = cache
        self.lock = cache.lock

    @property
    def image(self) -> ClusterImage:
        """The cluster as the store has it."""
        return self._cache.image

    async def commit(self, changes: Iterable[Change]) -> None:
        """Commit a plan that was made on `image` under `lock`.

        Raises:
            KafkaError: REQUEST_TIMED_OUT when the store does not answer or somebody else changed
                the same rows: the client may ask again.
        """
        try:
            await self._cache.commit(changes)
        except CommitConflictError as exc:
            logger.warning("the metadata store was changed by somebody else: %s", exc)
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "changed meanwhile, try again") from exc
        except MetastoreUnavailableError as exc:
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "the store did not answer") from exc
        except MetastoreError as exc:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, str(exc)) from exc


class ProducerIds:
    """Producer ids, taken from the store by the block."""

    def __init__(self, store: Metastore) -> None:
        self._store = store
        self._next = 0
        self._end = 0

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
        """Return an id of the block at hand, None when it is used up."""
        if self._next >= self._end:
            return None
        self._next += 1
        return self._next - 1

    def was_given(self, producer_id: int) -> bool:
        """Return whether an id may have been given out already, now or in an earlier life."""
        return producer_id < self._next
