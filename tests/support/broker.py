"""A real `fastmq serve` in a child process, for tests that look at it from outside.

`Broker` starts it on a free port of 127.0.0.1 and waits for the ready file; `kill` is SIGKILL and
`start` after it comes back on the same data directory and the same port, so that clients find it
again. Output goes to `log_path`, which survives the test in pytest's temporary directory.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fastmq

from support.process import BrokerDied, ServerProcess

__all__ = ["Broker", "BrokerDied"]

# What the console script does, found where this interpreter finds the package.
_COMMAND = (sys.executable, "-c", "import sys; from fastmq.cli import main; sys.exit(main())")
_PACKAGE_PARENT = str(Path(fastmq.__file__).resolve().parent.parent)


class Broker(ServerProcess):
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
        super().__init__(root, "broker.log", host, port)
        self.data_dir = data_dir or root / "data"
        self.ready_path = root / "ready"
        self.overrides = dict(overrides or {})
        self.dev = dev
        self.args = list(args)
        self.wrap = list(wrap)
        self.env = dict(env or {})

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

    def _serves(self) -> bool:
        """Whether the ready file is there; the port stands in it."""
        with contextlib.suppress(FileNotFoundError):
            address = rf"(?:{re.escape(self.host)}|localhost):(\d+)"
            found = re.search(address, self.ready_path.read_text())
            if found:
                self.port = int(found[1])
                return True
        return False
