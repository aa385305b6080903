"""A file that holds a little disk space back, for the moment when there is no other.

Without it, a full disk would refuse the very commits that make room (deleting a topic, shorter
retention) and the registration of a broker that starts. Blocking; called from the store's worker
thread.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["SpaceReserve"]

# Space is taken only where so many times as much is free.
_PLENTY: Final = 4


class SpaceReserve:
    """Space that can be given back once, and is taken again when there is plenty.

    Args:
        path: of the file.
        size_bytes: of the space.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._is_held = False

    def hold(self) -> None:
        """Take the space, unless it is held or the disk has hardly more."""
        if self._is_held:
            return
        with suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == self._size_bytes:
                self._is_held = True
                return
        try:
            found = os.statvfs(self._path.parent)
            if found.f_bavail * found.f_frsize < _PLENTY * self._size_bytes:
                return
            # Bytes, not a hole: only what is allocated can be given back.
            self._path.write_bytes(bytes(self._size_bytes))
            self._is_held = True
        except OSError:
            # What little was taken is worth more to others.
            with suppress(OSError):
                self._path.unlink()

    def release(self) -> bool:
        """Give the space back; True when there was some."""
        self._is_held = False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
