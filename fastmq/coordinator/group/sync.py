"""SyncGroup: the leader hands in the assignment, everybody gets a part of it.

Followers that come first wait. The leader's assignment is written to the log; when it is
committed, all get their answers and the group is Stable. Members the leader left out get b"".

Source: KIP-62, 345, 559; protocol guide, SyncGroup 0-5.
"""

from fastmq.coordinator.effects import Call, Effects
from fastmq.coordinator.group.answers import group_refusal, sync_refused
from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.limits import GROUP_BYTES_MAX
from fastmq.coordinator.group.rebalance import answer_sync, prepare_or_complete, touch_session
from fastmq.coordinator.group.records import group_metadata_record
from fastmq.coordinator.group.step import Step, TimerKey, TimerKind
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

__all__ = ["refuse_sync", "sync_group"]


def refuse_sync(call: Call, step: Step, code: ErrorCode) -> None:
    """Answer with an error."""
    step.reply(call, sync_refused(code), group_refusal(sync_refused))


def sync_group(group: ClassicGroup, call: Call, request: SyncGroupRequest, step: Step) -> None:
    """Run a request for a group that exists. A follower's answer may wait for the leader's."""
    code = _check(group, request)
    if code is not ErrorCode.NONE:
        refuse_sync(call, step, code)
        return
    member = group.members[request.member_id]
    group.pending_sync.discard(member.member_id)
    if not group.pending_sync:
        step.timers.cancel(TimerKey(TimerKind.SYNC, group.group_id))
    if group.state is GroupState.STABLE:
        _answer(group, call, member.assignment, step)
        touch_session(group, member, step)
        return
    # A repeated request replaces the first, which its client does not wait for any more.
    answer_sync(member, step, ErrorCode.REBALANCE_IN_PROGRESS)
    member.sync = call
    if member.member_id == group.leader_id:
        _assign(group, request, step)


def _check(group: ClassicGroup, request: SyncGroupRequest) -> ErrorCode:
    code = group.check_member(request.member_id, request.group_instance_id)
    if code is not ErrorCode.NONE:
        return code
    if request.generation_id != group.generation:
        return ErrorCode.ILLEGAL_GENERATION
    # Versions before 5 name no protocol.
    for said, chosen in (
        (request.protocol_type, group.protocol_type),
        (request.protocol_name, group.protocol_name),
    ):
        if said is not None and said != chosen:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if group.state is GroupState.PREPARING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def _assign(group: ClassicGroup, request: SyncGroupRequest, step: Step) -> None:
    given = {row.member_id: bytes(row.assignment) for row in request.assignments}
    if group.metadata_bytes + sum(map(len, given.values())) > GROUP_BYTES_MAX:
        # As if the log had refused the record for its size.
        for member in group.members.values():
            answer_sync(member, step, ErrorCode.UNKNOWN_SERVER_ERROR)
        prepare_or_complete(group, step)
        return
    value = group.to_value(given, step.now_ms)
    step.records.append(group_metadata_record(group.group_id, value))
    for member in group.members.values():
        call = member.sync
        if call is not None:
            member.sync = None
            _answer(group, call, given.get(member.member_id, b""), step)
            touch_session(group, member, step)

    def rollback(now_ms: int) -> Effects:
        # Everybody was refused and joins again.
        after = step.following(now_ms)
        prepare_or_complete(group, after)
        return after.effects()

    step.rollback = rollback


def _answer(group: ClassicGroup, call: Call, assignment: bytes, step: Step) -> None:
    response = SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        assignment=assignment,
    )
    step.reply(call, response, group_refusal(sync_refused))
