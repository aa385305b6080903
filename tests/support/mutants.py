"""Deliberately broken brokers, which the checker of histories must catch.

A mutant is the real broker in a process whose Python was changed before `main` ran, or whose
`fdatasync` does nothing; it exists only in tests, nothing of it is in the package.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from support.broker import Broker

# Produce through Python, where it can be changed.
_SLOW_PRODUCE = """
from fastmq._native import core
import fastmq.server.running_topics as topics
real_config = topics.native_config
def with_slow_produce(*args, **options):
    options["flags"] = options.get("flags", 0) | core.SLOW_PRODUCE
    return real_config(*args, **options)
topics.native_config = with_slow_produce
import fastmq.server.handlers.produce as produce
real_append = produce._append
"""

MUTATIONS = {
    # The same detour through Python as some mutants, but right.
    "none": _SLOW_PRODUCE,
    # The answer goes out, and the append follows when it suits.
    "ack before append": _SLOW_PRODUCE
    + """
import trio
late = {}
async def append(context, request, message, asked, partition, answer, waits):
    topic, handle = produce._find(context, request, message, asked, partition.index)
    queue = late.setdefault(handle, [])
    answer.base_offset = handle.log_end() + len(queue)
    queue.append(bytearray(partition.records))
    trio.lowlevel.spawn_system_task(write, context, handle, queue)
async def write(context, handle, queue):
    await trio.sleep(0.5)
    handle.append(queue.pop(0), wait_token=context.appends.new(), now_ms=context.clock.now_ms())
produce._append = append
""",
    # A producer that comes back after a restart is a stranger.
    "forget producers at restart": _SLOW_PRODUCE
    + """
known = set()
async def append(context, request, message, asked, partition, answer, waits):
    topic, handle = produce._find(context, request, message, asked, partition.index)
    if handle not in known:
        known.add(handle)
        handle.log_end()
        handle.expire_producers(1 << 60)
    await real_append(context, request, message, asked, partition, answer, waits)
produce._append = append
""",
    # The end that clients are told lies one record too low.
    "high watermark off by one": """
import fastmq.server.handlers.offsets as offsets
real_find = offsets._find
def find(handle, version, partition, **options):
    offset, timestamp, epoch = real_find(handle, version, partition, **options)
    return (max(offset - 1, 0) if partition.timestamp == -1 else offset), timestamp, epoch
offsets._find = find
""",
    # Members that were thrown out may still commit.
    "stale generation accepted": """
import fastmq.coordinator.group.shard as shard
from fastmq.errors import ErrorCode
shard.check_commit = lambda group, request: ErrorCode.NONE
""",
    # The same values are stored again when a producer repeats them.
    "sequences not checked": _SLOW_PRODUCE
    + """
import struct
async def append(context, request, message, asked, partition, answer, waits):
    batch = bytearray(partition.records)
    struct.pack_into(">qhi", batch, 43, -1, -1, -1)
    struct.pack_into(">I", batch, 17, core.crc32c(bytes(batch[21:])))
    partition.records = bytes(batch)
    await real_append(context, request, message, asked, partition, answer, waits)
produce._append = append
""",
}

# fdatasync that notes what it has made durable, or pretends to: descriptor's path and its size.
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int synced(int fd, const char *name) {
    if (getenv("SHIM_LIES") != NULL) {
        return 0;
    }
    struct stat before;
    char link[64], path[4096], line[4200];
    int known = fstat(fd, &before) == 0;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = real(fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    int notes = open(getenv("SHIM_NOTES"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (result == 0 && known && size > 0 && notes >= 0) {
        path[size] = 0;
        int length = snprintf(line, sizeof line, "%lld %s\n", (long long)before.st_size, path);
        ssize_t written = write(notes, line, (size_t)length);
        (void)written;
    }
    if (notes >= 0) {
        close(notes);
    }
    return result;
}
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }
"""


class Mutant(Broker):
    """A broker with one of `MUTATIONS`."""

    def __init__(self, root: Path, mutation: str, **options: Any) -> None:
        super().__init__(root, **options)
        self.mutation = mutation

    def command(self) -> list[str]:
        """Start it with the mutation put before `main`."""
        plain = super().command()
        at = plain.index("-c") + 1
        plain[at] = f"{MUTATIONS[self.mutation]}\n{plain[at]}"
        return plain


def build_shim(directory: Path) -> Path:
    """Compile the shim for `LD_PRELOAD`."""
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(_SHIM)
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


def cut_power(broker: Broker, notes: Path) -> int:
    """Kill the broker and take away what was not synced; return the bytes that went.

    A model of a power cut that needs no device of its own: every segment is cut to the size at
    which it was last synced.
    """
    broker.kill()
    synced: dict[str, int] = {}
    for line in notes.read_text().splitlines() if notes.exists() else ():
        size, _, path = line.partition(" ")
        synced[path] = max(synced.get(path, 0), int(size))
    lost = 0
    for path in Path(broker.data_dir).glob("*/*.log"):
        size, kept = path.stat().st_size, synced.get(str(path.resolve()), 0)
        if kept < size:
            lost += size - kept
            with path.open("r+b") as file:
                file.truncate(kept)
    return lost


def is_available() -> bool:
    """Whether a library can be put before the C library here."""
    return sys.platform == "linux"
