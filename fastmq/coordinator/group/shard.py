"""The group coordinator of one partition of `__consumer_offsets`.

The shard finds the group of a request, runs the rule, and turns what came out into `Effects`. It
holds what `replay` made of the log: groups, and offsets by group. A group exists while the log
knows it, or while a member or a member id that was given out keeps it; one that only committed
offsets exists as an Empty group without a protocol type, as in Kafka.

Requests that name several groups (OffsetFetch, DescribeGroups, DeleteGroups) come one group at a
time, since the groups may live in different shards; ListGroups has to be asked of every shard. The
server puts the parts together.

Driven as `fastmq.coordinator.effects` says. What is not here: authorization, topic ids, whether
topics exist, which shard is responsible.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator

from fastmq.coordinator.effects import Call, Effects
from fastmq.coordinator.group.admin import describe, describe_unknown, list_groups
from fastmq.coordinator.group.answers import (
    commit_refusal,
    commit_refused,
    deleted_group_refusal,
    describe_refusal,
    fetch_refusal,
    list_refusal,
    offset_delete_refusal,
    to_client_code,
)
from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.config import GroupConfig
from fastmq.coordinator.group.consumer_protocol import PROTOCOL_TYPE
from fastmq.coordinator.group.join import check_join, join_group, refuse_join
from fastmq.coordinator.group.limits import (
    GROUP_ID_BYTES_MAX,
    GROUPS_PER_SHARD_MAX,
    TOMBSTONES_PER_STEP_MAX,
)
from fastmq.coordinator.group.membership import (
    answer_heartbeat,
    heartbeat,
    leave_group,
    leave_refused,
    on_pending_timeout,
    on_session_timeout,
)
from fastmq.coordinator.group.offset_requests import (
    check_commit,
    commit_offsets,
    delete_offsets,
    fetch_offsets,
)
from fastmq.coordinator.group.offsets import GroupOffsets, expired_offsets
from fastmq.coordinator.group.rebalance import (
    on_initial_join_timeout,
    on_join_timeout,
    on_sync_timeout,
    refuse_waiting,
    touch_session,
)
from fastmq.coordinator.group.records import (
    GroupKey,
    decode_group_value,
    decode_key,
    decode_offset_value,
    group_tombstone,
    offset_tombstone,
)
from fastmq.coordinator.group.step import Step, TimerKey, TimerKind
from fastmq.coordinator.group.sync import refuse_sync, sync_group
from fastmq.coordinator.timers import Timers
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.delete_groups import DeletedGroup
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import JoinGroupRequest
from fastmq.protocol.messages.leave_group import LeaveGroupRequest
from fastmq.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from fastmq.protocol.messages.offset_commit import OffsetCommitRequest
from fastmq.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from fastmq.protocol.messages.offset_fetch import OffsetFetchGroup
from fastmq.protocol.messages.sync_group import SyncGroupRequest
from fastmq.protocol.records import OffsetCommitValue

__all__ = ["GroupCoordinatorShard"]

# First version that says GROUP_ID_NOT_FOUND for a commit to a group that does not exist.
_COMMIT_NOT_FOUND_FROM = 9


class GroupCoordinatorShard:
    """Groups and committed offsets of one partition.

    Args:
        config: settings, shared by all shards.
        new_id: returns a unique string at every call; the only source of randomness.
    """

    def __init__(self, config: GroupConfig, new_id: Callable[[], str]) -> None:
        self._config = config
        self._new_id = new_id
        self._timers: Timers[TimerKey] = Timers()
        self._groups: dict[str, ClassicGroup] = {}
        self._offsets: dict[str, GroupOffsets] = {}
        # Groups that the present round of expiry has not looked at yet.
        self._to_expire: list[str] = []
        # Offsets of deleted topics that still need their tombstones.
        self._to_forget: list[tuple[str, str, int, OffsetCommitValue]] = []

    # Membership.

    def join_group(self, call: Call, request: JoinGroupRequest, now_ms: int) -> Effects:
        """Handle JoinGroup; the answer may come with a later step."""
        step = self._step(now_ms)
        code = check_join(request, step)
        group = self._groups.get(request.group_id)
        if code is not ErrorCode.NONE:
            refuse_join(call, request, step, code)
            return step.effects()
        if group is None:
            if request.member_id:
                refuse_join(call, request, step, ErrorCode.UNKNOWN_MEMBER_ID)
                return step.effects()
            group = self._create(request.group_id)
            if group is None:
                refuse_join(call, request, step, ErrorCode.COORDINATOR_NOT_AVAILABLE)
                return step.effects()
        join_group(group, call, request, step)
        return self._finish(group, step)

    def sync_group(self, call: Call, request: SyncGroupRequest, now_ms: int) -> Effects:
        """Handle SyncGroup; a follower's answer may come with a later step."""
        step = self._step(now_ms)
        group = self._groups.get(request.group_id)
        if not request.group_id:
            refuse_sync(call, step, ErrorCode.INVALID_GROUP_ID)
        elif group is None:
            refuse_sync(call, step, ErrorCode.UNKNOWN_MEMBER_ID)
        else:
            sync_group(group, call, request, step)
        return step.effects()

    def heartbeat(self, call: Call, request: HeartbeatRequest, now_ms: int) -> Effects:
        """Handle Heartbeat."""
        step = self._step(now_ms)
        group = self._groups.get(request.group_id)
        code = ErrorCode.UNKNOWN_MEMBER_ID
        if not request.group_id:
            code = ErrorCode.INVALID_GROUP_ID
        elif group is not None:
            code = heartbeat(group, request, step)
        answer_heartbeat(call, step, code)
        return step.effects()

    def leave_group(self, call: Call, request: LeaveGroupRequest, now_ms: int) -> Effects:
        """Handle LeaveGroup."""
        step = self._step(now_ms)
        group = self._groups.get(request.group_id)
        if not request.group_id:
            leave_refused(call, request, step, ErrorCode.INVALID_GROUP_ID)
        elif group is None:
            leave_refused(call, request, step, ErrorCode.UNKNOWN_MEMBER_ID)
        else:
            leave_group(group, call, request, step)
            return self._finish(group, step)
        return step.effects()

    # Offsets.

    def commit_offsets(self, call: Call, request: OffsetCommitRequest, now_ms: int) -> Effects:
        """Handle OffsetCommit, with topic names filled in."""
        step = self._step(now_ms)
        group = self._groups.get(request.group_id)
        if group is not None:
            code = check_commit(group, request)
        else:
            group, code = self._group_for_commit(call, request)
        if code is ErrorCode.NONE:
            offsets = self._offsets.get(request.group_id)
            commit_offsets(group, offsets, call, request, step)
        else:
            step.reply(call, commit_refused(request, code), commit_refusal(request))
        return step.effects()

    def _group_for_commit(
        self, call: Call, request: OffsetCommitRequest
    ) -> tuple[ClassicGroup, ErrorCode]:
        """Make a group for a commit from outside; `replay` puts it among the groups."""
        group = ClassicGroup(request.group_id)
        if len(request.group_id.encode()) > GROUP_ID_BYTES_MAX:
            return group, ErrorCode.INVALID_GROUP_ID
        if request.generation_id_or_member_epoch < 0:
            full = len(self._groups) >= GROUPS_PER_SHARD_MAX
            return group, ErrorCode.COORDINATOR_NOT_AVAILABLE if full else ErrorCode.NONE
        if call.version >= _COMMIT_NOT_FOUND_FROM:
            return group, ErrorCode.GROUP_ID_NOT_FOUND
        return group, ErrorCode.ILLEGAL_GENERATION

    def fetch_offsets(self, call: Call, request: OffsetFetchGroup, now_ms: int) -> Effects:
        """Handle one group of an OffsetFetch; the reply is an `OffsetFetchGroupResponse`.

        `answers.single_group` and `answers.single_group_response` translate the older form of
        the request, which has one group only.
        """
        step = self._step(now_ms)
        response = fetch_offsets(self._offsets.get(request.group_id), request)
        step.reply(call, response, fetch_refusal(request))
        return step.effects()

    def delete_offsets(self, call: Call, request: OffsetDeleteRequest, now_ms: int) -> Effects:
        """Handle OffsetDelete."""
        step = self._step(now_ms)
        group = self._groups.get(request.group_id)
        if group is None:
            code = ErrorCode.GROUP_ID_NOT_FOUND
        elif group.state is not GroupState.EMPTY and group.protocol_type != PROTOCOL_TYPE:
            code = ErrorCode.NON_EMPTY_GROUP
        else:
            delete_offsets(group, self._offsets.get(group.group_id), call, request, step)
            return step.effects()
        step.reply(call, OffsetDeleteResponse(error_code=code), offset_delete_refusal())
        return step.effects()

    def forget_topics(self, names: Collection[str], now_ms: int) -> Effects:
        """Remove the offsets of topics that were deleted.

        A topic that gets one of the names later begins anew: what is committed for it after this
        call stays. Large numbers are spread over several steps.
        """
        gone = frozenset(names)
        for group_id, offsets in self._offsets.items():
            for topic in offsets.topics.keys() & gone:
                for partition, value in offsets.topics[topic].items():
                    self._to_forget.append((group_id, topic, partition, value))
        step = self._step(now_ms)
        self._forget_some(step)
        return step.effects()

    # Administration.

    def describe_group(self, call: Call, group_id: str, now_ms: int) -> Effects:
        """Handle one group of a DescribeGroups; the reply is a `DescribedGroup`."""
        step = self._step(now_ms)
        group = self._groups.get(group_id)
        row = describe_unknown(group_id, call.version) if group is None else describe(group)
        step.reply(call, row, describe_refusal(group_id))
        return step.effects()

    def list_groups(self, call: Call, request: ListGroupsRequest, now_ms: int) -> Effects:
        """Handle this shard's part of a ListGroups; the reply is a `ListGroupsResponse`."""
        step = self._step(now_ms)
        response = ListGroupsResponse(groups=list_groups(self._groups.values(), request))
        step.reply(call, response, list_refusal())
        return step.effects()

    def delete_group(self, call: Call, group_id: str, now_ms: int) -> Effects:
        """Handle one group of a DeleteGroups; the reply is a `DeletedGroup`."""
        step = self._step(now_ms)
        group = self._groups.get(group_id)
        code = ErrorCode.NONE
        if group is None:
            code = ErrorCode.GROUP_ID_NOT_FOUND
        elif group.state is not GroupState.EMPTY:
            code = ErrorCode.NON_EMPTY_GROUP
        else:
            for topic, partition, _ in self._offsets.get(group_id, ()):
                step.records.append(offset_tombstone(group_id, topic, partition))
            self._remove_empty(group, step)
        response = DeletedGroup(group_id=group_id, error_code=code)
        step.reply(call, response, deleted_group_refusal(group_id))
        return step.effects()

    # What the driver calls; see `fastmq.coordinator.effects`.

    def replay(self, key: bytes, value: bytes | None) -> None:
        """Apply one record of the log. Records of other kinds and unreadable ones are skipped."""
        what = decode_key(key)
        if what is None:
            return
        if isinstance(what, GroupKey):
            self._replay_group(what.group_id, value)
        elif value is None:
            self._replay_offset_tombstone(*what)
        else:
            offset = decode_offset_value(value)
            if offset is not None:
                group_id, topic, partition = what
                if group_id not in self._groups:
                    self._groups[group_id] = ClassicGroup(group_id)
                offsets = self._offsets.get(group_id)
                if offsets is None:
                    offsets = self._offsets[group_id] = GroupOffsets()
                offsets.put(topic, partition, offset)

    def _replay_group(self, group_id: str, value: bytes | None) -> None:
        if value is None:
            group = self._groups.pop(group_id, None)
            if group is not None:
                group.state = GroupState.DEAD
            if group_id in self._offsets:
                self._groups[group_id] = ClassicGroup(group_id)
            return
        row = decode_group_value(value)
        if row is not None:
            group = self._groups.get(group_id)
            if group is None:
                group = self._groups[group_id] = ClassicGroup(group_id)
            group.replay(row)

    def _replay_offset_tombstone(self, group_id: str, topic: str, partition: int) -> None:
        offsets = self._offsets.get(group_id)
        if offsets is None:
            return
        offsets.remove(topic, partition)
        if offsets.count == 0:
            del self._offsets[group_id]
            self._forget_if_unused(self._groups[group_id])

    def on_loaded(self, now_ms: int) -> Effects:
        """Give every member of the log a full session, and start the round of expiry."""
        step = self._step(now_ms)
        for group in self._groups.values():
            for member in group.members.values():
                touch_session(group, member, step)
        self._timers.set(
            TimerKey(TimerKind.EXPIRE_OFFSETS),
            now_ms + self._config.offsets_retention_check_interval_ms,
        )
        return step.effects()

    def next_deadline(self) -> int | None:
        """Return when `on_timer` has something to do."""
        return self._timers.next_deadline()

    def on_timer(self, now_ms: int) -> Effects:
        """Run what is due, up to the first timer that writes records."""
        step = self._step(now_ms)
        while not step.records:
            key = self._timers.pop_due(now_ms)
            if key is None:
                break
            if key.kind == TimerKind.EXPIRE_OFFSETS:
                self._expire_offsets(step)
                continue
            if key.kind == TimerKind.FORGET_TOPICS:
                self._forget_some(step)
                continue
            group = self._groups.get(key.group_id)
            if group is not None:
                _run_timer(key, group, step)
                self._forget_if_unused(group)
        return step.effects()

    def resign(self, code: ErrorCode) -> Effects:
        """Refuse every request that waits; the shard must not be used afterwards."""
        step = self._step(0)
        for group in self._groups.values():
            for member in group.members.values():
                refuse_waiting(group, member, step, to_client_code(code), member.member_id)
        return step.effects()

    # Snapshots for metrics.

    def committed_offsets(self) -> Iterator[tuple[str, str, int, int]]:
        """Walk over (group, topic, partition, offset); the shard must not change meanwhile."""
        for group_id, offsets in self._offsets.items():
            for topic, partition, value in offsets:
                yield group_id, topic, partition, value.offset

    def group_offsets(self) -> Iterator[tuple[str, str, int, Iterator[tuple[str, int, int]]]]:
        """Walk over (group, state, number of members, its (topic, partition, committed offset)).

        Nothing else may be called meanwhile.
        """
        for group_id, group in self._groups.items():
            offsets = self._offsets.get(group_id, ())
            rows = ((topic, partition, value.offset) for topic, partition, value in offsets)
            yield group_id, group.state.value, len(group.members), rows

    def group_counts(self) -> Counter[str]:
        """Count the groups per state name."""
        return Counter(group.state.value for group in self._groups.values())

    def member_count(self) -> int:
        """Count the members of all groups."""
        return sum(len(group.members) for group in self._groups.values())

    # Helpers.

    def _step(self, now_ms: int) -> Step:
        return Step(now_ms, self._config, self._timers, self._new_id)

    def _finish(self, group: ClassicGroup, step: Step) -> Effects:
        self._forget_if_unused(group)
        return step.effects()

    def _create(self, group_id: str) -> ClassicGroup | None:
        if len(self._groups) >= GROUPS_PER_SHARD_MAX:
            return None
        group = self._groups[group_id] = ClassicGroup(group_id)
        return group

    def _forget_if_unused(self, group: ClassicGroup) -> None:
        """Drop a group that nothing in the log and no client knows of."""
        known = group.in_log or group.generation > 0 or group.group_id in self._offsets
        if not known and not group.members and not group.pending_members:
            self._groups.pop(group.group_id, None)

    def _remove_empty(self, group: ClassicGroup, step: Step) -> None:
        """Remove an Empty group with its offsets, which `step` already has tombstones for."""
        for member_id in group.pending_members:
            key = TimerKey(TimerKind.PENDING_MEMBER, group.group_id, member_id)
            self._timers.cancel(key)
        if group.in_log or step.records:
            step.records.append(group_tombstone(group.group_id))
        else:
            group.state = GroupState.DEAD
            del self._groups[group.group_id]

    def _forget_some(self, step: Step) -> None:
        """Write tombstones for offsets of deleted topics, those that were not replaced since."""
        while self._to_forget and len(step.records) < TOMBSTONES_PER_STEP_MAX:
            group_id, topic, partition, value = self._to_forget.pop()
            offsets = self._offsets.get(group_id)
            if offsets is not None and offsets.get(topic, partition) is value:
                step.records.append(offset_tombstone(group_id, topic, partition))
        if self._to_forget:
            self._timers.set(TimerKey(TimerKind.FORGET_TOPICS), step.now_ms)

    def _expire_offsets(self, step: Step) -> None:
        """Write tombstones for what expired, a part per step so that no batch gets too large."""
        if not self._to_expire:
            self._to_expire = list(self._groups)
        config = self._config
        while self._to_expire and len(step.records) < TOMBSTONES_PER_STEP_MAX:
            group = self._groups.get(self._to_expire.pop())
            if group is not None and not self._expire_group(group, step):
                self._to_expire.append(group.group_id)
                break
        wait = 0 if self._to_expire else config.offsets_retention_check_interval_ms
        self._timers.set(TimerKey(TimerKind.EXPIRE_OFFSETS), step.now_ms + wait)
        step.rollback = self._give_up_expiry

    def _give_up_expiry(self, now_ms: int) -> Effects:
        """Leave the rest to the next round: a log that refuses tombstones will not take more."""
        self._to_expire.clear()
        interval_ms = self._config.offsets_retention_check_interval_ms
        self._timers.set(TimerKey(TimerKind.EXPIRE_OFFSETS), now_ms + interval_ms)
        return Effects()

    def _expire_group(self, group: ClassicGroup, step: Step) -> bool:
        """Expire offsets of one group, and the group with its last one; False when not done."""
        offsets = self._offsets.get(group.group_id, GroupOffsets())
        retention_ms = self._config.offsets_retention_ms
        expired = 0
        for topic, partition in expired_offsets(group, offsets, retention_ms, step.now_ms):
            if len(step.records) >= TOMBSTONES_PER_STEP_MAX:
                return False
            step.records.append(offset_tombstone(group.group_id, topic, partition))
            expired += 1
        unused = group.state is GroupState.EMPTY and not group.pending_members
        if unused and expired == offsets.count:
            if group.in_log:
                step.records.append(group_tombstone(group.group_id))
            elif expired == 0:
                del self._groups[group.group_id]
        return True


def _run_timer(key: TimerKey, group: ClassicGroup, step: Step) -> None:
    match key.kind:
        case TimerKind.SESSION:
            on_session_timeout(group, key.member_id, step)
        case TimerKind.PENDING_MEMBER:
            on_pending_timeout(group, key.member_id, step)
        case TimerKind.JOIN:
            on_join_timeout(group, step)
        case TimerKind.INITIAL_JOIN:
            on_initial_join_timeout(group, step)
        case TimerKind.SYNC:
            on_sync_timeout(group, step)
