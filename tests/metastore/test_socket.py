"""The store behind a socket: what ends with a client, and what its clients see when it goes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fastmq.metastore import MetastoreUnavailableError, Put, SQLiteMetastore
from fastmq.metastore.socket_client import SocketMetastore
from fastmq.metastore.socket_server import StoreServer

pytestmark = pytest.mark.trio


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[tuple[SQLiteMetastore, trio.CancelScope]]:
    store = SQLiteMetastore(root / "metadata.sqlite", durable=False)
    await store.open()
    scope = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await StoreServer(store, root / "sock").run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield store, scope
        scope.cancel()
    await store.close()


async def test_leases_end_with_the_session_that_took_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as (store, _):
        one, two = SocketMetastore(tmp_path / "sock"), SocketMetastore(tmp_path / "sock")
        await one.open()
        await two.open()
        for client, key in ((one, "one"), (two, "two")):
            lease = await client.grant_lease(600_000)
            await client.txn([], [Put(key, b"", lease)])
        revision = (await store.read("")).revision
        watch = two.watch("", revision + 1)
        await one.close()
        with trio.fail_after(10):
            (event,) = await anext(watch)
        assert (event.key, event.value) == ("one", None)
        assert [item.key for item in (await two.read("")).items] == ["two"]
        await two.close()


async def test_a_client_learns_at_once_that_the_server_has_gone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, scope):
        client = SocketMetastore(tmp_path / "sock")
        await client.open()
        told: list[str] = []

        async def run() -> None:
            with pytest.raises(MetastoreUnavailableError) as caught:
                await client.run()
            told.append(str(caught.value))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert "has gone" in told[0]
        with pytest.raises(MetastoreUnavailableError):
            await client.read("")
        await client.close()
        await client.close()


async def test_a_watcher_that_hangs_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _scope):
        client = SocketMetastore(tmp_path / "sock")
        await client.open()
        for _ in range(20):
            with trio.move_on_after(0.005):
                await anext(client.watch("", 1))
        await client.txn([], [Put("a", b"1")])
        with trio.fail_after(10):
            assert (await anext(client.watch("", 1)))[0].key == "a"
        assert not client._busy
        await client.close()


async def test_nobody_serves(tmp_path: Path) -> None:
    with pytest.raises(MetastoreUnavailableError, match="cannot be reached"):
        await SocketMetastore(tmp_path / "sock").open()
