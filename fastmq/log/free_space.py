"""When a data directory is too full to take more records."""

from typing import Final

__all__ = ["FreeSpaceWatch"]

# Space must come back by this much before writing goes on, or a broker at the brink would refuse
# and accept by turns at every look.
_MARGIN_BYTES: Final = 16 << 20


class FreeSpaceWatch:
    """The decision, from one look at the disk to the next.

    Args:
        floor_bytes: `fastmq.free.space.floor.bytes`; 0 = never full.
    """

    def __init__(self, floor_bytes: int) -> None:
        self._floor_bytes = floor_bytes
        self._is_full = False

    @property
    def is_full(self) -> bool:
        """Whether produce requests must be refused."""
        return self._is_full

    def update(self, free_bytes: int) -> bool:
        """Take in a look at the disk; True when `is_full` has changed."""
        margin = min(_MARGIN_BYTES, self._floor_bytes // 8) if self._is_full else 0
        before = self._is_full
        self._is_full = free_bytes < self._floor_bytes + margin
        return self._is_full != before
