"""How long the holder of a lease relies on it: from the sending of the last renewal."""

from pathlib import Path

import pytest
import trio

from fastmq.metastore import MetastoreUnavailableError, SQLiteMetastore
from fastmq.metastore.lease import LeaseKeeper

pytestmark = pytest.mark.trio


class SlowStore(SQLiteMetastore):
    """Renewals take a while, or fail."""

    delay_s = 0.0
    away = False

    async def keep_alive(self, lease: int) -> bool:
        await trio.sleep(self.delay_s)
        if self.away:
            raise MetastoreUnavailableError("gone")
        return await super().keep_alive(lease)


@pytest.fixture
async def store(tmp_path: Path):
    made = SlowStore(tmp_path / "metadata.sqlite", durable=False)
    await made.open()
    yield made
    await made.close()


def now_ms() -> int:
    return int(trio.current_time() * 1000)


async def test_validity_counts_from_the_sending(
    store: SlowStore, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[int] = []
    keeper = LeaseKeeper(store, ttl_ms=9_000, clock_ms=now_ms, on_valid=told.append)
    began_ms = now_ms()
    await keeper.acquire()
    keeper.rely()
    store.delay_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep)
        await trio.sleep(5.5)  # renewed: sent at 3, answered at 5
        store.away = True
        await trio.sleep(6.4)  # 11.9
        assert keeper.is_valid()
        assert told == [began_ms + 9_000, began_ms + 12_000]
        await trio.sleep(0.2)  # 12.1: the answer at 5 does not count
        assert not keeper.is_valid()
        nursery.cancel_scope.cancel()


async def test_a_holder_that_does_not_work_lets_go(
    store: SlowStore, autojump_clock: trio.testing.MockClock
) -> None:
    works = True
    keeper = LeaseKeeper(store, ttl_ms=3_000, clock_ms=now_ms, may_renew=lambda: works)
    await keeper.acquire()
    keeper.rely()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        nursery.start_soon(keeper.keep)
        await trio.sleep(10)
        assert keeper.is_valid()
        works = False
        await trio.sleep(4)
        assert not keeper.is_valid()
        works = True
        await trio.sleep(2)
        assert keeper.id == 0
        nursery.cancel_scope.cancel()


async def test_released_at_once(store: SlowStore, autojump_clock: trio.testing.MockClock) -> None:
    keeper = LeaseKeeper(store, ttl_ms=3_000, clock_ms=now_ms)
    lease = await keeper.acquire()
    keeper.rely()
    await keeper.release()
    assert not keeper.is_valid()
    assert not await store.keep_alive(lease)


async def test_after_a_failure_it_is_renewed_soon(
    store: SlowStore, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[int] = []
    keeper = LeaseKeeper(store, ttl_ms=3_000, clock_ms=now_ms, on_valid=told.append)
    began_ms = now_ms()
    await keeper.acquire()
    keeper.rely()
    store.away = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep)
        await trio.sleep(2.1)  # attempts at 1, 1.25, 1.5, 1.75, 2
        store.away = False
        await trio.sleep(0.2)
        assert told[-1] == began_ms + 2_250 + 3_000
        nursery.cancel_scope.cancel()


async def test_a_new_lease_is_not_relied_on_at_once(
    store: SlowStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Others may lead what its holder led under the one before."""
    told: list[int] = []
    keeper = LeaseKeeper(store, ttl_ms=3_000, clock_ms=now_ms, on_valid=told.append)
    await keeper.acquire()
    assert not keeper.is_valid()
    assert told == []
    keeper.rely()
    assert keeper.is_valid()
    assert told == [now_ms() + 3_000]
    await keeper.acquire()
    assert not keeper.is_valid()
