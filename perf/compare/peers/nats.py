"""NATS JetStream: one stream in files, every message acknowledged by the server.

Built from the Go module proxy where there is a Go compiler, because Debian's version does not know
`sync_interval: always`; else Debian's package.
"""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from compare.peers.base import (
    INSTALL_TIMEOUT_S,
    READY_TIMEOUT_S,
    Peer,
    Running,
    apt_install,
    end_process,
    first_line,
    free_port,
    spawn,
    tree_bytes,
    wait_or_end,
)

MODULE = "github.com/nats-io/nats-server/v2@v2.15.2"
STREAM = "perf"
HELLO = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB _INBOX.@@@@@@ 1\r\n'


class Nats(Peer):
    """`nats-server` with JetStream."""

    name = "nats"
    title = "NATS JetStream"
    durable = False  # whether each acknowledgement waits for an fsync

    def prepare(self) -> None:
        if self._command() is not None:
            return
        if shutil.which("go") and self.may_install:
            place = _cache()
            place.mkdir(parents=True, exist_ok=True)
            built = subprocess.run(
                ["go", "install", MODULE],
                env={**os.environ, "GOBIN": str(place)},
                capture_output=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
            if built.returncode == 0:
                return
        apt_install("nats-server", self.may_install)

    def _command(self) -> str | None:
        own = _cache() / "nats-server"
        return str(own) if own.exists() else shutil.which("nats-server")

    def version(self) -> str:
        return first_line([str(self._command()), "--version"]).rpartition(" ")[2]

    def can_sync_always(self) -> bool:
        """Known since 2.10."""
        numbers = self.version().lstrip("v").split(".")
        return (int(numbers[0]), int(numbers[1])) >= (2, 10)

    def settings(self) -> dict[str, Any]:
        return {"storage": "file", "replicas": 1, "sync_interval": "2m (its default) or always"}

    def start(self) -> Running:
        port = free_port()
        self.root.mkdir(parents=True, exist_ok=True)
        sync = "sync_interval: always" if self.durable else ""
        config = self.root / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{port}\nmax_pending: 1GB\n"
            f'jetstream {{ store_dir: "{self.root}/data"\n max_file: 64GB\n {sync} }}\n'
        )
        process = spawn([str(self._command()), "-c", str(config)], self.root)
        start_s = wait_or_end(process, lambda: _is_ready(port), READY_TIMEOUT_S, self.name)
        return Running(self, port, process.pid, lambda: end_process(process), start_s)

    def install_bytes(self) -> int:
        return tree_bytes(Path(str(self._command())))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "fastmq", "nats-2.15.2")


def _is_ready(port: int) -> bool:
    try:
        return "error" not in ask(port, "INFO", None)
    except OSError:
        return False


def ask(port: int, subject: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """One request of the JetStream API.

    Raises:
        OSError: nobody answered.
    """
    payload = json.dumps(body).encode() if body is not None else b""
    with socket.create_connection(("127.0.0.1", port), 2) as sock:
        sock.settimeout(10)
        sock.sendall(HELLO.replace(b"@@@@@@", b"asking"))
        sock.sendall(b"PUB $JS.API.%s _INBOX.asking %d\r\n" % (subject.encode(), len(payload)))
        sock.sendall(payload + b"\r\n")
        data = b""
        while b"\nMSG " not in data or not data.endswith(b"\r\n"):
            piece = sock.recv(1 << 16)
            if not piece:
                raise OSError("closed")
            data += piece
        head, _, rest = data.partition(b"\nMSG ")[2].partition(b"\r\n")
        size = int(head.split()[-1])
        while len(rest) < size:
            rest += sock.recv(1 << 16)
        answer: dict[str, Any] = json.loads(rest[:size])
        return answer
