"""The world of a simulated broker's C code: every change to a file, and the time, asked of Python.

Handed to `Engine(env=...)`. Closing and reading files, and memory, stay the system's.
"""

from typing import Protocol, final

class Host(Protocol):
    """What is asked. Results below 0 are -errno; an OSError is the same."""

    def open_file(self, path: str, flags: int, mode: int) -> int:
        """Open as open(2) and return the descriptor, which is the system's."""

    def write_at(self, fd: int, data: bytes, position: int) -> int: ...
    def sync_file(self, fd: int) -> int: ...
    def truncate_file(self, fd: int, size: int) -> int: ...
    def make_name(self, path: str, mode: int) -> int: ...
    def rename_name(self, old: str, new: str) -> int: ...
    def unlink_name(self, path: str) -> int: ...
    def sync_names(self, path: str) -> int: ...
    def wall_ms(self) -> int: ...
    def mono_ns(self) -> int: ...
    def broken(self, error: Exception) -> None:
        """A method failed with anything but an OSError; the C code was told EIO."""

@final
class SimEnv:
    def __init__(self, host: Host, system: object) -> None:
        """Make an env around `core.system_env()`."""

    def capsule(self) -> object:
        """Return the C struct as a capsule; it lives as long as this object."""
