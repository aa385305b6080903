"""Cutting a stream of bytes into frames, with no copy of large ones.

The reader hands out the memory that the next bytes belong into. Small frames share one buffer and
are copied out of it; a frame that does not fit gets a buffer of its own, which grows as its bytes
arrive and is lent with it, so that records in an answer can be borrowed from it for as long as they
are needed. Nobody gives it back: it is used again once nobody refers to it, which spares fresh
pages. Nothing is allocated on the strength of an announced length but one step.
"""

import sys
from typing import Final, TypeAlias

from fastmq._native.sockets import new_buffer
from fastmq.errors import ProtocolError

__all__ = ["Frame", "FrameReader"]

Frame: TypeAlias = bytes | memoryview

_LENGTH_SIZE: Final = 4
# A wake-up of a busy connection brings about this much.
_SHARED_SIZE: Final = 64 * 1024
# A large frame's buffer grows by this at first, then doubles. What is not used of it is address
# space only.
_STEP_SIZE: Final = 8 << 20
# Buffers of large frames that are kept for the next ones, up to a step each.
_KEPT_MAX: Final = 2
# What `sys.getrefcount` says of a kept buffer that nobody else refers to.
_REFERENCES_ALONE: Final = 2


class FrameReader:
    """Collects frames that begin with a length of four bytes.

    Args:
        frame_bytes_max: a longer frame is the peer's fault.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._shared = memoryview(bytearray(_SHARED_SIZE))
        self._begin = 0
        self._end = 0
        self._large: bytearray | None = None
        self._kept: list[bytearray] = []
        self._large_size = 0
        self._large_used = 0

    def buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._large is None:
            return self._shared[self._end :]
        if self._large_used == len(self._large):
            larger = new_buffer(min(max(_STEP_SIZE, 2 * self._large_used), self._large_size))
            larger[: self._large_used] = self._large
            self._large = larger
        return memoryview(self._large)[self._large_used : self._large_size]

    @property
    def missing_bytes(self) -> int:
        """What has not come yet of a large frame that has begun; 0: there is none."""
        return 0 if self._large is None else self._large_size - self._large_used

    def received(self, count: int) -> list[Frame]:
        """Take note of `count` new bytes in the buffer; return the frames that are now whole.

        Raises:
            ProtocolError: a length is negative or larger than allowed.
        """
        frames: list[Frame] = []
        if self._large is not None:
            self._large_used += count
            if self._large_used == self._large_size:
                frames.append(memoryview(self._large)[: self._large_size])
                self._keep(self._large)
                self._large = None
            return frames
        self._end += count
        while self._take(frames):
            pass
        self._make_room()
        return frames

    def _keep(self, buffer: bytearray) -> None:
        """Remember a buffer that is lent now; the oldest is forgotten."""
        if len(buffer) <= _STEP_SIZE and not any(kept is buffer for kept in self._kept):
            self._kept = [*self._kept[1 - _KEPT_MAX :], buffer]

    def _find_buffer(self, size: int) -> bytearray:
        """A buffer for a frame, or for its first step."""
        for index in range(len(self._kept)):
            is_free = sys.getrefcount(self._kept[index]) == _REFERENCES_ALONE
            if is_free and size <= len(self._kept[index]):
                return self._kept[index]
        # A little more than is needed, so that the next one may be a little larger.
        return new_buffer(_STEP_SIZE if size >= _STEP_SIZE else min(_STEP_SIZE, size + size // 4))

    def _take(self, frames: list[Frame]) -> bool:
        left = self._end - self._begin
        if left < _LENGTH_SIZE:
            return False
        start = self._begin + _LENGTH_SIZE
        size = int.from_bytes(self._shared[self._begin : start], "big", signed=True)
        if not 0 <= size <= self._frame_bytes_max:
            raise ProtocolError(
                f"the peer announces a frame of {size} bytes; at most {self._frame_bytes_max} are "
                "taken (is this the port of a Kafka listener, without TLS?)"
            )
        if left >= _LENGTH_SIZE + size:
            self._begin = start + size
            frames.append(bytes(self._shared[start : self._begin]))
            return True
        if size + _LENGTH_SIZE > _SHARED_SIZE:
            head = self._shared[start : self._end]
            self._large_size, self._large_used = size, len(head)
            self._large = self._find_buffer(size)
            self._large[: len(head)] = head
            self._begin = self._end
        return False

    def _make_room(self) -> None:
        """Move what is left to the front when a whole small frame would not fit behind it."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin > 0:
            left = bytes(self._shared[self._begin : self._end])
            self._shared[: len(left)] = left
            self._begin, self._end = 0, len(left)
