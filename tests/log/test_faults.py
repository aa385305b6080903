"""Every call to the disk fails once, with EIO and with ENOSPC, in the life of a data directory.

Whatever call it is: the failure is told (an error, or a directory that is offline), and the next
start on a sound disk finds partitions, identity and checkpoints old or new, never half.
"""

import errno
import random
from contextlib import suppress
from pathlib import Path

import pytest

from fastmq.errors import ConfigError
from fastmq.log import RECOVERY_POINT, Disk, Expected, LogDirs, NewPartition, remove_tree

CLUSTER = "dGVzdC1jbHVzdGVyLWlkIQ"
ID = b"i" * 16
KEYS = [("t", 0), ("t", 1)]
OLD = dict.fromkeys(KEYS, 1)
NEW = dict.fromkeys(KEYS, 2)


class FaultyDisk(Disk):
    """Fails the n-th call with an error number, and counts the calls."""

    def __init__(self, failing: int, error: int) -> None:
        super().__init__(durable=False)
        self.calls = 0
        self._failing = failing
        self._error = error

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name.startswith("_") or name in ("calls", "unlock"):
            return method

        def call(*arguments: object) -> object:
            self.calls += 1
            if self.calls == self._failing:
                raise OSError(self._error, "injected")
            return method(*arguments)

        return call


def opened(path: Path, disk: Disk) -> LogDirs:
    return LogDirs.open([str(path)], node_id=1, random_bytes=random.Random(1).randbytes, disk=disk)


def life(path: Path, disk: Disk) -> list[str]:
    """Open, serve and stop cleanly, as a broker does; return what was told to have failed."""
    told = []
    dirs = opened(path, disk)
    try:
        dirs.join(CLUSTER)
        (directory,) = dirs.directories
        found = dirs.reconcile({key: Expected(ID, directory.id) for key in KEYS})
        told += [str(directory.error)] if directory.error else []
        told += directory.problems
        directory.create_partitions([NewPartition(*key, ID) for key in found.missing])
        directory.read_offsets(RECOVERY_POINT)
        directory.write_offsets(RECOVERY_POINT, NEW)
        directory.mark_clean()
    finally:
        dirs.close()
    return told


def prepared(path: Path, *, new: bool) -> None:
    """Make the directory that the life begins with."""
    if new:
        return
    life(path, Disk(durable=False))
    dirs = opened(path, Disk(durable=False))
    dirs.directories[0].write_offsets(RECOVERY_POINT, OLD)
    dirs.directories[0].mark_clean()
    dirs.close()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("new", [True, False], ids=["new", "used"])
def test_every_call_fails_once(tmp_path: Path, new: bool, error: int) -> None:
    prepared(tmp_path / "counted", new=new)
    counting = FaultyDisk(0, error)
    assert life(tmp_path / "counted", counting) == []
    assert counting.calls > 10
    for failing in range(1, counting.calls + 1):
        path = tmp_path / str(failing)
        prepared(path, new=new)
        told = False
        try:
            told = bool(life(path, FaultyDisk(failing, error)))
        except (OSError, ConfigError):
            told = True
        assert told, f"the failure of call {failing} was not told"
        check_next_start(path, new=new)


def check_next_start(path: Path, *, new: bool) -> None:
    dirs = opened(path, Disk(durable=False))
    dirs.join(CLUSTER)
    (directory,) = dirs.directories
    found = dirs.reconcile({key: Expected(ID, directory.id) for key in KEYS})
    assert directory.is_online
    assert len(found.present) + len(found.missing) == len(KEYS)
    assert not found.strays
    if not new:
        assert not found.missing
    allowed = ({}, NEW) if new else (OLD, NEW)
    assert directory.read_offsets(RECOVERY_POINT) in allowed
    assert not directory.problems
    dirs.close()


def test_removal_of_a_tree_can_be_repeated_after_each_failure(tmp_path: Path) -> None:
    def plant() -> None:
        for name in ("a", "a/b", "c"):
            (tmp_path / "tree" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "tree" / name / "file").write_bytes(b"")

    plant()
    counting = FaultyDisk(0, errno.EIO)
    remove_tree(counting, str(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()
    for failing in range(1, counting.calls + 1):
        plant()
        with suppress(OSError):
            remove_tree(FaultyDisk(failing, errno.EIO), str(tmp_path / "tree"))
            pytest.fail(f"the failure of call {failing} was not told")
        remove_tree(Disk(), str(tmp_path / "tree"))
        assert not (tmp_path / "tree").exists()
