"""Wall-clock milliseconds that never go back.

Coordinators and retention compare times; a clock that an operator sets back must not make a
session older than it is. The wall clock is read once, the monotonic clock moves it on.
"""

import time

import trio

__all__ = ["Clock"]


class Clock:
    """Milliseconds since the Unix epoch, anchored once; follows trio's clock."""

    def __init__(self, *, wall_s: float | None = None) -> None:
        self._anchor_s = time.time() if wall_s is None else wall_s
        self._started_s = trio.current_time()

    def now_ms(self) -> int:
        """Return the time; never less than what an earlier call returned."""
        return int((self._anchor_s + trio.current_time() - self._started_s) * 1000)

    def trio_deadline(self, at_ms: int) -> float:
        """Return the moment `at_ms` on trio's clock."""
        return at_ms / 1000 - self._anchor_s + self._started_s
