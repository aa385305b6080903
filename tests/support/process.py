"""A server in a child process, from its start to its end, whatever server it is."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PAUSE_TIMEOUT_S = 10.0


class BrokerDied(AssertionError):  # noqa: N818 - reads as what happened
    """The broker ended or hung when it should have served; the message ends with its output."""


class ServerProcess:
    """The life of one process; leaving the block stops it, with an error kills it.

    A kind of server says how it is spawned and when it serves, and may have other class attributes.

    Args:
        root: a directory of its own.
        log_name: of the file there that its output goes to, over all its lives.
        host: where it listens.
        port: 0 for a free one.
    """

    ready_timeout_s: ClassVar[float] = 20.0
    stop_timeout_s: ClassVar[float] = 20.0
    poll_s: ClassVar[float] = 0.005
    exit_codes: ClassVar[frozenset[int]] = frozenset({0})

    def __init__(self, root: Path, log_name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.root = root
        self.log_path = root / log_name
        self.host = host
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting until it serves."""
        raise NotImplementedError

    def _serves(self) -> bool:
        raise NotImplementedError

    # ------------------------------------------------------------------------------- life cycle

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is None:
            return
        if kind is None:
            self.stop()
        else:
            self.kill()
            sys.stderr.write(f"--- end of {self.log_path}\n{self.log_tail()}")

    def start(self, timeout_s: float | None = None) -> float:
        """Start it and wait until it serves.

        Returns:
            Seconds that took.

        Raises:
            BrokerDied: it ended, or was not ready in time.
        """
        began = time.monotonic()
        self.spawn()
        self.wait_ready(timeout_s)
        return time.monotonic() - began

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until it serves."""
        assert self.process is not None
        timeout_s = self.ready_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while not self._serves():
            if self.process.poll() is not None:
                code = self._forget()
                raise BrokerDied(f"ended with {code} before it served:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerDied(f"not ready after {timeout_s} s:\n{self.log_tail()}")
            time.sleep(self.poll_s)

    def stop(self, timeout_s: float | None = None) -> None:
        """End it with SIGTERM and require the right exit code.

        Raises:
            BrokerDied: it had ended before, answered with another code, or hung.
        """
        assert self.process is not None
        timeout_s = self.stop_timeout_s if timeout_s is None else timeout_s
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerDied(f"SIGTERM ignored for {timeout_s} s:\n{self.log_tail()}") from None
        code = self._forget()
        if code not in self.exit_codes:
            raise BrokerDied(f"exit code {code} after SIGTERM:\n{self.log_tail()}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(self.stop_timeout_s)
        self._forget()

    def pause(self) -> None:
        """SIGSTOP, and wait until each thread stands still: the signal reaches them one by one."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + _PAUSE_TIMEOUT_S
        while any(state != "T" for state in self._thread_states()):
            assert time.monotonic() < deadline, "the broker does not stop"
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    # ------------------------------------------------------------------------------- look at it

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self.process is not None, "not running"
        return self.process.pid

    @property
    def bootstrap(self) -> str:
        """What clients call `bootstrap.servers`."""
        assert self.port, "not started yet"
        return f"{self.host}:{self.port}"

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def log_text(self) -> str:
        """Everything it has printed, over all its lives."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        """The end of what it has printed."""
        return "\n".join(self.log_text().splitlines()[-lines:]) + "\n"

    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * _PAGE_BYTES

    def private_bytes(self) -> int:
        """Memory of its own: without the pages of files, which come and go."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
        assert kib is not None
        return int(kib[1]) << 10

    def fd_count(self) -> int:
        """Open descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def cpu_seconds(self) -> float:
        """User and system time used so far, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    # ---------------------------------------------------------------------------------- private

    def _thread_states(self) -> list[str]:
        states = []
        for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                states.append(stat.read_text().rpartition(")")[2].split()[0])
        return states

    def _forget(self) -> int:
        assert self.process is not None
        code = self.process.wait()
        self.process = None
        return code
