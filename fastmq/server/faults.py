"""Faults that tests ask for: answers with an error, late, lost, or not at all.

A broker started with a `TestMode` (only `fastmq.testing` makes one, and only on loopback) asks
`Faults.find` about each request before it is handled. The first rule that matches decides. Nothing
on the wire or in the configuration reaches this: without a `TestMode` the dispatcher has no rules
to ask (`test_mode` does what rules say).

Produce and Fetch do not pass the dispatcher as a rule: while a rule speaks of them, every
partition is told to send them here (`on_data_rules`).

A rule that names a topic refuses only its partitions in Produce and Fetch, as a broker does; the
others are served. In other APIs it refuses every request that mentions the topic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from fastmq.errors import ConfigError, ErrorCode
from fastmq.limits import FAULT_RULES_MAX
from fastmq.protocol import Message
from fastmq.protocol.api import ApiKey

__all__ = ["OWN_CLIENT_ID", "Faults", "Rule", "Verdict", "merge_refused", "split_request"]

# What `fastmq.testing` looks at topics with; only rules that name it hit it.
OWN_CLIENT_ID = "fastmq-testing"


class Verdict(Enum):
    """What becomes of a request that a rule hits."""

    ERROR = "error"
    DELAY = "delay"
    DROP = "drop"  # close the connection, the request was never executed
    LOSE_ANSWER = "lose answer"  # execute it, then close the connection instead of answering


@dataclass(slots=True, eq=False)
class Rule:
    """One fault.

    Attributes:
        api_key: which requests; None = all.
        topic: only those that mention it; `partition` narrows it further.
        client_id: only those of this client.
        first: hit the n-th request that matches, counted from 1, and those after it.
        times: how many are hit; None = until the rule is removed.
        seen: requests that matched so far.
        hits: requests that were hit.
    """

    verdict: Verdict
    api_key: int | None = None
    code: ErrorCode = ErrorCode.NONE
    delay_s: float = 0.0
    topic: str | None = None
    partition: int | None = None
    client_id: str | None = None
    first: int = 1
    times: int | None = None
    seen: int = 0
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether it will not hit again."""
        return self.times is not None and self.hits >= self.times

    def matches(
        self, api_key: int, client_id: str | None, mentions: Callable[[], Iterator[tuple[str, int]]]
    ) -> bool:
        """Return whether the rule speaks of a request; `mentions` lists what is in it."""
        if self.is_spent or self.api_key not in (None, api_key):
            return False
        if self.client_id != client_id and (
            self.client_id is not None or client_id == OWN_CLIENT_ID
        ):
            return False
        return self.topic is None or any(self.covers(*one) for one in mentions())

    def covers(self, topic: str, partition: int) -> bool:
        """Return whether the rule speaks of a partition; -1 stands for a topic as a whole."""
        if self.topic is None:
            return True
        return topic == self.topic and (self.partition is None or partition in (-1, self.partition))


@dataclass(slots=True, eq=False)
class Faults:
    """The rules of one broker; used in its event loop only.

    Attributes:
        name_of: finds the name of a topic by its 16-byte id.
        on_data_rules: told whether any rule speaks of Produce (first) and Fetch (second).
    """

    name_of: Callable[[bytes], str | None] = field(default=lambda _: None)
    on_data_rules: Callable[[bool, bool], None] = field(default=lambda _produce, _fetch: None)
    _rules: list[Rule] = field(default_factory=list)

    def add(self, rule: Rule) -> None:
        """Put a rule behind those that are there.

        Raises:
            ConfigError: there are too many.
        """
        if len(self._rules) >= FAULT_RULES_MAX:
            raise ConfigError(f"there are {FAULT_RULES_MAX} faults already; remove some")
        self._rules.append(rule)
        self._tell()

    def remove(self, rule: Rule) -> None:
        """Take a rule away, if it is still there."""
        if rule in self._rules:
            self._rules.remove(rule)
            self._tell()

    def clear(self) -> None:
        """Take all rules away."""
        self._rules.clear()
        self._tell()

    def _tell(self) -> None:
        keys = {rule.api_key for rule in self._rules}
        self.on_data_rules(bool(keys & {None, ApiKey.PRODUCE}), bool(keys & {None, ApiKey.FETCH}))

    def find(self, api_key: int, client_id: str | None, message: Message) -> Rule | None:
        """Return the rule that hits a request, counted as a hit, or None."""
        for rule in self._rules:
            if rule.matches(api_key, client_id, lambda: _mentions(message, self.name_of)):
                rule.seen += 1
                if rule.seen >= rule.first:
                    rule.hits += 1
                    return rule
        return None


# Any below: messages of any API; their fields are looked for, not known.


def _mentions(message: Any, name_of: Callable[[bytes], str | None]) -> Iterator[tuple[str, int]]:
    """List the (topic, partition) in a request; partition -1 where it names whole topics."""
    for topic in _topics(message):
        if isinstance(topic, str):
            yield topic, -1
            continue
        name = _name(topic, name_of)
        if name is None:
            continue
        partitions = _partitions(topic)
        if not partitions:
            yield name, -1
        for partition in partitions:
            yield name, _index(partition)


def _topics(message: Any) -> Any:
    for field_name in ("topic_data", "topics", "topic_names"):
        found = getattr(message, field_name, None)
        if found is not None:
            return found
    return ()


def _name(topic: Any, name_of: Callable[[bytes], str | None]) -> str | None:
    name = getattr(topic, "name", None) or getattr(topic, "topic", None)
    if name:
        return str(name)
    topic_id = getattr(topic, "topic_id", None)
    return name_of(bytes(topic_id)) if topic_id else None


def _partitions(topic: Any) -> Any:
    for field_name in ("partition_data", "partitions", "partition_indexes"):
        found = getattr(topic, field_name, None)
        if isinstance(found, list):
            return found
    return ()


def _index(partition: Any) -> int:
    if isinstance(partition, int):
        return partition
    for field_name in ("index", "partition_index", "partition"):
        found = getattr(partition, field_name, None)
        if isinstance(found, int):
            return found
    return -1


def split_request(rule: Rule, message: Any, name_of: Callable[[bytes], str | None]) -> Any:
    """Take what a rule covers out of a Produce or Fetch request.

    Returns:
        A request with what is refused; `message` keeps the rest.
    """
    field_name = "topic_data" if hasattr(message, "topic_data") else "topics"
    rows = "partition_data" if field_name == "topic_data" else "partitions"
    refused, kept = [], []
    for topic in getattr(message, field_name):
        name = _name(topic, name_of) or ""
        out = [row for row in getattr(topic, rows) if rule.covers(name, _index(row))]
        left = [row for row in getattr(topic, rows) if not rule.covers(name, _index(row))]
        if out:
            refused.append(_copy(topic, **{rows: out}))
        if left:
            kept.append(_copy(topic, **{rows: left}))
    part = _copy(message, **{field_name: refused})
    setattr(message, field_name, kept)
    return part


def merge_refused(response: Any, refused: Any) -> Any:
    """Add the refused partitions to a Produce or Fetch response."""
    for topic in refused.responses:
        rows = "partition_responses" if hasattr(topic, "partition_responses") else "partitions"
        for there in response.responses:
            if _identity(there) == _identity(topic):
                getattr(there, rows).extend(getattr(topic, rows))
                break
        else:
            response.responses.append(topic)
    return response


def _identity(topic: Any) -> tuple[object, object]:
    return getattr(topic, "name", None) or getattr(topic, "topic", None), bytes(topic.topic_id)


def _copy(message: Any, **changes: Any) -> Any:
    values = {name: getattr(message, name) for name in type(message).__slots__}
    return type(message)(**{**values, **changes})
