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
    """A full disk is simulated by SQLite's own limit of pages."""
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
