"""The contract of every metadata store driver; a driver is one more parameter of `store`."""

from collections.abc import AsyncIterator
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

pytestmark = pytest.mark.trio


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Metastore]:
    assert request.param == "sqlite"
    made = SQLiteMetastore(tmp_path / "metadata.sqlite")
    await made.open()
    try:
        yield made
    finally:
        await made.close()


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


async def test_leased_keys_go_when_the_lease_is_not_prolonged(
    store: Metastore, autojump_clock: trio.testing.MockClock
) -> None:
    lease = await store.grant_lease(1000)
    revision = await put(store, "alive", lease=lease)
    await put(store, "stays")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for _ in range(5):
            await trio.sleep(0.8)
            assert await store.keep_alive(lease)
            prolonged = trio.current_time()
        assert await keys(store) == ["alive", "stays"]
        watch = store.watch("alive", revision + 1)
        (event,) = await anext(watch)
        assert event.value is None
        # The clock also jumps while a worker thread is busy, so only the least is certain.
        assert trio.current_time() - prolonged >= 0.99
        nursery.cancel_scope.cancel()
    assert not await store.keep_alive(lease)
    with pytest.raises(MetastoreError):
        await put(store, "late", lease=lease)
    assert await keys(store) == ["stays"]


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
    with pytest.raises(CompactedError):
        await anext(store.watch("", first))
    assert await anext(store.watch("", last)) == [Event("b", b"v", last)]


async def test_a_large_transaction_reaches_its_watcher(
    store: Metastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmq.metastore.sqlite.METASTORE_HISTORY_EVENTS_MAX", 10)
    revision = (await store.read("")).revision
    await store.txn([], [Put(f"k{number}", b"") for number in range(100)])
    assert len(await anext(store.watch("", revision + 1))) == 100
