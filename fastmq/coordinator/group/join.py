"""JoinGroup: who may join, under which member id, and whether it starts a rebalance.

========================  ==========================  ============================================
member id                 group instance id           what happens
========================  ==========================  ============================================
empty                     none, version >= 4          an id is given out: MEMBER_ID_REQUIRED
empty                     none, version < 4           a new member, rebalance
empty                     not in the group            a new static member, rebalance
empty                     in the group                takes the place of the member with that
                                                      instance id, which is fenced
given out, not used yet   none                        a new member, rebalance
of a member               as that member              changed metadata or the leader: rebalance;
                                                      else the current generation at once
========================  ==========================  ============================================

Source: KIP-62, 134, 345, 394, 559, 814; protocol guide, JoinGroup 0-9.
"""

from functools import partial

from fastmq.coordinator.effects import Call, Effects
from fastmq.coordinator.group.answers import group_refusal, join_refused
from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.limits import (
    GROUP_BYTES_MAX,
    GROUP_ID_BYTES_MAX,
    MEMBER_ID_STEM_CHARS_MAX,
    MEMBER_METADATA_BYTES_MAX,
    NAME_CHARS_MAX,
    PENDING_MEMBERS_MAX,
    PROTOCOLS_PER_MEMBER_MAX,
)
from fastmq.coordinator.group.member import Member, Protocols
from fastmq.coordinator.group.rebalance import (
    answer_join,
    join_response,
    members_for_leader,
    prepare_or_complete,
    refuse_waiting,
    touch_session,
)
from fastmq.coordinator.group.records import group_metadata_record
from fastmq.coordinator.group.step import Step, TimerKey, TimerKind
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.join_group import JoinGroupRequest

__all__ = ["check_join", "join_group", "refuse_join"]

# First version whose dynamic members must come with an id they were given (KIP-394).
_MEMBER_ID_REQUIRED_FROM = 4
# First version that can tell a static leader to keep the assignment (KIP-814).
_SKIP_ASSIGNMENT_FROM = 9


def check_join(request: JoinGroupRequest, step: Step) -> ErrorCode:
    """Return what is wrong with a request whatever the group, NONE if nothing is."""
    if not request.group_id or len(request.group_id.encode()) > GROUP_ID_BYTES_MAX:
        return ErrorCode.INVALID_GROUP_ID
    config = step.config
    timeout = request.session_timeout_ms
    if not config.min_session_timeout_ms <= timeout <= config.max_session_timeout_ms:
        return ErrorCode.INVALID_SESSION_TIMEOUT
    protocols = request.protocols
    names = [protocol.name for protocol in protocols]
    names += [request.protocol_type, request.group_instance_id or ""]
    too_large = (
        len(protocols) > PROTOCOLS_PER_MEMBER_MAX
        or sum(len(protocol.metadata) for protocol in protocols) > MEMBER_METADATA_BYTES_MAX
        or any(len(name) > NAME_CHARS_MAX for name in names)
    )
    return ErrorCode.INVALID_REQUEST if too_large else ErrorCode.NONE


def refuse_join(
    call: Call, request: JoinGroupRequest, step: Step, code: ErrorCode, member_id: str | None = None
) -> None:
    """Refuse the request; the answer repeats its member id unless another is given."""
    member_id = request.member_id if member_id is None else member_id
    response = join_refused(call, code, member_id)
    step.reply(call, response, group_refusal(partial(join_refused, call, member_id=member_id)))


def join_group(group: ClassicGroup, call: Call, request: JoinGroupRequest, step: Step) -> None:
    """Run a request that `check_join` let pass. Its answer may have to wait for the rebalance."""
    protocols = [(protocol.name, bytes(protocol.metadata)) for protocol in request.protocols]
    if not _has_room(group, request.member_id, step):
        group.pending_members.discard(request.member_id)
        refuse_join(call, request, step, ErrorCode.GROUP_MAX_SIZE_REACHED, "")
    elif not group.supports(request.protocol_type, protocols):
        refuse_join(call, request, step, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    elif not request.member_id:
        _join_unknown(group, call, request, protocols, step)
    elif request.member_id in group.pending_members:
        if request.group_instance_id is not None:
            # Ids are given out to dynamic members only.
            refuse_join(call, request, step, ErrorCode.UNKNOWN_MEMBER_ID)
        else:
            step.timers.cancel(
                TimerKey(TimerKind.PENDING_MEMBER, group.group_id, request.member_id)
            )
            _add_member(group, call, request, protocols, request.member_id, step)
    else:
        _rejoin(group, call, request, protocols, step)


def _has_room(group: ClassicGroup, member_id: str, step: Step) -> bool:
    """Whether the member has a place, or there is one for it, under group.max.size."""
    if group.state is GroupState.EMPTY:
        return True
    if member_id not in group.members and group.metadata_bytes > GROUP_BYTES_MAX:
        return False
    member = group.members.get(member_id)
    if group.state is GroupState.PREPARING_REBALANCE:
        # Only those who have come back count: the others may be gone.
        has_place = member is not None and member.join is not None
        return has_place or group.awaiting_join < step.config.max_size
    return member is not None or len(group.members) < step.config.max_size


def _join_unknown(
    group: ClassicGroup, call: Call, request: JoinGroupRequest, protocols: Protocols, step: Step
) -> None:
    instance_id = request.group_instance_id
    stem = call.client_id if instance_id is None else instance_id
    member_id = f"{stem[:MEMBER_ID_STEM_CHARS_MAX]}-{step.new_id()}"
    if instance_id is not None:
        if instance_id in group.static_members:
            _replace_static(group, call, request, protocols, member_id, step)
        else:
            _add_member(group, call, request, protocols, member_id, step)
    elif call.version >= _MEMBER_ID_REQUIRED_FROM:
        if len(group.pending_members) >= PENDING_MEMBERS_MAX:
            refuse_join(call, request, step, ErrorCode.GROUP_MAX_SIZE_REACHED)
            return
        group.pending_members.add(member_id)
        key = TimerKey(TimerKind.PENDING_MEMBER, group.group_id, member_id)
        step.timers.set(key, step.now_ms + request.session_timeout_ms)
        refuse_join(call, request, step, ErrorCode.MEMBER_ID_REQUIRED, member_id)
    else:
        _add_member(group, call, request, protocols, member_id, step)


def _add_member(
    group: ClassicGroup,
    call: Call,
    request: JoinGroupRequest,
    protocols: Protocols,
    member_id: str,
    step: Step,
) -> None:
    member = Member(
        member_id=member_id,
        group_instance_id=request.group_instance_id,
        client_id=call.client_id,
        client_host=call.client_host,
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=_rebalance_timeout(request),
        protocols=protocols,
    )
    if group.state is GroupState.PREPARING_REBALANCE and group.was_empty:
        group.new_member_added = True
    group.add_member(member, request.protocol_type, call)
    # It cannot send heartbeats before it knows its id and generation. A client that gave up
    # waiting would stay for ever, so a long time-out runs instead of its session.
    key = TimerKey(TimerKind.SESSION, group.group_id, member_id)
    step.timers.set(key, step.now_ms + step.config.new_member_join_timeout_ms)
    prepare_or_complete(group, step)


def _rejoin(
    group: ClassicGroup, call: Call, request: JoinGroupRequest, protocols: Protocols, step: Step
) -> None:
    code = group.check_member(request.member_id, request.group_instance_id)
    if code is not ErrorCode.NONE:
        refuse_join(call, request, step, code)
        return
    member = group.members[request.member_id]
    changed = member.protocols != protocols
    state = group.state
    if state is GroupState.STABLE:
        # The leader's rejoin may mean that topics changed, which only it can see.
        changed = changed or member.member_id == group.leader_id
    if changed or state is GroupState.PREPARING_REBALANCE:
        _update_member(group, member, call, request, protocols, step)
        prepare_or_complete(group, step)
        return
    # It probably missed the first answer: tell it the current generation again.
    _refresh(member, call, request)
    is_leader = state is GroupState.COMPLETING_REBALANCE and member.member_id == group.leader_id
    response = join_response(group, member, members_for_leader(group) if is_leader else [])
    refusal = group_refusal(partial(join_refused, call, member_id=member.member_id))
    step.reply(call, response, refusal)
    touch_session(group, member, step)


def _replace_static(
    group: ClassicGroup,
    call: Call,
    request: JoinGroupRequest,
    protocols: Protocols,
    member_id: str,
    step: Step,
) -> None:
    """Put a restarted static member in the place of its former self.

    In Stable the generation and the assignment go on when the chosen protocol stays; only the new
    member id has to be written. The former member's requests are fenced.
    """
    old_id = group.static_members[request.group_instance_id or ""]
    old_leader = group.leader_id
    member = group.members[old_id]
    refuse_waiting(group, member, step, ErrorCode.FENCED_INSTANCE_ID, old_id)
    before = (
        member.protocols,
        member.session_timeout_ms,
        member.rebalance_timeout_ms,
        member.client_id,
        member.client_host,
    )
    step.timers.cancel(TimerKey(TimerKind.SESSION, group.group_id, old_id))
    group.rename_static_member(member, member_id)
    _update_member(group, member, call, request, protocols, step)
    touch_session(group, member, step)
    if group.state is not GroupState.STABLE or group.select_protocol() != group.protocol_name:
        prepare_or_complete(group, step)
        return
    response = join_response(group, member, [])
    if call.version >= _SKIP_ASSIGNMENT_FROM:
        response.skip_assignment = member.member_id == group.leader_id
        if response.skip_assignment:
            response.members = members_for_leader(group)
    else:
        # An old client that learned it leads would compute a new assignment.
        response.leader = old_leader or ""
    answer_join(group, member, step, response)
    value = group.to_value({m.member_id: m.assignment for m in group.members.values()}, step.now_ms)
    step.records.append(group_metadata_record(group.group_id, value))

    def rollback(now_ms: int) -> Effects:
        step.timers.cancel(TimerKey(TimerKind.SESSION, group.group_id, member_id))
        group.rename_static_member(member, old_id)
        group.update_member(member, None, before[0])
        member.session_timeout_ms, member.rebalance_timeout_ms = before[1], before[2]
        member.client_id, member.client_host = before[3], before[4]
        key = TimerKey(TimerKind.SESSION, group.group_id, old_id)
        step.timers.set(key, now_ms + member.session_timeout_ms)
        return Effects()

    step.rollback = rollback


def _update_member(
    group: ClassicGroup,
    member: Member,
    call: Call,
    request: JoinGroupRequest,
    protocols: Protocols,
    step: Step,
) -> None:
    if member.join is not None:
        # The client sent the request again: the first one is of no use to it any more.
        refused = join_refused(member.join, ErrorCode.REBALANCE_IN_PROGRESS, member.member_id)
        answer_join(group, member, step, refused)
    _refresh(member, call, request)
    group.update_member(member, call, protocols)


def _refresh(member: Member, call: Call, request: JoinGroupRequest) -> None:
    member.session_timeout_ms = request.session_timeout_ms
    member.rebalance_timeout_ms = _rebalance_timeout(request)
    member.client_id = call.client_id
    member.client_host = call.client_host


def _rebalance_timeout(request: JoinGroupRequest) -> int:
    """Version 0 has no rebalance timeout: the session timeout is taken."""
    timeout: int = request.rebalance_timeout_ms
    return timeout if timeout >= 0 else request.session_timeout_ms
