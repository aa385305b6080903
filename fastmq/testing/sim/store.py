"""A model of etcd in memory: transactions, leases, watches that come late, compaction.

`StoreModel` is the server; each broker has a `StoreClient`, whose requests take time, may not get
through, and may have been carried out all the same when their answer is lost.
"""

import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

import trio

from fastmq.limits import METASTORE_VALUE_BYTES_MAX
from fastmq.metastore import (
    CompactedError,
    Compare,
    Conflict,
    Delete,
    Event,
    Item,
    MetastoreError,
    MetastoreUnavailableError,
    Op,
    Put,
    Snapshot,
)
from fastmq.metastore.polled import PollableStore, PolledWatch
from fastmq.testing.sim.network import Network

__all__ = ["STORE_HOST", "StoreClient", "StoreModel"]

STORE_HOST: Final = "store"
_TIMEOUT_S: Final = 2.0
_OPS_MAX: Final = 128


class StoreModel:
    """The server's state. Every method is one moment."""

    def __init__(self) -> None:
        self.revision = 0
        self.compacted = 0
        self.rows: dict[str, Item] = {}
        self._lease_of: dict[str, int] = {}
        self.history: deque[tuple[int, list[Event]]] = deque()
        self._leases: dict[int, tuple[float, float]] = {}
        self._last_lease = 0
        self.is_up = True
        self.news = trio.Event()
        self._lease_news = trio.Event()

    def read(self, prefix: str) -> Snapshot:
        """Return what is below a prefix."""
        rows = sorted(item for key, item in self.rows.items() if key.startswith(prefix))
        return Snapshot(rows, self.revision)

    def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        """Carry a transaction out."""
        if max(len(compares), len(ops)) > _OPS_MAX:
            raise MetastoreError(f"a transaction has at most {_OPS_MAX} operations")
        for op in ops:
            if isinstance(op, Put) and len(op.value) > METASTORE_VALUE_BYTES_MAX:
                raise MetastoreError(f"{op.key}: the value has {len(op.value)} bytes")
        failed = tuple(
            compare.key
            for compare in compares
            if (self.rows[compare.key].revision if compare.key in self.rows else 0)
            != compare.revision
        )
        if failed:
            return Conflict(failed)
        for op in ops:  # not before: etcd looks at leases when it carries the operations out
            if isinstance(op, Put) and op.lease and op.lease not in self._leases:
                raise MetastoreError(f"{op.key}: lease {op.lease} has ended")
        if any(isinstance(op, Put) or op.key in self.rows for op in ops):
            self._apply(ops)
        return self.revision

    def _apply(self, ops: Sequence[Op]) -> None:
        self.revision += 1
        events = []
        for op in ops:
            if isinstance(op, Put):
                self.rows[op.key] = Item(op.key, op.value, self.revision)
                self._lease_of[op.key] = op.lease
                events.append(Event(op.key, op.value, self.revision))
            elif op.key in self.rows:
                del self.rows[op.key]
                self._lease_of.pop(op.key, None)
                events.append(Event(op.key, None, self.revision))
        self.history.append((self.revision, events))
        self._announce()

    def _announce(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def set_up(self, *, is_up: bool) -> None:
        """Let the store answer, or not."""
        self.is_up = is_up
        self._announce()

    def compact(self) -> None:
        """Forget what happened before now."""
        self.compacted = self.revision
        while self.history and self.history[0][0] < self.compacted:
            self.history.popleft()

    def events_from(self, prefix: str, revision: int) -> tuple[int, list[Event]] | None:
        """Return the first events below a prefix from a revision on, None: none yet.

        Raises:
            CompactedError: the store does not remember so far back.
        """
        if revision < self.compacted:
            raise CompactedError(f"revision {revision} is no longer known")
        for at, events in self.history:
            if at >= revision:
                found = [event for event in events if event.key.startswith(prefix)]
                if found:
                    return at, found
        return None

    # Leases.

    def grant(self, ttl_s: float) -> int:
        """Return a new lease."""
        if ttl_s <= 0:
            raise MetastoreError("a lease lasts at least 1 ms")
        self._last_lease += 1
        self._leases[self._last_lease] = (ttl_s, trio.current_time() + ttl_s)
        self._lease_news.set()
        return self._last_lease

    def keep(self, lease: int) -> bool:
        """Prolong a lease; False when there is none."""
        found = self._leases.get(lease)
        if found is None:
            return False
        self._leases[lease] = (found[0], trio.current_time() + found[0])
        return True

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys."""
        if self._leases.pop(lease, None) is None:
            return
        keys = [key for key, owner in self._lease_of.items() if owner == lease]
        if keys:
            self._apply([Delete(key) for key in sorted(keys)])

    def _prolong(self) -> None:
        if self.is_up:
            now = trio.current_time()
            self._leases = {n: (ttl, now + ttl) for n, (ttl, _) in self._leases.items()}

    async def run(self) -> None:
        """End leases by time; while the store is down it prolongs what it has, as etcd does."""
        while True:
            self._lease_news = trio.Event()
            if not self.is_up:
                await self.news.wait()
                self._prolong()
                continue
            deadline = min((at for _, at in self._leases.values()), default=None)
            if deadline is None:
                await self._lease_news.wait()
                continue
            with trio.move_on_at(deadline):
                while self.is_up:
                    await self.news.wait()
            now = trio.current_time()
            for lease in [n for n, (_, at) in self._leases.items() if at <= now and self.is_up]:
                self.revoke(lease)


class StoreClient(PollableStore):
    """A broker's way to the store.

    Args:
        model: the server.
        network: with the link to it.
        host: the broker's machine.
        rng: draws which answers are lost.
    """

    ops_max = _OPS_MAX

    def __init__(self, model: StoreModel, network: Network, host: str, rng: random.Random) -> None:
        self._model = model
        self._network = network
        self._host = host
        self._rng = rng
        self._closed = trio.Event()
        self.watch_delay_s = 0.0
        self.loss = 0.0
        self.is_dead = False

    async def open(self) -> None:
        """Wait until the store answers."""
        await self._request()
        await self._response()

    async def run(self) -> None:
        """Do nothing: the model looks after leases."""
        await trio.sleep_forever()

    async def close(self) -> None:
        """End watches."""
        self._closed.set()

    async def _request(self) -> None:
        """Bring a request there.

        Raises:
            MetastoreUnavailableError: it did not arrive.
        """
        self._check_open()
        with trio.move_on_after(_TIMEOUT_S) as scope:
            await self._network.pass_by(self._host, STORE_HOST)
            while not self._model.is_up:
                await self._model.news.wait()
        self._check_open()
        self._draw(scope)

    async def _response(self) -> None:
        """Bring an answer back; raises as `_request`."""
        with trio.move_on_after(_TIMEOUT_S) as scope:
            await self._network.pass_by(STORE_HOST, self._host)
        self._check_open()
        self._draw(scope)

    def _check_open(self) -> None:
        if self._closed.is_set() or self.is_dead:
            raise MetastoreUnavailableError("the metadata store is closed")

    def _draw(self, scope: trio.CancelScope) -> None:
        if scope.cancelled_caught or self._rng.random() < self.loss:
            raise MetastoreUnavailableError("the store did not answer")

    async def read(self, prefix: str) -> Snapshot:
        """See `Metastore`."""
        await self._request()
        found = self._model.read(prefix)
        await self._response()
        return found

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        """See `Metastore`."""
        await self._request()
        done = self._model.txn(compares, ops)
        await self._response()
        return done

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[list[Event]]:
        """See `Metastore`."""
        return PolledWatch(self, prefix, from_revision)

    async def next_events(self, prefix: str, from_revision: int) -> tuple[int, list[Event]] | None:
        """See `PollableStore`."""
        while not self._closed.is_set() and not self.is_dead:
            await self._network.pass_by(STORE_HOST, self._host)
            if self.watch_delay_s:
                await trio.sleep(self._rng.uniform(0, self.watch_delay_s))
            if self._model.is_up:
                found = self._model.events_from(prefix, from_revision)
                if found is not None:
                    return found
                from_revision = max(from_revision, self._model.revision + 1)
            await self._news()
        return None

    async def _news(self) -> None:
        async with trio.open_nursery() as nursery:

            async def closed() -> None:
                await self._closed.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(closed)
            await self._model.news.wait()
            nursery.cancel_scope.cancel()

    async def grant_lease(self, ttl_ms: int) -> int:
        """See `Metastore`."""
        await self._request()
        lease = self._model.grant(ttl_ms / 1000)
        await self._response()
        return lease

    async def keep_alive(self, lease: int) -> bool:
        """See `Metastore`."""
        await self._request()
        lives = self._model.keep(lease)
        await self._response()
        return lives

    async def revoke_lease(self, lease: int) -> None:
        """See `Metastore`."""
        await self._request()
        self._model.revoke(lease)
        await self._response()
