"""The consumer processes of `fastmq autoscale`.

Worker numbers are 0 to target - 1. One beyond the target gets SIGTERM, and SIGKILL when it has not
ended in time. One that ends by itself is started again, later each time that it does so soon after
its start. A worker is in a process group of its own: Ctrl-C on the terminal reaches only the
command, which then ends the workers in order.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Workers"]

_BACKOFF_MIN_S = 1.0
_BACKOFF_MAX_S = 30.0
# One that has lived so long is not one that cannot start.
_SETTLED_S = 10.0
_LOOK_S = 0.02

Ended = Callable[[int, int, int, float], None]
"""Called with number, pid, exit code and the seconds until the next start."""


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    started_s: float
    kill_at_s: float | None = None


class Workers:
    """Processes that run one command.

    Args:
        command: with its arguments.
        on_ended: told of a worker that ended by itself.

    Attributes:
        target: how many should run.
        stop_timeout_s: from SIGTERM to SIGKILL.
        killed: how many had to be killed.
    """

    def __init__(self, command: list[str], on_ended: Ended) -> None:
        self._command = command
        self._on_ended = on_ended
        self._running: dict[int, _Worker] = {}
        self._stopping: list[_Worker] = []
        self._not_before_s: dict[int, float] = {}
        self._backoff_s: dict[int, float] = {}
        self.target = 0
        self.stop_timeout_s = 30.0
        self.killed = 0

    def set_target(self, count: int, now_s: float) -> None:
        """Change how many run; those that are too many are asked to end, the newest first."""
        self.target = count
        for number in sorted(self._running, reverse=True):
            if number >= count:
                self._ask_to_end(self._running.pop(number), now_s)

    def tend(self, now_s: float) -> None:
        """Notice who has ended, kill who does not, start who is missing."""
        for worker in [w for w in self._running.values() if w.process.poll() is not None]:
            del self._running[worker.number]
            self._note_end(worker, now_s)
        self._reap(now_s)
        for number in range(self.target):
            if number not in self._running and now_s >= self._not_before_s.get(number, now_s):
                self._start(number, now_s)

    def wait(self, seconds: float) -> None:
        """Pause; a signal cuts it short when its handler raises, else the next look sees it."""
        time.sleep(seconds)

    def stop_all(self, is_hurried: Callable[[], bool]) -> int:
        """End all workers; return how many had to be killed in all.

        Args:
            is_hurried: whether to kill them without waiting any longer.
        """
        self.set_target(0, time.monotonic())
        while self._stopping:
            if is_hurried():
                for worker in self._stopping:
                    worker.kill_at_s = 0.0
            self._reap(time.monotonic())
            time.sleep(_LOOK_S)
        return self.killed

    def _start(self, number: int, now_s: float) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - what the user asks for
                self._command,
                env={**os.environ, "FASTMQ_WORKER": str(number)},
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as exc:
            self._on_ended(number, 0, exc.errno or 1, self._delay(number, now_s))
            return
        self._running[number] = _Worker(number, process, now_s)

    def _note_end(self, worker: _Worker, now_s: float) -> None:
        if now_s - worker.started_s >= _SETTLED_S:
            self._backoff_s.pop(worker.number, None)
        delay_s = self._delay(worker.number, now_s)
        self._on_ended(worker.number, worker.process.pid, worker.process.returncode, delay_s)

    def _delay(self, number: int, now_s: float) -> float:
        delay_s = self._backoff_s.get(number, _BACKOFF_MIN_S)
        self._backoff_s[number] = min(delay_s * 2, _BACKOFF_MAX_S)
        self._not_before_s[number] = now_s + delay_s
        return delay_s

    def _ask_to_end(self, worker: _Worker, now_s: float) -> None:
        worker.kill_at_s = now_s + self.stop_timeout_s
        worker.process.send_signal(signal.SIGTERM)
        self._stopping.append(worker)

    def _reap(self, now_s: float) -> None:
        for worker in list(self._stopping):
            if worker.process.poll() is not None:
                self._stopping.remove(worker)
            elif worker.kill_at_s is not None and now_s >= worker.kill_at_s:
                worker.process.kill()
                worker.process.wait()
                self.killed += 1
                self._stopping.remove(worker)
