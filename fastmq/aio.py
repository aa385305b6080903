"""The client for async programs, under trio and asyncio (through anyio).

The same classes as in `fastmq`, used as async context managers, with coroutines for methods.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmq.client.fronts.aio_admin import Admin as Admin
    from fastmq.client.fronts.aio_consumer import Consumer as Consumer
    from fastmq.client.fronts.aio_producer import Producer as Producer

__all__ = ["Admin", "Consumer", "Producer"]

_LATE = {
    "Admin": "fastmq.client.fronts.aio_admin",
    "Consumer": "fastmq.client.fronts.aio_consumer",
    "Producer": "fastmq.client.fronts.aio_producer",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_LATE[name]), name)
    globals()[name] = found
    return found
