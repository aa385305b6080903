"""What happened in a run, in order, and a hash of it that two runs of one seed share."""

import hashlib
from collections import deque
from typing import Final

import trio

__all__ = ["Trace"]

_KEPT: Final = 400


class Trace:
    """Events of a run.

    Attributes:
        violations: promises that were broken; each once.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=_KEPT)
        self._counts: dict[str, int] = {}
        self.violations: list[str] = []

    def note(self, kind: str, text: str) -> None:
        """Take note of an event."""
        line = f"{trio.current_time():9.4f} {kind}: {text}"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._hash.update(line.encode())
        self._last.append(line)

    def violation(self, text: str) -> None:
        """Take note that a promise was broken."""
        if text not in self.violations:
            self.violations.append(text)
            self.note("VIOLATION", text)

    def count(self, kind: str) -> int:
        """Return how many events of a kind there were."""
        return self._counts.get(kind, 0)

    @property
    def counts(self) -> dict[str, int]:
        """Events by kind."""
        return dict(self._counts)

    @property
    def digest(self) -> str:
        """Of everything that happened."""
        return self._hash.hexdigest()[:16]

    def tail(self) -> list[str]:
        """Return the last events."""
        return list(self._last)
