"""A plan that spreads partitions evenly over brokers, with as few moves as can be. Pure.

In this order, each step only where it is needed:

1. replicas on brokers that leave go to others;
2. replicas that share a machine, or a rack, while another is free, are parted;
3. brokers with more than others give some to those with fewer, never so that a step before is
   undone: counted in replicas the smallest go first, until all have the same number, give or take
   one; counted in bytes those go that even out most, until nobody has a tenth of the average more
   than another, or no move makes that better;
4. preferred leaders are evened out by changing the order of replicas, which moves no data.

Each move of steps 1 to 3 copies one replica. Cordoned brokers get none, and no disk more than there
is room on it: what a move frees elsewhere is not counted on. The result depends on nothing but the
arguments.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

__all__ = ["Assignment", "Member", "Shift", "expected_seconds", "plan_balance"]

# Brokers whose bytes differ by less than this part of the average are even.
_TOLERANCE: Final = 0.1


class Member(NamedTuple):
    """A broker. Those with one `host` are on one machine; an empty one is like no other.

    Attributes:
        is_cordoned: gets nothing, and keeps what it has.
        room_bytes: what it may be given; None = nobody knows.
        disk: brokers with the same one share its room; empty = a disk of its own.
    """

    id: int
    rack: str | None = None
    host: str = ""
    is_cordoned: bool = False
    room_bytes: int | None = None
    disk: str = ""


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
    by_bytes: bool = False,
) -> list[Shift]:
    """Return what is to be changed, in order of topics and partitions.

    Args:
        members: the brokers that may have partitions; others leave.
        assignments: all partitions.
        leaving: members that are to have none any more.
        only_leaving: move nothing but what is on brokers that leave.
        by_bytes: even out bytes instead of replicas.

    Raises:
        ValueError: what is on brokers that leave has no place to go; says which and why.
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
        if by_bytes:
            plan.even_out_bytes()
        else:
            plan.even_out()
        plan.even_out_leaders()
    return [
        Shift(one.topic, one.partition, one.replicas, tuple(after), one.size_bytes)
        for one, after in zip(before, plan.replicas, strict=True)
        if tuple(after) != one.replicas
    ]


def expected_seconds(shifts: Iterable[Shift], rate: int) -> float:
    """Return how long a plan takes when each broker sends, and fetches, so many bytes per second.

    Leaders are taken to be the preferred ones.
    """
    sent: dict[int, int] = {}
    fetched: dict[int, int] = {}
    for one in shifts:
        sent[one.before[0]] = sent.get(one.before[0], 0) + one.copied_bytes
        for broker in one.added:
            fetched[broker] = fetched.get(broker, 0) + one.size_bytes
    return max((*sent.values(), *fetched.values()), default=0) / rate


class _Plan:
    """Replicas while they are moved; partitions are known by their number."""

    def __init__(self, staying: list[Member], before: list[Assignment]) -> None:
        self._members = {one.id: one for one in sorted(staying)}
        self._before = before
        self.replicas = [list(one.replicas) for one in before]
        # What may still be put on each disk.
        self._room = {_disk(one): one.room_bytes for one in staying if one.room_bytes is not None}
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

    def _takes(self, broker: int, number: int) -> bool:
        """Return whether a broker may be given a partition."""
        one = self._members[broker]
        room = self._room.get(_disk(one))
        return (
            not one.is_cordoned
            and broker not in self.replicas[number]
            and (room is None or self._before[number].size_bytes <= room)
        )

    def _best_for(self, number: int, place: int) -> int | None:
        """Return where the replica at a place goes best, None where there is no place."""
        others = [b for n, b in enumerate(self.replicas[number]) if n != place]
        return min(
            (broker for broker in self._members if self._takes(broker, number)),
            key=lambda broker: (*self._conflicts(others, broker), len(self._held[broker]), broker),
            default=None,
        )

    def _no_place(self, number: int) -> str:
        """Return why nobody takes a partition."""
        one = self._before[number]
        why = []
        for broker, member in self._members.items():
            if broker in self.replicas[number]:
                why.append(f"{broker} has it already")
            elif member.is_cordoned:
                why.append(f"{broker} is cordoned")
            else:
                room = self._room.get(_disk(member)) or 0
                why.append(f"{broker} has room for {max(room, 0):,} bytes")
        return (
            f"nobody can take {one.topic}-{one.partition} ({one.size_bytes:,} bytes): "
            f"{', '.join(why)}; add a broker, uncordon one, or make room"
        )

    def _move(self, number: int, place: int, target: int) -> None:
        source, rank = self.replicas[number][place], self._ranks[number]
        if source in self._held:
            held = self._held[source]
            del held[bisect_left(held, rank)]
        insort(self._held[target], rank)
        disk = _disk(self._members[target])
        if disk in self._room:
            self._room[disk] -= self._before[number].size_bytes
        self.replicas[number][place] = target

    def evacuate(self) -> None:
        """Move what is on brokers that leave."""
        for number, replicas in enumerate(self.replicas):
            for place, broker in enumerate(replicas):
                if broker not in self._members:
                    target = self._best_for(number, place)
                    if target is None:
                        raise ValueError(self._no_place(number))
                    self._move(number, place, target)

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
                if target is not None and self._conflicts(others, target) < now:
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
            if self._may_move(number, source, target):
                return number
        return None

    def _may_move(self, number: int, source: int, target: int) -> bool:
        """Return whether a replica may go to another broker and be parted as well as before."""
        others = [broker for broker in self.replicas[number] if broker != source]
        return self._takes(target, number) and (
            self._conflicts(others, target) <= self._conflicts(others, source)
        )

    def even_out_bytes(self) -> None:
        """Move replicas from the brokers with the most bytes to those with the fewest."""
        loads = {
            broker: sum(self._before[self._by_rank[rank]].size_bytes for rank in held)
            for broker, held in self._held.items()
        }
        if loads:
            tolerance = _TOLERANCE * sum(loads.values()) / len(loads)
            while self._even_out_bytes_once(loads, tolerance):
                pass

    def _even_out_bytes_once(self, loads: dict[int, int], tolerance: float) -> bool:
        by_load = sorted(loads, key=lambda broker: (loads[broker], broker))
        for source in reversed(by_load):
            for target in by_load:
                gap = loads[source] - loads[target]
                if gap <= tolerance:
                    break
                number = self._to_give_bytes(source, target, gap)
                if number is not None:
                    size = self._before[number].size_bytes
                    self._move(number, self.replicas[number].index(source), target)
                    loads[source] -= size
                    loads[target] += size
                    return True
        return False

    def _to_give_bytes(self, source: int, target: int, gap: int) -> int | None:
        """Return the partition whose move evens two brokers out best; None when none does."""
        numbers = [self._by_rank[rank] for rank in self._held[source]]
        better = [n for n in numbers if 0 < self._before[n].size_bytes < gap]
        better.sort(key=lambda n: (abs(gap - 2 * self._before[n].size_bytes), n))
        return next((n for n in better if self._may_move(n, source, target)), None)

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


def _disk(member: Member) -> str:
    """Return what names the disk of a broker."""
    return member.disk or f"of broker {member.id}"
