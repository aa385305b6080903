"""What AlterConfigs and IncrementalAlterConfigs do to a set of overrides, as pure functions.

Values are checked here, so what the metadata store holds is always valid. Deleting a key that is
not set does nothing. Append and subtract work on lists only, beginning with the value that counts
now. Source: KIP-339.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from fastmq.config.load import unknown_key_message
from fastmq.config.types import ConfigType, Key, Scope, Value, parse_value, value_text
from fastmq.config.values import BROKER_TABLE, TOPIC_TABLE, BrokerConfig, TopicConfig
from fastmq.errors import ConfigError

__all__ = ["AlterOp", "Alteration", "alter_broker", "alter_topic", "check_topic_overrides"]


class AlterOp(IntEnum):
    """Operations of IncrementalAlterConfigs."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Alteration(NamedTuple):
    """One change of one key; `value` is None for a deletion."""

    name: str
    op: AlterOp
    value: str | None


def check_topic_overrides(overrides: Mapping[str, str | None]) -> dict[str, str]:
    """Return the overrides of a new topic (or of a plain AlterConfigs) in normal form.

    Raises:
        ConfigError: a key is unknown, a value is missing or refused.
    """
    new: dict[str, str] = {}
    for name, text in overrides.items():
        change = Alteration(name, AlterOp.SET, text)
        _apply(new, change, _key_of(change, TOPIC_TABLE), ())
    return _check_lags(new)


def alter_topic(current: TopicConfig, alterations: Iterable[Alteration]) -> dict[str, str]:
    """Return a topic's new overrides.

    Args:
        current: the topic's settings now.
        alterations: in order.

    Raises:
        ConfigError: a key is unknown or twice in the list, or a value is refused.
    """
    new = dict(current.overrides)
    for change, key in _keys_of(alterations, TOPIC_TABLE):
        _apply(new, change, key, current.get(key.name))
    return _check_lags(new)


def alter_broker(
    current: BrokerConfig, overrides: Mapping[str, str], alterations: Iterable[Alteration]
) -> dict[str, str]:
    """Return the new dynamic values of one broker, or of all.

    Args:
        current: the settings of a broker that has them, to begin lists with.
        overrides: the dynamic values now.
        alterations: in order.

    Raises:
        ConfigError: a key is unknown, read-only or twice in the list, or a value is refused.
    """
    new = dict(overrides)
    for change, key in _keys_of(alterations, BROKER_TABLE):
        if key.scope is not Scope.DYNAMIC:
            raise ConfigError(f"{key.name} cannot change while the broker runs")
        _apply(new, change, key, current.get(key.name))
    return new


def _keys_of(
    alterations: Iterable[Alteration], table: Mapping[str, Key]
) -> Iterator[tuple[Alteration, Key]]:
    seen: set[str] = set()
    for change in alterations:
        if change.name in seen:
            raise ConfigError(f"{change.name} is given twice")
        seen.add(change.name)
        yield change, _key_of(change, table)


def _key_of(change: Alteration, table: Mapping[str, Key]) -> Key:
    key = table.get(change.name)
    if key is None:
        raise ConfigError(unknown_key_message(change.name, table))
    return key


def _apply(new: dict[str, str], change: Alteration, key: Key, now: Value) -> None:
    if change.op is AlterOp.DELETE:
        new.pop(key.name, None)
        return
    if change.value is None:
        raise ConfigError(f"{key.name}: a value is missing")
    value = change.value
    if change.op is not AlterOp.SET:
        if key.type is not ConfigType.LIST:
            raise ConfigError(f"{key.name} is not a list, so nothing can be added or taken away")
        assert now is None or isinstance(now, tuple)
        value = _changed_list(now or (), change.op, value)
    new[key.name] = value_text(parse_value(key, value)) or ""


def _changed_list(now: tuple[str, ...], op: AlterOp, value: str) -> str:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if op is AlterOp.APPEND:
        return ",".join([*now, *(part for part in parts if part not in now)])
    return ",".join(part for part in now if part not in parts)


def _check_lags(new: dict[str, str]) -> dict[str, str]:
    """Check the one rule between two topic keys; both have checked values here."""
    low, high = new.get("min.compaction.lag.ms"), new.get("max.compaction.lag.ms")
    if low is not None and high is not None and int(low) > int(high):
        raise ConfigError("min.compaction.lag.ms is larger than max.compaction.lag.ms")
    return new
