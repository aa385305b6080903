"""The surroundings of a group while one step runs: time, settings, timers, and what comes out.

A machine's functions take a `Step` and add records and replies to it; the shard turns it into the
`Effects` of the step. The helpers that build replies live here, so that no rule has to think
about how a request is answered when its records get lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from fastmq.coordinator.effects import Call, Effects, Record, Reply
from fastmq.coordinator.group.config import GroupConfig
from fastmq.coordinator.timers import Timers
from fastmq.errors import ErrorCode

__all__ = ["Step", "TimerKey", "TimerKind"]


class TimerKind:
    """What is due; the first element of a `TimerKey`."""

    SESSION = 0
    PENDING_MEMBER = 1
    JOIN = 2
    INITIAL_JOIN = 3
    SYNC = 4
    EXPIRE_OFFSETS = 5
    FORGET_TOPICS = 6


class TimerKey(NamedTuple):
    """Names one timer of a shard; `member_id` is "" for those of the whole group."""

    kind: int
    group_id: str = ""
    member_id: str = ""


@dataclass(slots=True)
class Step:
    """One step of a shard.

    Attributes:
        now_ms: the time of the step.
        config: settings of the coordinator.
        timers: of the shard.
        new_id: makes a unique id; the source of randomness is the caller's.
        records: to append; see `Effects`.
        replies: made ready so far.
        rollback: see `Effects`.
    """

    now_ms: int
    config: GroupConfig
    timers: Timers[TimerKey]
    new_id: Callable[[], str]
    records: list[Record] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    rollback: Callable[[int], Effects] | None = None

    def reply(self, call: Call, response: object, refusal: Callable[[ErrorCode], object]) -> None:
        """Answer `call`, or with what `refusal` builds if records are lost before it is sent."""
        self.replies.append(Reply(call.token, response, refusal))

    def following(self, now_ms: int) -> "Step":
        """Begin the step that takes back this one."""
        return Step(now_ms, self.config, self.timers, self.new_id)

    def effects(self) -> Effects:
        """What the driver gets."""
        return Effects(self.records, self.replies, self.rollback)
