"""Processes that stand still, as after SIGSTOP, while the world goes on.

What a task of such a broker waits for comes: bytes, deadlines, cancellation. But the task does not
run before its process goes on; then all that has become due runs at once.
"""

from collections import deque
from typing import Any
from unittest import mock

import trio
from trio._core import _run

__all__ = ["Pauses"]


class Pauses:
    """Brokers that stand still, each known by its first task."""

    def __init__(self) -> None:
        self._held: dict[trio.lowlevel.Task, deque[trio.lowlevel.Task]] = {}
        self._patch: Any = None

    def pause(self, root: trio.lowlevel.Task) -> None:
        """Let a task and all below it stand still."""
        self._held.setdefault(root, deque())
        if self._patch is not None:
            return
        real = _run.Runner.reschedule

        def reschedule(runner: _run.Runner, task: trio.lowlevel.Task, *outcome: Any) -> None:
            real(runner, task, *outcome)
            held = self._find(task)
            if held is not None:
                assert runner.runq.pop() is task
                held.append(task)

        self._patch = mock.patch.object(_run.Runner, "reschedule", reschedule)
        self._patch.start()

    def resume(self, root: trio.lowlevel.Task) -> None:
        """Let them go on."""
        held = self._held.pop(root, None)
        if held is None:
            return
        if not self._held:
            self._patch.stop()
            self._patch = None
        _run.GLOBAL_RUN_CONTEXT.runner.runq.extend(held)

    def _find(self, task: trio.lowlevel.Task) -> deque[trio.lowlevel.Task] | None:
        above: trio.lowlevel.Task | None = task
        while above is not None:
            held = self._held.get(above)
            if held is not None:
                return held
            above = above.parent_nursery.parent_task if above.parent_nursery else None
        return None
