"""The clients of the matrix: how each is started, what it can do, and whether it is here."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
NODE_SOURCE = HERE / "node"
ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, slots=True)
class Settings:
    """How one slice is produced."""

    acks: str
    idempotent: bool
    codec: str

    def __str__(self) -> str:
        kind = "idempotent" if self.idempotent else f"acks={self.acks}"
        return f"{kind} {self.codec}"


@dataclass(frozen=True, slots=True)
class Client:
    """One client: a worker script and the interpreter that runs it."""

    name: str
    worker: str
    codecs: tuple[str, ...] = ALL_CODECS
    package: str | None = None  # of the Python clients
    tells_assignments: bool = True

    def settings(self) -> Iterator[Settings]:
        """acks 0, 1 and all and idempotent; every codec at least once."""
        kinds = (("0", False), ("1", False), ("all", False), ("all", True))
        for i in range(max(len(kinds), len(self.codecs))):
            acks, idempotent = kinds[i % len(kinds)]
            yield Settings(acks, idempotent, self.codecs[i % len(self.codecs)])

    def missing(self) -> str | None:
        """Why the client cannot run here; None when it can."""
        if self.package is not None:
            found = importlib.util.find_spec(self.package)
            return None if found else f"the Python package {self.package} is not installed"
        if self.worker.endswith(".py"):
            return None if shutil.which(self.name) else f"{self.name} is not on the path"
        return node_missing()

    def command(self, mode: str, job: dict[str, object]) -> list[str]:
        """The command line of a worker."""
        if self.worker.endswith(".py"):
            program = [sys.executable, str(HERE / "workers" / self.worker)]
        else:
            program = ["node", str(node_directory() / self.worker)]
        return [*program, mode, json.dumps(job)]

    def version(self) -> str:
        """For the table."""
        if self.package is not None:
            return importlib.metadata.version(self.name)
        if self.worker.endswith(".py"):
            text = subprocess.run([self.name, "-V"], capture_output=True, text=True, check=True)
            return text.stdout.partition("Version ")[2].split()[0]
        package = node_directory() / "node_modules" / self.name / "package.json"
        return str(json.loads(package.read_text())["version"])


CLIENTS = (
    Client("confluent-kafka", "confluent_worker.py", package="confluent_kafka"),
    Client(
        "kafka-python",
        "kafka_python_worker.py",
        # snappy would need one more package
        codecs=("none", "gzip", "lz4", "zstd"),
        package="kafka",
    ),
    Client("aiokafka", "aiokafka_worker.py", package="aiokafka"),
    Client(
        "kcat", "kcat_worker.py", codecs=("none", "gzip", "snappy", "lz4"), tells_assignments=False
    ),
    Client("kafkajs", "kafkajs_worker.mjs", codecs=("none", "gzip")),
    Client(
        "@platformatic/kafka",
        "platformatic_worker.mjs",
        codecs=("none", "gzip", "snappy", "lz4"),
        # its events of joining are not in step with its stream of records
        tells_assignments=False,
    ),
)


def node_directory() -> Path:
    """Where the node clients are installed; beside the checkout, never in it."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("INTEROP_NODE_DIR", cache_home / "fastmq-interop-node"))


@cache
def node_missing() -> str | None:
    """Install the node clients once; why that failed, or None."""
    if not shutil.which("npm") or not shutil.which("node"):
        return "npm and node are not on the path"
    target = node_directory()
    target.mkdir(parents=True, exist_ok=True)
    for source in NODE_SOURCE.iterdir():
        shutil.copy(source, target)
    if all(
        (target / "node_modules" / name).is_dir() for name in ("kafkajs", "@platformatic/kafka")
    ):
        return None
    command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"npm install failed: {done.stderr[-300:]}"
