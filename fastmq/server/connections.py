"""Who is connected: the table of open connections and the limits on their number.

The engine owns the sockets; this table holds what handlers must know about a peer (its listener,
its address, what it called itself) and counts for `max.connections` and its relatives. Touched
only from the trio thread.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastmq.config import BrokerConfig
from fastmq.errors import ConfigError
from fastmq.server.listeners import OpenListener

if TYPE_CHECKING:
    from fastmq.auth import PeerIdentity, PeerServer

__all__ = ["Connection", "ConnectionLimits", "ConnectionTable"]


@dataclass(slots=True)
class Connection:
    """One open connection."""

    conn_id: int
    listener: OpenListener
    host: str
    software_name: str = ""
    software_version: str = ""
    # Another broker, once it has proved that it is one, and the exchange until then.
    peer: "PeerIdentity | None" = None
    peer_exchange: "PeerServer | None" = None


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`max.connections`, `max.connections.per.ip` and its overrides by address, and the rate.

    Attributes:
        per_second: `max.connection.creation.rate`; None = no limit.
    """

    total: int
    per_address: int
    overrides: dict[str, int] = field(default_factory=dict)
    per_second: int | None = None

    @classmethod
    def of(cls, config: BrokerConfig) -> "ConnectionLimits":
        """Take the limits from the broker's settings.

        Raises:
            ConfigError: an entry of the overrides is not `host:count`.
        """
        key = "max.connections.per.ip.overrides"
        overrides = {}
        for entry in config.get_list(key):
            host, colon, count = entry.rpartition(":")
            if not colon or not count.isdecimal():
                raise ConfigError(f"{key}: {entry!r} is not host:count")
            overrides[host.strip("[]")] = int(count)
        return cls(
            config.get_int("max.connections"),
            config.get_int("max.connections.per.ip"),
            overrides,
            config.get_int("max.connection.creation.rate"),
        )

    def for_address(self, host: str) -> int:
        """Return how many connections one address may hold."""
        return self.overrides.get(host, self.per_address)


class ConnectionTable:
    """The open connections by id, counted by address.

    Attributes:
        limits: may be replaced while connections are open; those stay.
        refused_total: connections that were turned away.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        # A bucket of one second's connections, as of the time of the last look.
        self._bucket = float(limits.per_second or 0)
        self._looked_s = 0.0
        self._open: dict[int, Connection] = {}
        self._by_host: dict[str, int] = {}
        self.refused_total = 0

    def __len__(self) -> int:
        return len(self._open)

    def refusal(self, host: str) -> str | None:
        """Return why one more connection from `host` is refused, or None when it is welcome."""
        if len(self._open) >= self.limits.total:
            return f"max.connections={self.limits.total} are open"
        allowed = self.limits.for_address(host)
        if self._by_host.get(host, 0) >= allowed:
            return f"{allowed} connections from this address are open (max.connections.per.ip)"
        return None

    def accept_delay_s(self, now_s: float) -> float:
        """Return how long to leave the next connection in the kernel's queue, 0.0 for not at all.

        A burst of one second's connections passes at once; each that does not have to wait is
        taken off the allowance by `spend`.
        """
        rate = self.limits.per_second
        if rate is None:
            return 0.0
        self._bucket = min(float(rate), self._bucket + (now_s - self._looked_s) * rate)
        self._looked_s = now_s
        return 0.0 if self._bucket >= 1 else (1 - self._bucket) / rate

    def spend(self) -> None:
        """Count an accepted connection towards `max.connection.creation.rate`."""
        self._bucket -= 1

    def add(self, connection: Connection) -> None:
        """Count a connection that the engine has taken over."""
        assert connection.conn_id not in self._open
        self._open[connection.conn_id] = connection
        self._by_host[connection.host] = self._by_host.get(connection.host, 0) + 1

    def get(self, conn_id: int) -> Connection | None:
        """Return the connection, or None when it has been closed meanwhile."""
        return self._open.get(conn_id)

    def remove(self, conn_id: int) -> Connection | None:
        """Forget a closed connection."""
        connection = self._open.pop(conn_id, None)
        if connection is not None:
            left = self._by_host[connection.host] - 1
            if left:
                self._by_host[connection.host] = left
            else:
                del self._by_host[connection.host]
        return connection
