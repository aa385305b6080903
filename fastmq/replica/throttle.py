"""How fast a follower may catch up. Pure."""

from typing import Final

__all__ = ["Throttle", "is_listed"]

_UNLIMITED: Final = 1 << 40


class Throttle:
    """A bucket of bytes that fills with a rate; who takes more than is in it waits the debt off.

    It holds no more than one second brings, and one answer may always be taken, however small the
    rate: a follower that got nothing would never catch up.
    """

    def __init__(self) -> None:
        self._rate = self._room = float(_UNLIMITED)
        self._counted_s = 0.0

    def set_rate(self, rate: int, now_s: float) -> None:
        """Change the bytes per second."""
        rate = min(max(rate, 1), _UNLIMITED)
        if rate != self._rate:
            self._rate = self._room = float(rate)
            self._counted_s = now_s

    def take(self, size_bytes: int, now_s: float) -> None:
        """Count what has come."""
        self._fill(now_s)
        self._room -= size_bytes

    def wait_s(self, now_s: float) -> float:
        """Return how long nothing may be asked for."""
        self._fill(now_s)
        return max(0.0, -self._room / self._rate)

    def _fill(self, now_s: float) -> None:
        self._room = min(self._rate, self._room + self._rate * (now_s - self._counted_s))
        self._counted_s = now_s


def is_listed(replicas: tuple[str, ...], index: int, broker_id: int) -> bool:
    """Return whether `*.replication.throttled.replicas` names a replica.

    Args:
        replicas: "partition:broker" texts, or "*" alone.
        index: of the partition.
        broker_id: who has the replica.
    """
    return "*" in replicas or f"{index}:{broker_id}" in replicas
