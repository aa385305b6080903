"""A member of a classic consumer group: join, sync, heartbeat, leave. Pure.

    left --join--> joining --answer--> syncing --answer--> stable
                      ^------ preparing <----rebalance-------'

Partitions are given and taken in *steps* that the program's own thread or task runs, inside its
next poll: only there is it certain that the program is done with what it got, so that what it
consumed can be committed and its callbacks be called. While a step waits, heartbeats go on; the
coordinator waits for the new JoinGroup as long as `max_poll_interval_ms`. A program that does not
poll for longer than that leaves the group by itself and comes back with its next poll.

With cooperative assignors only what moves elsewhere is taken, after the assignment is known, and
the member joins once more to let it be given away (KIP-429). With the others everything is given up
before joining.

Source: KIP-62 (heartbeats apart from polls), KIP-345 (static members), KIP-394 (member id),
KIP-429, KIP-792.
"""

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from fastmq.client.calls import Coordinator, CoordinatorKind, Request
from fastmq.client.consumer.assignors import ASSIGNORS
from fastmq.client.consumer.group_data import (
    assigned_in,
    assignment_bytes,
    member_of,
    subscription_bytes,
    topics_in,
)
from fastmq.client.consumer.options import ConsumerOptions
from fastmq.client.consumer.steps import Host, Step, StepKind
from fastmq.client.core import ClientCore
from fastmq.client.timers import Timer
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, KafkaError, error_code
from fastmq.protocol import ApiKey, Message
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.leave_group import LeaveGroupMember, LeaveGroupRequest
from fastmq.protocol.messages.sync_group import SyncGroupAssignment, SyncGroupRequest

__all__ = ["Membership", "Phase"]

_log = logging.getLogger("fastmq.client")

_PROTOCOL_TYPE = "consumer"
_MEMBERS_LISTED_FROM = 3
# Beyond what the coordinator may wait for the other members.
_JOIN_GRACE_MS = 5_000
_METADATA_WAIT_MS = 5_000

_COORDINATOR_ERRORS = frozenset(
    {
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


class Phase(Enum):
    """Where a member is."""

    LEFT = "left"
    JOINING = "joining"
    SYNCING = "syncing"
    STABLE = "stable"
    PREPARING = "preparing"


class Membership:
    """One member.

    Args:
        core: the client's core.
        options: the consumer's; `group_id` is set.
        host: the consumer.
    """

    def __init__(self, core: ClientCore, options: ConsumerOptions, host: Host) -> None:
        assert options.group_id is not None
        self._core = core
        self._options = options
        self._host = host
        self._group = options.group_id
        self.target = Coordinator(CoordinatorKind.GROUP, options.group_id)
        self.phase = Phase.LEFT
        self.member_id = ""
        self.generation = -1
        self.left_for_not_polling = False
        self._is_wanted = False
        self._must_rejoin = False
        self._step_number = 0
        self._waits_for_step = False
        self._failures = 0
        self._timer: Timer | None = None
        self._heartbeat: Timer | None = None
        self._is_beating = False
        self._counts: dict[str, int] = {}
        self._joined_topics: frozenset[str] = frozenset()
        self._is_leader = False
        self._assigning: Any = None  # the JoinGroup answer whose members are to be assigned
        # Who has been given partitions may keep them in a rebalance, if all assignors know how.
        self._cooperative = all(ASSIGNORS[name].is_cooperative for name in options.strategies)
        core.on_metadata(self._metadata_changed)

    # ------------------------------------------------------------------------------- for the host

    def join(self) -> None:
        """Be a member from now on; again, after the subscription has changed."""
        self._is_wanted = True
        if self.phase is Phase.LEFT:
            self._join_now()
        else:
            self._rejoin("the subscription has changed")

    def leave(self, done: Callable[[], None]) -> None:
        """Leave the group; a static member only stops, so that it may come back."""
        self._is_wanted = False
        was_member = self.member_id and self.phase is not Phase.LEFT
        self._stop()
        self._forget_step()
        self.left_for_not_polling = False
        if not was_member or self._options.group_instance_id is not None:
            done()
            return
        self._send_leave("the consumer is closed", done)
        self.member_id = ""

    def polled(self) -> None:
        """Come back, after the program did not poll for too long."""
        if self.left_for_not_polling and not self._waits_for_step:
            self.left_for_not_polling = False
            if self._is_wanted and self.phase is Phase.LEFT:
                self._join_now()

    @property
    def is_member(self) -> bool:
        """Whether offsets may be committed in the group's generation."""
        return self.generation >= 0 and self.phase in (
            Phase.STABLE,
            Phase.PREPARING,
            Phase.JOINING,
            Phase.SYNCING,
        )

    def on_commit_error(self, code: ErrorCode) -> None:
        """Take note of what a commit was refused with."""
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._lose(code)
        elif code == ErrorCode.REBALANCE_IN_PROGRESS:
            self._rejoin("a rebalance is under way")

    # ---------------------------------------------------------------------------------- joining

    def _stop(self) -> None:
        self.phase = Phase.LEFT
        self.generation = -1
        self._assigning = None
        for timer in (self._timer, self._heartbeat):
            if timer is not None:
                timer.cancel()
        self._timer = self._heartbeat = None

    def _rejoin(self, reason: str) -> None:
        if self.phase is not Phase.STABLE or self._waits_for_step:
            # Under way already; but what it was begun with may be out of date.
            self._must_rejoin = self._must_rejoin or self.phase is not Phase.PREPARING
            return
        _log.info("group %s: rejoining, %s", self._group, reason)
        owned = self._host.owned()
        if owned and not self._cooperative:
            self.phase = Phase.PREPARING
            self._step(StepKind.REVOKED, owned, lambda: self._revoked_all(owned))
        else:
            self._join_now()

    def _revoked_all(self, owned: tuple[TopicPartition, ...]) -> None:
        self._host.take_away(owned)
        if self.phase is Phase.PREPARING:
            self._join_now()

    def _step(
        self, kind: StepKind, names: tuple[TopicPartition, ...], then: Callable[[], None]
    ) -> None:
        self._waits_for_step = True
        self._step_number += 1
        number = self._step_number

        def done() -> None:
            if number != self._step_number:
                return  # the host has dropped it, or runs it after the member has left
            self._waits_for_step = False
            then()
            if self.phase is Phase.LEFT and self._is_wanted and not self._waits_for_step:
                self._come_back()

        self._host.queue_step(Step(kind, names, done))

    def _forget_step(self) -> None:
        self._step_number += 1
        self._waits_for_step = False

    def _join_now(self) -> None:
        self._must_rejoin = False
        self._joined_topics = self._host.subscribed_topics()
        if not self._is_wanted:
            return
        self.phase = Phase.JOINING
        self._stop_heartbeats()
        options = self._options
        message = JoinGroupRequest(
            group_id=self._group,
            session_timeout_ms=options.session_timeout_ms,
            rebalance_timeout_ms=options.max_poll_interval_ms,
            member_id=self.member_id,
            group_instance_id=options.group_instance_id,
            protocol_type=_PROTOCOL_TYPE,
            protocols=[
                JoinGroupProtocol(
                    name=name,
                    metadata=subscription_bytes(
                        self._joined_topics, self._host.owned(), self.generation, name
                    ),
                )
                for name in options.strategies
            ],
        )
        self._ask(
            ApiKey.JOIN_GROUP,
            lambda _: message,
            self._joined,
            options.max_poll_interval_ms + _JOIN_GRACE_MS,
        )

    def _ask(
        self,
        api_key: ApiKey,
        build: Callable[[int], Message],
        on_done: Callable[[Any], None],
        timeout_ms: int,
    ) -> None:
        """Ask the coordinator on a connection of its own: it may take as long as it likes."""
        phase = self.phase

        def done(result: Any) -> None:
            if self.phase is phase and not self._core.is_closed:
                on_done(result)

        self._core.send(
            self.target,
            Request(api_key, build),
            done,
            timeout_ms=None,
            attempt_timeout_ms=timeout_ms,
            retry=False,
            lane="join",
        )

    def _joined(self, answer: Any) -> None:
        if self._refused(answer):
            return
        self._failures = 0
        self.member_id = answer.member_id
        self.generation = answer.generation_id
        self.phase = Phase.SYNCING
        self._is_leader = answer.leader == answer.member_id
        if self._is_leader and not answer.skip_assignment:
            self._assigning = answer
            self._core.want_topics(self._topics_of(answer))
            self._timer = self._core.call_at(
                self._core.now_ms + _METADATA_WAIT_MS, lambda: self._assign(answer)
            )
            self._metadata_changed()
        else:
            self._sync(answer, [])

    # Any: a response or an exception, as `ClientCore.send` says.
    def _refused(self, answer: Any) -> bool:
        """Deal with what is not a success; True when it was none."""
        if isinstance(answer, Exception):
            self._core.forget_coordinator(self.target)
            self._try_later(answer)
            return True
        code = error_code(answer.error_code)
        if code is ErrorCode.NONE:
            return False
        if code is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            self._join_now()
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._lose(code)
        elif code is ErrorCode.REBALANCE_IN_PROGRESS:
            self._join_now()
        elif code in _COORDINATOR_ERRORS:
            if code is not ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                self._core.forget_coordinator(self.target)
            self._try_later(KafkaError(code))
        else:
            self._fail(code)
        return True

    def _try_later(self, error: Exception) -> None:
        self._failures += 1
        _log.info("group %s: joining again: %s", self._group, error)
        when_ms = self._core.now_ms + self._core.backoff_ms(self._failures)
        self._timer = self._core.call_at(when_ms, self._join_now)

    def _fail(self, code: ErrorCode) -> None:
        """End the membership for good: only the program can put right what is wrong."""
        self._stop()
        self._forget_step()
        self._is_wanted = False
        self._host.fail(KafkaError(code, _explain(code, self._options)))
        # Others work on these now, or will.
        self._lose_owned(lambda: None)

    def _lose(self, code: ErrorCode) -> None:
        """The coordinator has thrown this member out, or has begun anew without it."""
        if not self._is_wanted:
            return
        if code is ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        self._stop()
        _log.warning("group %s: no member any more (%s), joining again", self._group, code.name)
        if not self._waits_for_step:
            self._come_back()

    def _come_back(self) -> None:
        """Join again from nothing, once the program knows that it has lost what it had."""
        if not self._lose_owned(self._join_if_left):
            self._join_if_left()

    def _lose_owned(self, then: Callable[[], None]) -> bool:
        """Take everything away, as lost; False when there is nothing."""
        owned = self._host.owned()
        if owned:
            self._host.take_away(owned)
            self._step(StepKind.LOST, owned, then)
        return bool(owned)

    def _join_if_left(self) -> None:
        self.left_for_not_polling = False
        if self.phase is Phase.LEFT and self._is_wanted:
            self._join_now()

    # --------------------------------------------------------------------------------- assigning

    def _topics_of(self, answer: Any) -> set[str]:
        return topics_in(answer.members)

    def _metadata_changed(self) -> None:
        metadata = self._core.metadata
        answer = self._assigning
        if answer is not None:
            known = metadata.topics.keys() | metadata.topic_errors.keys()
            if self._topics_of(answer) <= known:
                self._assign(answer)
        elif self.phase is Phase.STABLE and not self._waits_for_step:
            if self._host.subscribed_topics() != self._joined_topics:
                self._rejoin("the topics that match have changed")
            elif self._is_leader and self._counts_now(self._counts) != self._counts:
                self._rejoin("the number of partitions has changed")

    def _counts_now(self, topics: Iterable[str]) -> dict[str, int]:
        found = self._core.metadata.topics
        return {name: found[name].partition_count if name in found else 0 for name in topics}

    def _assign(self, answer: Any) -> None:
        if self._assigning is not answer:
            return
        self._assigning = None
        if self._timer is not None:
            self._timer.cancel()
        self._counts = self._counts_now(self._topics_of(answer))
        known = {topic: count for topic, count in self._counts.items() if count}
        assignor = ASSIGNORS.get(answer.protocol_name)
        if assignor is None:
            self._fail(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
            return
        members = [member_of(row, answer.protocol_name) for row in answer.members]
        assigned = assignor.assign(members, known)
        rows = [
            SyncGroupAssignment(member_id=member_id, assignment=assignment_bytes(names))
            for member_id, names in assigned.items()
        ]
        self._sync(answer, rows)

    def _sync(self, answer: Any, assignments: list[SyncGroupAssignment]) -> None:
        message = SyncGroupRequest(
            group_id=self._group,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self._options.group_instance_id,
            protocol_type=_PROTOCOL_TYPE,
            protocol_name=answer.protocol_name,
            assignments=assignments,
        )
        self._ask(
            ApiKey.SYNC_GROUP,
            lambda _: message,
            self._synced,
            self._options.max_poll_interval_ms + _JOIN_GRACE_MS,
        )

    def _synced(self, answer: Any) -> None:
        if self._refused(answer):
            return
        self.phase = Phase.STABLE
        self._beat_after(self._options.heartbeat_interval_ms)
        names = assigned_in(answer.assignment)
        owned = set(self._host.owned())
        gone = tuple(sorted(owned - names))
        added = tuple(sorted(names - owned))
        if gone:
            self._step(StepKind.REVOKED, gone, lambda: self._revoked_some(gone, added))
        else:
            self._give(added)

    def _revoked_some(
        self, gone: tuple[TopicPartition, ...], added: tuple[TopicPartition, ...]
    ) -> None:
        self._host.take_away(gone)
        self._must_rejoin = True  # so that the others get what is free now
        if self.phase is Phase.STABLE:
            self._give(added)

    def _give(self, added: tuple[TopicPartition, ...]) -> None:
        self._host.give(added)
        self._step(StepKind.ASSIGNED, added, self._given)

    def _given(self) -> None:
        if self._must_rejoin and self.phase is Phase.STABLE:
            self._rejoin("once more, with what is free now")

    # -------------------------------------------------------------------------------- heartbeats

    def _stop_heartbeats(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    def _beat_after(self, wait_ms: int) -> None:
        self._stop_heartbeats()
        self._heartbeat = self._core.call_at(self._core.now_ms + wait_ms, self._beat)

    def _beat(self) -> None:
        self._heartbeat = None
        if self.phase not in (Phase.STABLE, Phase.PREPARING):
            return
        idle_ms = self._host.ms_since_poll()
        if idle_ms > self._options.max_poll_interval_ms:
            self._leave_for_not_polling(idle_ms)
            return
        self._beat_after(self._options.heartbeat_interval_ms)
        if self._is_beating:
            return
        self._is_beating = True
        generation = self.generation
        self._core.send(
            self.target,
            HeartbeatRequest(
                group_id=self._group,
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self._options.group_instance_id,
            ),
            lambda result: self._beaten(generation, result),
            timeout_ms=self._options.session_timeout_ms,
            retry=False,
        )

    def _beaten(self, generation: int, result: Any) -> None:
        self._is_beating = False
        if self._core.is_closed or generation != self.generation:
            return
        if isinstance(result, Exception):
            # The back-off of the connection and the next heartbeat are the retry.
            self._core.forget_coordinator(self.target)
            return
        code = error_code(result.error_code)
        if code is ErrorCode.REBALANCE_IN_PROGRESS:
            if self.phase is Phase.STABLE:
                self._rejoin("the group rebalances")
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._lose(code)
        elif code in _COORDINATOR_ERRORS:
            self._core.forget_coordinator(self.target)
        elif code is not ErrorCode.NONE:
            self._fail(code)

    def _leave_for_not_polling(self, idle_ms: int) -> None:
        _log.warning(
            "group %s: leaving, because the program has not polled for %d ms "
            "(max_poll_interval_ms=%d): another member takes over what it works on, and its "
            "commits will fail; take smaller steps or raise max_poll_interval_ms",
            self._group,
            idle_ms,
            self._options.max_poll_interval_ms,
        )
        self._send_leave("the program did not poll in time", lambda: None)
        self._stop()
        self.member_id = ""
        self.left_for_not_polling = True
        if not self._waits_for_step:
            # Back with the step, or with the next poll: not before the program is there again.
            self._lose_owned(self._join_if_left)

    def _send_leave(self, reason: str, done: Callable[[], None]) -> None:
        member_id = self.member_id
        instance_id = self._options.group_instance_id

        def build(version: int) -> Message:
            if version >= _MEMBERS_LISTED_FROM:
                member = LeaveGroupMember(
                    member_id=member_id, group_instance_id=instance_id, reason=reason
                )
                return LeaveGroupRequest(group_id=self._group, members=[member])
            return LeaveGroupRequest(group_id=self._group, member_id=member_id)

        self._core.send(
            self.target,
            Request(ApiKey.LEAVE_GROUP, build),
            lambda _: done(),
            timeout_ms=min(self._options.session_timeout_ms, 5_000),
            retry=False,
        )


def _explain(code: ErrorCode, options: ConsumerOptions) -> str:
    match code:
        case ErrorCode.INCONSISTENT_GROUP_PROTOCOL:
            return (
                f"group {options.group_id} uses none of the assignors "
                f"{', '.join(options.strategies)}: set partition_assignment_strategy as its other "
                "members do"
            )
        case ErrorCode.FENCED_INSTANCE_ID:
            return (
                f"another consumer of group {options.group_id} uses the group_instance_id "
                f"{options.group_instance_id!r}: each instance needs one of its own"
            )
        case ErrorCode.INVALID_SESSION_TIMEOUT:
            return (
                f"session_timeout_ms={options.session_timeout_ms} is outside what the broker "
                "allows (group.min.session.timeout.ms to group.max.session.timeout.ms)"
            )
        case _:
            return f"group {options.group_id} refuses this consumer"
