"""A member of a group by itself: a scripted coordinator, virtual time."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastmq.client.consumer.membership import Membership, Phase
from fastmq.client.consumer.options import ConsumerOptions
from fastmq.client.consumer.steps import Step, StepKind
from fastmq.client.timers import TimerQueue
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode
from fastmq.protocol import ApiKey
from fastmq.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerTopicPartitions,
    encode_consumer,
)

MAX_POLL_MS = 10_000


class Core:
    """What a member uses of a core; requests wait in `sent` until the test answers them."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.timers = TimerQueue()
        self.call_at = self.timers.call_at
        self.sent: list[tuple[ApiKey, Any, Any]] = []
        self.metadata = SimpleNamespace(topics={}, topic_errors={})
        self.is_closed = False

    def send(self, target: Any, request: Any, on_done: Any, **_: Any) -> None:
        if hasattr(request, "build"):
            self.sent.append((request.api_key, request.build(5), on_done))
        else:
            self.sent.append((request.API_KEY, request, on_done))

    def pass_time(self, ms: int, step_ms: int = 100) -> None:
        for _ in range(ms // step_ms):
            self.now_ms += step_ms
            self.timers.run_due(self.now_ms)

    def answer(self, api_key: ApiKey, **fields: Any) -> Any:
        """Answer the oldest request of a kind; returns it."""
        for index, (key, message, on_done) in enumerate(self.sent):
            if key == api_key:
                del self.sent[index]
                on_done(SimpleNamespace(**{"error_code": 0, **fields}))
                return message
        raise AssertionError(f"no {api_key.name} among {[key.name for key, *_ in self.sent]}")

    def kinds(self) -> list[str]:
        return [key.name for key, *_ in self.sent]

    def on_metadata(self, fn: Any) -> None: ...
    def want_topics(self, names: Any) -> None: ...
    def forget_coordinator(self, target: Any) -> None: ...

    def backoff_ms(self, failures: int) -> int:
        return 100


class Host:
    """A consumer whose program polls when the test says so."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.has: set[TopicPartition] = set()
        self.steps: list[Step] = []
        self.errors: list[Exception] = []
        self.polled_ms = 0
        self.told: list[tuple[StepKind, tuple[int, ...]]] = []

    def subscribed_topics(self) -> frozenset[str]:
        return frozenset({"t"})

    def owned(self) -> tuple[TopicPartition, ...]:
        return tuple(sorted(self.has))

    def queue_step(self, step: Step) -> None:
        self.steps.append(step)

    def give(self, names: Any) -> None:
        self.has |= set(names)

    def take_away(self, names: Any) -> None:
        self.has -= set(names)

    def fail(self, error: Exception) -> None:
        self.errors.append(error)

    def ms_since_poll(self) -> int:
        return self.core.now_ms - self.polled_ms

    def poll(self, member: Membership) -> None:
        """One poll, in which all steps are run."""
        self.polled_ms = self.core.now_ms
        if member.left_for_not_polling:
            member.polled()
        while self.steps:
            step = self.steps.pop(0)
            self.told.append((step.kind, tuple(name.partition for name in step.names)))
            step.done()


def assignment(*partitions: int) -> bytes:
    rows = [ConsumerTopicPartitions(topic="t", partitions=list(partitions))] if partitions else []
    return encode_consumer(ConsumerProtocolAssignment(assigned_partitions=rows), 1)


class Member:
    """A member with its host and core, and the coordinator's usual answers."""

    def __init__(self, **options: Any) -> None:
        self.core = Core()
        self.host = Host(self.core)
        read = ConsumerOptions(
            bootstrap_servers="x:1", group_id="g", max_poll_interval_ms=MAX_POLL_MS, **options
        )
        self.real = Membership(self.core, read, self.host)  # type: ignore[arg-type]

    def join(self, generation: int, *partitions: int) -> Any:
        """Answer JoinGroup and SyncGroup; returns the JoinGroup."""
        asked = self.core.answer(
            ApiKey.JOIN_GROUP,
            member_id="m",
            leader="other",
            generation_id=generation,
            protocol_name="range",
            skip_assignment=False,
            members=[],
        )
        self.core.answer(ApiKey.SYNC_GROUP, assignment=assignment(*partitions))
        return asked

    def poll(self) -> None:
        self.host.poll(self.real)


@pytest.fixture
def member() -> Member:
    """One that has partitions 0 and 1, in generation 1."""
    made = Member()
    made.real.join()
    made.join(1, 0, 1)
    made.poll()
    assert made.host.told == [(StepKind.ASSIGNED, (0, 1))]
    assert made.real.phase is Phase.STABLE
    return made


def heartbeat(member: Member, code: ErrorCode = ErrorCode.NONE) -> None:
    member.core.pass_time(3_000)
    member.core.answer(ApiKey.HEARTBEAT, error_code=code)


def test_heartbeats_go_on_until_the_program_has_not_polled_for_too_long(member):
    for _ in range(MAX_POLL_MS // 3_000):
        heartbeat(member)
    assert member.real.phase is Phase.STABLE
    member.core.pass_time(3_000)
    assert member.core.kinds() == ["LEAVE_GROUP"]
    assert member.real.left_for_not_polling
    assert not member.host.has
    member.poll()
    assert member.host.told[-1] == (StepKind.LOST, (0, 1))
    assert not member.core.answer(ApiKey.JOIN_GROUP, error_code=79, member_id="n").member_id


@pytest.mark.parametrize("why", ["not polled", "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"])
def test_a_member_that_is_out_while_it_should_give_up_comes_back(member, why):
    """The step waits for the program; meanwhile the membership ends."""
    heartbeat(member, ErrorCode.REBALANCE_IN_PROGRESS)
    assert member.real.phase is Phase.PREPARING
    if why == "not polled":
        heartbeat(member)
        heartbeat(member)
        member.core.pass_time(3_000)
        member.core.answer(ApiKey.LEAVE_GROUP)
    else:
        heartbeat(member, ErrorCode[why])
    assert member.real.phase is Phase.LEFT
    member.poll()
    assert member.host.told[-1] == (StepKind.REVOKED, (0, 1))
    assert not member.host.has
    member.join(7, 1)
    member.poll()
    assert member.host.told[-1] == (StepKind.ASSIGNED, (1,))
    assert member.real.phase is Phase.STABLE


def test_a_member_that_is_out_while_it_is_given_partitions_loses_them(member):
    heartbeat(member, ErrorCode.REBALANCE_IN_PROGRESS)
    member.poll()
    member.join(2, 0)
    heartbeat(member, ErrorCode.UNKNOWN_MEMBER_ID)
    member.poll()
    assert member.host.told[-2:] == [(StepKind.ASSIGNED, (0,)), (StepKind.LOST, (0,))]
    assert not member.join(3, 0).member_id


def test_a_member_that_is_refused_for_good_reads_no_more(member):
    heartbeat(member, ErrorCode.FENCED_INSTANCE_ID)
    assert "group_instance_id" in str(member.host.errors[0])
    assert not member.host.has
    member.poll()
    assert member.host.told[-1] == (StepKind.LOST, (0, 1))
    member.core.pass_time(60_000)
    assert not member.core.sent


def test_a_step_that_outlives_the_membership_does_nothing(member):
    heartbeat(member, ErrorCode.REBALANCE_IN_PROGRESS)
    (step,) = member.host.steps
    member.host.steps.clear()
    member.real.leave(lambda: None)
    member.host.has.clear()
    member.real.join()
    member.join(3, 0)
    step.done()
    assert member.host.has == {TopicPartition("t", 0)}
    member.poll()
    assert member.host.told[-1] == (StepKind.ASSIGNED, (0,))


def test_cooperative_members_keep_what_stays_and_join_once_more(member):
    member = Member(partition_assignment_strategy="cooperative-sticky")
    member.real.join()
    member.join(1, 0, 1)
    member.poll()
    heartbeat(member, ErrorCode.REBALANCE_IN_PROGRESS)
    member.join(2, 0)
    assert member.host.has == {TopicPartition("t", 0), TopicPartition("t", 1)}
    member.poll()
    assert member.host.told[1:] == [(StepKind.REVOKED, (1,)), (StepKind.ASSIGNED, ())]
    assert member.host.has == {TopicPartition("t", 0)}
    member.join(3, 0)
    assert member.real.phase is Phase.STABLE


def test_an_error_of_the_coordinator_is_tried_again(member):
    heartbeat(member, ErrorCode.REBALANCE_IN_PROGRESS)
    member.poll()
    member.core.answer(ApiKey.JOIN_GROUP, error_code=ErrorCode.NOT_COORDINATOR)
    assert not member.core.kinds()
    member.core.pass_time(100)
    member.join(2, 0, 1)
    assert member.real.phase is Phase.STABLE
