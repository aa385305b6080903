"""Producer ids while the metadata store is away."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from fastmq.limits import PRODUCER_ID_BLOCK_SIZE
from fastmq.metastore import (
    Compare,
    Conflict,
    MetastoreUnavailableError,
    Op,
    SQLiteMetastore,
)
from fastmq.server.store import ProducerIds

pytestmark = pytest.mark.trio


class LeavingStore(SQLiteMetastore):
    """A store that goes away."""

    away = False

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        if self.away:
            raise MetastoreUnavailableError("gone")
        return await super().txn(compares, ops)


async def test_a_block_in_reserve_serves_producers_while_the_store_is_away(tmp_path: Path) -> None:
    store = LeavingStore(tmp_path / "metadata.sqlite", durable=False)
    await store.open()
    ids = ProducerIds(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ids.keep_reserve)
        with trio.fail_after(20):
            first = await ids.next()
            await trio.testing.wait_all_tasks_blocked(0.1)
            store.away = True
            drawn = {first} | {await ids.next() for _ in range(PRODUCER_ID_BLOCK_SIZE)}
            assert len(drawn) == PRODUCER_ID_BLOCK_SIZE + 1
        nursery.cancel_scope.cancel()
    await store.close()
