"""Links between the machines of a simulation.

A connection is two socket pairs and two tasks between them that carry bytes later than they came:
each direction in order, as TCP does, but every connection at its own pace, so that what is sent on
two of them may arrive in any order. A connection can be held up for seconds while a newer one is
fast: then a request arrives after the one that repeats it. Where a direction is cut, bytes wait for
the link to come back, or the connection breaks. A machine that is down answers nothing; one that
runs without the broker refuses.
"""

import math
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

__all__ = ["Network"]

_CHUNK: Final = 1 << 18
TakeOver = Callable[[socket.socket], None]


@dataclass(eq=False, slots=True)
class _Connection:
    source: str
    target: str
    inner: tuple[socket.socket, socket.socket]
    number: int
    # Until when what each side sends is held up.
    late_until: list[float]
    is_broken: bool = False

    def close(self) -> None:
        self.is_broken = True
        for end in self.inner:
            if end.fileno() >= 0:
                trio.lowlevel.notify_closing(end)
                end.close()


class Network:
    """All links.

    Args:
        rng: draws delays.
        nursery: for the tasks that carry bytes.

    Attributes:
        delay_s: (shortest, longest) time that bytes are under way.
        calm_since: since when no link is cut, slow or held up; in the future while it is.
    """

    def __init__(self, rng: random.Random, nursery: trio.Nursery) -> None:
        self._rng = rng
        self._nursery = nursery
        self.delay_s = (0.0005, 0.004)
        self.calm_since = 0.0
        # Connections that wait until the process goes on that is to take them.
        self._backlog: dict[str, list[socket.socket]] = {}
        self._listening: dict[str, TakeOver] = {}
        self._down: set[str] = set()
        self._cut: dict[tuple[str, str], None] = {}
        self._changed = trio.Event()
        self._connections: dict[int, _Connection] = {}
        self._count = 0

    # Machines.

    def listen(self, host: str, take_over: TakeOver) -> None:
        """Let a machine take connections."""
        self._listening[host] = take_over
        self._down.discard(host)

    def unplug(self, host: str, *, power: bool) -> None:
        """Let a machine's connections end: at once, or with the power in silence."""
        self._listening.pop(host, None)
        self._drop_backlog(host)
        if power:
            self._down.add(host)
        for connection in list(self._connections.values()):
            if host in (connection.source, connection.target):
                connection.close()
        self._note()

    def pause(self, host: str) -> None:
        """Take connections to a machine, but do not tell its process of them."""
        self._backlog.setdefault(host, [])

    def resume(self, host: str) -> None:
        """Tell a process of the connections that have come meanwhile."""
        take_over = self._listening.get(host)
        if take_over is None:
            self._drop_backlog(host)
            return
        for sock in self._backlog.pop(host, ()):
            take_over(sock)

    def _drop_backlog(self, host: str) -> None:
        for sock in self._backlog.pop(host, ()):
            sock.close()

    # Links.

    def set_delay(self, low_s: float, high_s: float, *, is_calm: bool) -> None:
        """Let bytes be so long under way."""
        self.delay_s = (low_s, high_s)
        self.calm_since = trio.current_time() if is_calm else math.inf

    def hold_up_some(self, share: float, longest_s: float) -> int:
        """Hold up what is sent on some connections, in either direction; return how many."""
        chosen = [c for c in self._connections.values() if self._rng.random() < share]
        for connection in chosen:
            for side in self._rng.choice(((0,), (1,), (0, 1))):
                until = trio.current_time() + self._rng.uniform(0.5, longest_s)
                connection.late_until[side] = until
        if chosen:
            self.calm_since = max(self.calm_since, trio.current_time() + longest_s)
        return len(chosen)

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass in one direction."""
        self._cut[source, target] = None
        self.calm_since = math.inf
        self._note()

    def heal(self) -> None:
        """Let everything pass; some of the connections do not survive that."""
        affected = [
            connection
            for connection in self._connections.values()
            if (connection.source, connection.target) in self._cut
            or (connection.target, connection.source) in self._cut
        ]
        self._cut.clear()
        self.calm_since = trio.current_time()
        for connection in affected:
            if self._rng.random() < 0.5:
                connection.close()
        self._note()

    def break_some(self, share: float) -> int:
        """Break some connections, as when a packet is lost for too long; return how many."""
        chosen = [c for c in self._connections.values() if self._rng.random() < share]
        for connection in chosen:
            connection.close()
        return len(chosen)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes from one machine to the other."""
        return (source, target) in self._cut

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def pass_by(self, source: str, target: str) -> None:
        """Take as long as a message takes, for as long as the link is cut."""
        await trio.sleep(self._rng.uniform(*self.delay_s))
        while (source, target) in self._cut:
            await self._changed.wait()

    async def connect(self, source: str, host: str) -> socket.socket:
        """Connect to a machine and return our end, non-blocking.

        Raises:
            ConnectionRefusedError: it runs, but nobody listens.
        """
        await self.pass_by(source, host)
        while host in self._down:
            await self._changed.wait()
        await self.pass_by(host, source)
        take_over = self._listening.get(host)
        if take_over is None:
            raise ConnectionRefusedError(f"nobody listens at {host}")
        ours, inner_ours = socket.socketpair()
        theirs, inner_theirs = socket.socketpair()
        for sock in (ours, inner_ours, theirs, inner_theirs):
            sock.setblocking(False)
        self._count += 1
        connection = _Connection(source, host, (inner_ours, inner_theirs), self._count, [0.0, 0.0])
        self._connections[connection.number] = connection
        self._nursery.start_soon(self._carry, connection, 0)
        self._nursery.start_soon(self._carry, connection, 1)
        if host in self._backlog:
            self._backlog[host].append(theirs)
        else:
            take_over(theirs)
        return ours

    async def _carry(self, connection: _Connection, side: int) -> None:
        """Carry what one side sends to the other until one of them ends."""
        inbound, outbound = connection.inner[side], connection.inner[1 - side]
        ends = (connection.source, connection.target)
        source, target = ends[side], ends[1 - side]
        with suppress(OSError, trio.ClosedResourceError):
            while data := await _receive(inbound):
                await self.pass_by(source, target)
                if connection.late_until[side] > trio.current_time():
                    await trio.sleep_until(connection.late_until[side])
                await _send(outbound, data)
        if not connection.is_broken:
            # The end of a stream takes its time as well.
            await self.pass_by(source, target)
        connection.close()
        self._connections.pop(connection.number, None)


async def _receive(sock: socket.socket) -> bytes:
    """Wait first: what is not there yet is the rule."""
    while True:
        if sock.fileno() < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(sock)
        with suppress(BlockingIOError):
            return sock.recv(_CHUNK)


async def _send(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
