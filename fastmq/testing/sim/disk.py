"""A disk that knows what a power cut may take away.

Files are real ones, in memory where the machine has /dev/shm; so the C code reads and sends them as
always. Each change is remembered with what was there before, until a sync makes it last. A crash
copies the directory for the next life: after a killed process as it is, after a power cut with a
random choice of the changes that were not synced: writes whole, in part (at 512 bytes) or not at
all, changes of names up to some point. What the old life does later stays in the old directory.
"""

import errno
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastmq.log import Disk

__all__ = ["SimDisk"]

_SECTOR: Final = 512


@dataclass(slots=True)
class _Write:
    """Bytes that replaced others; a truncation is a write of nothing with a new size."""

    position: int
    data: bytes
    before: bytes
    size_before: int
    size: int | None = None


@dataclass(slots=True, eq=False)
class _File:
    """A file, whatever it is called now."""

    path: str
    writes: list[_Write] = field(default_factory=list)


@dataclass(slots=True)
class _Name:
    """A change in a directory: created, removed (with its last bytes) or renamed."""

    directory: str
    old: str
    new: str
    content: bytes | None = None


class SimDisk(Disk):
    """The files of one life of one broker.

    Args:
        root: its directory.
        rng: draws what a power cut leaves.

    Attributes:
        write_error: what writes fail with, 0: they work.
        sync_error: what syncs fail with.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        super().__init__(durable=True)
        self.root = root
        self._rng = rng
        self._files: dict[str, _File] = {}
        self._open: dict[int, _File] = {}
        self._names: list[_Name] = []
        self.write_error = 0
        self.sync_error = 0

    # ------------------------------------------------------------------- what the C code asks for

    def open_file(self, path: str, flags: int, mode: int) -> int:
        """Open a file; see `fmq_env`."""
        makes = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        if makes and self.write_error:
            return -self.write_error
        cuts = bool(flags & os.O_TRUNC) and not makes and os.path.exists(path)  # noqa: PTH110
        file = self._file(path)
        if cuts:
            self._remember(file, _content(path), 0, b"", size=0)
        fd = os.open(path, flags | os.O_CLOEXEC, mode)
        if makes:
            self._names.append(_Name(os.path.dirname(path), "", path))  # noqa: PTH120
        self._open[fd] = file
        return fd

    def close_file(self, fd: int) -> int:
        """Close a descriptor; the C code closes its own without asking."""
        os.close(fd)
        return 0

    def write_at(self, fd: int, data: bytes, position: int) -> int:
        """Write; the bytes last when the file is synced."""
        if self.write_error:
            return -self.write_error
        file = self._open[fd]
        size = os.fstat(fd).st_size
        before = b""
        if position < size:
            with open(file.path, "rb") as reader:  # noqa: PTH123 - `fd` may be write-only
                reader.seek(position)
                before = reader.read(len(data))
        file.writes.append(_Write(position, data, before, size))
        return os.pwrite(fd, data, position)

    def sync_file(self, fd: int) -> int:
        """Make what was written last."""
        if self.sync_error:
            return -self.sync_error
        file = self._open.get(fd)
        if file is not None:
            file.writes.clear()
        return 0

    def truncate_file(self, fd: int, size: int) -> int:
        """Cut or extend a file; for cutting there is room on a full disk, too."""
        if self.write_error and size > os.fstat(fd).st_size:
            return -self.write_error
        file = self._open[fd]
        self._remember(file, _content(file.path), size, b"", size=size)
        os.ftruncate(fd, size)
        return 0

    def make_name(self, path: str, mode: int) -> int:
        """Make a directory."""
        os.mkdir(path, mode)  # noqa: PTH102
        self._names.append(_Name(os.path.dirname(path), "", path))  # noqa: PTH120
        return 0

    def rename_name(self, old: str, new: str) -> int:
        """Rename a file or directory."""
        replaced = _content(new) if os.path.isfile(new) else None  # noqa: PTH113
        os.rename(old, new)  # noqa: PTH104
        self._files.pop(new, None)
        for path in [p for p in self._files if p == old or p.startswith(old + "/")]:
            file = self._files.pop(path)
            file.path = new + path[len(old) :]
            self._files[file.path] = file
        self._names.append(_Name(os.path.dirname(new), old, new, replaced))  # noqa: PTH120
        return 0

    def unlink_name(self, path: str) -> int:
        """Remove a file."""
        content = _content(path)
        os.unlink(path)  # noqa: PTH108
        self._files.pop(path, None)
        self._names.append(_Name(os.path.dirname(path), path, "", content))  # noqa: PTH120
        return 0

    def sync_names(self, path: str) -> int:
        """Make the names in a directory last."""
        if self.sync_error:
            return -self.sync_error
        self._names = [name for name in self._names if name.directory != path]
        return 0

    def _file(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = _File(path)
        return file

    def _remember(
        self, file: _File, before: bytes, position: int, data: bytes, size: int | None
    ) -> None:
        file.writes.append(_Write(position, data, before[position:], len(before), size))

    # --------------------------------------------------------------------- what Python asks for

    def write_new(self, path: str, data: bytes) -> None:
        """As in `Disk`."""
        self._write_file(path, data, sync=False)

    def touch(self, path: str) -> None:
        """As in `Disk`."""
        self.close_file(_checked(self.open_file(path, os.O_WRONLY | os.O_CREAT, 0o644)))

    def write_atomic(self, path: str, data: bytes) -> None:
        """As in `Disk`."""
        temporary = path + ".tmp"
        self._write_file(temporary, data, sync=True)
        self.rename_name(temporary, path)
        self.sync_dir(os.path.dirname(path))  # noqa: PTH120

    def _write_file(self, path: str, data: bytes, *, sync: bool) -> None:
        fd = _checked(self.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
        try:
            _checked(self.write_at(fd, data, 0))
            if sync:
                _checked(self.sync_file(fd))
        finally:
            self.close_file(fd)

    def make_dir(self, path: str) -> None:
        """As in `Disk`."""
        if not os.path.isdir(path):  # noqa: PTH112
            self.make_name(path, 0o755)

    def rename(self, old: str, new: str) -> None:
        """As in `Disk`."""
        self.rename_name(old, new)

    def unlink(self, path: str) -> None:
        """As in `Disk`."""
        self.unlink_name(path)

    def remove_dir(self, path: str) -> None:
        """As in `Disk`; an empty directory that comes back would do no harm."""
        os.rmdir(path)  # noqa: PTH106
        self._names = [name for name in self._names if name.directory != path]

    def sync_dir(self, path: str) -> None:
        """As in `Disk`."""
        _checked(self.sync_names(path))

    def space(self, path: str) -> tuple[int, int]:
        """As in `Disk`: plenty, or nothing while the disk is full."""
        del path
        return 1 << 40, 0 if self.write_error == errno.ENOSPC else 1 << 39

    def lock(self, path: str) -> int | None:
        """As in `Disk`: a life has its directory for itself."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    # ------------------------------------------------------------------------------------- crashes

    def crash(self, target: Path, *, power: bool) -> int:
        """Copy what a crash leaves to a new directory.

        Args:
            target: must not exist.
            power: the machine goes down, too, and with it what was not synced.

        Returns:
            How many changes were lost or damaged.
        """
        shutil.copytree(self.root, target)
        if not power:
            return 0
        lost = 0
        for file in sorted(self._files.values(), key=lambda file: file.path):
            copy = target / os.path.relpath(file.path, self.root)
            if file.writes and copy.is_file():
                lost += self._lose_writes(copy, file.writes)
        kept = self._rng.randrange(len(self._names) + 1)
        for name in reversed(self._names[kept:]):
            self._undo(name, target)
            lost += 1
        return lost

    def inherit(self, other: "SimDisk") -> None:
        """Take over what was not synced in the life before: the machine has not gone down."""
        for file in other._files.values():
            if file.writes:
                path = self._moved(other, file.path)
                self._files[path] = _File(path, file.writes)
        self._names = [
            _Name(
                self._moved(other, name.directory),
                self._moved(other, name.old),
                self._moved(other, name.new),
                name.content,
            )
            for name in other._names
        ]

    def _moved(self, other: "SimDisk", path: str) -> str:
        return str(self.root / os.path.relpath(path, other.root)) if path else ""

    def _lose_writes(self, path: Path, writes: list[_Write]) -> int:
        content = bytearray(path.read_bytes())
        for write in reversed(writes):
            content[write.position : write.position + len(write.before)] = write.before
            del content[write.size_before :]
            content.extend(bytes(write.size_before - len(content)))
        mode = self._rng.choice(("none", "prefix", "any", "all"))
        keep_first = self._rng.randrange(len(writes) + 1)
        lost = 0
        for number, write in enumerate(writes):
            if mode == "all" or (mode == "prefix" and number < keep_first):
                part = len(write.data)
            elif mode == "none" or self._rng.random() < 0.5:
                lost += 1
                continue
            else:
                part = min(
                    self._rng.randrange(len(write.data) // _SECTOR + 2) * _SECTOR, len(write.data)
                )
                lost += part < len(write.data)
            _apply(content, write, part)
        path.write_bytes(content)
        return lost

    def _undo(self, name: _Name, target: Path) -> None:
        old = target / os.path.relpath(name.old, self.root) if name.old else None
        new = target / os.path.relpath(name.new, self.root) if name.new else None
        if old is None and new is not None:
            if new.is_dir():
                shutil.rmtree(new, ignore_errors=True)
            else:
                new.unlink(missing_ok=True)
            return
        assert old is not None
        if new is not None and new.exists() and old.parent.is_dir():
            new.rename(old)
        restored = new if new is not None else old
        if name.content is not None and restored.parent.is_dir():
            restored.write_bytes(name.content)


def _apply(content: bytearray, write: _Write, part: int) -> None:
    if write.size is not None:
        del content[write.size :]
        content.extend(bytes(write.size - len(content)))
        return
    if part:
        content.extend(bytes(max(0, write.position - len(content))))
        content[write.position : write.position + part] = write.data[:part]


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
