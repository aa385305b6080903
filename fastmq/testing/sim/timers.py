"""Time of a run, and who sleeps until when.

trio sleeps in a cancel scope with a deadline; here a sleeping task is one entry of a heap, which
the clock looks at when it jumps: that is the only moment at which time goes on. It takes a third
of what a scope takes, and brokers and links sleep all the time.
"""

import heapq
import itertools
import math

import trio
import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

__all__ = ["Timers"]


class Timers:
    """The clock of one run and the tasks that sleep.

    Attributes:
        now_s: virtual time; keeps its value after the end of the run.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, list[trio.lowlevel.Task]]] = []
        self._count = itertools.count()

    def current_time(self) -> float:
        """Stand for `trio.current_time`."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Stand for `trio.sleep`."""
        if seconds < 0:
            raise ValueError("`seconds` must be non-negative")
        await self.sleep_until(self.now_s + seconds)

    async def sleep_until(self, deadline: float) -> None:
        """Stand for `trio.sleep_until`."""
        if deadline <= self.now_s:
            await trio.lowlevel.checkpoint()
            return
        sleeper = [trio.lowlevel.current_task()]
        heapq.heappush(self._sleepers, (deadline, next(self._count), sleeper))

        def abort(_: object) -> trio.lowlevel.Abort:
            sleeper.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def jump(self, clock: trio.testing.MockClock) -> None:
        """Stand for `MockClock._autojump`: nobody can run before the next deadline."""
        sleepers = self._sleepers
        while sleepers and not sleepers[0][2]:
            heapq.heappop(sleepers)
        at = GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
        if sleepers:
            at = min(at, sleepers[0][0])
        if at == math.inf:
            return
        if at > self.now_s:
            self.now_s = clock._virtual_base = at
        while sleepers and sleepers[0][0] <= self.now_s:
            _, _, sleeper = heapq.heappop(sleepers)
            for task in sleeper:
                trio.lowlevel.reschedule(task)

    def sleep_time(self, deadline: float) -> float:
        """Stand for `MockClock.deadline_to_sleep_time`."""
        return 0.0 if deadline <= self.now_s else math.inf
