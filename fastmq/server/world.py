"""What a broker asks of the machine around it: sockets, files, clocks, randomness, its store.

There is one real `World`. The simulator (`fastmq.testing.sim`) hands in another, with links, disks
and time of its own, and runs the same broker on it.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from fastmq.config import BrokerConfig
from fastmq.log import Disk
from fastmq.metastore import Metastore
from fastmq.server.listeners import OpenListener, accept_connections, open_listener
from fastmq.server.store import make_store

if TYPE_CHECKING:
    from fastmq._native.sim_env import SimEnv
    from fastmq.server.storage import Storage

__all__ = ["World"]

logger = logging.getLogger(__name__)

# One look at each advertised address.
_ADVERTISED_TIMEOUT_S: Final = 5.0
_BOOT_ID_FILE: Final = "/proc/sys/kernel/random/boot_id"


class World:
    """The real machine.

    Attributes:
        env: files, clocks and memory for the C code; None: the system's.
    """

    env: "SimEnv | None" = None

    def disk(self, *, durable: bool) -> Disk:
        """Return the file system for everything that is not a log."""
        return Disk(durable=durable)

    def store(self, config: BrokerConfig, storage: "Storage") -> Metastore:
        """Return the metadata store that the configuration names, not open yet.

        Raises:
            ConfigError: what it needs is not given or not installed.
        """
        return make_store(config, storage)

    def random_bytes(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""
        return os.urandom(size)

    def wall_s(self) -> float:
        """Return the time since the Unix epoch, in seconds."""
        return time.time()

    def boot_time_ms(self) -> int:
        """Return a time that never goes back and goes on while the machine sleeps."""
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.clock_gettime_ns(clock) // 1_000_000

    def boot_id(self) -> str:
        """Return what names this run of the machine, empty where nothing does."""
        with suppress(OSError):
            return Path(_BOOT_ID_FILE).read_text(encoding="ascii").strip()
        return ""

    def open_listeners(self, config: BrokerConfig) -> list[OpenListener]:
        """Bind what the configuration names.

        Raises:
            AddressInUseError: a port is taken.
            ConfigError: an address cannot be bound for another reason.
        """
        opened: list[OpenListener] = []
        send_buffer_bytes = config.get_int("socket.send.buffer.bytes")
        try:
            for number, spec in enumerate(config.listeners):
                opened.append(open_listener(number, spec, send_buffer_bytes))
        except BaseException:
            for listener in opened:
                listener.close()
            raise
        return opened

    async def accept(
        self,
        listener: OpenListener,
        take_over: Callable[[OpenListener, socket.socket, str], None],
        delay_s: Callable[[float], float],
    ) -> None:
        """Accept until cancelled; see `accept_connections`."""
        await accept_connections(listener, take_over, delay_s)

    async def check_advertised(self, listeners: Sequence[OpenListener]) -> None:
        """Warn of addresses that lead nowhere from here: other brokers and clients use them."""
        for listener in listeners:
            host, port = listener.advertised_host, listener.advertised_port
            try:
                with trio.fail_after(_ADVERTISED_TIMEOUT_S):
                    await (await self.connect(host, port)).aclose()
            except (OSError, trio.TooSlowError) as exc:
                logger.warning(
                    "clients and other brokers are told to connect to %s:%d (listener %s), where "
                    "nobody answers from this machine: %s; is advertised.listeners right?",
                    host,
                    port,
                    listener.name,
                    "no answer" if isinstance(exc, trio.TooSlowError) else exc,
                )

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """Connect to another broker.

        Raises:
            OSError: nobody is there.
        """
        return await trio.open_tcp_stream(host, port, happy_eyeballs_delay=0.1)
