"""Heartbeat and LeaveGroup, and members that are gone without a word.

A heartbeat in PreparingRebalance is answered REBALANCE_IN_PROGRESS, which is how members learn
that they have to join again; in CompletingRebalance it is fine. A member that waits in a
JoinGroup or SyncGroup cannot send heartbeats, so its session cannot end meanwhile; only one that
is new has a (long) limit.

Source: KIP-62, 345, 800; protocol guide, Heartbeat 0-4, LeaveGroup 0-5.
"""

from fastmq.coordinator.effects import Call
from fastmq.coordinator.group.answers import group_refusal
from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.rebalance import member_left, refuse_waiting, touch_session
from fastmq.coordinator.group.step import Step, TimerKey, TimerKind
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastmq.protocol.messages.leave_group import (
    LeaveGroupMember,
    LeaveGroupMemberResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
)

__all__ = [
    "answer_heartbeat",
    "answer_leave",
    "heartbeat",
    "leave_group",
    "leave_refused",
    "on_pending_timeout",
    "on_session_timeout",
]

# First version that names several members and answers for each.
_BATCH_LEAVE_FROM = 3


def heartbeat(group: ClassicGroup, request: HeartbeatRequest, step: Step) -> ErrorCode:
    """Count the member's session anew and return what it has to know."""
    code = group.check_member(request.member_id, request.group_instance_id)
    if code is not ErrorCode.NONE:
        return code
    if request.generation_id != group.generation:
        return ErrorCode.ILLEGAL_GENERATION
    touch_session(group, group.members[request.member_id], step)
    if group.state is GroupState.PREPARING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def answer_heartbeat(call: Call, step: Step, code: ErrorCode) -> None:
    """Answer a Heartbeat."""
    refusal = group_refusal(lambda lost: HeartbeatResponse(error_code=lost))
    step.reply(call, HeartbeatResponse(error_code=code), refusal)


def leave_group(group: ClassicGroup, call: Call, request: LeaveGroupRequest, step: Step) -> None:
    """Take out the named members, then rebalance once."""
    leaving = _leaving(call, request)
    codes = [_leave(group, member, step) for member in leaving]
    answer_leave(call, request, step, codes)
    if ErrorCode.NONE in codes:
        member_left(group, step)


def leave_refused(call: Call, request: LeaveGroupRequest, step: Step, code: ErrorCode) -> None:
    """Answer that no member left: the group does not exist."""
    answer_leave(call, request, step, [code] * len(_leaving(call, request)))


def _leaving(call: Call, request: LeaveGroupRequest) -> list[LeaveGroupMember]:
    if call.version >= _BATCH_LEAVE_FROM:
        return request.members
    return [LeaveGroupMember(member_id=request.member_id)]


def answer_leave(
    call: Call, request: LeaveGroupRequest, step: Step, codes: list[ErrorCode]
) -> None:
    """Answer with a code per member; before version 3 there is one member and one code."""
    if call.version >= _BATCH_LEAVE_FROM:
        response = LeaveGroupResponse(
            members=[
                LeaveGroupMemberResponse(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    error_code=code,
                )
                for member, code in zip(request.members, codes, strict=True)
            ]
        )
    else:
        response = LeaveGroupResponse(error_code=codes[0])
    refusal = group_refusal(lambda lost: LeaveGroupResponse(error_code=lost))
    step.reply(call, response, refusal)


def _leave(group: ClassicGroup, leaving: LeaveGroupMember, step: Step) -> ErrorCode:
    member_id, instance_id = leaving.member_id, leaving.group_instance_id
    if not member_id:
        # An administrator removes a static member without knowing its member id.
        known = group.static_members.get(instance_id) if instance_id is not None else None
        if known is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        member_id = known
    elif member_id in group.pending_members:
        group.pending_members.remove(member_id)
        step.timers.cancel(TimerKey(TimerKind.PENDING_MEMBER, group.group_id, member_id))
        return ErrorCode.NONE
    else:
        code = group.check_member(member_id, instance_id)
        if code is not ErrorCode.NONE:
            return code
    _remove(group, member_id, step)
    return ErrorCode.NONE


def _remove(group: ClassicGroup, member_id: str, step: Step) -> None:
    # A client that still waits must start again with a new member id.
    refuse_waiting(group, group.members[member_id], step, ErrorCode.UNKNOWN_MEMBER_ID)
    group.remove_member(member_id)
    step.timers.cancel(TimerKey(TimerKind.SESSION, group.group_id, member_id))


def on_session_timeout(group: ClassicGroup, member_id: str, step: Step) -> None:
    """Remove a member that was silent for its session timeout."""
    member = group.members.get(member_id)
    if member is None:
        return
    waiting = member.join is not None or member.sync is not None
    if waiting and not member.is_new:
        # The session is counted from the answer.
        return
    _remove(group, member_id, step)
    member_left(group, step)


def on_pending_timeout(group: ClassicGroup, member_id: str, step: Step) -> None:
    """Forget a member id that was given out and not used."""
    if member_id in group.pending_members:
        group.pending_members.remove(member_id)
        member_left(group, step)
