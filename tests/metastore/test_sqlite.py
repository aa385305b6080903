"""The SQLite driver: what survives a restart, files that are not its own, the disk's errors."""

import sqlite3
import sys
from pathlib import Path

import pytest
import trio

from fastmq.metastore import (
    CompactedError,
    MetastoreError,
    MetastoreUnavailableError,
    Put,
    SQLiteMetastore,
)
from fastmq.metastore.reserve import SpaceReserve

pytestmark = pytest.mark.trio


async def test_content_and_revision_survive_a_restart_leases_do_not(tmp_path: Path) -> None:
    path = tmp_path / "metadata.sqlite"
    first = SQLiteMetastore(path)
    await first.open()
    lease = await first.grant_lease(60_000)
    revision = await first.txn([], [Put("a", b"1"), Put("alive", b"", lease)])
    assert revision == 1
    await first.close()
    second = SQLiteMetastore(path, durable=False)
    await second.open()
    snapshot = await second.read("")
    assert snapshot.items == [("a", b"1", 1)]
    assert snapshot.revision == 2
    with pytest.raises(CompactedError):
        await anext(second.watch("", 1))
    await second.close()
    await second.close()


async def test_a_committed_transaction_survives_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "metadata.sqlite"
    code = f"""
import os, trio
from fastmq.metastore import Put, SQLiteMetastore
async def main():
    store = SQLiteMetastore({str(path)!r})
    await store.open()
    await store.txn([], [Put("a", b"1")])
    os._exit(3)
trio.run(main)
"""
    done = await trio.run_process([sys.executable, "-c", code], check=False)
    assert done.returncode == 3
    store = SQLiteMetastore(path)
    await store.open()
    assert (await store.read("")).items == [("a", b"1", 1)]
    await store.close()


async def test_only_one_process_has_the_file(tmp_path: Path) -> None:
    first = SQLiteMetastore(tmp_path / "metadata.sqlite")
    await first.open()
    second = SQLiteMetastore(tmp_path / "metadata.sqlite")
    with pytest.raises(MetastoreError, match="in use by another process"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database" * 1000)
    with pytest.raises(MetastoreError, match="cannot be used"):
        await SQLiteMetastore(garbage).open()
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(MetastoreError, match="another program"):
        await SQLiteMetastore(foreign).open()
    with pytest.raises(MetastoreError, match="cannot open"):
        await SQLiteMetastore(tmp_path / "no" / "file").open()
    newer = tmp_path / "newer"
    store = SQLiteMetastore(newer)
    await store.open()
    await store.close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(MetastoreError, match="another version"):
        await SQLiteMetastore(newer).open()


async def test_an_error_of_the_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """A full disk is simulated by SQLite's own limit of pages, which no reserve lifts."""
    store = SQLiteMetastore(tmp_path / "metadata.sqlite")
    await store.open()
    await store.txn([], [Put("a", b"1")])
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count=10")
    with pytest.raises(MetastoreUnavailableError, match="full"):
        await store.txn([], [Put(f"k{number}", bytes(4000)) for number in range(50)])
    snapshot = await store.read("")
    assert snapshot.items == [("a", b"1", 1)]
    assert snapshot.revision == 1
    assert await store.txn([], [Put("b", b"")]) == 2
    await store.close()


async def test_a_full_disk_takes_the_space_that_was_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteMetastore(tmp_path / "metadata.sqlite")
    await store.open()
    reserve = tmp_path / "metadata.sqlite-reserve"
    assert reserve.stat().st_size == 1 << 20
    connection = store._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count=10")
    release = store._reserve.release

    def lift() -> bool:
        assert not connection.in_transaction
        connection.execute("PRAGMA max_page_count=1000")
        return release()

    monkeypatch.setattr(store._reserve, "release", lift)
    ops = [Put(f"k{number}", bytes(4000)) for number in range(50)]
    assert await store.txn([], ops) == 1
    assert not reserve.exists()
    assert len((await store.read("k")).items) == 50
    assert reserve.exists()
    await store.close()


async def test_the_reserve_is_taken_only_from_plenty(tmp_path: Path) -> None:
    reserve = SpaceReserve(tmp_path / "reserve", 1 << 60)
    reserve.hold()
    assert not reserve.release()
    small = SpaceReserve(tmp_path / "reserve", 1000)
    small.hold()
    small.hold()
    assert (tmp_path / "reserve").stat().st_size == 1000
    assert small.release()
    assert not small.release()
    absent = SpaceReserve(tmp_path / "no" / "reserve", 1000)
    absent.hold()
    assert not absent.release()
