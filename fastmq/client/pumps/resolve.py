"""Names to addresses. The system's resolver blocks, so names are looked up in a thread."""

import socket
import threading
from collections.abc import Callable

__all__ = ["is_literal", "resolve", "resolve_in_thread"]

#: (family, address) as sockets want them.
Address = tuple[int, tuple[object, ...]]


def is_literal(host: str) -> bool:
    """Whether a host is an address already, so that `resolve` does not block."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, in the system's order.

    Raises:
        OSError: there are none.
    """
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(row[0]), row[4]) for row in rows]


def resolve_in_thread(
    host: str, port: int, done: Callable[[list[Address] | OSError], None]
) -> None:
    """Resolve in a thread of its own and call `done` there. Look-ups are rare: per connection."""

    def work() -> None:
        try:
            result: list[Address] | OSError = resolve(host, port)
        except OSError as error:
            result = error
        done(result)

    threading.Thread(target=work, name=f"fastmq-resolve-{host}", daemon=True).start()
