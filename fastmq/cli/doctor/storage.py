"""Checks of the data directory: there, writable, on a disk, with room, how fast it syncs."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fastmq.cli.doctor.findings import Finding, Level
from fastmq.cli.support.output import bytes_text

__all__ = ["check_storage"]

_OK, _HINT, _WARNING, _PROBLEM = Level.OK, Level.HINT, Level.WARNING, Level.PROBLEM

_NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "glusterfs", "afs")
_MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
_FREE_LOW = 0.10
_FREE_LOW_BYTES = 1 << 30
_SYNCS = 20
_SYNC_SLOW_MS = 20.0
# Less than a flash disk with a cache takes: nothing was written.
_SYNC_FAST_MS = 0.02


def check_storage(directory: Path) -> Iterator[Finding]:
    """Look at a data directory, or at the place where it will be made."""
    place = directory.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    name = "data directory"
    if not place.is_dir():
        yield Finding(name, _PROBLEM, f"{place} is no directory", "choose another: --data-dir DIR")
        return
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            name,
            _PROBLEM,
            f"{place} cannot be written to",
            f"chown it to the broker's user, or choose another: --data-dir DIR ({directory})",
        )
        return
    yield Finding(name, _OK, f"{directory}" + ("" if place == directory.absolute() else " (new)"))
    yield _check_type(place)
    yield from _check_room(place)
    yield _check_sync(place)


def _check_type(place: Path) -> Finding:
    from fastmq._native.syscalls import filesystem_type

    try:
        kind = filesystem_type(str(place))
    except (OSError, ValueError) as error:
        return Finding("file system", _HINT, f"unknown: {error}")
    lower = kind.lower()
    if any(one in lower for one in _MEMORY_FILESYSTEMS):
        return Finding(
            "file system", _WARNING, f"{kind}: in memory", "fine for tests; gone with the machine"
        )
    if any(one in lower for one in _NETWORK_FILESYSTEMS):
        return Finding(
            "file system",
            _WARNING,
            f"{kind}: not a local disk",
            "syncs may be slow or not kept; use a local disk",
        )
    if "overlay" in lower:
        return Finding(
            "file system",
            _HINT,
            f"{kind}: of a container",
            "gone with the container; mount a volume there",
        )
    return Finding("file system", _OK, kind)


def _check_room(place: Path) -> Iterator[Finding]:
    space = os.statvfs(place)
    free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    found = f"{bytes_text(free)} of {bytes_text(total)} free"
    low = free < _FREE_LOW_BYTES or (total and free / total < _FREE_LOW)
    yield Finding(
        "disk space",
        _WARNING if low else _OK,
        found,
        "free some, or limit topics: retention.bytes, retention.ms" if low else "",
    )
    if space.f_files and space.f_favail / space.f_files < 0.05:
        yield Finding(
            "inodes",
            _WARNING,
            f"{space.f_favail} of {space.f_files} free",
            "a partition takes a few files per segment; make room, or larger segments",
        )


def _check_sync(place: Path) -> Finding:
    """Write and sync a small file a few times: what a producer with acks=all waits for."""
    times = []
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".fastmq-doctor-") as file:
            for _ in range(_SYNCS):
                file.write(bytes(4096))
                file.flush()
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                times.append((time.perf_counter() - began) * 1000)
    except OSError as error:
        return Finding("sync", _PROBLEM, f"writing failed: {error}", "look at the disk and dmesg")
    middle_ms = sorted(times)[len(times) // 2]
    found = f"4 KiB in {middle_ms:.2f} ms (median of {_SYNCS}, longest {max(times):.2f} ms)"
    if middle_ms > _SYNC_SLOW_MS:
        return Finding(
            "sync",
            _WARNING,
            found,
            "records are acknowledged after a sync: use a faster disk, or fastmq.flush=interval"
            " if the loss of a second is bearable",
        )
    if middle_ms < _SYNC_FAST_MS:
        return Finding(
            "sync",
            _HINT,
            found,
            "faster than a disk can be: what is synced here may not survive a power cut",
        )
    return Finding("sync", _OK, found)
