"""A watch that holds no queue, only a position: it asks for the next events when it is asked."""

from abc import abstractmethod
from typing import Protocol

from fastmq.metastore.interface import Event, Metastore

__all__ = ["PollableStore", "PolledWatch"]


class _Source(Protocol):
    async def next_events(self, prefix: str, from_revision: int) -> tuple[int, list[Event]] | None:
        """Wait for the first events below `prefix` from a revision on."""


class PollableStore(Metastore):
    """A driver that remembers what happened, so that others can ask for it."""

    @abstractmethod
    async def next_events(self, prefix: str, from_revision: int) -> tuple[int, list[Event]] | None:
        """Wait for the first events below `prefix` from a revision on.

        Returns:
            Their revision and the events; None when the store is closed.

        Raises:
            CompactedError: events of that revision may have been forgotten.
        """


class PolledWatch:
    """One iteration over the events below a prefix, a list per revision."""

    def __init__(self, source: _Source, prefix: str, from_revision: int) -> None:
        self._source = source
        self._prefix = prefix
        self._next = from_revision

    def __aiter__(self) -> "PolledWatch":
        return self

    async def __anext__(self) -> list[Event]:
        found = await self._source.next_events(self._prefix, self._next)
        if found is None:
            raise StopAsyncIteration
        revision, events = found
        self._next = revision + 1
        return events
