"""Links between the machines of a simulation.

A connection is two socket pairs and two tasks between them that carry bytes later than they came:
each direction in order, as TCP does, but every connection at its own pace, so that what is sent on
two of them may arrive in any order. Where a direction is cut, bytes wait for the link to come back,
or the connection breaks. A machine that is down answers nothing; one that runs without the broker
refuses.
"""

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
    inner: tuple[trio.socket.SocketType, trio.socket.SocketType]
    number: int
    is_broken: bool = False

    def close(self) -> None:
        self.is_broken = True
        for end in self.inner:
            end.close()


class Network:
    """All links.

    Args:
        rng: draws delays.
        nursery: for the tasks that carry bytes.

    Attributes:
        delay_s: (shortest, longest) time that bytes are under way.
    """

    def __init__(self, rng: random.Random, nursery: trio.Nursery) -> None:
        self._rng = rng
        self._nursery = nursery
        self.delay_s = (0.0005, 0.004)
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
        if power:
            self._down.add(host)
        for connection in list(self._connections.values()):
            if host in (connection.source, connection.target):
                connection.close()
        self._note()

    # Links.

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass in one direction."""
        self._cut[source, target] = None
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
        inner = (
            trio.socket.from_stdlib_socket(inner_ours),
            trio.socket.from_stdlib_socket(inner_theirs),
        )
        self._count += 1
        connection = _Connection(source, host, inner, self._count)
        self._connections[connection.number] = connection
        self._nursery.start_soon(self._carry, connection, 0)
        self._nursery.start_soon(self._carry, connection, 1)
        take_over(theirs)
        return ours

    async def _carry(self, connection: _Connection, side: int) -> None:
        """Carry what one side sends to the other until one of them ends."""
        inbound, outbound = connection.inner[side], connection.inner[1 - side]
        ends = (connection.source, connection.target)
        source, target = ends[side], ends[1 - side]
        with suppress(OSError, trio.ClosedResourceError):
            while data := await inbound.recv(_CHUNK):
                await self.pass_by(source, target)
                view = memoryview(data)
                while view:
                    view = view[await outbound.send(view) :]
        if not connection.is_broken:
            # The end of a stream takes its time as well.
            await self.pass_by(source, target)
        connection.close()
        self._connections.pop(connection.number, None)
