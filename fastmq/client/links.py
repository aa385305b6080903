"""Links to nodes, and the channels that pumps carry.

A `Link` is the client's relation to one node on one lane; it outlives connections. A lane is a
connection of its own: "" for most requests, others where a request may wait long at the broker (a
Fetch, a JoinGroup) and must not hold up its neighbours. A `Channel` is one attempt to connect and
what came of it: pumps hold on to channels, and what they report about one that was given up is
ignored.

| state | meaning | left by |
|---|---|---|
| IDLE | no connection; perhaps waiting for `retry_at_ms` | a call to send |
| CONNECTING | the pump was asked to connect | `on_connected`, failure |
| OPENING | ApiVersions is under way | its answer, failure |
| READY | requests are sent | failure, idleness |
"""

from collections import deque
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from fastmq.client.calls import Call
from fastmq.client.timers import Timer
from fastmq.net import Connection

__all__ = ["Action", "Channel", "Close", "Connect", "Link", "LinkState", "Write"]


class LinkState(Enum):
    """See the module's table."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPENING = "opening"
    READY = "ready"


class Link:
    """One node on one lane."""

    __slots__ = (
        "channel",
        "failures",
        "host",
        "in_flight",
        "is_wanted",
        "lane",
        "last_used_ms",
        "node_id",
        "port",
        "retry_at_ms",
        "state",
        "timer",
        "waiting",
    )

    def __init__(self, node_id: int, lane: str, host: str, port: int) -> None:
        self.node_id = node_id
        self.lane = lane
        self.host = host
        self.port = port
        self.state = LinkState.IDLE
        self.channel: Channel | None = None
        self.in_flight: dict[int, Call] = {}
        self.waiting: deque[Call] = deque()
        self.failures = 0
        self.retry_at_ms = 0
        self.last_used_ms = 0
        self.timer: Timer | None = None
        self.is_wanted = False  # somebody waits for the connection without a call

    @property
    def load(self) -> int:
        """Requests that are sent or wait to be."""
        return len(self.in_flight) + len(self.waiting)

    def take_calls(self) -> list[Call]:
        """Remove and return every call, in the order in which they were to be sent."""
        calls = [*self.in_flight.values(), *self.waiting]
        self.in_flight.clear()
        self.waiting.clear()
        return calls


class Channel:
    """One connection of a link.

    Attributes:
        transport: for the pump's use.
    """

    __slots__ = ("connection", "host", "link", "port", "transport")

    def __init__(self, link: Link, connection: Connection) -> None:
        self.link = link
        self.host = link.host
        self.port = link.port
        self.connection = connection
        # Any: what a pump keeps with a connection is its own affair.
        self.transport: Any = None


class Connect(NamedTuple):
    """Connect to `channel.host`, `channel.port`; then `on_connected` or `on_closed`."""

    channel: Channel


class Write(NamedTuple):
    """Send these buffers, in order, after what was to be sent before."""

    channel: Channel
    parts: list[bytes | memoryview]


class Close(NamedTuple):
    """Close the connection without more ado; nothing more needs to be reported about it."""

    channel: Channel


Action: TypeAlias = Connect | Write | Close
