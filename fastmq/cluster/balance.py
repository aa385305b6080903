"""A plan that spreads partitions evenly over brokers, with as few moves as can be. Pure.

In this order, each step only where it is needed:

1. replicas on brokers that leave go to others;
2. replicas that share a machine, or a rack, while another is free, are parted;
3. brokers with more replicas than others give some to those with fewer, the smallest first, until
   all have the same number, give or take one; never so that a step before is undone;
4. preferred leaders are evened out by changing the order of replicas, which moves no data.

Each move of steps 1 to 3 copies one replica. The result depends on nothing but the arguments.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

__all__ = ["Assignment", "Member", "Shift", "plan_balance"]


class Member(NamedTuple):
    """A broker. Those with one `host` are on one machine; an empty one is like no other."""

    id: int
    rack: str | None = None
    host: str = ""


class Assignment(NamedTuple):
    """Where a partition is: broker ids, the preferred leader first."""

    topic: str
    partition: int
    replicas: tuple[int, ...]
    size_bytes: int = 0


class Shift(NamedTuple):
    """What is to be changed of a partition."""

    topic: str
    partition: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    size_bytes: int

    @property
    def added(self) -> tuple[int, ...]:
        """Who gets a copy."""
        return tuple(broker for broker in self.after if broker not in self.before)

    @property
    def copied_bytes(self) -> int:
        """How much is to be copied, as far as it is known."""
        return self.size_bytes * len(self.added)


def plan_balance(
    members: Iterable[Member],
    assignments: Iterable[Assignment],
    *,
    leaving: Collection[int] = (),
    only_leaving: bool = False,
) -> list[Shift]:
    """Return what is to be changed, in order of topics and partitions.

    Args:
        members: the brokers that may have partitions; others leave.
        assignments: all partitions.
        leaving: members that are to have none any more.
        only_leaving: move nothing but what is on brokers that leave.

    Raises:
        ValueError: fewer brokers stay than some partition has replicas.
    """
    before = sorted(assignments, key=lambda one: (one.topic, one.partition))
    staying = [one for one in members if one.id not in leaving]
    most = max((len(one.replicas) for one in before), default=0)
    if most > len(staying):
        raise ValueError(
            f"{most} replicas of a partition need as many brokers, and {len(staying)} would be left"
        )
    plan = _Plan(staying, before)
    plan.evacuate()
    if not only_leaving:
        plan.part()
        plan.even_out()
        plan.even_out_leaders()
    return [
        Shift(one.topic, one.partition, one.replicas, tuple(after), one.size_bytes)
        for one, after in zip(before, plan.replicas, strict=True)
        if tuple(after) != one.replicas
    ]


class _Plan:
    """Replicas while they are moved; partitions are known by their number."""

    def __init__(self, staying: list[Member], before: list[Assignment]) -> None:
        self._members = {one.id: one for one in sorted(staying)}
        self.replicas = [list(one.replicas) for one in before]
        # Partitions by size, and what each broker has in that order: ranks, sorted.
        self._by_rank = sorted(range(len(before)), key=lambda n: (before[n].size_bytes, n))
        self._ranks = [0] * len(before)
        self._held: dict[int, list[int]] = {broker: [] for broker in self._members}
        for rank, number in enumerate(self._by_rank):
            self._ranks[number] = rank
            for broker in self.replicas[number]:
                if broker in self._held:
                    self._held[broker].append(rank)

    def _conflicts(self, brokers: Collection[int], broker: int) -> tuple[int, int]:
        """Return how many of some brokers share a machine, and a rack, with another."""
        own = self._members[broker]
        hosts = racks = 0
        for other in brokers:
            one = self._members.get(other)
            if one is not None:
                hosts += bool(own.host) and one.host == own.host
                racks += own.rack is not None and one.rack == own.rack
        return hosts, racks

    def _best_for(self, number: int, place: int) -> int:
        """Return where the replica at a place goes best."""
        others = [b for n, b in enumerate(self.replicas[number]) if n != place]
        return min(
            (broker for broker in self._members if broker not in self.replicas[number]),
            key=lambda broker: (*self._conflicts(others, broker), len(self._held[broker]), broker),
        )

    def _move(self, number: int, place: int, target: int) -> None:
        source, rank = self.replicas[number][place], self._ranks[number]
        if source in self._held:
            held = self._held[source]
            del held[bisect_left(held, rank)]
        insort(self._held[target], rank)
        self.replicas[number][place] = target

    def evacuate(self) -> None:
        """Move what is on brokers that leave."""
        for number, replicas in enumerate(self.replicas):
            for place, broker in enumerate(replicas):
                if broker not in self._members:
                    self._move(number, place, self._best_for(number, place))

    def part(self) -> None:
        """Move replicas away from others on the same machine or in the same rack."""
        for number, replicas in enumerate(self.replicas):
            if len(replicas) == len(self._members):
                continue
            # From the last: the preferred leader stays where it is.
            for place in reversed(range(len(replicas))):
                others = [b for n, b in enumerate(replicas) if n != place]
                now = self._conflicts(others, replicas[place])
                if now == (0, 0):
                    continue
                target = self._best_for(number, place)
                if self._conflicts(others, target) < now:
                    self._move(number, place, target)

    def even_out(self) -> None:
        """Move replicas from the brokers with the most to those with the fewest."""
        while self._even_out_once():
            pass

    def _even_out_once(self) -> bool:
        by_count = sorted(self._held, key=lambda broker: (len(self._held[broker]), broker))
        for source in reversed(by_count):
            for target in by_count:
                if len(self._held[source]) - len(self._held[target]) < 2:
                    break
                number = self._to_give(source, target)
                if number is not None:
                    self._move(number, self.replicas[number].index(source), target)
                    return True
        return False

    def _to_give(self, source: int, target: int) -> int | None:
        """Return the smallest partition that may move between two brokers."""
        for number in map(self._by_rank.__getitem__, self._held[source]):
            if target in self.replicas[number]:
                continue
            others = [broker for broker in self.replicas[number] if broker != source]
            if self._conflicts(others, target) <= self._conflicts(others, source):
                return number
        return None

    def even_out_leaders(self) -> None:
        """Let each broker be preferred equally often, by the order of replicas alone."""
        led: dict[int, set[int]] = {broker: set() for broker in self._members}
        for number, replicas in enumerate(self.replicas):
            led[replicas[0]].add(number)
        done: set[int] = set()
        while len(done) < len(led):
            source = max(led.keys() - done, key=lambda broker: (len(led[broker]), -broker))
            path = self._path(led, source)
            if path is None:
                done.add(source)
                continue
            done.clear()
            for number, taker in path:
                replicas = self.replicas[number]
                place = replicas.index(taker)
                led[replicas[0]].discard(number)
                replicas[0], replicas[place] = taker, replicas[0]
                led[taker].add(number)

    def _path(self, led: dict[int, set[int]], source: int) -> list[tuple[int, int]] | None:
        """Return the (partition, new leader) steps to a broker that leads at least two fewer."""
        came: dict[int, tuple[int, int]] = {}
        queue = deque([source])
        while queue:
            broker = queue.popleft()
            if len(led[source]) - len(led[broker]) >= 2:
                path = []
                while broker != source:
                    number, broker_before = came[broker]
                    path.append((number, broker))
                    broker = broker_before
                return path[::-1]
            for number in sorted(led[broker]):
                for taker in self.replicas[number][1:]:
                    if taker != source and taker not in came:
                        came[taker] = (number, broker)
                        queue.append(taker)
        return None
