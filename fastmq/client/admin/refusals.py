"""Error codes of administrative requests, as errors that say what to do. Pure.

A request may name several things, of which some are refused. One refusal is raised as it is;
several as `SomeFailed`, which holds them all.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final

from fastmq.errors import ErrorCode, KafkaError, SomeFailed, error_code

__all__ = ["moved", "raise_failures", "refusal"]

# Nothing was done yet, and somebody else, or the same broker a moment later, will do it.
_ASK_AGAIN: Final = frozenset(
    {
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)

_HINTS: Final[dict[ErrorCode, str]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "there is no such topic or partition",
    ErrorCode.UNKNOWN_TOPIC_ID: "the topic was deleted, and perhaps made again",
    ErrorCode.TOPIC_ALREADY_EXISTS: "the topic exists already",
    ErrorCode.INVALID_TOPIC_EXCEPTION: (
        "not a name for a topic: up to 249 of the characters a-z A-Z 0-9 . _ - and not . or .."
    ),
    ErrorCode.INVALID_PARTITIONS: "a topic can only get more partitions, not fewer",
    ErrorCode.INVALID_REPLICATION_FACTOR: "there are not as many brokers as copies are wanted",
    ErrorCode.INVALID_CONFIG: "the broker does not take this setting or its value",
    ErrorCode.GROUP_ID_NOT_FOUND: "there is no such group",
    ErrorCode.INVALID_GROUP_ID: "not a name for a group: it must not be empty",
    ErrorCode.NON_EMPTY_GROUP: (
        "the group has members: stop its consumers first, or remove them from the group"
    ),
    ErrorCode.UNKNOWN_MEMBER_ID: (
        "no such member; offsets are changed only while a group has none: stop its consumers first"
    ),
    ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC: (
        "a member of the group reads the topic: stop its consumers first"
    ),
    ErrorCode.OFFSET_OUT_OF_RANGE: "the partition does not have this offset",
    ErrorCode.POLICY_VIOLATION: "a rule of the cluster forbids it",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "you are not allowed to do this with the topic",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "you are not allowed to do this with the group",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "you are not allowed to do this with the cluster",
    ErrorCode.UNSUPPORTED_VERSION: "the broker is too old for this",
    ErrorCode.REQUEST_TIMED_OUT: "the broker did not finish in time; it may be done a little later",
}


def refusal(code: int, what: str, message: str | None = None) -> KafkaError:
    """Return the error for a refused thing.

    Args:
        code: from the response.
        what: the thing, as "topic events".
        message: the broker's own words, which win over ours.
    """
    known = error_code(code)
    text = message or _HINTS.get(known) or known.name
    # Brokers often name it themselves.
    return KafkaError(known, text if what in text else f"{what}: {text}")


def raise_failures(failures: Mapping[Any, KafkaError]) -> None:
    """Raise what was refused, if anything; keys are what the caller named."""
    named: dict[Hashable, KafkaError] = dict(failures)
    if len(named) == 1:
        raise next(iter(named.values()))
    if named:
        raise SomeFailed(named)


def moved(codes: "list[int]") -> int:
    """The first code after which the request is to be sent again, for `Ask.error_of`."""
    return next((code for code in codes if code in _ASK_AGAIN), ErrorCode.NONE)
