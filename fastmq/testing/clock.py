"""The broker's clock, to be moved by tests."""

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from fastmq.testing._thread import BrokerThread

__all__ = ["VirtualClock"]

# A job that a move woke has this long before `advance` returns without it.
_REST_TIMEOUT_S = 30.0


class VirtualClock:
    """The wall clock of a broker in this process.

    Moving it lets sessions time out, retention delete and offsets expire at once. Sockets, waiting
    requests and the clients' own clocks stay real: a consumer whose session ended that way finds
    out with its next heartbeat and joins again.
    """

    def __init__(self, thread: "BrokerThread") -> None:
        self._thread = thread

    def now_ms(self) -> int:
        """Return what the broker takes for the time, ms since 1970."""
        return self._thread.call(lambda: self._thread.context.clock.now_ms())

    def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> None:
        """Move the clock ahead, and return when everything that became due has been done.

        Raises:
            ValueError: back is not possible.
        """
        by_ms = round(((((days * 24) + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds)
        if by_ms < 0:
            raise ValueError("the clock of a broker does not go back")

        async def move() -> None:
            clock = self._thread.context.clock
            clock.advance(by_ms)
            with trio.move_on_after(_REST_TIMEOUT_S):
                await clock.wait_rested()

        self._thread.call_async(move)
