"""The means must do what the tests believe."""

import errno
import os

import pytest

from support.mounts import LoopFS, TmpFS, cannot_mount

pytestmark = pytest.mark.skipif(cannot_mount() is not None, reason=str(cannot_mount()))


def write(path, data, *, sync):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(fd, data) == len(data), os.strerror(errno.ENOSPC)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def test_a_power_cut_keeps_what_was_synced_and_nothing_else(tmp_path):
    with LoopFS(tmp_path, 32) as disk:
        write(disk.path / "synced", b"x" * 5000, sync=True)
        write(disk.path / "not-synced", b"x" * 5000, sync=False)
        disk.cut_power()
        with pytest.raises(OSError):
            write(disk.path / "later", b"x", sync=True)
        disk.remount()
        assert (disk.path / "synced").read_bytes() == b"x" * 5000
        lost = disk.path / "not-synced"
        assert not lost.exists() or lost.read_bytes() == b""


def test_a_small_file_system_gets_full(tmp_path):
    with TmpFS(tmp_path, 1) as disk:
        write(disk.path / "half", b"x" * (512 << 10), sync=True)
        with pytest.raises((OSError, AssertionError), match="No space left"):
            write(disk.path / "more", b"x" * (2 << 20), sync=True)
