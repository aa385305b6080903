"""The contract of every metadata store driver; a driver is one more parameter of `store`."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from fastmq.metastore import (
    CompactedError,
    Compare,
    Conflict,
    Delete,
    Event,
    Metastore,
    MetastoreError,
    MetastoreUnavailableError,
    Put,
    SQLiteMetastore,
)
from fastmq.metastore.socket_client import SocketMetastore
from fastmq.metastore.socket_server import StoreServer

from support.etcd import EtcdCluster, etcd_cluster, etcd_missing

pytestmark = pytest.mark.trio


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    missing = etcd_missing()
    if missing is not None:
        pytest.skip(missing)
    with etcd_cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


_PREFIXES = itertools.count()


@pytest.fixture(params=["sqlite", "socket", "etcd"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Metastore]:
    async with AsyncExitStack() as stack:
        made: Metastore
        if request.param == "sqlite":
            made = SQLiteMetastore(tmp_path / "metadata.sqlite")
        elif request.param == "socket":
            served = SQLiteMetastore(tmp_path / "metadata.sqlite")
            await served.open()
            stack.push_async_callback(served.close)
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            nursery.start_soon(served.run)
            await nursery.start(StoreServer(served, tmp_path / "store.sock").run)
            made = SocketMetastore(tmp_path / "store.sock")
        else:
            from fastmq.metastore.etcd import EtcdMetastore, EtcdOptions

            cluster = request.getfixturevalue("etcd")
            prefix = f"test-{next(_PREFIXES)}/"
            # Its neighbour shares etcd and must never be seen.
            made = EtcdMetastore(EtcdOptions(cluster.endpoints, prefix=prefix, timeout_ms=10_000))
        await made.open()
        stack.push_async_callback(made.close)
        yield made


async def forget(store: Metastore, revision: int) -> None:
    """Let the store forget what was before a revision."""
    if not isinstance(store, SQLiteMetastore | SocketMetastore):
        await store.compact(revision)  # type: ignore[attr-defined]


async def put(store: Metastore, key: str, value: bytes = b"v", lease: int = 0) -> int:
    done = await store.txn([], [Put(key, value, lease)])
    assert isinstance(done, int)
    return done


async def keys(store: Metastore, prefix: str = "") -> list[str]:
    return [item.key for item in (await store.read(prefix)).items]


async def test_a_new_store_is_empty(store: Metastore) -> None:
    assert (await store.read("")).items == []


async def test_read_returns_a_prefix_in_order_with_revisions(store: Metastore) -> None:
    first = await put(store, "b/2", b"two")
    second = await put(store, "b/1", b"one")
    await put(store, "c")
    await put(store, "b")
    snapshot = await store.read("b/")
    assert snapshot.items == [("b/1", b"one", second), ("b/2", b"two", first)]
    assert snapshot.revision == second + 2
    assert await keys(store) == ["b", "b/1", "b/2", "c"]


async def test_revisions_grow_by_transaction(store: Metastore) -> None:
    first = await put(store, "a")
    done = await store.txn([], [Put("b", b""), Put("c", b""), Delete("a")])
    assert done == first + 1
    assert {item.revision for item in (await store.read("")).items} == {done}
    assert await store.txn([], []) == done


async def test_compare_guards_every_operation(store: Metastore) -> None:
    revision = await put(store, "a", b"old")
    refused = await store.txn(
        [Compare("a", revision + 9), Compare("b", 0), Compare("c", 3)],
        [Put("a", b"new"), Put("d", b"")],
    )
    assert refused == Conflict(("a", "c"))
    assert (await store.read("")).items == [("a", b"old", revision)]
    assert (await store.read("")).revision == revision
    assert await store.txn([Compare("a", revision)], [Put("a", b"new")]) == revision + 1


async def test_compare_with_zero_means_absent(store: Metastore) -> None:
    created = await store.txn([Compare("a", 0)], [Put("a", b"")])
    assert isinstance(created, int)
    assert await store.txn([Compare("a", 0)], [Put("a", b"")]) == Conflict(("a",))
    await store.txn([Compare("a", created)], [Delete("a")])
    assert isinstance(await store.txn([Compare("a", 0)], [Put("a", b"")]), int)


async def test_one_of_many_racing_creators_wins(store: Metastore) -> None:
    results: list[int | Conflict] = []

    async def create(number: int) -> None:
        results.append(await store.txn([Compare("a", 0)], [Put("a", b"%d" % number)]))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(create, number)
    assert sum(isinstance(result, int) for result in results) == 1


async def test_values_have_a_limit_and_nothing_is_half_done(store: Metastore) -> None:
    with pytest.raises(MetastoreError):
        await store.txn([], [Put("a", b""), Put("b", bytes(1 << 20))])
    assert await keys(store) == []


async def test_watch_yields_what_happens_from_a_revision_on(store: Metastore) -> None:
    first = await put(store, "t/a", b"1")
    watch = store.watch("t/", first)
    assert await anext(watch) == [Event("t/a", b"1", first)]
    await put(store, "other")
    done = await store.txn([], [Put("t/b", b"2"), Delete("t/a"), Delete("t/none"), Put("x", b"")])
    assert isinstance(done, int)
    with trio.fail_after(5):
        assert await anext(watch) == [Event("t/b", b"2", done), Event("t/a", None, done)]


async def test_watch_waits_and_is_woken(store: Metastore) -> None:
    revision = (await store.read("")).revision
    seen: list[Event] = []

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async for events in store.watch("", revision + 1):
            seen.extend(events)
            if len(seen) == 2:
                return

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(watch)
            await put(store, "a")
            await put(store, "b")
    assert [event.key for event in seen] == ["a", "b"]


async def test_watch_ends_when_the_store_is_closed(store: Metastore) -> None:
    revision = (await store.read("")).revision
    ended = trio.Event()

    async def watch() -> None:
        async for _ in store.watch("", revision + 1):
            pass
        ended.set()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            await store.close()
            await ended.wait()
    with pytest.raises(MetastoreUnavailableError):
        await store.read("")


async def test_leased_keys_go_when_the_lease_is_not_prolonged(store: Metastore) -> None:
    lease = await store.grant_lease(1000)
    revision = await put(store, "alive", lease=lease)
    await put(store, "stays")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run)
            for _ in range(5):
                await trio.sleep(0.3)
                assert await store.keep_alive(lease)
                prolonged = trio.current_time()
            assert await keys(store) == ["alive", "stays"]
            watch = store.watch("alive", revision + 1)
            (event,) = await anext(watch)
            assert event.value is None
            assert trio.current_time() - prolonged >= 0.9
            nursery.cancel_scope.cancel()
    assert not await store.keep_alive(lease)
    with pytest.raises(MetastoreError):
        await put(store, "late", lease=lease)
    assert await keys(store) == ["stays"]


async def test_a_lease_is_not_found_ended_by_a_stranger(store: Metastore) -> None:
    assert not await store.keep_alive(987_654_321)
    await store.revoke_lease(987_654_321)
    with pytest.raises(MetastoreError):
        await store.grant_lease(0)


async def test_too_many_operations_are_refused(store: Metastore) -> None:
    with pytest.raises(MetastoreError):
        await store.txn([], [Put(f"k{number}", b"") for number in range(store.ops_max + 1)])
    assert await keys(store) == []


async def test_a_read_is_whole_whatever_its_size(store: Metastore) -> None:
    wanted = [f"k{number:05d}" for number in range(4_500)]
    size = min(store.ops_max, 1_000)
    for begin in range(0, len(wanted), size):
        await store.txn([], [Put(key, b"v") for key in wanted[begin : begin + size]])
    await put(store, "l")
    assert await keys(store, "k") == wanted


async def test_revoked_lease_takes_its_keys_at_once(store: Metastore) -> None:
    lease, other = await store.grant_lease(60_000), await store.grant_lease(60_000)
    assert lease != other
    await put(store, "a", lease=lease)
    await put(store, "b", lease=other)
    await put(store, "c", lease=lease)
    await put(store, "c")
    await store.revoke_lease(lease)
    await store.revoke_lease(lease)
    assert await keys(store) == ["b", "c"]


async def test_too_old_a_watch_is_told_so(
    store: Metastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmq.metastore.sqlite.METASTORE_HISTORY_EVENTS_MAX", 10)
    first = await put(store, "a")
    last = [await put(store, "b") for _ in range(20)][-1]
    await forget(store, last)
    with pytest.raises(CompactedError), trio.fail_after(20):
        await anext(store.watch("", first))
    assert await anext(store.watch("", last)) == [Event("b", b"v", last)]


async def test_a_large_transaction_reaches_its_watcher(
    store: Metastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmq.metastore.sqlite.METASTORE_HISTORY_EVENTS_MAX", 10)
    revision = (await store.read("")).revision
    await store.txn([], [Put(f"k{number}", b"") for number in range(100)])
    assert len(await anext(store.watch("", revision + 1))) == 100
