"""File systems of our own to break: a loop-mounted ext4 and a small tmpfs. Both need root.

`LoopFS.cut_power` is EXT4_IOC_SHUTDOWN without a log flush: what was not synced is gone, every
later call gives EIO, and a new mount finds what a machine would find after a power cut.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
UMOUNT_S = 10.0


def run(*command: object) -> None:
    """A command that must succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command}: {done.stderr.strip()}")


@functools.cache
def cannot_mount() -> str | None:
    """Why file systems cannot be mounted here, or None. Tries it."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is not on the path"
    with tempfile.TemporaryDirectory() as directory:
        try:
            with LoopFS(Path(directory), 16):
                return None
        except OSError as error:
            return f"a loop mount fails here: {error}"


class Mount:
    """Something mounted at `root/mnt`; unmounted at the end whatever happened."""

    def __init__(self, root: Path) -> None:
        self.path = root / "mnt"
        self.path.mkdir(parents=True, exist_ok=True)

    def mount(self) -> None:
        raise NotImplementedError

    def umount(self) -> None:
        """Wait for the last user of it to go; detach it in the end."""
        deadline = time.monotonic() + UMOUNT_S
        while True:
            try:
                run("umount", self.path)
                return
            except OSError:
                if time.monotonic() > deadline:
                    run("umount", "-l", self.path)
                    raise
                time.sleep(0.02)

    def __enter__(self):
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.is_mount():
            self.umount()


class TmpFS(Mount):
    """Memory with a size: a disk that gets full soon."""

    def __init__(self, root: Path, megabytes: int) -> None:
        super().__init__(root)
        self.megabytes = megabytes

    def mount(self) -> None:
        run("mount", "-t", "tmpfs", "-o", f"size={self.megabytes}m", "tmpfs", self.path)


class LoopFS(Mount):
    """ext4 in a file."""

    def __init__(self, root: Path, megabytes: int) -> None:
        super().__init__(root)
        self.image = root / "disk.img"
        with self.image.open("wb") as image:
            image.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", self.image)

    def mount(self) -> None:
        run("mount", "-o", "loop", self.image, self.path)

    def cut_power(self) -> None:
        """Everything that is not on the disk is lost now, and nothing reaches it any more."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def remount(self) -> None:
        """Power is back."""
        self.umount()
        self.mount()

    @contextlib.contextmanager
    def frozen(self):
        """Every writer hangs, uninterruptibly, until the block ends."""
        run("fsfreeze", "-f", self.path)
        try:
            yield
        finally:
            run("fsfreeze", "-u", self.path)
