"""Judges what a group of consumers reported: nothing lost, nothing twice, order per key kept.

Input are the lines of `interop/workers/jobs.py`: "R" for an assignment, and
"<partition> <offset> <key> <number> <bytes>" per record. The judge knows nothing of clients.
"""

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Judge:
    """Collects the reports of all members of one group.

    `tells_assignments` is False for members whose lines of assignments are not in step with their
    records. Each step back needs an assignment all the same: of every member, a partition may not
    step back more often than it was assigned anew (`unexplained_steps`).
    """

    tells_assignments: bool = True

    # (partition, offset) -> (key, number); one entry per record of the log.
    log: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    # What has been read at least once, and how many positions hold it.
    copies: dict[tuple[str, int], int] = field(default_factory=dict)
    redelivered: int = 0
    assignments: int = 0
    faults: list[str] = field(default_factory=list)
    # member -> how often it was assigned, and (member, partition) -> how often it went back
    _assigned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _steps: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    # member -> partition -> last offset in the present assignment
    _last: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def line(self, member: str, line: str) -> None:
        """Take one line of a member's report."""
        if line == "R":
            self.assignments += 1
            self._assigned[member] += 1
            if self.tells_assignments:
                self._last[member].clear()
            return
        partition_text, offset_text, key, number_text, size_text = line.split(" ")
        partition, offset, number = int(partition_text), int(offset_text), int(number_text)
        if int(size_text) != expected_bytes(number):
            self.faults.append(f"{member}: {line}: {expected_bytes(number)} bytes were sent")
        last = self._last[member].get(partition, -1)
        if offset <= last and self.tells_assignments:
            self.faults.append(f"{member}: offset {offset} after {last} in partition {partition}")
        elif offset <= last:
            self._steps[member, partition] += 1
        self._last[member][partition] = offset
        self._position((partition, offset), (key, number))

    def _position(self, position: tuple[int, int], record: tuple[str, int]) -> None:
        before = self.log.setdefault(position, record)
        if before is not record:
            self.redelivered += 1
            if before != record:
                self.faults.append(f"two records at {position}: {before} and {record}")
            return
        self.copies[record] = self.copies.get(record, 0) + 1

    def unexplained_steps(self) -> list[str]:
        """Members and partitions that went back more often than they were assigned."""
        return [
            f"{member}: {count} steps back in partition {partition}, {self._assigned[member]} times"
            " assigned"
            for (member, partition), count in self._steps.items()
            if count > self._assigned[member]
        ]

    def duplicates(self) -> int:
        """Records that the log holds more than once."""
        return sum(count - 1 for count in self.copies.values())

    def missing(self, counts: dict[int, int], keys: int) -> list[tuple[str, int]]:
        """Records of slices (slice -> count) that nobody has read."""
        return [
            record
            for part, count in counts.items()
            for number in range(count)
            if (record := (f"s{part}-k{number % keys}", number)) not in self.copies
        ]

    def order_faults(self) -> list[str]:
        """Places in the log where a key's numbers do not go up, or its partition changes."""
        faults = []
        last: dict[str, tuple[int, int]] = {}
        for (partition, offset), (key, number) in sorted(self.log.items()):
            home, before = last.get(key, (partition, -1))
            if partition != home:
                faults.append(f"{key} is in partitions {home} and {partition}")
            elif number < before:
                faults.append(f"{key}: {number} after {before} at {partition}/{offset}")
            last[key] = (partition, number)
        return faults


def expected_bytes(number: int) -> int:
    """The size of a value, as the workers make it."""
    return 20_000 if number % 997 == 0 else 16 + number * 7919 % 500
