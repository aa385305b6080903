"""One watch at etcd: a stream that is begun anew, from where it was, whenever it breaks.

etcd keeps a stream silent while nothing happens, and so does a member that is dead, cut off or
stopped. So a watch asks for two things: that a member without a leader ends it, and, since the
gateway cannot ask for a sign of life on demand, it begins anew after `SILENCE_S` without a word, at
the next member. That costs one small request, and nothing is lost: a watch begins at a revision.
"""

import json
import logging
from collections.abc import Callable, Iterator, MutableSet
from contextlib import suppress
from itertools import groupby
from typing import Any, Final

import httpx
import trio

from fastmq.limits import ETCD_WATCH_BYTES_MAX
from fastmq.metastore.etcd_http import EtcdHttp
from fastmq.metastore.interface import CompactedError, Event, MetastoreUnavailableError

__all__ = ["EtcdWatch"]

logger = logging.getLogger(__name__)

SILENCE_S: Final = 10.0
# Before a broken watch is begun anew: at once, then slower while etcd is away.
_BACKOFF_S: Final = (0.0, 0.05, 0.2, 0.5, 1.0)


class EtcdWatch:
    """Iterates over the events of a range of keys, a list per revision.

    Args:
        http: where it is asked.
        request: key range and options, as the gateway wants them.
        decode: makes an event of a row.
        from_revision: where it begins.
        registry: it is in there while it has a connection, which `stop` closes.
    """

    def __init__(
        self,
        http: EtcdHttp,
        request: dict[str, object],
        decode: Callable[[dict[str, Any]], Event],
        from_revision: int,
        registry: MutableSet["EtcdWatch"],
    ) -> None:
        self._http = http
        self._request = request
        self._decode = decode
        self._next = from_revision
        self._registry = registry
        self._ready: list[list[Event]] = []
        self._response: httpx.Response | None = None
        self._chunks: Any = None
        self._at = 0
        self._buffer = bytearray()
        self._failures = 0
        self._stopped = False
        self._scope: trio.CancelScope | None = None

    async def stop(self) -> None:
        """End the iteration, also while it waits."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()  # whoever waits hangs up
        else:
            await self._hang_up()

    def __aiter__(self) -> "EtcdWatch":
        return self

    async def __anext__(self) -> list[Event]:
        done = False
        try:
            with trio.CancelScope() as self._scope:
                while not self._ready and self._is_wanted():
                    await self._advance()
                done = bool(self._ready)
        finally:
            self._scope = None
            if not done:
                await self._hang_up()
        if not done or not self._is_wanted():
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        events = self._ready.pop(0)
        self._next = events[0].revision + 1
        return events

    def _is_wanted(self) -> bool:
        return not self._stopped and self._http.is_open

    async def _advance(self) -> None:
        """Wait for the next message; begin anew where the stream breaks or keeps silent."""
        problem = "it kept silent"
        try:
            if self._response is None:
                await trio.sleep(_BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)])
                await self._begin()
            with trio.move_on_after(SILENCE_S):
                self._take(await anext(self._chunks))
                return
        except StopAsyncIteration:
            problem = "it was ended"
        except (httpx.HTTPError, httpx.StreamError, MetastoreUnavailableError, ValueError) as exc:
            problem = str(exc) or type(exc).__name__
        self._failures += 1
        if self._failures == len(_BACKOFF_S):
            logger.warning("the watch of the metadata store cannot go on: %s", problem)
        else:
            logger.debug("the watch of the metadata store begins anew: %s", problem)
        had_response = self._response is not None
        await self._hang_up()
        if had_response:
            self._http.leave(self._at)

    async def _begin(self) -> None:
        body = {"create_request": {**self._request, "start_revision": str(self._next)}}
        self._response, self._at = await self._http.stream("/v3/watch", body)
        self._chunks = self._response.aiter_raw()
        self._registry.add(self)

    async def _hang_up(self) -> None:
        self._registry.discard(self)
        response, self._response = self._response, None
        chunks, self._chunks = self._chunks, None
        self._buffer.clear()
        if response is None:
            return
        with trio.CancelScope(shield=True) as scope, suppress(httpx.HTTPError, httpx.StreamError):
            # httpx reads through several generators, which only a cancelled read unwinds.
            scope.cancel()
            async for _ in chunks:
                pass
        with trio.CancelScope(shield=True):
            await response.aclose()

    def _take(self, chunk: bytes) -> None:
        """Take in part of the stream: a JSON object per line."""
        self._buffer += chunk
        if len(self._buffer) > ETCD_WATCH_BYTES_MAX:
            raise CompactedError("etcd sends more at once than is taken: read again")
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if line.strip():
                self._on_message(json.loads(line))

    def _on_message(self, message: dict[str, Any]) -> None:
        result = message.get("result")
        if not isinstance(result, dict):
            raise self._ended(str(message.get("error")))
        if int(result.get("compact_revision", 0)):
            raise CompactedError(f"revision {self._next} is no longer known to etcd")
        if result.get("canceled"):
            raise self._ended(str(result.get("cancel_reason", "no reason given")))
        # From here on it works again.
        self._failures = 0
        events = [self._decode(row) for row in result.get("events", ())]
        # After a new start the first ones may have been delivered already.
        known = self._ready[-1][0].revision + 1 if self._ready else self._next
        self._ready += [group for group in _by_revision(events) if group[0].revision >= known]
        if not events and not result.get("created") and not self._ready:
            # A sign of progress: everything up to this revision has been sent.
            self._next = max(self._next, int(result["header"]["revision"]) + 1)

    def _ended(self, problem: str) -> MetastoreUnavailableError:
        if "auth token" in problem:
            self._http.forget_login()
        return MetastoreUnavailableError(f"etcd ended the watch: {problem}")


def _by_revision(events: list[Event]) -> Iterator[list[Event]]:
    for _, group in groupby(events, key=lambda event: event.revision):
        yield list(group)
