"""Assignors: how the leader of a group shares partitions among its members. Pure.

Each gives every partition of every topic to exactly one member that subscribes to the topic, as
evenly as the subscriptions allow, and the same for the same input whatever its order.

* `range`: per topic, in runs: members of one index get the same partition numbers of all topics.
* `roundrobin`: all partitions in turn.
* `sticky`: even, and everybody keeps as much as possible. All partitions are given up meanwhile.
* `cooperative-sticky`: the same, but a partition that moves is free for one round first, so that
  nobody stops working on those that stay (KIP-429).

Source: KIP-54, KIP-341, KIP-429, KIP-792.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from fastmq.client.topic_partition import TopicPartition

__all__ = ["ASSIGNORS", "Assignor", "Member"]


class Member(NamedTuple):
    """A member of the group, as its subscription tells.

    Attributes:
        member_id: given by the coordinator.
        topics: it subscribes to.
        owned: what it has now.
        generation: in which it got that; -1: not known.
        instance_id: of a static member; its order does not change when it comes back.
    """

    member_id: str
    topics: frozenset[str]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1
    instance_id: str | None = None


Assignment = dict[str, list[TopicPartition]]
#: Takes the members and the number of partitions of each topic.
Assign = Callable[[list[Member], Mapping[str, int]], Assignment]


class Assignor(NamedTuple):
    """A way to assign.

    Attributes:
        is_cooperative: members keep what stays theirs while the group rebalances.
    """

    name: str
    assign: Assign
    is_cooperative: bool = False


def _in_order(members: list[Member]) -> list[Member]:
    """Static members first, by their instance, then the others by id: as Java does."""
    return sorted(members, key=lambda m: (m.instance_id is None, m.instance_id or m.member_id))


def _empty(members: list[Member]) -> Assignment:
    return {member.member_id: [] for member in members}


def _range(members: list[Member], counts: Mapping[str, int]) -> Assignment:
    result = _empty(members)
    ordered = _in_order(members)
    for topic in sorted(counts):
        takers = [member for member in ordered if topic in member.topics]
        if not takers:
            continue
        share, extra = divmod(counts[topic], len(takers))
        begin = 0
        for number, member in enumerate(takers):
            end = begin + share + (number < extra)
            result[member.member_id] += (TopicPartition(topic, p) for p in range(begin, end))
            begin = end
    return result


def _round_robin(members: list[Member], counts: Mapping[str, int]) -> Assignment:
    result = _empty(members)
    ordered = _in_order(members)
    turn = 0
    for topic in sorted(counts):
        if not any(topic in member.topics for member in ordered):
            continue
        for partition in range(counts[topic]):
            while topic not in ordered[turn % len(ordered)].topics:
                turn += 1
            member = ordered[turn % len(ordered)]
            result[member.member_id].append(TopicPartition(topic, partition))
            turn += 1
    return result


def _kept(members: list[Member], counts: Mapping[str, int]) -> Assignment:
    """What members have and may keep; of two that claim one, the later generation has it."""
    owner: dict[TopicPartition, Member] = {}
    contested = set()
    for member in _in_order(members):
        for name in member.owned:
            if name.topic not in member.topics or name.partition >= counts.get(name.topic, 0):
                continue
            other = owner.get(name)
            if other is None or member.generation > other.generation:
                owner[name] = member
                contested.discard(name)
            elif member.generation == other.generation:
                contested.add(name)  # nobody can be right
    result = _empty(members)
    for name in sorted(owner.keys() - contested):
        result[owner[name].member_id].append(name)
    return result


def _sticky(members: list[Member], counts: Mapping[str, int]) -> Assignment:
    result = _kept(members, counts)
    ordered = _in_order(members)
    takers = {
        topic: [member.member_id for member in ordered if topic in member.topics]
        for topic in counts
    }
    wanted = [
        TopicPartition(topic, partition)
        for topic in sorted(counts)
        if takers[topic]
        for partition in range(counts[topic])
    ]
    if len({member.topics for member in members}) == 1:
        _cut_to_quota(result, ordered, len(wanted))
    held = {name for names in result.values() for name in names}
    for name in wanted:
        if name not in held:
            least = min(takers[name.topic], key=lambda member_id: len(result[member_id]))
            result[least].append(name)
    _balance(result, takers)
    return result


def _cut_to_quota(result: Assignment, ordered: list[Member], total: int) -> None:
    """Where everybody may have everything: take away what is above the even share."""
    share, extra = divmod(total, len(ordered))
    # Who has most keeps one of the odd ones.
    by_load = sorted(ordered, key=lambda member: -len(result[member.member_id]))
    for number, member in enumerate(by_load):
        del result[member.member_id][share + (number < extra) :]


def _balance(result: Assignment, takers: Mapping[str, list[str]]) -> None:
    """Move single partitions from members with more to members with at least two fewer."""
    moves_left = sum(len(names) for names in result.values()) + 1
    while moves_left > 0 and _move_one(result, takers):
        moves_left -= 1


def _move_one(result: Assignment, takers: Mapping[str, list[str]]) -> bool:
    for giver in sorted(result, key=lambda member_id: (-len(result[member_id]), member_id)):
        for name in reversed(result[giver]):
            least = min(takers[name.topic], key=lambda member_id: len(result[member_id]))
            if len(result[least]) + 1 < len(result[giver]):
                result[giver].remove(name)
                result[least].append(name)
                return True
    return False


def _cooperative_sticky(members: list[Member], counts: Mapping[str, int]) -> Assignment:
    result = _sticky(members, counts)
    owner = {
        name: member.member_id
        for member in sorted(members, key=lambda m: m.generation)
        for name in member.owned
    }
    for member_id, names in result.items():
        # Whoever has it gives it up first; the next round, which follows at once, gives it away.
        result[member_id] = [name for name in names if owner.get(name, member_id) == member_id]
    return result


ASSIGNORS: Final[dict[str, Assignor]] = {
    assignor.name: assignor
    for assignor in (
        Assignor("range", _range),
        Assignor("roundrobin", _round_robin),
        Assignor("sticky", _sticky),
        Assignor("cooperative-sticky", _cooperative_sticky, is_cooperative=True),
    )
}


def by_topic(names: list[TopicPartition]) -> dict[str, list[int]]:
    """Sort partitions by topic, as assignments are written."""
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(names):
        topics[topic].append(partition)
    return topics
