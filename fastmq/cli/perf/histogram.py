"""Counts of times in buckets that grow with the time: percentiles within 2 %, in little memory."""

from math import log
from typing import Final

__all__ = ["Histogram"]

_LEAST_S: Final = 1e-6
_GROWTH: Final = 1.02
_LOG_GROWTH: Final = log(_GROWTH)
# From a microsecond to two hours.
_BUCKETS: Final = int(log(7200 / _LEAST_S) / _LOG_GROWTH) + 1


class Histogram:
    """Times in seconds. Longer ones than two hours count as two hours."""

    __slots__ = ("_counts", "count", "longest_s", "shortest_s", "total_s")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        self.shortest_s = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        if seconds <= _LEAST_S:
            index = 0
        else:
            index = min(_BUCKETS - 1, int(log(seconds / _LEAST_S) / _LOG_GROWTH))
        self._counts[index] += 1
        self.shortest_s = seconds if not self.count else min(self.shortest_s, seconds)
        self.longest_s = max(self.longest_s, seconds)
        self.count += 1
        self.total_s += seconds

    def percentile_s(self, percent: float) -> float:
        """The time that so many percent are not longer than; 0 when there are none."""
        if not self.count:
            return 0.0
        wanted = max(1, -(-self.count * percent // 100))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                middle_s: float = _LEAST_S * _GROWTH ** (index + 0.5)
                return min(max(middle_s, self.shortest_s), self.longest_s)
        return self.longest_s

    def summary_ms(self) -> dict[str, float]:
        """Shortest, mean, percentiles, longest, in milliseconds."""
        mean_s = self.total_s / self.count if self.count else 0.0
        found = {"min": self.shortest_s, "mean": mean_s}
        found |= {f"p{percent:g}": self.percentile_s(percent) for percent in (50, 90, 99, 99.9)}
        found["max"] = self.longest_s
        return {name: round(seconds * 1000, 3) for name, seconds in found.items()}

    def bars(self, lines: int = 12) -> list[tuple[float, float, int]]:
        """Up to so many rows of (from s, to s, count), on a logarithmic scale, for a picture."""
        filled = [index for index, count in enumerate(self._counts) if count]
        if not filled:
            return []
        first, last = filled[0], filled[-1]
        width = max(1, -(-(last + 1 - first) // lines))
        return [
            (
                _LEAST_S * _GROWTH**start,
                _LEAST_S * _GROWTH ** (start + width),
                sum(self._counts[start : start + width]),
            )
            for start in range(first, last + 1, width)
        ]
