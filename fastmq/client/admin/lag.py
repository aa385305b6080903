"""How far a group is behind, and plans for moving its offsets. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from fastmq.client.admin.groups import describe_groups
from fastmq.client.admin.offsets import alter_offsets, committed_offsets
from fastmq.client.admin.partitions import list_offsets, partitions_of
from fastmq.client.admin.results import (
    EARLIEST,
    LATEST,
    CommittedOffset,
    GroupMember,
    OffsetMove,
    PartitionLag,
)
from fastmq.client.admin.steps import Steps
from fastmq.client.admin.topics import metadata_of
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, KafkaError

__all__ = ["COMMITTED", "group_lag", "reset_offsets"]

#: A position that only groups have: where each partition is now.
COMMITTED: Final = -100


def group_lag(group: str) -> Steps[list[PartitionLag]]:
    """Return the lag per partition that the group has committed or is assigned."""
    (described,) = yield from describe_groups([group])
    committed = yield from committed_offsets(group)
    owners = {name: member for member in described.members for name in member.partitions}
    wanted = yield from _existing({*committed, *owners})
    starts = yield from list_offsets(dict.fromkeys(wanted, EARLIEST))
    ends = yield from list_offsets(dict.fromkeys(wanted, LATEST))
    return [
        _lag(name, committed.get(name), starts[name].offset, ends[name].offset, owners.get(name))
        for name in wanted
    ]


def _lag(
    name: TopicPartition,
    committed: CommittedOffset | None,
    start: int,
    end: int,
    owner: GroupMember | None,
) -> PartitionLag:
    # Records that retention has deleted are not behind any more.
    begin = start if committed is None else max(start, committed.offset)
    return PartitionLag(
        name.topic,
        name.partition,
        None if committed is None else committed.offset,
        start,
        end,
        max(0, end - begin),
        owner.member_id if owner else "",
        owner.client_id if owner else "",
        owner.host if owner else "",
    )


def _existing(partitions: Iterable[TopicPartition]) -> Steps[list[TopicPartition]]:
    """Leave out partitions of topics that were deleted; a group may still have their offsets."""
    wanted = sorted(partitions)
    response = yield from metadata_of(dict.fromkeys(name.topic for name in wanted))
    known = {
        TopicPartition(row.name or "", part.partition_index)
        for row in response.topics
        for part in row.partitions
    }
    return [name for name in wanted if name in known]


def reset_offsets(
    group: str,
    *,
    topics: Iterable[str],
    partitions: Iterable[TopicPartition],
    to: int,
    offset: int | None,
    shift: int,
    explicit: Mapping[TopicPartition, int] | None,
    execute: bool,
) -> Steps[list[OffsetMove]]:
    """Plan, and with `execute` carry out, a move of committed offsets.

    Args:
        group: must have no members when offsets are moved.
        topics: whole topics; with `partitions` empty too: all that the group has committed.
        partitions: single partitions.
        to: a time in ms, LATEST, EARLIEST or COMMITTED.
        offset: this offset in each partition, instead of `to`.
        shift: added to the position.
        explicit: offsets by partition, instead of all that.
        execute: whether to change anything.

    Returns:
        The moves, each within its partition's offsets.
    """
    committed = yield from committed_offsets(group)
    names = list(explicit) if explicit is not None else list(partitions)
    whole = list(topics)
    if whole:
        names += yield from partitions_of(whole)
    if not names:
        names = list(committed)
    names = sorted(set(names))
    if not names:
        raise KafkaError(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"group {group} has committed nothing; say which topics its offsets are to be set for",
        )
    starts = yield from list_offsets(dict.fromkeys(names, EARLIEST))
    ends = yield from list_offsets(dict.fromkeys(names, LATEST))
    if explicit is not None:
        wanted = dict(explicit)
    elif offset is not None:
        wanted = dict.fromkeys(names, offset)
    elif to == COMMITTED:
        wanted = {n: committed[n].offset if n in committed else starts[n].offset for n in names}
    elif to in (EARLIEST, LATEST):
        source = starts if to == EARLIEST else ends
        wanted = {name: source[name].offset for name in names}
    else:
        found = yield from list_offsets(dict.fromkeys(names, to))
        # Nothing that young: go on with what comes next.
        wanted = {n: f.offset if f.offset >= 0 else ends[n].offset for n, f in found.items()}
    moves = [
        OffsetMove(
            name.topic,
            name.partition,
            committed[name].offset if name in committed else None,
            min(max(wanted[name] + shift, starts[name].offset), ends[name].offset),
        )
        for name in names
    ]
    if execute:
        yield from alter_offsets(
            group, {TopicPartition(m.topic, m.partition): m.after for m in moves}
        )
    return moves
