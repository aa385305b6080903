"""Calls at a time, on a clock that is handed in."""

from collections.abc import Callable

from fastmq.coordinator.timers import Timers

__all__ = ["Timer", "TimerQueue"]


class Timer:
    """A call that will be made; `cancel` takes it back."""

    __slots__ = ("_fn", "_timers")

    def __init__(self, timers: "Timers[Timer]", fn: Callable[[], None]) -> None:
        self._timers = timers
        self._fn = fn

    def cancel(self) -> None:
        """Do not make the call; nothing happens when it was made."""
        self._timers.cancel(self)

    def run(self) -> None:
        """Make the call."""
        self._fn()


class TimerQueue:
    """Timers in order of their times."""

    def __init__(self) -> None:
        self._timers: Timers[Timer] = Timers()

    def call_at(self, when_ms: int, fn: Callable[[], None]) -> Timer:
        """Call `fn` when `run_due` is called at or after `when_ms`."""
        timer = Timer(self._timers, fn)
        self._timers.set(timer, when_ms)
        return timer

    def next_deadline_ms(self) -> int | None:
        """The earliest time, None when there is none."""
        return self._timers.next_deadline()

    def run_due(self, now_ms: int) -> None:
        """Make the calls that are due, the earliest first; those set meanwhile too."""
        while (timer := self._timers.pop_due(now_ms)) is not None:
            timer.run()
