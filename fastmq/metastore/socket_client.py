"""The driver for a store that another process of this machine serves (`socket_server`).

`open` makes the connection that is the session, whose end means that the server has gone: `run`
raises then, because whoever holds a lease there cannot know any more what has become of it.
Requests take an idle connection or make one; a request that is cancelled closes its connection, and
what it asked for may have happened. Nothing is repeated here.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from fastmq.limits import METASTORE_VALUE_BYTES_MAX, STORE_IDLE_CONNECTIONS_MAX
from fastmq.metastore.interface import (
    Compare,
    Conflict,
    Event,
    MetastoreError,
    MetastoreUnavailableError,
    Op,
    Put,
    Snapshot,
)
from fastmq.metastore.polled import PollableStore, PolledWatch
from fastmq.metastore.socket_wire import (
    ERRORS,
    op_row,
    read_message,
    row_event,
    row_item,
    write_message,
)

__all__ = ["SocketMetastore"]


class SocketMetastore(PollableStore):
    """A metadata store behind a Unix socket.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = os.fspath(path)
        self._session: trio.SocketStream | None = None
        self._session_id = 0
        self._idle: list[trio.SocketStream] = []
        self._busy: set[trio.SocketStream] = set()

    async def open(self) -> None:
        """Connect.

        Raises:
            MetastoreError: nobody serves the socket.
        """
        assert self._session is None, "the store is open"
        session = await self._connect()
        try:
            self._session_id, self.ops_max = await self._exchange(session, ["session"])
        except BaseException:
            await trio.aclose_forcefully(session)
            raise
        self._session = session

    async def run(self) -> None:
        """Watch over the session, until cancelled or the store is closed.

        Raises:
            MetastoreUnavailableError: the server has gone.
        """
        session = self._session
        if session is None:
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await session.receive_some(1)
        if self._session is not None:
            raise MetastoreUnavailableError("the process that serves the metadata store has gone")

    async def close(self) -> None:
        """Close all connections; watches end, and with the session its leases. Idempotent."""
        session, self._session = self._session, None
        idle, self._idle = self._idle, []
        for stream in [*idle, *self._busy, *([session] if session else ())]:
            await trio.aclose_forcefully(stream)

    async def _connect(self) -> trio.SocketStream:
        try:
            return await trio.open_unix_socket(self._path)
        except OSError as exc:
            raise MetastoreUnavailableError(
                f"the metadata store at {self._path} cannot be reached: {exc.strerror}"
            ) from exc

    async def _ask(self, *request: object) -> Any:
        """Make one request on a connection of its own."""
        if self._session is None:
            raise MetastoreUnavailableError("the metadata store is closed")
        stream = self._idle.pop() if self._idle else await self._connect()
        self._busy.add(stream)
        is_whole = False
        try:
            answer = await self._exchange(stream, request)
            is_whole = True
            return answer
        except MetastoreUnavailableError:
            raise
        except MetastoreError:
            is_whole = True
            raise
        finally:
            self._busy.discard(stream)
            has_room = len(self._idle) < STORE_IDLE_CONNECTIONS_MAX
            if is_whole and has_room and self._session is not None:
                self._idle.append(stream)
            else:
                await trio.aclose_forcefully(stream)

    async def _exchange(self, stream: trio.SocketStream, request: Sequence[object]) -> Any:
        try:
            await write_message(stream, request)
            answer = await read_message(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise MetastoreUnavailableError("the metadata store hung up") from exc
        if answer is None:
            raise MetastoreUnavailableError("the metadata store hung up")
        kind, result = answer
        if kind != "ok":
            raise ERRORS[kind](result)
        return result

    # The interface.

    async def read(self, prefix: str) -> Snapshot:
        """Return all items whose key begins with `prefix`, as of one moment."""
        rows, revision = await self._ask("read", prefix)
        return Snapshot([row_item(row) for row in rows], revision)

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        """Do all operations if all comparisons hold, else none."""
        for op in ops:
            if isinstance(op, Put) and len(op.value) > METASTORE_VALUE_BYTES_MAX:
                raise MetastoreError(f"{op.key}: the value has {len(op.value)} bytes")
        done = await self._ask("txn", compares, [op_row(op) for op in ops])
        return Conflict(tuple(done)) if isinstance(done, list) else int(done)

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[list[Event]]:
        """Iterate over the events below `prefix`, a list per revision."""
        return PolledWatch(self, prefix, from_revision)

    async def next_events(self, prefix: str, from_revision: int) -> tuple[int, list[Event]] | None:
        """Wait for the first events below `prefix` from a revision on; None when closed."""
        try:
            found = await self._ask("next", prefix, from_revision)
        except MetastoreUnavailableError:
            if self._session is not None:
                raise
            return None
        return None if found is None else (found[0], [row_event(row) for row in found[1]])

    async def grant_lease(self, ttl_ms: int) -> int:
        """Return a new lease id, bound to this session."""
        return int(await self._ask("grant", self._session_id, ttl_ms))

    async def keep_alive(self, lease: int) -> bool:
        """Prolong a lease; False when it has ended."""
        return bool(await self._ask("keep", lease))

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys."""
        await self._ask("revoke", lease)
