"""The join phase: when it starts, how long it waits, how it ends.

A rebalance of a group that was Empty waits `initial_rebalance_delay_ms` for more members, and as
long again while more keep coming, up to the longest rebalance timeout of its members. Any other
ends when all known members have joined, or when the rebalance timeout has passed: dynamic members
that did not come are removed then, static ones stay until their session ends.

Afterwards the members have the rebalance timeout once more to send SyncGroup; who did not is
removed, and a new rebalance starts.

Source: KIP-62, 134, 345; KAFKA-10284 for the sync timeout.
"""

from functools import partial

from fastmq.coordinator.group.answers import group_refusal, join_refused, sync_refused
from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.member import Member
from fastmq.coordinator.group.records import group_metadata_record
from fastmq.coordinator.group.step import Step, TimerKey, TimerKind
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.join_group import JoinGroupMember, JoinGroupResponse

__all__ = [
    "answer_join",
    "answer_sync",
    "join_response",
    "member_left",
    "members_for_leader",
    "on_initial_join_timeout",
    "on_join_timeout",
    "on_sync_timeout",
    "prepare_or_complete",
    "refuse_waiting",
    "touch_session",
]

_CAN_REBALANCE = frozenset({GroupState.STABLE, GroupState.COMPLETING_REBALANCE, GroupState.EMPTY})


def touch_session(group: ClassicGroup, member: Member, step: Step) -> None:
    """Count the member's session from now."""
    key = TimerKey(TimerKind.SESSION, group.group_id, member.member_id)
    step.timers.set(key, step.now_ms + member.session_timeout_ms)


def prepare_or_complete(group: ClassicGroup, step: Step) -> None:
    """React to a change of the members: start a rebalance, or see whether it can end."""
    if group.state in _CAN_REBALANCE:
        _prepare(group, step)
    elif group.state is GroupState.PREPARING_REBALANCE:
        _complete_if_all_joined(group, step)


def member_left(group: ClassicGroup, step: Step) -> None:
    """React to the removal of members or pending members that had a place in the group."""
    if group.state is not GroupState.EMPTY:
        prepare_or_complete(group, step)


def _prepare(group: ClassicGroup, step: Step) -> None:
    if group.state is GroupState.COMPLETING_REBALANCE:
        for member in group.members.values():
            answer_sync(member, step, ErrorCode.REBALANCE_IN_PROGRESS)
    step.timers.cancel(TimerKey(TimerKind.SYNC, group.group_id))
    group.pending_sync.clear()
    group.was_empty = group.state is GroupState.EMPTY
    group.state = GroupState.PREPARING_REBALANCE
    if group.was_empty:
        delay = step.config.initial_rebalance_delay_ms
        group.new_member_added = False
        group.initial_delay_ms = delay
        group.initial_remaining_ms = max(group.rebalance_timeout_ms() - delay, 0)
        if delay == 0:
            _complete(group, step)
        else:
            key = TimerKey(TimerKind.INITIAL_JOIN, group.group_id)
            step.timers.set(key, step.now_ms + delay)
    elif group.all_members_joined():
        _complete(group, step)
    else:
        _wait_for_members(group, step)


def _wait_for_members(group: ClassicGroup, step: Step) -> None:
    key = TimerKey(TimerKind.JOIN, group.group_id)
    step.timers.set(key, step.now_ms + group.rebalance_timeout_ms())


def _complete_if_all_joined(group: ClassicGroup, step: Step) -> None:
    # The initial delay runs to its end even when everybody known has joined.
    if group.all_members_joined() and not group.was_empty:
        _complete(group, step)


def on_initial_join_timeout(group: ClassicGroup, step: Step) -> None:
    """Extend the initial delay if members came meanwhile and time is left, else go on."""
    if group.state is not GroupState.PREPARING_REBALANCE:
        return
    if group.new_member_added and group.initial_remaining_ms > 0:
        delay = min(step.config.initial_rebalance_delay_ms, group.initial_remaining_ms)
        group.new_member_added = False
        group.initial_remaining_ms = max(group.initial_remaining_ms - group.initial_delay_ms, 0)
        group.initial_delay_ms = delay
        key = TimerKey(TimerKind.INITIAL_JOIN, group.group_id)
        step.timers.set(key, step.now_ms + delay)
    else:
        _complete(group, step)


def on_join_timeout(group: ClassicGroup, step: Step) -> None:
    """End the join phase without the members that did not come in time."""
    if group.state is GroupState.PREPARING_REBALANCE:
        _complete(group, step)


def _complete(group: ClassicGroup, step: Step) -> None:
    group_id = group.group_id
    step.timers.cancel(TimerKey(TimerKind.JOIN, group_id))
    step.timers.cancel(TimerKey(TimerKind.INITIAL_JOIN, group_id))
    late = [m for m in group.members.values() if m.join is None and m.group_instance_id is None]
    for member in late:
        group.remove_member(member.member_id)
        step.timers.cancel(TimerKey(TimerKind.SESSION, group_id, member.member_id))
    if group.members and not group.elect_joined_leader():
        # Only static members are left and none has joined: wait for them, or for the end of
        # their sessions.
        _wait_for_members(group, step)
        return
    group.was_empty = False
    group.next_generation()
    if not group.members:
        value = group.to_value({}, step.now_ms)
        step.records.append(group_metadata_record(group_id, value))
        return
    leader_view = members_for_leader(group)
    for member in group.members.values():
        is_leader = member.member_id == group.leader_id
        response = join_response(group, member, leader_view if is_leader else [])
        answer_join(group, member, step, response)
        touch_session(group, member, step)
        member.is_new = False
        group.pending_sync.add(member.member_id)
    key = TimerKey(TimerKind.SYNC, group_id)
    step.timers.set(key, step.now_ms + group.rebalance_timeout_ms())


def on_sync_timeout(group: ClassicGroup, step: Step) -> None:
    """Remove the members that did not send SyncGroup in time and rebalance without them."""
    if group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
        return
    if not group.pending_sync:
        return
    for member_id in list(group.pending_sync):
        group.remove_member(member_id)
        step.timers.cancel(TimerKey(TimerKind.SESSION, group.group_id, member_id))
    prepare_or_complete(group, step)


def members_for_leader(group: ClassicGroup) -> list[JoinGroupMember]:
    """List all members with their metadata, which only the leader gets to see."""
    return [
        JoinGroupMember(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            metadata=member.metadata(group.protocol_name),
        )
        for member in group.members.values()
    ]


def join_response(
    group: ClassicGroup, member: Member, members: list[JoinGroupMember]
) -> JoinGroupResponse:
    """Build the answer that tells a member the current generation."""
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        leader=group.leader_id or "",
        member_id=member.member_id,
        members=members,
    )


def answer_join(
    group: ClassicGroup, member: Member, step: Step, response: JoinGroupResponse
) -> None:
    """Answer the member's JoinGroup, if it waits with one."""
    call = member.join
    if call is not None:
        group.set_join(member, None)
        refusal = group_refusal(partial(join_refused, call, member_id=member.member_id))
        step.reply(call, response, refusal)


def answer_sync(member: Member, step: Step, code: ErrorCode) -> None:
    """Refuse the member's SyncGroup, if it waits with one."""
    call = member.sync
    if call is not None:
        member.sync = None
        step.reply(call, sync_refused(code), group_refusal(sync_refused))


def refuse_waiting(
    group: ClassicGroup, member: Member, step: Step, code: ErrorCode, member_id: str = ""
) -> None:
    """Refuse whatever the member waits with; `member_id` is told in a JoinGroup answer."""
    call = member.join
    if call is not None:
        answer_join(group, member, step, join_refused(call, code, member_id))
    answer_sync(member, step, code)
