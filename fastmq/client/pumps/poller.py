"""What both pumps do: sockets, a selector and a wake-up, driven in steps.

`step` waits at most so long, reads and writes what is ready, runs what other threads posted and the
timers that are due, and carries out the core's actions. The blocking pump calls it with a time-out;
the async one waits until the selector's own descriptor is readable, and then calls it with 0. All
but `post`, `wake` and `fileno` belongs to the pump's thread or task.

Sockets do not block. Sends and receives keep the GIL: a busy producing thread would otherwise keep
it for a switch interval (5 ms) after each of them.
"""

import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fastmq._native.sockets import receive_into, send_parts
from fastmq.client.core import ClientCore
from fastmq.client.links import Channel, Close, Connect, Write
from fastmq.client.pumps.resolve import is_literal, resolve, resolve_in_thread

__all__ = ["Poller", "monotonic_ms", "wall_ms"]

_WAKE: Final = object()
# Reads of one connection before the others get their turn: large answers arrive in many pieces.
_READS_MAX: Final = 16
# While so much of an answer is missing, the kernel is asked not to wake the pump for every segment:
# that costs more than moving the bytes.
_LOW_WATER_MIN: Final = 64 << 10
_LOW_WATER_MAX: Final = 1 << 20
_IN_PROGRESS: Final = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)

Address = tuple[int, tuple[object, ...]]


def monotonic_ms() -> int:
    """The clock of every client."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Milliseconds since 1970, as timestamps of records."""
    return time.time_ns() // 1_000_000


class _Transport:
    """A channel's socket, and what is still to be sent on it."""

    __slots__ = ("addresses", "channel", "connecting", "low_water", "mask", "out", "sock")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.addresses: list[Address] = []
        self.sock: socket.socket | None = None
        self.connecting = True
        self.out: deque[bytes | memoryview] = deque()
        self.mask = 0
        self.low_water = 1


class Poller:
    """Moves bytes between a core and its sockets."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = socket.socketpair()
        for end in (self._wake_out, self._wake_in):
            end.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ, _WAKE)
        self._woken = False
        self._posted: deque[Callable[[], None]] = deque()
        self._transports: set[_Transport] = set()
        self._is_closed = False

    # ---------------------------------------------------------------------------- any thread

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to do, timers apart."""
        return self._selector.fileno()

    def post(self, fn: Callable[[], None]) -> None:
        """Run `fn` in the pump's next step; from any thread."""
        self._posted.append(fn)
        self.wake()

    def wake(self) -> None:
        """End the wait of the step under way; from any thread."""
        if not self._woken:
            self._woken = True
            # Full means that the wake-up is on its way; closed that nobody waits any more.
            with suppress(OSError):
                self._wake_in.send(b"\0")

    # --------------------------------------------------------------------------- the pump only

    def timeout_s(self) -> float | None:
        """How long the next step may wait; None: until something happens."""
        if self._posted:
            return 0.0
        deadline_ms = self.core.next_deadline_ms()
        return None if deadline_ms is None else max(0, deadline_ms - monotonic_ms()) / 1000

    def step(self, timeout_s: float | None) -> None:
        """Wait at most `timeout_s` seconds for something to do, and do it."""
        for key, mask in self._selector.select(timeout_s):
            if key.data is _WAKE:
                self._drain_wake()
            else:
                self._handle(key.data, mask)
        self.run_posted()
        self.core.on_timer(monotonic_ms())
        self.perform()

    def run_posted(self) -> None:
        """Run what was posted until now."""
        self._woken = False
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def enter(self) -> None:
        """Tell the core the time before somebody in the pump's task calls it."""
        self.core.on_timer(monotonic_ms())

    def perform(self) -> None:
        """Carry out the core's actions."""
        while actions := self.core.take_actions():
            for action in actions:
                if isinstance(action, Write):
                    transport = action.channel.transport
                    if transport is not None:
                        transport.out.extend(action.parts)
                        self._write(transport)
                elif isinstance(action, Connect):
                    self._begin(action.channel)
                elif isinstance(action, Close):
                    self._discard(action.channel.transport)

    def close(self) -> None:
        """Close all sockets; the core is closed already or forgotten."""
        self._is_closed = True
        for transport in list(self._transports):
            self._discard(transport)
        self._selector.close()
        self._wake_out.close()
        self._wake_in.close()

    # ---------------------------------------------------------------------------- connecting

    def _begin(self, channel: Channel) -> None:
        transport = _Transport(channel)
        channel.transport = transport
        self._transports.add(transport)
        if is_literal(channel.host):
            transport.addresses = resolve(channel.host, channel.port)
            self._connect_next(transport, "no address")
            return

        def resolved(result: list[Address] | OSError) -> None:
            if self._is_closed or transport not in self._transports:
                return
            if isinstance(result, OSError):
                self._lost(transport, f"cannot resolve the name: {result}")
                return
            transport.addresses = result
            self._connect_next(transport, "the name has no address")

        resolve_in_thread(channel.host, channel.port, lambda r: self.post(lambda: resolved(r)))

    def _connect_next(self, transport: _Transport, reason: str) -> None:
        """Try the next address of a host; report the failure when none is left."""
        self._close_socket(transport)
        while transport.addresses:
            family, address = transport.addresses.pop(0)
            try:
                sock = self._socket(family)
            except OSError as error:
                reason = str(error)
                continue
            code = sock.connect_ex(address)
            if code in _IN_PROGRESS:
                transport.sock = sock
                self._watch(transport, selectors.EVENT_WRITE)
                return
            sock.close()
            reason = errno.errorcode.get(code, str(code))
        self._lost(transport, f"cannot connect: {reason}")

    def _socket(self, family: int) -> socket.socket:
        options = self.core.options
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if options.send_buffer_bytes > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes)
        if options.receive_buffer_bytes > 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer_bytes)
        return sock

    def _finish_connect(self, transport: _Transport) -> None:
        assert transport.sock is not None
        code = transport.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._connect_next(transport, errno.errorcode.get(code, str(code)))
            return
        transport.connecting = False
        self._watch(transport, selectors.EVENT_READ)
        self.core.on_connected(transport.channel, monotonic_ms())
        self.perform()

    # -------------------------------------------------------------------------------- moving bytes

    def _handle(self, transport: _Transport, mask: int) -> None:
        if transport not in self._transports:
            return  # closed by an event before this one
        if transport.connecting:
            self._finish_connect(transport)
            return
        if mask & selectors.EVENT_READ:
            self._read(transport)
        if mask & selectors.EVENT_WRITE and transport in self._transports:
            self._write(transport)

    def _read(self, transport: _Transport) -> None:
        core, channel = self.core, transport.channel
        for _ in range(_READS_MAX):
            assert transport.sock is not None
            buffer = core.receive_buffer(channel)
            room = len(buffer)
            try:
                count = receive_into(transport.sock.fileno(), buffer)
            except OSError as error:
                self._lost(transport, f"the connection broke: {error.strerror}")
                return
            del buffer
            if count == 0:
                self._lost(transport, "the broker closed the connection")
                return
            if count > 0:
                core.on_received(channel, count, monotonic_ms())
                self.perform()
                if transport not in self._transports:
                    return
            if count < room:
                break
        self._set_low_water(transport)

    def _set_low_water(self, transport: _Transport) -> None:
        """Be woken when as much is there as is known to come, not before."""
        missing = transport.channel.connection.missing_bytes
        wanted = 1 if missing < _LOW_WATER_MIN else min(missing, _LOW_WATER_MAX)
        if wanted != transport.low_water:
            assert transport.sock is not None
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
            transport.low_water = wanted

    def _write(self, transport: _Transport) -> None:
        if transport.connecting or transport.sock is None:
            return
        out = transport.out
        try:
            while out:
                sent = send_parts(transport.sock.fileno(), out)
                if sent < 0:
                    break
                _drop_sent(out, sent)
        except OSError as error:
            self._lost(transport, f"the connection broke: {error.strerror}")
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if out else 0)
        self._watch(transport, wanted)

    def _watch(self, transport: _Transport, mask: int) -> None:
        if mask == transport.mask:
            return
        assert transport.sock is not None
        if transport.mask:
            self._selector.modify(transport.sock, mask, transport)
        else:
            self._selector.register(transport.sock, mask, transport)
        transport.mask = mask

    def _lost(self, transport: _Transport, reason: str) -> None:
        self._discard(transport)
        self.core.on_closed(transport.channel, reason, monotonic_ms())

    def _discard(self, transport: _Transport | None) -> None:
        if transport is not None and transport in self._transports:
            self._transports.discard(transport)
            transport.channel.transport = None
            transport.out.clear()
            self._close_socket(transport)

    def _close_socket(self, transport: _Transport) -> None:
        sock = transport.sock
        if sock is None:
            return
        if transport.mask:
            self._selector.unregister(sock)
            transport.mask = 0
        sock.close()
        transport.sock = None

    def _drain_wake(self) -> None:
        with suppress(OSError):
            self._wake_out.recv(4096)


def _drop_sent(out: deque[bytes | memoryview], sent: int) -> None:
    while sent:
        size = len(out[0])
        if sent < size:
            out[0] = memoryview(out[0])[sent:]
            return
        sent -= size
        out.popleft()
