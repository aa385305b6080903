"""A real `fastmq serve` in a child process, for tests that look at it from outside.

`Broker` starts it on a free port of 127.0.0.1 and waits for the ready file; `kill` is SIGKILL and
`start` after it comes back on the same data directory and the same port, so that clients find it
again. Output goes to `log_path`, which survives the test in pytest's temporary directory.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import fastmq

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0

# What the console script does, found where this interpreter finds the package.
_COMMAND = (sys.executable, "-c", "import sys; from fastmq.cli import main; sys.exit(main())")
_PACKAGE_PARENT = str(Path(fastmq.__file__).resolve().parent.parent)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class BrokerDied(AssertionError):  # noqa: N818 - reads as what happened
    """The broker ended or hung when it should have served; the message ends with its output."""


class Broker:
    """One broker process and its data directory.

    Args:
        root: a directory of its own: holds `data`, the ready file and the log.
        overrides: configuration, as `--override key=value`.
        dev: pass `--dev` (no fsync, no rebalance delay).
        args: further arguments of `fastmq serve`.
        data_dir: the data directory, when not `root/data`; several with commas.
        port: 0 for a free one.
        host: the address it listens on.
        wrap: a command put before the broker's own, such as ("taskset", "-c", "0").
        env: added to the environment.
    """

    def __init__(
        self,
        root: Path,
        *,
        overrides: Mapping[str, object] | None = None,
        dev: bool = True,
        args: Sequence[str] = (),
        data_dir: Path | str | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        wrap: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.data_dir = data_dir or root / "data"
        self.log_path = root / "broker.log"
        self.ready_path = root / "ready"
        self.overrides = dict(overrides or {})
        self.dev = dev
        self.args = list(args)
        self.port = port
        self.host = host
        self.wrap = list(wrap)
        self.env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None

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

    def command(self) -> list[str]:
        """The whole command line."""
        command = [*self.wrap, *_COMMAND, "serve"]
        command += ["--data-dir", str(self.data_dir), "--listen", f"{self.host}:{self.port}"]
        command += ["--ready-file", str(self.ready_path)]
        if self.dev:
            command.append("--dev")
        for key, value in self.overrides.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["--override", f"{key}={text}"]
        return command + self.args

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting until it serves."""
        assert self.process is None, "already started"
        self.root.mkdir(parents=True, exist_ok=True)
        self.ready_path.unlink(missing_ok=True)
        env = {**os.environ, "PYTHONPATH": _PACKAGE_PARENT, "PYTHONUNBUFFERED": "1", **self.env}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> float:
        """Start it and wait until it serves.

        Returns:
            Seconds from the start of the process to the ready file.

        Raises:
            BrokerDied: it ended, or was not ready in time.
        """
        began = time.monotonic()
        self.spawn()
        self.wait_ready(timeout_s)
        return time.monotonic() - began

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait for the ready file and learn the port from it."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while not self._read_ready():
            if self.process.poll() is not None:
                code = self._forget()
                raise BrokerDied(f"ended with {code} before it served:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerDied(f"not ready after {timeout_s} s:\n{self.log_tail()}")
            time.sleep(0.005)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it with SIGTERM and require exit code 0.

        Raises:
            BrokerDied: it had ended before, answered with another code, or hung.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerDied(f"SIGTERM ignored for {timeout_s} s:\n{self.log_tail()}") from None
        code = self._forget()
        if code != 0:
            raise BrokerDied(f"exit code {code} after SIGTERM:\n{self.log_tail()}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self._forget()

    def pause(self) -> None:
        """SIGSTOP, and wait until each thread stands still: the signal reaches them one by one."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while any(state != "T" for state in self._thread_states()):
            assert time.monotonic() < deadline, "the broker does not stop"
            time.sleep(0.001)

    def _thread_states(self) -> list[str]:
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]

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

    def _read_ready(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            address = rf"(?:{re.escape(self.host)}|localhost):(\d+)"
            found = re.search(address, self.ready_path.read_text())
            if found:
                self.port = int(found[1])
                return True
        return False

    def _forget(self) -> int:
        assert self.process is not None
        code = self.process.wait()
        self.process = None
        return code
