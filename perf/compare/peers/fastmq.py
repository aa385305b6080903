"""fastmq itself, from this checkout or wherever this interpreter finds it."""

import importlib.metadata
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Any

import fastmq
from compare.peers.base import Peer, Running, answers, pinned, tree_bytes, wait_until

from support.broker import Broker

METADATA_REQUEST = struct.pack(">ihhih4si", 18, 3, 0, 1, 4, b"perf", 0)
OVERRIDES = {
    # As Kafka's default: written to the page cache, synced when the kernel likes.
    "fastmq.flush": "never",
    "fastmq.free.space.floor.bytes": 0,
    "group.initial.rebalance.delay.ms": 0,
}


class Fastmq(Peer):
    """`fastmq serve`."""

    name = "fastmq"
    title = "fastmq"
    speaks_kafka = True

    def prepare(self) -> None:
        """It is what this interpreter imports."""

    def version(self) -> str:
        return fastmq.__version__

    def settings(self) -> dict[str, Any]:
        return {"overrides": OVERRIDES, "python": sys.version.split()[0]}

    def start(self) -> Running:
        broker = Broker(self.root, dev=False, overrides=OVERRIDES, wrap=pinned(()))
        start_s = broker.start()
        start_s += wait_until(lambda: answers(broker.port, METADATA_REQUEST, 8), 10, self.name)
        return Running(self, broker.port, broker.pid, broker.stop, start_s)

    def install_bytes(self) -> int:
        """The package and what it depends on, as pip installs them; Python itself is there."""
        site = Path(sysconfig.get_path("purelib"))
        package = Path(fastmq.__file__).parent
        sources = {f for f in package.rglob("*") if f.suffix in {".pyx", ".pxd", ".c", ".o"}}
        size = tree_bytes(package) - sum(f.stat().st_size for f in sources)
        for name in _dependencies("fastmq"):
            for file in importlib.metadata.files(name) or ():
                path = site / file
                size += path.stat().st_size if path.is_file() else 0
        return size


def _dependencies(name: str, seen: set[str] | None = None) -> set[str]:
    """Names of the distributions that one needs, without extras, without itself."""
    seen = set() if seen is None else seen
    for line in importlib.metadata.requires(name) or ():
        if "extra ==" in line:
            continue
        needed = line.split(";")[0].strip()
        for mark in "<>=!~[ (":
            needed = needed.partition(mark)[0]
        try:
            importlib.metadata.distribution(needed)
        except importlib.metadata.PackageNotFoundError:
            continue
        if needed not in seen:
            seen.add(needed)
            _dependencies(needed, seen)
    return seen
