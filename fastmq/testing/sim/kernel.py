"""One thread, one seed, a clock that jumps: what makes a run the same each time.

The clock goes on only when every task waits, and then to the next deadline at once. Tasks that
become runnable together run in an order that the seed decides. Work that a broker gives to threads
is done in place. The caller fixes PYTHONHASHSEED (`fastmq.testing.sim.__main__` does).
"""

import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import trio
import trio.from_thread
import trio.testing
import trio.to_thread
from trio._core import _run

from fastmq.testing.sim.timers import Timers

__all__ = ["now_s", "run_simulated"]

T = TypeVar("T")

_timers = Timers()


def now_s() -> float:
    """Return the virtual time of the run, also after its end."""
    return _timers.now_s


async def _in_place(function: Callable[..., T], *args: object, **_options: object) -> T:
    """Stand for `trio.to_thread.run_sync`."""
    await trio.lowlevel.checkpoint()
    return function(*args)


def _called_back(function: Callable[..., T], *args: object, **_options: object) -> T:
    """Stand for `trio.from_thread.run_sync`: the caller is in the event loop already."""
    return function(*args)


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    global _timers
    timers = _timers = Timers()
    clock = trio.testing.MockClock
    before = random.getstate()
    random.seed(seed)
    was_collecting = gc.isenabled()
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()  # what was imported need not be looked through before each run
    gc.disable()  # what finalizers do would happen at another moment each time
    with (
        mock.patch.object(trio.to_thread, "run_sync", _in_place),
        mock.patch.object(trio.from_thread, "run_sync", _called_back),
        mock.patch.object(trio.from_thread, "check_cancelled", lambda: None),
        mock.patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(_run, "_r", random.Random(seed)),
        # Whatever the run leaves in its place (`pauses`).
        mock.patch.object(_run.Runner, "reschedule", _run.Runner.reschedule),
        mock.patch.object(trio, "sleep", timers.sleep),
        mock.patch.object(trio, "sleep_until", timers.sleep_until),
        mock.patch.object(trio, "current_time", timers.current_time),
        mock.patch.object(clock, "current_time", lambda _: timers.now_s),
        mock.patch.object(clock, "deadline_to_sleep_time", lambda _, at: timers.sleep_time(at)),
        mock.patch.object(clock, "_autojump", lambda self: timers.jump(self)),
    ):
        try:
            yield
        finally:
            random.setstate(before)
            if was_collecting:
                gc.enable()


def run_simulated(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """Run an async function in virtual time; `trio.current_time()` begins at 0."""
    with _deterministic(seed):
        clock = trio.testing.MockClock(autojump_threshold=0)
        run: Any = trio.run
        result: T = run(main, clock=clock)
        return result
