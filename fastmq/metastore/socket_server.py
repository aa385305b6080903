"""The store of one process, served to the others of the machine on a Unix socket.

A client's first connection is its *session*: it stays open and carries nothing more. Leases belong
to a session and end with it, at once: the kernel closes the connection of a process that dies, so
nobody has to wait for a time-out to know. They also end by time, for a process that lives and does
not move. Every other connection carries one request at a time, which makes a slow one (a watch that
waits) a matter of its own connection.
"""

import itertools
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from fastmq.limits import STORE_CONNECTIONS_MAX
from fastmq.metastore.interface import Compare, Conflict, MetastoreError
from fastmq.metastore.polled import PollableStore
from fastmq.metastore.socket_wire import (
    ERRORS,
    decode_op,
    event_row,
    item_row,
    read_message,
    write_message,
)

__all__ = ["StoreServer"]

logger = logging.getLogger(__name__)


class StoreServer:
    """Serves a store.

    Args:
        store: open; whoever made it runs and closes it.
        path: of the socket, in a directory that only this user may enter.
    """

    def __init__(self, store: PollableStore, path: Path) -> None:
        self._store = store
        self._path = path
        self._numbers = itertools.count(1)
        self._sessions: dict[int, set[int]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await listener.bind(os.fspath(self._path))
            listener.listen(STORE_CONNECTIONS_MAX)
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(listener)])
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await self._serve_connection(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ValueError):
                logger.debug("a client of the metadata store has gone")

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        while (request := await read_message(stream)) is not None:
            if request[0] == "session":
                await self._hold_session(stream)
                return
            await write_message(stream, await self._answer_while_there(stream, request))

    async def _answer_while_there(self, stream: trio.SocketStream, request: list[Any]) -> Any:
        """Answer, unless the client hangs up first: a watch may wait for ever."""
        if request[0] != "next":
            return await self._answer(request)
        answer: Any = None
        async with trio.open_nursery() as nursery:

            async def wait_for_end() -> None:
                # Nothing comes here while a request is under way, except the end.
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.receive_some(1)
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_end)
            answer = await self._answer(request)
            nursery.cancel_scope.cancel()
        if answer is None:
            raise trio.BrokenResourceError("the client hung up")
        return answer

    async def _answer(self, request: list[Any]) -> Any:
        try:
            return ["ok", await self._do(request[0], request[1:])]
        except MetastoreError as exc:
            kind = next(name for name, error in ERRORS.items() if isinstance(exc, error))
            return [kind, str(exc)]

    async def _do(self, operation: str, args: list[Any]) -> Any:
        store = self._store
        match operation:
            case "read":
                snapshot = await store.read(args[0])
                return [[item_row(item) for item in snapshot.items], snapshot.revision]
            case "txn":
                compares = [Compare(key, revision) for key, revision in args[0]]
                done = await store.txn(compares, [decode_op(row) for row in args[1]])
                return list(done.keys) if isinstance(done, Conflict) else done
            case "next":
                found = await store.next_events(args[0], args[1])
                return None if found is None else [found[0], [event_row(e) for e in found[1]]]
            case "grant":
                leases = self._sessions.get(args[0])
                if leases is None:
                    raise MetastoreError("the session has ended")
                lease = await store.grant_lease(args[1])
                leases.add(lease)
                return lease
            case "keep":
                return await store.keep_alive(args[0])
            case "revoke":
                return await store.revoke_lease(args[0])
        raise MetastoreError(f"no such operation: {operation}")

    async def _hold_session(self, stream: trio.SocketStream) -> None:
        number = next(self._numbers)
        leases = self._sessions[number] = set()
        try:
            await write_message(stream, ["ok", [number, self._store.ops_max]])
            await read_message(stream)
        finally:
            del self._sessions[number]
            # Also when this server is stopped: the store outlives it.
            with trio.CancelScope(shield=True), suppress(MetastoreError):
                for lease in leases:
                    await self._store.revoke_lease(lease)
