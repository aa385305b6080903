"""Appends that a handler waits for, by the token that the engine gives back.

Tokens of handlers count from `FIRST_TOKEN` up, above those of the coordinators, so that an event
tells whose it is.
"""

from collections.abc import Iterable
from typing import Final

import trio

from fastmq.errors import ErrorCode

__all__ = ["FIRST_TOKEN", "Appends"]

FIRST_TOKEN: Final = 1 << 62


class Appends:
    """The appends under way. As many as slow requests have partitions."""

    def __init__(self) -> None:
        self._next = FIRST_TOKEN
        self._results: dict[int, int | None] = {}
        self._done = trio.Event()

    def new(self) -> int:
        """Name an append that is about to be made."""
        self._next += 1
        self._results[self._next] = None
        return self._next

    def on_appended(self, token: int, code: int) -> None:
        """Take the engine's word on one append."""
        if token in self._results:
            self._results[token] = code
            done, self._done = self._done, trio.Event()
            done.set()

    async def wait(self, token: int) -> int:
        """Return the error code of an append, 0 when it is committed, and forget it."""
        while True:
            code = self._results[token]
            if code is not None:
                del self._results[token]
                return code
            await self._done.wait()

    def give_up(self, token: int) -> int:
        """Stop waiting for an append: its error code, REQUEST_TIMED_OUT when it has none yet.

        One that `wait` has returned already counts as committed.
        """
        code = self._results.pop(token, 0)
        return ErrorCode.REQUEST_TIMED_OUT if code is None else code

    def forget(self, tokens: Iterable[int]) -> None:
        """Stop waiting for appends."""
        for token in tokens:
            self._results.pop(token, None)
