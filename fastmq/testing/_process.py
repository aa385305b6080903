"""A broker in a child process, seen from its parent."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import fastmq

__all__ = ["BrokerProcess", "ProcessFailedError"]

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_TAIL_LINES = 40
_PACKAGE_PARENT = str(Path(fastmq.__file__).resolve().parent.parent)
_COMMAND = "from fastmq.testing._child import main; main()"


# Those that hang by a pipe of this process. A fork inherits the pipe, and would keep the broker
# alive after this process has gone.
_attached: "weakref.WeakSet[BrokerProcess]" = weakref.WeakSet()


def _after_fork() -> None:
    for process in _attached:
        process.let_go()


os.register_at_fork(after_in_child=_after_fork)


class ProcessFailedError(Exception):
    """The process ended or hung when it should have served; the message ends with its log."""


class BrokerProcess:
    """One life of a broker.

    Args:
        overrides: `key=value` texts.
        root: where its log is written; it also runs there.
        remove: whether `root` is to be removed by the broker when its parent dies.
    """

    def __init__(self, overrides: list[str], root: Path, *, remove: bool) -> None:
        self._overrides = overrides
        self._root = root
        self._remove = remove
        self.log_path = root / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    def start(self) -> dict[str, Any]:
        """Start it, wait until it serves, and return what it announced.

        Raises:
            ProcessFailedError: it did not serve.
        """
        settings = {
            "overrides": self._overrides,
            "remove": str(self._root) if self._remove else None,
        }
        path = os.pathsep.join(filter(None, [_PACKAGE_PARENT, os.environ.get("PYTHONPATH")]))
        with self.log_path.open("ab") as log:
            # Standard input is the thread it hangs by: it is open as long as this process lives.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                [sys.executable, "-c", _COMMAND, json.dumps(settings)],
                cwd=self._root,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        _attached.add(self)
        line = self._first_line()
        if not line:
            self.kill()
            raise ProcessFailedError(f"the broker did not start:\n{self.log_tail()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it with SIGTERM.

        Raises:
            ProcessFailedError: it failed before or while it stopped.
        """
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            code = process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProcessFailedError(
                f"the broker has not stopped within {_STOP_TIMEOUT_S:g} s:\n{self.log_tail()}"
            ) from None
        self._forget()
        if code:
            raise ProcessFailedError(f"the broker ended with {code}:\n{self.log_tail()}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(_STOP_TIMEOUT_S)
            self._forget()

    def log_text(self) -> str:
        """What it has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        """The end of that."""
        return "\n".join(self.log_text().splitlines()[-_TAIL_LINES:])

    def let_go(self) -> None:
        """Close what ties the broker to this process; in a fork of it, which is no parent."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        os.close(pipe.fileno())

    def _first_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        deadline = time.monotonic() + _START_TIMEOUT_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    return b""
                piece = os.read(out, 4096)
                if not piece:
                    return b""
                line += piece
        return line

    def _forget(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
