"""RabbitMQ with its stream plug-in, as a node of its own beside any other on the machine."""

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from compare import rabbit_stream
from compare.peers.base import (
    Peer,
    PeerMissing,
    Running,
    apt_install,
    end_process,
    free_port,
    package_bytes,
    spawn,
    wait_or_end,
)

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_TIMEOUT_S = 120


class RabbitMq(Peer):
    """An Erlang node; its stream port is the one that is used."""

    name = "rabbitmq"
    title = "RabbitMQ streams"

    def prepare(self) -> None:
        if not SERVER.exists():
            apt_install("rabbitmq-server", self.may_install)
        if not SERVER.exists():
            raise PeerMissing(f"{SERVER} is not there")

    def version(self) -> str:
        shown = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"],
            capture_output=True,
            text=True,
            check=False,
        )
        return shown.stdout.partition("-")[0] or "unknown"

    def settings(self) -> dict[str, Any]:
        return {"plugins": ["rabbitmq_stream"], "replicas": 1, "fsync": "never (it has none)"}

    def start(self) -> Running:
        port, amqp, epmd, dist = (free_port() for _ in range(4))
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
            f"stream.listeners.tcp.1 = 127.0.0.1:{port}\n"
            "disk_free_limit.absolute = 100MB\n"
        )
        (self.root / "enabled_plugins").write_text("[rabbitmq_stream].\n")
        env = {
            **os.environ,
            "HOME": str(self.root),  # for the cookie
            "RABBITMQ_NODENAME": "fastmq-compare@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq"),
            "RABBITMQ_MNESIA_BASE": str(self.root / "data"),
            "RABBITMQ_LOG_BASE": str(self.root / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(dist),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        # The port mapper daemonizes when the node starts it; started here it ends with us.
        mapper = shutil.which("epmd") or "epmd"
        names = subprocess.Popen([mapper, "-port", str(epmd), "-address", "127.0.0.1"])
        process = spawn([str(SERVER)], self.root, env=env)

        def end() -> None:
            end_process(process)
            end_process(names)

        try:
            ready = functools.partial(rabbit_stream.answers, port)
            start_s = wait_or_end(process, ready, START_TIMEOUT_S, self.name)
        except BaseException:
            end_process(names)
            raise
        return Running(self, port, _erlang_pid(process.pid), end, start_s)

    def install_bytes(self) -> int:
        listed = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Package}\n", "erlang-*"],
            capture_output=True,
            text=True,
            check=False,
        )
        return package_bytes("rabbitmq-server", *listed.stdout.split())


def _erlang_pid(pid: int) -> int:
    """The virtual machine below the start script, or the process itself."""
    for candidate in [pid, *_children(pid)]:
        if "beam" in Path(f"/proc/{candidate}/comm").read_text():
            return candidate
    return pid


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(word), *_children(int(word))]
    return found
