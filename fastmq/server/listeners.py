"""Listening sockets: bind, accept, and hand the descriptor over.

An `OpenListener` is one entry of the `listeners` setting with its sockets and the address that
clients are told (`advertised.listeners`); a name such as `localhost` may mean several sockets.
Port 0 takes a free port, the same for all sockets of the listener. `accept_connections` runs one
task per socket and takes many connections per wake-up; no task is ever made for a connection.

Accept survives a full descriptor table: one descriptor is held in reserve, given up to accept and
close the next peer (who sees a close instead of hanging in the backlog), and taken again.
"""

import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from fastmq.config.listeners import Listener
from fastmq.errors import ConfigError
from fastmq.limits import ACCEPT_BATCH_MAX, LISTEN_BACKLOG

__all__ = [
    "AddressInUseError",
    "OpenListener",
    "accept_connections",
    "bind_sockets",
    "open_listener",
]

logger = logging.getLogger(__name__)

_CONGESTION_BYTES = 16  # of an algorithm's name

# The peer gave up, or the network had a hiccup: take the next one.
_TRANSIENT = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH}
    | {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.EOPNOTSUPP}
)
# We have no room: shed load and pause.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_FAMILY_ABSENT = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
# Long enough not to spin, short enough not to be noticed once descriptors are free again.
_EXHAUSTED_PAUSE_S = 0.05


class AddressInUseError(ConfigError):
    """Somebody else listens on the address."""


@dataclass(slots=True, eq=False)
class OpenListener:
    """One configured listener, open."""

    listener_id: int
    name: str
    host: str
    port: int
    advertised_host: str
    advertised_port: int
    sockets: list[socket.socket] = field(default_factory=list, repr=False)

    @property
    def address(self) -> str:
        """`host:port` as a client writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()


def open_listener(listener_id: int, spec: Listener, send_buffer_bytes: int = -1) -> OpenListener:
    """Bind and listen.

    Args:
        listener_id: handed to the engine with each connection.
        spec: what to bind; an empty advertised host becomes this machine's name, an advertised
            port 0 the port that was bound.
        send_buffer_bytes: of each connection; 0 or less leaves it to the operating system.

    Raises:
        AddressInUseError: the port is taken.
        ConfigError: the address cannot be bound for another reason.
    """
    sockets = bind_sockets(spec.host, spec.port)
    for sock in sockets if send_buffer_bytes > 0 else ():
        # Connections inherit it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    bound = sockets[0].getsockname()[1]
    return OpenListener(
        listener_id,
        spec.name,
        spec.host,
        bound,
        spec.advertised_host or socket.gethostname(),
        spec.advertised_port or bound,
        sockets,
    )


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a non-blocking listening socket for each address that `host` means, all on one port.

    Raises:
        AddressInUseError: the port is taken.
        ConfigError: the address cannot be bound for another reason.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in _resolve(host, port):
            bound = port or (sockets[0].getsockname()[1] if sockets else 0)
            try:
                sockets.append(_listen(family, (address[0], bound, *address[2:])))
            except OSError as exc:
                # A name may mean an address family that this machine has switched off.
                if exc.errno not in _FAMILY_ABSENT:
                    raise
                absent = exc
        if absent is not None and not sockets:
            raise absent
    except OSError as exc:
        for sock in sockets:
            sock.close()
        where = f"{host or '*'}:{port}"
        if exc.errno == errno.EADDRINUSE:
            raise AddressInUseError(
                f"cannot listen on {where}: the port is taken; stop the other process "
                "or choose another port (--listen HOST:PORT, port 0 takes a free one)"
            ) from exc
        raise ConfigError(f"cannot listen on {where}: {exc.strerror or exc}") from exc
    return sockets


async def accept_connections(
    listener: OpenListener,
    take_over: Callable[[OpenListener, socket.socket, str], None],
    delay_s: Callable[[float], float] = lambda _: 0.0,
) -> None:
    """Accept on every socket of `listener` until cancelled, and close it then.

    Args:
        listener: open.
        take_over: called with each new non-blocking socket and the peer's address; owns the
            socket from then on. Runs in the trio thread and must not block.
        delay_s: asked before each accept, with the time in seconds, how long to wait with it.
    """
    reserve = _Reserve()
    try:
        async with trio.open_nursery() as nursery:
            for sock in listener.sockets:
                nursery.start_soon(
                    _accept_loop,
                    listener,
                    sock,
                    take_over,
                    delay_s,
                    reserve,
                    name=f"accept {listener.name}",
                )
    finally:
        reserve.release()
        listener.close()


async def _accept_loop(
    listener: OpenListener,
    sock: socket.socket,
    take_over: Callable[[OpenListener, socket.socket, str], None],
    delay_s: Callable[[float], float],
    reserve: "_Reserve",
) -> None:
    while True:
        await trio.lowlevel.wait_readable(sock)
        pause_s = delay_s(trio.current_time())
        if pause_s > 0:
            await trio.sleep(pause_s)
        try:
            for _ in range(ACCEPT_BATCH_MAX):
                if delay_s(trio.current_time()) > 0:
                    break
                peer, address = sock.accept()
                if _prepare(peer):
                    take_over(listener, peer, _plain_address(address[0]))
        except BlockingIOError:
            continue
        except OSError as exc:
            if exc.errno in _EXHAUSTED:
                reserve.shed(sock)
                logger.warning("cannot accept on %s: %s", listener.address, exc.strerror)
                await trio.sleep(_EXHAUSTED_PAUSE_S)
            elif exc.errno not in _TRANSIENT:
                raise


def _prepare(peer: socket.socket) -> bool:
    """Set the options of a new connection; False when the peer has gone already."""
    try:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        peer.close()
        return False
    return True


class _Reserve:
    """A descriptor kept for the moment when there are none left."""

    def __init__(self) -> None:
        self._fd = _open_null()

    def shed(self, sock: socket.socket) -> None:
        """Accept and close one peer with the reserved descriptor, then reserve it again."""
        self.release()
        try:
            sock.accept()[0].close()
        except OSError as exc:
            logger.debug("could not shed a connection: %s", exc)
        self._fd = _open_null()

    def release(self) -> None:
        """Give the descriptor up."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _open_null() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _resolve(host: str, port: int) -> Sequence[tuple[int, tuple[str, int, *tuple[int, ...]]]]:
    """Return (family, address) of each socket that the host means, without duplicates."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as exc:
        raise ConfigError(f"cannot listen on {host!r}: {exc.strerror}") from exc
    seen: dict[tuple[int, object], None] = {}
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            seen[(family, address)] = None
    return list(seen)  # type: ignore[arg-type]


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        _spare_pacing(sock, str(address[0]))
        sock.listen(LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _spare_pacing(sock: socket.socket, host: str) -> None:
    """Keep BBR, where it is the system's default, from pacing connections within this machine.

    It sets a timer for what it holds back, and each piece then wakes the reader: 1.7 times the CPU
    for a consumer. Connections inherit the choice; one that began to pace goes on with it.
    """
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None or not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    with contextlib.suppress(OSError):
        if sock.getsockopt(socket.IPPROTO_TCP, option, _CONGESTION_BYTES).startswith(b"bbr"):
            sock.setsockopt(socket.IPPROTO_TCP, option, b"reno")


def _plain_address(host: str) -> str:
    """Return an IPv4 peer of an IPv6 socket as plain IPv4, so that limits count it once."""
    return host.removeprefix("::ffff:") if host.startswith("::ffff:") and "." in host else host
