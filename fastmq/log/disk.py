"""The file system as the log package sees it.

One small class, so that tests can hand in a disk that fails or fills up at any call. Every method
is one blocking operation: call it from a worker thread, or before the broker serves. With
`durable=False` nothing is synced (`--dev`).
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

__all__ = ["Disk"]

_FILE_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755


class Disk:
    """The real file system.

    Args:
        durable: make files and names survive a power cut where a method promises it.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._durable = durable

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return a whole small file.

        Raises:
            OSError: it cannot be read, or is larger than `max_bytes` (EFBIG).
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            size = 0
            while part := os.read(fd, 1 << 20):
                size += len(part)
                if size > max_bytes:
                    raise OSError(errno.EFBIG, "the file is too large", path)
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def write_new(self, path: str, data: bytes) -> None:
        """Write a small file in place, without a sync: its content may be lost in a power cut."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(path, flags, _FILE_MODE)
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)

    def touch(self, path: str) -> None:
        """Have a file of that name, empty when it is new; without a sync."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace a file: whatever happens, it holds the old content or the new, and the new one
        is durable when this returns.
        """
        temporary = path + ".tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(temporary, flags, _FILE_MODE)
        try:
            _write_all(fd, data)
            if self._durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)  # noqa: PTH104 - a path object per call would cost more
        self.sync_dir(str(Path(path).parent))

    def make_dir(self, path: str) -> None:
        """Create a directory; nothing happens when it exists. Durable after `sync_dir` above it."""
        try:
            os.mkdir(path, _DIRECTORY_MODE)  # noqa: PTH102 - called for thousands of partitions
        except FileExistsError:
            if not os.path.isdir(path):  # noqa: PTH112
                raise

    def make_dirs(self, path: str) -> None:
        """Create a directory and those above it, durably."""
        missing = []
        current = Path(path)
        while not current.is_dir():
            missing.append(current)
            current = current.parent
        for directory in reversed(missing):
            self.make_dir(str(directory))
            self.sync_dir(str(directory.parent))

    def rename(self, old: str, new: str) -> None:
        """Rename a file or directory. Durable after `sync_dir` of its parent."""
        os.rename(old, new)  # noqa: PTH104

    def unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)  # noqa: PTH108

    def remove_dir(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)  # noqa: PTH106

    def list_dir(self, path: str) -> list[tuple[str, bool]]:
        """Return (name, is a directory) of each entry, by name; a link is no directory."""
        with os.scandir(path) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)

    def sync_dir(self, path: str) -> None:
        """Make the names in a directory durable."""
        if not self._durable:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def space(self, path: str) -> tuple[int, int]:
        """Return (bytes in all, bytes that this process can still use) of a file system."""
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def lock(self, path: str) -> int | None:
        """Lock a file for this process, creating it; None when another process has it.

        Returns:
            The descriptor that holds the lock. The system gives the lock back when the process
            ends, however it ends.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_holder(fd)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def unlock(self, fd: int) -> None:
        """Give a lock back."""
        os.close(fd)


def _write_holder(fd: int) -> None:
    """Write who has the lock, for the message to others; a full disk must not stop the start."""
    try:
        # Always the same size, so that a block that is there is enough.
        os.pwrite(fd, b"%-10d\n" % os.getpid(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
