"""Cold system calls that the standard library lacks, with Python's errors.

For start-up and administration, not for the hot path: a call costs about a microsecond and opens
the directory it is asked about. All functions block; call them from a worker thread where the
disk may be slow. They release the GIL.
"""

import os
from typing import Final

from fastmq._native import _syscalls

__all__ = ["VOLATILE_FILESYSTEMS", "filesystem_type", "sync_filesystem", "trim_memory"]

# linux/magic.h; what a data directory is plausibly found on.
_NAMES: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x794C7630: "overlay",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x65735546: "fuse",
    0x01021997: "9p",
}

VOLATILE_FILESYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
"""Types whose files do not outlive the machine, whatever fsync says."""


def sync_filesystem(path: str | os.PathLike[str]) -> None:
    """Make everything written to the file system that holds a directory durable.

    One call for thousands of fresh files and directories, where an fsync each would take seconds.
    It also writes what other programs have dirty there, so it is for rare moments.

    Args:
        path: a directory on the file system.

    Raises:
        OSError: the directory cannot be opened or the sync failed. As with fsync, a failure is
            final: what was dirty may be lost, and trying again proves nothing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_syscalls.lib.fmq_sync_filesystem(fd), path)
    finally:
        os.close(fd)


def trim_memory() -> None:
    """Give memory that was freed back to the system, where the C library knows how (glibc)."""
    _syscalls.lib.fmq_trim_memory()


def filesystem_type(path: str | os.PathLike[str]) -> str:
    """Name the type of the file system that holds a directory.

    Args:
        path: a directory.

    Returns:
        A name such as "ext4" or "tmpfs"; the magic number in hexadecimal where it has no name
        here; "unknown" where the system does not tell.

    Raises:
        OSError: the directory cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        magic = _check(_syscalls.lib.fmq_filesystem_magic(fd), path)
    finally:
        os.close(fd)
    return _NAMES.get(magic, hex(magic)) if magic else "unknown"


def _check(result: int, path: str | os.PathLike[str]) -> int:
    """Return a result >= 0; raise OSError for -errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), os.fspath(path))
    return result
