"""A client's connections: a link per node and lane, made when a call wants it, closed when idle.

A link that cannot be connected, or breaks, gives its calls back to the core and waits for a
back-off before it is tried again; it stays in the table, because its failures count when a node is
chosen. Source: KIP-144 (back-off), KIP-899 (bootstrapping again).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastmq.client.calls import Call
from fastmq.client.links import Action, Channel, Close, Connect, Link, LinkState, Write
from fastmq.client.metadata import NodeAddress
from fastmq.client.timers import Timer
from fastmq.errors import ConnectionFailed, FastmqError
from fastmq.net import Answer, Connection

if TYPE_CHECKING:
    from fastmq.client.core import ClientCore

__all__ = ["LinkTable", "link_name"]

_IDLE_SWEEP_MS = 30_000


class LinkTable:
    """The links of one client.

    Args:
        core: gets calls back whose link has failed, and sends those that waited for one.

    Attributes:
        ready_listeners: called whenever a connection has become ready.
    """

    def __init__(self, core: "ClientCore") -> None:
        self.ready_listeners: list[Callable[[], None]] = []
        self._core = core
        self._links: dict[tuple[int, str], Link] = {}
        self._bootstrap = {
            -1 - index: NodeAddress(-1 - index, host, port)
            for index, (host, port) in enumerate(core.options.bootstrap_servers)
        }
        self._actions: list[Action] = []
        self._written: dict[Channel, None] = {}
        self._sweep: Timer | None = None

    # ----------------------------------------------------------------------------------- finding

    def load(self, node_id: int, lane: str) -> int:
        """Requests that a node has not answered on a lane, those that wait included."""
        link = self._links.get((node_id, lane))
        return 0 if link is None else link.load

    def link_to(self, address: NodeAddress, lane: str) -> Link:
        """The link to a node, made new when there is none, moved when the node has moved."""
        link = self._links.get((address.node_id, lane))
        if link is None:
            link = self._adopt_bootstrap(address, lane)
            self._links[address.node_id, lane] = link
        elif (link.host, link.port) != (address.host, address.port):
            link.host, link.port = address.host, address.port
            link.failures = link.retry_at_ms = 0
            if link.channel is not None:
                self.fail(link, ConnectionFailed(f"{link_name(link)}: the broker has moved"))
        return link

    def _adopt_bootstrap(self, address: NodeAddress, lane: str) -> Link:
        """Go on with a connection that was made before the node's id was known."""
        for key, link in self._links.items():
            same = (link.host, link.port) == (address.host, address.port)
            if key[0] < 0 and key[1] == lane and same:
                del self._links[key]
                link.node_id = address.node_id
                return link
        return Link(address.node_id, lane, address.host, address.port)

    def any_link(self, lane: str) -> Link:
        """The best link to any node: connected, being connected, next to be tried."""
        known = list(self._core.metadata.nodes.values())
        links = [self.link_to(address, lane) for address in known]
        if all(link.failures for link in links):
            # None of the brokers that we know answers, or we know none (KIP-899).
            links += [self.link_to(address, lane) for address in self._bootstrap.values()]
        first = self._core.choose(len(links))
        links = links[first:] + links[:first]
        return min(links, key=_preference)

    def rebootstrap(self) -> None:
        """Give up the links to nodes that were known by their ids."""
        for link in list(self._links.values()):
            if link.node_id >= 0:
                self.fail(link, ConnectionFailed("beginning at bootstrap_servers again"))
        self._links = {key: link for key, link in self._links.items() if key[0] < 0}

    # --------------------------------------------------------------------------------- the pump

    def take_actions(self) -> list[Action]:
        """Return what the pump is to do now, in order, and forget it."""
        written = self._written
        if written:
            self._written = {}
            for channel in written:
                if channel.link.channel is channel:
                    self._actions.append(Write(channel, channel.connection.take_output()))
        actions = self._actions
        self._actions = []
        return actions

    def note_written(self, channel: Channel) -> None:
        """Have the pump send what a connection has got to send."""
        self._written[channel] = None

    def on_connected(self, channel: Channel) -> None:
        """Take note that a connection is made."""
        link = channel.link
        if link.channel is not channel or link.state is not LinkState.CONNECTING:
            return
        link.state = LinkState.OPENING
        channel.connection.start()
        self.note_written(channel)

    def on_received(self, channel: Channel, count: int) -> list[Answer]:
        """Take note of bytes in the connection's buffer, and return the answers in them."""
        link = channel.link
        if link.channel is not channel:
            return []
        try:
            answers = channel.connection.received(count)
        except FastmqError as error:
            self.fail(link, ConnectionFailed(f"{link_name(link)}: {error}"))
            return []
        link.last_used_ms = self._core.now_ms
        if link.state is LinkState.OPENING and channel.connection.is_ready:
            self._open(link)
        return answers

    def on_closed(self, channel: Channel, reason: str) -> None:
        """Take note that a connection could not be made, or ended."""
        link = channel.link
        if link.channel is channel:
            link.channel = None  # nothing is left to close
            self.fail(link, ConnectionFailed(f"{link_name(link)}: {reason}"))

    def close(self) -> list[Call]:
        """Close everything, and return the calls that were under way."""
        calls = []
        for link in self._links.values():
            calls += link.take_calls()
            self._drop_channel(link)
        return calls

    # --------------------------------------------------------------------------- connections

    def connect(self, link: Link) -> None:
        """See to it that an idle link is connected, now or when its back-off ends."""
        core = self._core
        if link.state is not LinkState.IDLE or link.timer is not None or core.is_closed:
            return
        if link.retry_at_ms > core.now_ms:
            link.timer = core.call_at(link.retry_at_ms, lambda: self._reconnect(link))
            return
        link.state = LinkState.CONNECTING
        channel = Channel(link, Connection(client_id=core.options.client_id))
        link.channel = channel
        self._actions.append(Connect(channel))
        limit_ms = core.now_ms + core.options.socket_connection_setup_timeout_ms
        link.timer = core.call_at(limit_ms, lambda: self._connect_timed_out(link))

    def _reconnect(self, link: Link) -> None:
        link.timer = None
        if link.waiting or link.is_wanted:
            self.connect(link)

    def _connect_timed_out(self, link: Link) -> None:
        limit_ms = self._core.options.socket_connection_setup_timeout_ms
        link.timer = None
        self.fail(link, ConnectionFailed(f"{link_name(link)}: no connection in {limit_ms} ms"))

    def _open(self, link: Link) -> None:
        core = self._core
        link.state = LinkState.READY
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None
        if self._sweep is None:
            self._sweep = core.call_at(core.now_ms + _IDLE_SWEEP_MS, self._close_idle)
        while link.waiting:
            call = link.waiting.popleft()
            if not call.is_done:
                core.transmit(call, link)
        link.is_wanted = False
        for listener in list(self.ready_listeners):
            listener()

    def fail(self, link: Link, error: ConnectionFailed) -> None:
        """Give a connection up: its calls fail or are routed again."""
        core = self._core
        self._drop_channel(link)
        link.failures += 1
        link.retry_at_ms = core.now_ms + core.reconnect_backoff_ms(link.failures)
        for call in link.take_calls():
            core.attempt_failed(call, error)
        if link.node_id >= 0:
            core.refresh_metadata()  # it may be gone for good
        if link.is_wanted:
            self.connect(link)

    def _drop_channel(self, link: Link) -> None:
        if link.channel is not None:
            self._actions.append(Close(link.channel))
            self._written.pop(link.channel, None)
            link.channel = None
        link.state = LinkState.IDLE
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None

    def _close_idle(self) -> None:
        core = self._core
        self._sweep = None
        oldest_ms = core.now_ms - core.options.connections_max_idle_ms
        for link in self._links.values():
            if link.state is LinkState.READY and not link.load and link.last_used_ms < oldest_ms:
                self._drop_channel(link)
        if any(link.state is LinkState.READY for link in self._links.values()):
            self._sweep = core.call_at(core.now_ms + _IDLE_SWEEP_MS, self._close_idle)


def _preference(link: Link) -> tuple[int, int]:
    if link.state is LinkState.READY:
        return 0, link.load
    if link.state is not LinkState.IDLE:
        return 1, link.load
    # One that has not failed, else the one whose failure is the longest ago.
    return (3, link.retry_at_ms) if link.failures else (2, 0)


def link_name(link: Link) -> str:
    """What people call the other end of a link."""
    node = f"broker {link.node_id}" if link.node_id >= 0 else "broker"
    return f"{node} at {link.host}:{link.port}"
