"""etcd processes for tests: one to three members on free ports of 127.0.0.1, or on hosts given.

`etcd_missing()` says why there is none here; `.ci/run` installs Debian's `etcd-server`.
"""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

START_TIMEOUT_S = 30.0


def etcd_missing() -> str | None:
    """Why tests with etcd cannot run here, or None."""
    try:
        import httpx  # noqa: F401
    except ImportError:
        return "httpx is not installed: pip install '.[etcd]'"
    return None if shutil.which("etcd") else "there is no etcd here: apt install etcd-server"


def free_ports(count: int) -> list[int]:
    """Ports that are free now; held all at once, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


class EtcdCluster:
    """Members of one etcd cluster.

    Args:
        root: a directory of its own.
        members: how many.
        tls: files for the client side, as etcd's options `--cert-file` and `--key-file`.
        hosts: for each member its address, and what to put before its command to run it there.
    """

    def __init__(
        self,
        root: Path,
        members: int = 1,
        tls: Mapping[str, Path] | None = None,
        hosts: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        places = hosts or [("127.0.0.1", ())] * members
        ports = free_ports(2 * members)
        scheme = "https" if tls else "http"
        addresses = [address for address, _ in places]
        self.endpoints = tuple(
            f"{scheme}://{address}:{port}"
            for address, port in zip(addresses, ports[:members], strict=True)
        )
        self._peers = [
            f"http://{address}:{port}"
            for address, port in zip(addresses, ports[members:], strict=True)
        ]
        self._wraps = [wrap for _, wrap in places]
        self._root = root
        self._tls = dict(tls or {})
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, member: int) -> None:
        """Start a member, new or again on its data."""
        name = f"m{member}"
        cluster = ",".join(f"m{n}={url}" for n, url in enumerate(self._peers))
        self._root.mkdir(parents=True, exist_ok=True)
        options = {
            "name": name,
            "data-dir": self._root / name,
            "listen-client-urls": self.endpoints[member],
            "advertise-client-urls": self.endpoints[member],
            "listen-peer-urls": self._peers[member],
            "initial-advertise-peer-urls": self._peers[member],
            "initial-cluster": cluster,
            "initial-cluster-token": self._root.name,
            "heartbeat-interval": "50",
            "election-timeout": "500",
            **self._tls,
        }
        command = [
            *self._wraps[member],
            "etcd",
            *(f"--{key}={value}" for key, value in options.items()),
        ]
        with (self._root / f"{name}.log").open("ab") as log:
            self._processes[member] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start_all(self) -> None:
        """Start all members and wait until they serve."""
        for member in range(len(self.endpoints)):
            self.start(member)
        for member in range(len(self.endpoints)):
            self.wait(member)

    def wait(self, member: int) -> None:
        """Wait until a member is healthy."""
        context = ssl._create_unverified_context()
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._processes[member].poll() is None, self.log_tail(member)
            try:
                url = f"{self.endpoints[member]}/health"
                with urllib.request.urlopen(url, timeout=1, context=context) as answer:
                    if b'"true"' in answer.read():
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"etcd did not start:\n{self.log_tail(member)}")

    def log_tail(self, member: int) -> str:
        """The end of a member's output."""
        return (self._root / f"m{member}.log").read_text(errors="replace")[-3000:]

    def is_running(self, member: int) -> bool:
        """Whether a member's process is there."""
        return member in self._processes and self._processes[member].poll() is None

    def leader(self) -> int:
        """The member that leads."""
        running = [member for member in self._processes if self.is_running(member)]
        assert running, "no member runs"
        ids = {self._status(n)["header"]["member_id"]: n for n in running}
        return ids[self._status(running[0])["leader"]]

    def revision(self) -> int:
        """How many transactions have changed something, as the first member that runs has it."""
        running = next(n for n in range(len(self.endpoints)) if self.is_running(n))
        header = self._status(running)["header"]
        assert isinstance(header, dict)
        return int(header["revision"])

    def _status(self, member: int) -> dict[str, dict[str, str] | str]:
        request = urllib.request.Request(
            f"{self.endpoints[member]}/v3/maintenance/status", data=b"{}"
        )
        with urllib.request.urlopen(request, timeout=2) as answer:
            return json.loads(answer.read())

    def signal(self, member: int, number: int) -> None:
        """Send a signal to a member; SIGKILL is waited for."""
        self._processes[member].send_signal(number)
        if number == signal.SIGKILL:
            self._processes[member].wait(10)

    def stop(self) -> None:
        """End all members and remove their data."""
        for process in self._processes.values():
            process.kill()
            process.wait(10)
        shutil.rmtree(self._root, ignore_errors=True)


@contextmanager
def etcd_cluster(
    root: Path, members: int = 1, tls: Mapping[str, Path] | None = None
) -> Iterator[EtcdCluster]:
    """A running cluster, stopped and removed at the end."""
    cluster = EtcdCluster(root, members, tls)
    try:
        cluster.start_all()
        yield cluster
    finally:
        cluster.stop()
