"""Clients do not survive a fork: the child has no I/O thread, and the sockets are the parent's."""

import os
import weakref
from typing import Protocol

__all__ = ["watch_forks"]


class _Pump(Protocol):
    def after_fork(self) -> None: ...


# Of this process, for the hook below; no state of a client.
_pumps: "weakref.WeakSet[_Pump]" = weakref.WeakSet()


def watch_forks(pump: _Pump) -> None:
    """Call `pump.after_fork()` in each child, for as long as the pump lives."""
    _pumps.add(pump)


def _after_fork() -> None:
    for pump in list(_pumps):
        pump.after_fork()


os.register_at_fork(after_in_child=_after_fork)
