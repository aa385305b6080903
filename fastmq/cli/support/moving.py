"""Carrying out a plan that moves partitions: so many at once, throttled, shown, until it is done.

Works with any cluster that speaks Kafka's protocol. What has begun goes on without the command; its
throttles stay until somebody waits for the end (`fastmq cluster reassignments --wait`).
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastmq.cli.support.output import bytes_text, progress
from fastmq.client.topic_partition import TopicPartition
from fastmq.cluster.balance import Assignment, Member, Shift
from fastmq.errors import ConfigError

if TYPE_CHECKING:
    from fastmq.client.admin.results import BrokerInfo, LogDir, Reassignment
    from fastmq.client.fronts.admin import Admin

__all__ = ["carry_out", "clear_throttles", "progress_rows", "read_layout", "wait_for_moves"]

_LOOK_S = 0.3
# Of each disk: what a plan leaves free.
_KEPT_FREE = 0.05
_RATES = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
_LISTS = ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas")


def read_layout(
    admin: "Admin", *, leaving: int | None = None
) -> tuple[list[Member], list[Assignment]]:
    """Return brokers and partitions as planners take them.

    Args:
        admin: of the cluster.
        leaving: a broker that need not serve.

    Raises:
        ConfigError: partitions are on the move, or a broker that has some does not serve.
    """
    moving = admin.list_reassignments()
    if moving:
        raise ConfigError(
            f"{len(moving)} partition(s) are on the move: wait for them, or cancel "
            "(fastmq cluster reassignments --wait, --cancel)"
        )
    directories = admin.describe_log_dirs()
    members = []
    for one in admin.describe_cluster().brokers:
        host = admin.broker_config(one.node_id, ["fastmq.host"]).get("fastmq.host")
        machine = host.value if host is not None and host.value else one.host
        members.append(_member(one, machine, [d for d in directories if d.node_id == one.node_id]))
    sizes: dict[tuple[str, int], int] = {}
    for directory in directories:
        for replica in directory.replicas:
            name = (replica.topic, replica.partition)
            sizes[name] = max(replica.size, sizes.get(name, 0))
    found = [
        Assignment(
            topic.name, part.partition, part.replicas, sizes.get((topic.name, part.partition), 0)
        )
        for topic in admin.describe_topics()
        for part in topic.partitions
    ]
    serving = {one.id for one in members}
    away = {broker for one in found for broker in one.replicas} - serving - {leaving}
    if away:
        names = ", ".join(map(str, sorted(away)))
        raise ConfigError(
            f"broker(s) {names} have partitions and do not serve: start them, or give their "
            "partitions to others (fastmq cluster decommission)"
        )
    return members, found


def _member(broker: "BrokerInfo", machine: str, directories: "Sequence[LogDir]") -> Member:
    """Return a broker as planners take it: it may be given what leaves a part of its disks free."""
    open_ = [one for one in directories if not one.error and not one.is_cordoned]
    # Directories on one file system tell the same sizes, and brokers of one machine may share it.
    disks = {(one.total_bytes, one.usable_bytes) for one in open_ if one.total_bytes > 0}
    return Member(
        broker.node_id,
        broker.rack,
        machine,
        is_cordoned=bool(directories) and not open_,
        room_bytes=(
            sum(int(usable - _KEPT_FREE * total) for total, usable in disks) if disks else None
        ),
        disk=f"{machine}:{sorted(total for total, _ in disks)}" if disks else "",
    )


def carry_out(
    admin: "Admin",
    shifts: Sequence[Shift],
    *,
    throttle: int | None,
    at_once: int,
    is_shown: bool = True,
) -> None:
    """Move partitions, and elect their preferred leaders.

    Args:
        admin: of the cluster.
        shifts: the plan.
        throttle: bytes per second that each broker sends and fetches for it; None = no limit.
        at_once: partitions that move at a time.
        is_shown: whether a progress bar may be drawn.
    """
    if throttle is not None:
        _set_throttles(admin, shifts, throttle)
    # What copies nothing is done at once.
    pending = deque(sorted(shifts, key=lambda one: one.copied_bytes))
    under_way: dict[TopicPartition, Shift] = {}
    total = sum(one.copied_bytes for one in shifts)
    done = 0
    with progress(is_wanted=is_shown) as display:
        task = None if display is None else display.add_task("moving", total=max(total, 1), note="")
        while pending or under_way:
            begun: dict[TopicPartition, Shift] = {}
            while pending and len(under_way) + len(begun) < at_once:
                shift = pending.popleft()
                begun[TopicPartition(shift.topic, shift.partition)] = shift
            if begun:
                admin.reassign({name: shift.after for name, shift in begun.items()})
                under_way.update(begun)
            left = admin.list_reassignments(under_way)
            done += sum(s.copied_bytes for name, s in under_way.items() if name not in left)
            under_way = {name: shift for name, shift in under_way.items() if name in left}
            if display is not None and task is not None:
                copied = done + _copied(admin, under_way.values())
                note = f"{len(pending) + len(under_way)} partitions, {bytes_text(total)}"
                display.update(task, completed=min(copied, total), note=note)
            if under_way:
                time.sleep(_LOOK_S)
    if throttle is not None:
        clear_throttles(admin, {one.topic for one in shifts})
    admin.elect_leaders([(one.topic, one.partition) for one in shifts])


def wait_for_moves(admin: "Admin", *, is_shown: bool = True) -> None:
    """Wait until no partition is on the move, then take throttles off."""
    topics = {topic.name for topic in admin.describe_topics()}
    # Of each copy, what is missing: at most so far, and now. A move that is over misses nothing.
    most: dict[tuple[str, int, int], int] = {}
    with progress(is_wanted=is_shown) as display:
        task = None if display is None else display.add_task("moving", total=1, note="")
        while left := admin.list_reassignments():
            if display is not None and task is not None:
                missing = _missing(admin, left)
                for name, size in missing.items():
                    most[name] = max(most.get(name, 0), size)
                whole = sum(most.values())
                display.update(
                    task,
                    total=max(whole, 1),
                    completed=whole - sum(missing.values()),
                    note=f"{len(left)} partitions, {bytes_text(sum(missing.values()))} to go",
                )
            time.sleep(_LOOK_S)
    clear_throttles(admin, topics)


def _missing(
    admin: "Admin", moves: "Mapping[TopicPartition, Reassignment]"
) -> dict[tuple[str, int, int], int]:
    """Return the bytes that each new replica has still to copy."""
    return {
        (row["topic"], row["partition"], row["adding"]): max(
            row["size_bytes"] - row["copied_bytes"], 0
        )
        for row in progress_rows(admin, moves)
        if row["adding"] is not None
    }


def _sizes(admin: "Admin") -> dict[tuple[str, int, int], tuple[int, int]]:
    """Return (bytes, records behind) by topic, partition and broker."""
    return {
        (replica.topic, replica.partition, directory.node_id): (replica.size, replica.offset_lag)
        for directory in admin.describe_log_dirs()
        for replica in directory.replicas
    }


def _copied(admin: "Admin", shifts: Iterable[Shift]) -> int:
    found = _sizes(admin)
    return sum(
        min(found.get((one.topic, one.partition, broker), (0, 0))[0], one.size_bytes)
        for one in shifts
        for broker in one.added
    )


def _set_throttles(admin: "Admin", shifts: Iterable[Shift], rate: int) -> None:
    sends: dict[str, list[str]] = {}
    fetches: dict[str, list[str]] = {}
    for one in shifts:
        if one.added:
            sends.setdefault(one.topic, []).extend(f"{one.partition}:{b}" for b in one.before)
            fetches.setdefault(one.topic, []).extend(f"{one.partition}:{b}" for b in one.added)
    for topic in sends:
        lists = (",".join(sends[topic]), ",".join(fetches[topic]))
        admin.alter_topic_config(topic, dict(zip(_LISTS, lists, strict=True)))
    for broker in {broker for one in shifts for broker in (*one.before, *one.after)}:
        admin.alter_broker_config(broker, dict.fromkeys(_RATES, rate))


def clear_throttles(admin: "Admin", topics: Iterable[str]) -> None:
    """Take the throttles of moves off brokers and topics."""
    for topic in sorted(topics):
        set_ = _own(admin.topic_config(topic, _LISTS), "TOPIC")
        if set_:
            admin.alter_topic_config(topic, delete=set_)
    for one in admin.describe_cluster().brokers:
        set_ = _own(admin.broker_config(one.node_id, _RATES), "BROKER")
        if set_:
            admin.alter_broker_config(one.node_id, delete=set_)


# Any in effect: what `topic_config` returns.
def _own(config: "Mapping[str, object]", source: str) -> list[str]:
    return [
        name
        for name, value in config.items()
        if getattr(getattr(value, "source", None), "name", "") == source
    ]


# Any: what JSON is made of.
def progress_rows(
    admin: "Admin", moves: "Mapping[TopicPartition, Reassignment]"
) -> list[dict[str, Any]]:
    """Return what each move has copied of what it has to, and how many records are missing."""
    found = _sizes(admin)
    rows = []
    for name, move in sorted(moves.items()):
        whole = max(
            (
                found.get((name.topic, name.partition, broker), (0, 0))[0]
                for broker in move.replicas
                if broker not in move.adding
            ),
            default=0,
        )
        for broker in move.adding or (None,):
            size, lag = (0, None) if broker is None else found.get((*name, broker), (0, None))
            rows.append(
                {
                    "topic": name.topic,
                    "partition": name.partition,
                    "replicas": move.replicas,
                    "adding": broker,
                    "removing": move.removing,
                    "copied_bytes": size,
                    "size_bytes": whole,
                    "lag": lag,
                }
            )
    return rows
