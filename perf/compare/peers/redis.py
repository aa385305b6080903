"""Redis Streams with an append-only file."""

import functools
import shutil
import socket
from typing import Any

from compare.peers.base import (
    READY_TIMEOUT_S,
    Peer,
    Running,
    answers,
    apt_install,
    end_process,
    first_line,
    free_port,
    package_bytes,
    spawn,
    wait_or_end,
)

FLAGS = {
    "appendonly": "yes",
    "appendfsync": "no",  # as Kafka's default; `always` where each acknowledgement is synced
    "save": "",
    "auto-aof-rewrite-percentage": "0",  # no copy of everything in the middle of a measurement
}


class Redis(Peer):
    """`redis-server`."""

    name = "redis"
    title = "Redis Streams"

    def prepare(self) -> None:
        if shutil.which("redis-server") is None:
            apt_install("redis-server", self.may_install)

    def version(self) -> str:
        return first_line(["redis-server", "--version"]).split("v=")[1].split()[0]

    def settings(self) -> dict[str, Any]:
        return dict(FLAGS)

    def start(self) -> Running:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.root), "--maxclients", "10000"]
        for name, value in FLAGS.items():
            command += [f"--{name}", value]
        process = spawn(command, self.root)
        ready = functools.partial(answers, port, b"PING\r\n", 7)
        start_s = wait_or_end(process, ready, READY_TIMEOUT_S, self.name)
        return Running(self, port, process.pid, lambda: end_process(process), start_s)

    def install_bytes(self) -> int:
        return package_bytes("redis-server", "redis-tools", "libjemalloc2", "liblua5.1-0")


def command(*words: bytes) -> bytes:
    """A command as it goes over the wire."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def ask(port: int, *words: bytes) -> bytes:
    """The first line of the answer to a command."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.settimeout(60)
        sock.sendall(command(*words))
        with sock.makefile("rb") as file:
            return file.readline()
