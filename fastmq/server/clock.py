"""Wall-clock milliseconds that never go back.

Coordinators and retention compare times; a clock that an operator sets back must not make a
session older than it is. The wall clock is read once, the monotonic clock moves it on.

A broker in test mode may be moved ahead (`advance`): its sessions, retention and expiry see hours
pass at once, while sockets, time-outs of requests and clients stay in real time. Whoever waits for
a moment of this clock waits with `sleep`, or is told by `on_advanced`.
"""

import time
from collections.abc import Callable

import trio

__all__ = ["Clock"]


class Clock:
    """Milliseconds since the Unix epoch, anchored once; follows trio's clock.

    Attributes:
        ahead_ms: how far it was moved ahead.
    """

    def __init__(self, *, wall_s: float | None = None) -> None:
        self._anchor_s = time.time() if wall_s is None else wall_s
        self._started_s = trio.current_time()
        self.ahead_ms = 0
        self._sleeping: dict[trio.CancelScope, int] = {}
        self._listeners: list[Callable[[], None]] = []
        # Tasks that a move has woken and that have not gone back to sleep.
        self._working: set[trio.lowlevel.Task] = set()
        self._rested = trio.Event()

    def now_ms(self) -> int:
        """Return the time; never less than what an earlier call returned."""
        return int((self._anchor_s + trio.current_time() - self._started_s) * 1000) + self.ahead_ms

    def trio_deadline(self, at_ms: int) -> float:
        """Return the moment `at_ms` on trio's clock."""
        return (at_ms - self.ahead_ms) / 1000 - self._anchor_s + self._started_s

    async def sleep(self, seconds: float) -> None:
        """Sleep until so much time has passed on this clock."""
        task = trio.lowlevel.current_task()
        if task in self._working:
            self._working.remove(task)
            self._rested.set()
        at_ms = self.now_ms() + round(seconds * 1000)
        with trio.CancelScope(deadline=self.trio_deadline(at_ms)) as scope:
            self._sleeping[scope] = at_ms
            try:
                await trio.sleep_forever()
            finally:
                if self._sleeping.pop(scope) <= self.now_ms() and self.ahead_ms:
                    self._working.add(task)

    # For test mode.

    def on_advanced(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each move."""
        self._listeners.append(listener)

    def advance(self, by_ms: int) -> None:
        """Move ahead; who sleeps until a moment that is past now wakes.

        Args:
            by_ms: 0 or more; time does not go back.
        """
        assert by_ms >= 0, "time does not go back"
        self.ahead_ms += by_ms
        for scope, at_ms in self._sleeping.items():
            scope.deadline = self.trio_deadline(at_ms)
        for listener in self._listeners:
            listener()

    async def wait_rested(self) -> None:
        """Wait until everybody whom the last move has woken sleeps again."""
        # Due deadlines fire in the next round of the loop, so that this has to see one.
        await trio.sleep(0.001)
        while self._working:
            self._rested = trio.Event()
            await self._rested.wait()
