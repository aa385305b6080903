"""When a log's end passed an offset, and how fast a number grows: memory of bounded size."""

import math
from bisect import bisect_right
from functools import lru_cache

__all__ = ["EndHistory", "Rate"]

# 48 looks five seconds apart are four minutes; thinned out again and again, days fit.
_SAMPLES_MAX = 48


class EndHistory:
    """Log ends of one partition over time, coarser the older they are."""

    __slots__ = ("_ends", "_times")

    def __init__(self) -> None:
        self._times: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, now_ms: int, end: int) -> None:
        """Note the end; one that went back (the topic was made anew) makes a new beginning."""
        times, ends = self._times, self._ends
        if ends and end < ends[-1]:
            times.clear()
            ends.clear()
        if len(ends) >= 2 and ends[-1] == ends[-2] == end:
            # Nothing came: only the last moment of the standstill matters.
            times[-1] = now_ms
            return
        times.append(now_ms)
        ends.append(end)
        if len(times) > _SAMPLES_MAX:
            half = len(times) // 2
            times[:half] = times[:half:2]
            ends[:half] = ends[:half:2]

    def time_of(self, offset: int) -> int | None:
        """Return about when the record at `offset` was appended, ms; None when it is older than
        what is remembered, or not there yet.
        """
        # The first look that saw an end behind the offset.
        after = bisect_right(self._ends, offset)
        if after == 0 or after == len(self._ends):
            return None
        (t0, e0), (t1, e1) = ((self._times[i], self._ends[i]) for i in (after - 1, after))
        return t0 + (t1 - t0) * (offset - e0) // (e1 - e0)


class Rate:
    """Growth per second, weighted by age: what is `tau_s` old counts 37 % of what is new."""

    __slots__ = ("_tau_s", "per_s")

    def __init__(self, tau_s: float) -> None:
        self._tau_s = tau_s
        self.per_s: float | None = None

    def add(self, growth: float, seconds: float) -> None:
        """Note that something grew so much in so many seconds, > 0."""
        now = growth / seconds
        if self.per_s is None:
            self.per_s = now
        else:
            self.per_s += _weight(seconds / self._tau_s) * (now - self.per_s)


@lru_cache(maxsize=16)
def _weight(age: float) -> float:
    """Return the weight of what is new; all rates of a look are of the same age."""
    return 1 - math.exp(-age)
