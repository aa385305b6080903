"""What all brokers have: a process on one core, its CPU time and memory, a pause."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import harness

INSTALL_TIMEOUT_S = 300
READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 30
_KIB = 1024


class PeerMissing(Exception):  # noqa: N818 - reads as what happened
    """This machine does not have the broker and it could not be installed; the text says why."""


class Peer(ABC):
    """One kind of broker.

    Args:
        root: a directory of its own.
        may_install: whether packages may be installed for it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    speaks_kafka: ClassVar[bool] = False

    def __init__(self, root: Path, *, may_install: bool) -> None:
        self.root = root
        self.may_install = may_install

    @abstractmethod
    def prepare(self) -> None:
        """Find or install it.

        Raises:
            PeerMissing: it cannot be had.
        """

    @abstractmethod
    def version(self) -> str:
        """What it calls itself."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Configuration and flags that differ from its defaults, for the report."""

    @abstractmethod
    def start(self) -> "Running":
        """Start it on an empty data directory and wait until it answers."""

    @abstractmethod
    def install_bytes(self) -> int:
        """Size of what has to be installed for it, its runtime included."""


class Running:
    """A broker that runs.

    Args:
        peer: what it is.
        port: where its protocol is spoken.
        pid: the process whose CPU and memory count.
        end: stops it.
        start_s: from the start of the process to its first answer.
    """

    def __init__(
        self, peer: Peer, port: int, pid: int, end: Callable[[], None], start_s: float
    ) -> None:
        self.peer = peer
        self.name = peer.name
        self.port = port
        self.pid = pid
        self.start_s = start_s
        self._end = end
        self._paused = False

    @property
    def target(self) -> harness.Target:
        """For the load generators."""
        return harness.Target(self.name, self.port, self.pid, blind=False)

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far."""
        return self.target.cpu_seconds()

    def pause(self) -> None:
        """Stop its clock while another broker is measured."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Go on, and wait until it answers again."""
        if not self._paused:
            return
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False
        wait_until(lambda: accepts(self.port), READY_TIMEOUT_S, self.name)

    def rss_mib(self) -> float:
        """Resident memory."""
        return _status_kib(self.pid, "VmRSS") / _KIB

    def reset_peak(self) -> None:
        """Forget the highest resident memory so far."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_rss_mib(self) -> float:
        """Highest resident memory since `reset_peak`."""
        return _status_kib(self.pid, "VmHWM") / _KIB

    def stop(self) -> None:
        """End it."""
        if self._paused:
            os.kill(self.pid, signal.SIGCONT)
            self._paused = False
        self._end()


def _status_kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


# --------------------------------------------------------------------------------- small helpers


def pinned(command: Sequence[str]) -> list[str]:
    """The command on the broker's core."""
    return ["taskset", "-c", str(harness.BROKER_CPU), *command]


def spawn(command: Sequence[str], root: Path, **more: Any) -> subprocess.Popen[bytes]:
    """Start a broker on its core, its output in `root/log`."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "log").open("ab") as log:
        return subprocess.Popen(
            pinned(command),
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            **more,
        )


def end_process(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for one that does not hear it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def wait_until(happened: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Wait for something; returns how long it took.

    Raises:
        TimeoutError: it did not happen.
    """
    began = time.monotonic()
    while not happened():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"{what}: no answer in {timeout_s} s")
        time.sleep(0.002)
    return time.monotonic() - began


def wait_or_end(
    process: subprocess.Popen[bytes], happened: Callable[[], bool], timeout_s: float, what: str
) -> float:
    """Wait until a broker that was just started answers; one that does not is ended.

    Raises:
        PeerMissing: it ended by itself.
        TimeoutError: it does not answer.
    """
    try:
        took_s = wait_until(lambda: happened() or process.poll() is not None, timeout_s, what)
    except BaseException:  # a signal, too, must leave nothing behind
        end_process(process)
        raise
    if process.poll() is not None:
        raise PeerMissing(f"it ended with {process.returncode} when it was started")
    return took_s


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def answers(port: int, question: bytes, size: int = 1) -> bool:
    """Whether somebody answers a question with at least `size` bytes."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(question)
            return len(sock.recv(size, socket.MSG_WAITALL)) == size
    except OSError:
        return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def apt_install(package: str, may_install: bool) -> None:
    """Install a Debian package.

    Raises:
        PeerMissing: that was not allowed or did not work.
    """
    if not may_install:
        raise PeerMissing(f"not installed (Debian package {package}; --no-install was given)")
    if shutil.which("apt-get") is None:
        raise PeerMissing("not installed, and there is no apt-get")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # RUNLEVEL=1: Debian's packages then do not start their service.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
        done = subprocess.run(
            [*as_root, *command], capture_output=True, env=env, timeout=INSTALL_TIMEOUT_S
        )
        if done.returncode != 0:
            raise PeerMissing(f"apt-get could not install {package}")


def package_bytes(*packages: str) -> int:
    """Installed size of Debian packages, 0 for those that are not there."""
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Installed-Size}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    return sum(int(line) for line in shown.stdout.split() if line.isdigit()) * _KIB


def tree_bytes(*paths: Path) -> int:
    """Size of all files below these paths."""
    files = (f for path in paths for f in ([path] if path.is_file() else path.rglob("*")))
    return sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink())


def first_line(command: Sequence[str]) -> str:
    """The first line that a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
