"""What is asked for and where it is to go: targets, requests, calls."""

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fastmq.errors import ErrorCode, KafkaError, error_code
from fastmq.protocol import Message

if TYPE_CHECKING:
    from fastmq.client.links import Link
    from fastmq.client.timers import Timer

__all__ = [
    "AnyNode",
    "Call",
    "Controller",
    "Coordinator",
    "CoordinatorKind",
    "Leader",
    "Node",
    "OnDone",
    "Request",
    "Target",
]


class CoordinatorKind(IntEnum):
    """The key types of FindCoordinator."""

    GROUP = 0
    TRANSACTION = 1
    SHARE = 2


class Node(NamedTuple):
    """The broker with this id."""

    node_id: int


class AnyNode(NamedTuple):
    """Any broker; one that is connected already is preferred."""


class Controller(NamedTuple):
    """The broker that takes administrative requests."""


class Coordinator(NamedTuple):
    """The coordinator of a group or a transactional id."""

    kind: CoordinatorKind
    key: str


class Leader(NamedTuple):
    """The leader of a partition."""

    topic: str
    partition: int


Target: TypeAlias = Node | AnyNode | Controller | Coordinator | Leader


class Request(NamedTuple):
    """A request whose form depends on the version, which is known when it is sent.

    Attributes:
        api_key: of the message.
        build: makes the message for a version.
        low, high: the versions that will do.
    """

    api_key: int
    build: Callable[[int], Message]
    low: int = 0
    high: int = 32767


#: Gets the response, or the error that ended the call. Any: callers know the class they asked for.
OnDone: TypeAlias = Callable[[Any], None]
#: Returns the error in a response that means "ask again, perhaps somewhere else", or NONE.
ErrorOf: TypeAlias = Callable[[Any], int]


class Call:
    """One request on its way, over all its attempts. `cancel` forgets it."""

    __slots__ = (
        "answered",
        "attempt_timeout_ms",
        "attempts",
        "correlation_id",
        "deadline_ms",
        "error",
        "error_of",
        "is_done",
        "lane",
        "link",
        "on_done",
        "request",
        "retry",
        "target",
        "timers",
        "version",
    )

    def __init__(
        self,
        target: Target,
        request: Request,
        on_done: OnDone,
        *,
        deadline_ms: int | None,
        attempt_timeout_ms: int,
        retry: bool,
        error_of: ErrorOf | None,
        lane: str,
        answered: bool,
    ) -> None:
        self.target = target
        self.request = request
        self.on_done = on_done
        self.deadline_ms = deadline_ms
        self.attempt_timeout_ms = attempt_timeout_ms
        self.retry = retry
        self.error_of = error_of
        self.lane = lane
        self.answered = answered
        self.attempts = 0
        self.is_done = False
        self.error: KafkaError | None = None
        self.link: Link | None = None
        self.correlation_id = -1
        self.version = -1
        self.timers: list[Timer] = []

    def cancel(self) -> None:
        """Forget the call: `on_done` is not called any more. What was sent stays sent."""
        self.is_done = True
        self.stop_timers()

    def finish(self, result: "Message | Exception | None") -> None:
        """Hand the result over, unless that happened or the call was cancelled."""
        if self.is_done:
            return
        self.is_done = True
        self.stop_timers()
        self.on_done(result)

    def stop_timers(self) -> None:
        """Stop whatever runs for this attempt and the call."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def error_in(self, response: Message) -> ErrorCode:
        """The error of a response that asks for a retry, or NONE."""
        if self.error_of is None or not self.retry:
            return ErrorCode.NONE
        code = error_code(self.error_of(response))
        return code if code.retriable else ErrorCode.NONE
