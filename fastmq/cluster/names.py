"""Topic names: which are legal, which collide, which are internal.

Source: the protocol guide on Metadata; names become directory names, so the rule is also the
defence against paths.
"""

from typing import Final

from fastmq.errors import ErrorCode, KafkaError
from fastmq.limits import TOPIC_NAME_CHARS_MAX

__all__ = [
    "CONSUMER_OFFSETS",
    "INTERNAL_TOPICS",
    "check_topic_name",
    "collision_name",
    "is_internal_topic",
    "topic_name_problem",
]

CONSUMER_OFFSETS: Final = "__consumer_offsets"
INTERNAL_TOPICS: Final = frozenset({CONSUMER_OFFSETS, "__transaction_state", "__share_group_state"})

_LEGAL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def topic_name_problem(name: str) -> str | None:
    """Return why a name is no legal topic name, or None."""
    if not name:
        return "the topic name is empty"
    if len(name) > TOPIC_NAME_CHARS_MAX:
        return f"the topic name is longer than {TOPIC_NAME_CHARS_MAX} characters"
    if name in (".", ".."):
        return "the topic name cannot be '.' or '..'"
    if not _LEGAL.issuperset(name):
        return "a topic name has only letters, digits, '.', '_' and '-' (all ASCII)"
    return None


def check_topic_name(name: str) -> None:
    """Check that a name is legal.

    Raises:
        KafkaError: INVALID_TOPIC_EXCEPTION.
    """
    problem = topic_name_problem(name)
    if problem is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)


def collision_name(name: str) -> str:
    """Return what two names have in common that differ only in '.' and '_'.

    Kafka's metrics write both as '_', so tools cannot tell such topics apart.
    """
    return name.replace(".", "_")


def is_internal_topic(name: str) -> bool:
    """Whether the broker itself keeps its state in the topic."""
    return name in INTERNAL_TOPICS
