"""Log directories: ownership, comparison with the metadata, durability, and disks that fail."""

import errno
import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from fastmq.errors import ConfigError
from fastmq.log import (
    LOG_START,
    RECOVERY_POINT,
    Disk,
    Expected,
    FreeSpaceWatch,
    LogDir,
    LogDirs,
    NewPartition,
    remove_tree,
)
from fastmq.log.names import parse_partition_dir, renamed_partition_dir

CLUSTER = "dGVzdC1jbHVzdGVyLWlkIQ"
ID = b"i" * 16
OTHER_ID = b"j" * 16


def opened(*paths: Path, node_id: int = 1, disk: Disk | None = None, seed: int = 1) -> LogDirs:
    dirs = LogDirs.open(
        [str(path) for path in paths],
        node_id=node_id,
        random_bytes=random.Random(seed).randbytes,
        disk=disk,
    )
    dirs.join(CLUSTER)
    return dirs


def reopened(dirs: LogDirs, seed: int = 1) -> LogDirs:
    dirs.close()
    return opened(*(Path(directory.path) for directory in dirs.directories), seed=seed)


def expected(directory: LogDir, *keys: tuple[str, int]) -> dict[tuple[str, int], Expected]:
    return {key: Expected(ID, directory.id) for key in keys}


def test_what_others_have_and_lead_is_deleted_here(tmp_path):
    dirs = opened(tmp_path / "d")
    (directory,) = dirs.directories
    directory.create_partitions([NewPartition("t", 0, ID), NewPartition("t", 1, ID)])
    directory.create_partitions([NewPartition("u", 0, OTHER_ID)])
    elsewhere = {("t", 1): ID, ("u", 0): ID}.get
    found = dirs.reconcile(expected(directory, ("t", 0)), elsewhere)
    assert [Path(path).name.partition(".")[0] for path in found.deletions] == ["t-1"]
    assert all(path.endswith("-delete") for path in found.deletions)
    # Another topic of that name: nobody has it elsewhere.
    assert [Path(path).name.partition(".")[0] for path in found.strays] == ["u-0"]
    dirs.close()


def test_new_directories_get_an_identity_that_stays(tmp_path: Path) -> None:
    dirs = opened(tmp_path / "a" / "b", tmp_path / "c")
    ids = [directory.id for directory in dirs.directories]
    assert len(set(ids)) == 2
    dirs = reopened(dirs, seed=9)
    assert [directory.id for directory in dirs.directories] == ids
    assert dirs.cluster_id == CLUSTER
    assert dirs.by_id(ids[1]) is dirs.directories[1]
    assert dirs.by_id(bytes(16)) is None
    dirs.close()


def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    opened(tmp_path / "a").close()
    with pytest.raises(ConfigError, match=r"belongs to node\.id 1"):
        opened(tmp_path / "a", node_id=2)
    dirs = LogDirs.open([str(tmp_path / "a")], node_id=1, random_bytes=os.urandom)
    with pytest.raises(ConfigError, match="belongs to cluster"):
        dirs.join("another")
    dirs.close()


def test_a_copied_directory_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "a").close()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "meta.properties").write_bytes(
        (tmp_path / "a" / "meta.properties").read_bytes()
    )
    with pytest.raises(ConfigError, match="one is a copy"):
        opened(tmp_path / "a", tmp_path / "b")


def test_the_same_directory_by_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigError, match="are the same"):
        opened(tmp_path / "a", tmp_path / "b")


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    code = (
        "import os, sys; from fastmq.log import LogDirs; "
        "dirs = LogDirs.open([sys.argv[1]], node_id=1, random_bytes=os.urandom); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=rf"another broker \(process {holder.pid}\)"):
            opened(tmp_path)
        holder.kill()
    opened(tmp_path).close()


def test_clean_marker_is_seen_once(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    assert not dirs.directories[0].was_clean
    dirs.directories[0].mark_clean()
    dirs = reopened(dirs)
    assert dirs.directories[0].was_clean
    dirs = reopened(dirs)
    assert not dirs.directories[0].was_clean
    dirs.close()


def test_checkpoints_are_kept_per_directory(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    (directory,) = dirs.directories
    assert directory.read_offsets(RECOVERY_POINT) == {}
    directory.write_offsets(RECOVERY_POINT, {("t", 0): 5})
    directory.write_offsets(LOG_START, {("t", 0): 2})
    assert directory.read_offsets(RECOVERY_POINT) == {("t", 0): 5}
    assert directory.read_offsets(LOG_START) == {("t", 0): 2}
    assert directory.problems == []
    (tmp_path / RECOVERY_POINT).write_bytes(b"0\n2\nt 0 5\n")
    assert directory.read_offsets(RECOVERY_POINT) == {}
    assert "recovery-point" in directory.problems[0]
    dirs.close()


def test_created_partitions_are_found_again(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    (directory,) = dirs.directories
    directory.create_partitions([NewPartition("t", index, ID) for index in range(3)])
    directory.create_partitions([NewPartition("t", 0, ID)])
    dirs = reopened(dirs)
    (directory,) = dirs.directories
    found = dirs.reconcile(expected(directory, ("t", 0), ("t", 1), ("t", 2), ("u", 0)))
    assert [(one.topic, one.partition) for one in found.present] == [("t", 0), ("t", 1), ("t", 2)]
    assert found.missing == [("u", 0)]
    assert (found.strays, found.deletions, found.offline) == ([], [], [])
    dirs.close()


def test_unknown_partitions_are_set_aside_with_their_content(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    (directory,) = dirs.directories
    directory.create_partitions([NewPartition("t", 0, OTHER_ID), NewPartition("u", 7, ID)])
    (tmp_path / "u-7" / "00000000000000000000.log").write_bytes(b"data")
    (tmp_path / "not-a-partition").mkdir()
    (tmp_path / "file-0").write_bytes(b"")
    found = dirs.reconcile(expected(directory, ("t", 0)))
    assert found.missing == [("t", 0)]
    assert [Path(path).name.partition(".")[0] for path in found.strays] == ["t-0", "u-7"]
    assert all(path.endswith("-stray") for path in found.strays)
    assert (Path(found.strays[1]) / "00000000000000000000.log").read_bytes() == b"data"
    assert (tmp_path / "not-a-partition").is_dir()
    assert dirs.reconcile({}).strays == []
    dirs.close()


def test_lost_partition_metadata_is_written_anew(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    (directory,) = dirs.directories
    directory.create_partitions([NewPartition("t", 0, ID), NewPartition("t", 1, ID)])
    (tmp_path / "t-0" / "partition.metadata").write_bytes(b"")
    (tmp_path / "t-1" / "partition.metadata").unlink()
    found = dirs.reconcile(expected(directory, ("t", 0), ("t", 1)))
    assert len(found.present) == 2
    assert directory.topic_id_of("t", 0) == directory.topic_id_of("t", 1) == ID
    dirs.close()


def test_partition_in_two_directories_stays_where_the_metadata_says(tmp_path: Path) -> None:
    dirs = opened(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    first, second, third = dirs.directories
    for directory in dirs.directories:
        directory.create_partitions([NewPartition("t", 0, ID)])
    second.create_partitions([NewPartition("moved", 0, ID)])
    wanted = expected(second, ("t", 0)) | expected(third, ("moved", 0))
    found = dirs.reconcile(wanted)
    assert [(one.topic, one.directory) for one in found.present] == [
        ("t", second),
        ("moved", second),
    ]
    assert [Path(path).parent for path in found.strays] == [Path(first.path), Path(third.path)]
    dirs.close()


def test_deletion_that_was_under_way_is_finished(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    (directory,) = dirs.directories
    directory.create_partitions([NewPartition("t", 0, ID)])
    renamed = directory.deletion_path("t", 0)
    Path(directory.partition_path("t", 0)).rename(renamed)
    (Path(renamed) / "sub").mkdir()
    (Path(renamed) / "sub" / "file").write_bytes(b"")
    (tmp_path / "kept").write_bytes(b"")
    (Path(renamed) / "link").symlink_to(tmp_path)
    found = dirs.reconcile({})
    assert found.deletions == [renamed]
    remove_tree(Disk(), renamed)
    remove_tree(Disk(), renamed)
    assert not Path(renamed).exists()
    assert (tmp_path / "kept").exists()
    dirs.close()


class FailingDisk(Disk):
    """Fails with EIO below one path, in one method."""

    def __init__(self, method: str, below: Path) -> None:
        super().__init__()
        self._method = method
        self._below = str(below)

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name.startswith("_") or name != self._method:
            return method

        def fail(path: str, *arguments: object) -> object:
            if path.startswith(self._below):
                raise OSError(errno.EIO, "the disk fails", path)
            return method(path, *arguments)

        return fail


@pytest.mark.parametrize("method", ["make_dirs", "lock", "read", "write_atomic"])
def test_one_failing_disk_leaves_the_others_in_use(tmp_path: Path, method: str) -> None:
    dirs = opened(tmp_path / "a", tmp_path / "b", disk=FailingDisk(method, tmp_path / "b"))
    good, bad = dirs.directories
    assert good.is_online
    assert not bad.is_online
    assert dirs.by_id(bad.id) is None
    found = dirs.reconcile(expected(good, ("t", 0)) | {("u", 0): Expected(ID, b"gone" * 4)})
    assert (found.missing, found.offline) == ([("t", 0)], [("u", 0)])
    dirs.close()


def test_scan_that_fails_takes_the_directory_offline(tmp_path: Path) -> None:
    dirs = opened(tmp_path / "a", tmp_path / "b", disk=FailingDisk("list_dir", tmp_path / "b"))
    _, bad = dirs.directories
    found = dirs.reconcile(expected(bad, ("t", 0)))
    assert found.offline == [("t", 0)]
    assert not bad.is_online
    dirs.close()


def test_no_usable_directory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="no data directory can be used"):
        opened(tmp_path / "file")
    with pytest.raises(ConfigError, match="no data directory can be written"):
        opened(tmp_path / "a", disk=FailingDisk("write_atomic", tmp_path))


class CrashingDisk(Disk):
    """Dies before or after the n-th call that changes something."""

    class CrashError(Exception):
        pass

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls_left = calls

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name not in ("rename", "sync_dir", "unlink", "write_new", "make_dir"):
            return method

        def call(*arguments: object) -> object:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise CrashingDisk.CrashError
            return method(*arguments)

        return call


def test_a_checkpoint_is_old_or_new_whenever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every system call of the atomic write dies once, before it and after it."""
    path = str(tmp_path / "checkpoint")
    Disk().write_atomic(path, b"old")
    names = ("open", "write", "fsync", "rename", "close")
    for dying in range(1, 9):
        for before in (True, False):
            count = 0

            def dies(name: str, dying: int = dying, before: bool = before) -> object:
                real = getattr(os, name)

                def call(*arguments: object, **options: object) -> object:
                    nonlocal count
                    count += 1
                    if count == dying and before:
                        raise CrashingDisk.CrashError
                    result = real(*arguments, **options)
                    if count == dying:
                        raise CrashingDisk.CrashError
                    return result

                return call

            with monkeypatch.context() as patch:
                for name in names:
                    patch.setattr(f"os.{name}", dies(name))
                with pytest.raises(CrashingDisk.CrashError):
                    Disk().write_atomic(path, b"new")
            assert Path(path).read_bytes() in (b"old", b"new")
            Disk().write_atomic(path, b"old")


@pytest.mark.parametrize("calls", range(12))
def test_crash_while_partitions_are_created_is_healed(tmp_path: Path, calls: int) -> None:
    dirs = opened(tmp_path)
    dirs.close()
    disk = CrashingDisk(calls)
    crashed = LogDirs.open([str(tmp_path)], node_id=1, random_bytes=os.urandom, disk=disk)
    keys = [("t", index) for index in range(4)]
    with suppress(CrashingDisk.CrashError):
        crashed.directories[0].create_partitions([NewPartition(*key, ID) for key in keys])
    crashed.close()
    dirs = opened(tmp_path)
    found = dirs.reconcile(expected(dirs.directories[0], *keys))
    assert len(found.present) + len(found.missing) == 4
    assert found.strays == []
    dirs.close()


def test_partition_directory_names() -> None:
    assert parse_partition_dir("a-b-12") == ("a-b", 12)
    for name in ("a", "-1", "a-", "a-x", "a-01", "a-1.deadbeef-delete", "a-99999999999", "a-٣"):
        assert parse_partition_dir(name) is None
    long = renamed_partition_dir("t" * 249, 12345, bytes(16), "-delete")
    assert len(long) == 255
    assert long.endswith(f"-12345.{'0' * 32}-delete")


def test_three_thousand_partitions_take_one_sync(tmp_path: Path) -> None:
    syncs = []

    class CountingDisk(Disk):
        def sync_dir(self, path: str) -> None:
            syncs.append(path)

    dirs = opened(tmp_path, disk=CountingDisk())
    syncs.clear()
    new = [NewPartition(f"t{number}", 0, ID) for number in range(3000)]
    dirs.directories[0].create_partitions(new)
    assert syncs == [str(tmp_path)]
    dirs.close()


def test_free_space_decision_has_a_margin() -> None:
    watch = FreeSpaceWatch(1 << 30)
    assert not watch.update(2 << 30)
    looks = [(1 << 30) - 1, (1 << 30) + 1, (1 << 30) + (16 << 20), 1 << 30]
    assert [(watch.update(free), watch.is_full) for free in looks] == [
        (True, True),
        (False, True),
        (True, False),
        (False, False),
    ]
    never = FreeSpaceWatch(0)
    assert not never.update(0)
    assert not never.is_full


def test_space_of_a_directory_is_that_of_its_file_system(tmp_path: Path) -> None:
    dirs = opened(tmp_path)
    total, free = dirs.directories[0].space()
    assert 0 < free <= total
    dirs.close()
