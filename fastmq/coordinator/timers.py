"""The deadlines of one shard, on a clock that is handed in.

A timer has a key; setting a key again moves it, whether it was due earlier or later. Heartbeats
move their timer on every request, so moving to a later time costs one dictionary write: the heap
keeps the earlier entry and the timer is queued again when that entry comes up. Memory is bounded:
the heap is rebuilt when more than half of it is stale.

Timers do not survive a restart; a shard sets them anew in `on_loaded`.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

__all__ = ["Timers"]

K = TypeVar("K", bound=Hashable)

# Below this size stale entries are not worth a rebuild.
_REBUILD_MIN = 64


class Timers(Generic[K]):
    """A set of keyed deadlines in milliseconds."""

    def __init__(self) -> None:
        self._deadlines: dict[K, int] = {}
        # (when to look at the key, sequence, key); every key in `_deadlines` has an entry that
        # is not later than its deadline. The sequence keeps keys from being compared.
        self._heap: list[tuple[int, int, K]] = []
        self._queued: dict[K, int] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, key: K) -> bool:
        return key in self._deadlines

    def set(self, key: K, deadline_ms: int) -> None:
        """Make `key` due at `deadline_ms`, instead of when it was due before."""
        self._deadlines[key] = deadline_ms
        queued = self._queued.get(key)
        if queued is None or deadline_ms < queued:
            self._push(key, deadline_ms)

    def cancel(self, key: K) -> None:
        """Forget `key`; nothing happens when it is not set."""
        self._deadlines.pop(key, None)

    def next_deadline(self) -> int | None:
        """Return the earliest deadline, None when nothing is set."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ms: int) -> K | None:
        """Remove and return a key that is due at `now_ms`, the earliest first; None if none is."""
        self._settle()
        if not self._heap or self._heap[0][0] > now_ms:
            return None
        key = heappop(self._heap)[2]
        del self._queued[key]
        del self._deadlines[key]
        return key

    def _push(self, key: K, when_ms: int) -> None:
        self._sequence += 1
        self._queued[key] = when_ms
        heappush(self._heap, (when_ms, self._sequence, key))
        if len(self._heap) > _REBUILD_MIN and len(self._heap) > 2 * len(self._deadlines):
            self._rebuild()

    def _settle(self) -> None:
        """Bring a live entry with its true deadline to the top of the heap."""
        heap = self._heap
        while heap:
            when_ms, _, key = heap[0]
            deadline_ms = self._deadlines.get(key)
            current = self._queued.get(key) == when_ms
            if current and deadline_ms == when_ms:
                return
            heappop(heap)
            if current:
                del self._queued[key]
                if deadline_ms is not None:
                    self._push(key, deadline_ms)

    def _rebuild(self) -> None:
        self._queued = dict(self._deadlines)
        entries = enumerate(self._deadlines.items())
        self._heap = [(when, index, key) for index, (key, when) in entries]
        self._sequence = len(self._heap)
        heapify(self._heap)
