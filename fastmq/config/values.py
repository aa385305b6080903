"""Typed settings of a broker and of a topic, and where each value comes from.

A `BrokerConfig` is immutable; a dynamic change makes a new one (`with_dynamic`), so a handler that
holds one sees one consistent state. A `TopicConfig` is a view: the topic's own overrides on top of
a `BrokerConfig`. It computes nothing until asked, since thousands of topics have one each.

The value of a key is the first that exists of: the topic's own, the dynamic value of this broker,
the dynamic default of the cluster, the static one (file, environment, `--override`, `--dev`), the
default. Within one of these steps the synonyms count in their order, so `log.retention.ms` beats
`log.retention.minutes` beats `log.retention.hours`. Source: KIP-226.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fastmq.config.broker_keys import BROKER_KEYS
from fastmq.config.listeners import Listener, parse_listeners
from fastmq.config.topic_keys import TOPIC_KEYS
from fastmq.config.types import (
    ConfigSource,
    ConfigType,
    Key,
    Scope,
    Value,
    parse_value,
    value_text,
)
from fastmq.errors import ConfigError

__all__ = [
    "BROKER_TABLE",
    "TOPIC_TABLE",
    "BrokerConfig",
    "ConfigEntry",
    "Synonym",
    "TopicConfig",
]

BROKER_TABLE: Mapping[str, Key] = {key.name: key for key in BROKER_KEYS}
TOPIC_TABLE: Mapping[str, Key] = {key.name: key for key in TOPIC_KEYS}

_NONE: Mapping[str, str] = {}


class Synonym(NamedTuple):
    """A value that counts, or would if those before it were absent."""

    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """What DescribeConfigs says about one key; `value` is None where it is sensitive or null."""

    name: str
    value: str | None
    source: ConfigSource
    read_only: bool
    sensitive: bool
    type: ConfigType
    doc: str
    synonyms: tuple[Synonym, ...]


class _Typed:
    """Getters that check the type which the table promises."""

    __slots__ = ()

    def get(self, name: str) -> Value:
        """Return the typed value.

        Raises:
            KeyError: no such key.
        """
        raise NotImplementedError

    def get_int(self, name: str) -> int:
        """Return the value of an INT, SHORT or LONG key."""
        value = self.get(name)
        assert isinstance(value, int), name
        return value

    def get_bool(self, name: str) -> bool:
        """Return the value of a BOOLEAN key."""
        value = self.get(name)
        assert isinstance(value, bool), name
        return value

    def get_float(self, name: str) -> float:
        """Return the value of a DOUBLE key."""
        value = self.get(name)
        assert isinstance(value, float), name
        return value

    def get_str(self, name: str) -> str:
        """Return the value of a STRING key; an unset one is empty."""
        value = self.get(name)
        assert value is None or isinstance(value, str), name
        return value or ""

    def get_list(self, name: str) -> tuple[str, ...]:
        """Return the value of a LIST key; an unset one is empty."""
        value = self.get(name)
        assert value is None or isinstance(value, tuple), name
        return value or ()


class BrokerConfig(_Typed):
    """The settings of one broker.

    Args:
        static: texts by key name, from files, environment and command line.
        dynamic: texts that were altered for this broker.
        dynamic_default: texts that were altered for all brokers.
        origins: for errors, where each static text was found, as `server.properties:12`.

    Raises:
        ConfigError: a key is unknown, a value is refused, or values contradict each other.
    """

    __slots__ = ("_dynamic", "_dynamic_default", "_static", "_values", "listeners", "log_dirs")

    listeners: tuple[Listener, ...]
    log_dirs: tuple[str, ...]

    def __init__(
        self,
        static: Mapping[str, str] = _NONE,
        *,
        dynamic: Mapping[str, str] = _NONE,
        dynamic_default: Mapping[str, str] = _NONE,
        origins: Mapping[str, str] = _NONE,
    ) -> None:
        self._static = _parse_all(_join_aliases(static), origins)
        self._dynamic = _parse_all(dynamic, _NONE)
        self._dynamic_default = _parse_all(dynamic_default, _NONE)
        self._values: dict[str, Value] = {
            **{key.name: key.default for key in BROKER_KEYS},
            **self._static,
            **self._dynamic_default,
            **self._dynamic,
        }
        self.log_dirs = self.get_list("log.dirs") or (self.get_str("log.dir"),)
        self.listeners = parse_listeners(
            self.get_list("listeners"),
            self.get_list("advertised.listeners"),
            self.get_list("listener.security.protocol.map"),
            self.get_list("controller.listener.names"),
        )
        self._check_together()
        self.check_cordons(self._static.get("cordoned.log.dirs"))

    def check_cordons(self, paths: Value) -> None:
        """Check that cordoned directories are those of this broker.

        Not those that were altered before: the directories may be others since.

        Raises:
            ConfigError: one is not.
        """
        for path in paths if isinstance(paths, tuple) else ():
            if path != "*" and path not in self.log_dirs:
                raise ConfigError(
                    f"cordoned.log.dirs: {path} is none of the directories of this broker "
                    f"({', '.join(self.log_dirs)}), nor * for all of them"
                )

    def _check_together(self) -> None:
        if len(set(self.log_dirs)) != len(self.log_dirs):
            raise ConfigError("log.dirs: a directory is given twice")
        low, high = "group.min.session.timeout.ms", "group.max.session.timeout.ms"
        if self.get_int(low) > self.get_int(high):
            raise ConfigError(f"{low} is larger than {high}")

    def get(self, name: str) -> Value:
        """Return the typed value of a broker key.

        Raises:
            KeyError: no such key.
        """
        return self._values[name]

    @property
    def node_id(self) -> int:
        """The broker's number."""
        return self.get_int("node.id")

    def with_dynamic(
        self, dynamic: Mapping[str, str], dynamic_default: Mapping[str, str]
    ) -> "BrokerConfig":
        """Return these settings with other dynamic values.

        Raises:
            ConfigError: a value is refused.
        """
        return BrokerConfig(
            {name: value_text(value) or "" for name, value in self._static.items()},
            dynamic=dynamic,
            dynamic_default=dynamic_default,
        )

    def synonyms_of(self, names: Iterable[str]) -> list[Synonym]:
        """Return all values that the broker has for some keys, in the order in which they count.

        Values keep the unit of their own key. A null default is left out.
        """
        names = tuple(names)
        found = [
            Synonym(name, value_text(values[name]), source)
            for source, values in (
                (ConfigSource.DYNAMIC_BROKER, self._dynamic),
                (ConfigSource.DYNAMIC_DEFAULT_BROKER, self._dynamic_default),
                (ConfigSource.STATIC_BROKER, self._static),
            )
            for name in names
            if name in values
        ]
        found += [
            Synonym(name, value_text(BROKER_TABLE[name].default), ConfigSource.DEFAULT)
            for name in names
            if BROKER_TABLE[name].default is not None
        ]
        return found

    def first_of(self, names: Iterable[str]) -> tuple[str, Value]:
        """Return the key that counts among synonyms, and its typed value; ("", None) when unset."""
        names = tuple(names)
        for values in (self._dynamic, self._dynamic_default, self._static):
            for name in names:
                if name in values:
                    return name, values[name]
        for name in names:
            if BROKER_TABLE[name].default is not None:
                return name, BROKER_TABLE[name].default
        return "", None

    def describe(self, names: Iterable[str] | None = None) -> list[ConfigEntry]:
        """Return what DescribeConfigs says about this broker: all keys, or those that exist of
        `names`.
        """
        wanted = BROKER_TABLE if names is None else names
        return [self._entry(BROKER_TABLE[name]) for name in wanted if name in BROKER_TABLE]

    def _entry(self, key: Key) -> ConfigEntry:
        synonyms = self.synonyms_of((key.name,))
        return ConfigEntry(
            name=key.name,
            value=None if key.sensitive else value_text(self._values[key.name]),
            source=synonyms[0].source if synonyms else ConfigSource.DEFAULT,
            read_only=key.scope is not Scope.DYNAMIC,
            sensitive=key.sensitive,
            type=key.type,
            doc=_full_doc(key),
            synonyms=tuple(synonyms),
        )


class TopicConfig(_Typed):
    """The settings of one topic: its overrides over a broker's."""

    __slots__ = ("_broker", "_own", "_values", "overrides")

    overrides: Mapping[str, str]

    def __init__(self, broker: BrokerConfig, overrides: Mapping[str, str]) -> None:
        self._broker = broker
        self.overrides = overrides
        self._own = {name: parse_value(topic_key(name), text) for name, text in overrides.items()}
        self._values: dict[str, Value] = {}

    @classmethod
    def resolve(cls, broker: BrokerConfig, overrides: Mapping[str, str] = _NONE) -> "TopicConfig":
        """Return the settings of a topic that overrides some keys.

        Args:
            broker: gives the values that the topic does not.
            overrides: texts by topic key; kept, not copied.

        Raises:
            ConfigError: a key is unknown or a value is refused.
        """
        return cls(broker, overrides)

    def get(self, name: str) -> Value:
        """Return the typed value of a topic key.

        Raises:
            KeyError: no such key.
        """
        try:
            return self._values[name]
        except KeyError:
            value = self._values[name] = self._look_up(TOPIC_TABLE[name])
            return value

    def _look_up(self, key: Key) -> Value:
        if key.name in self._own:
            return self._own[key.name]
        if not key.synonyms:
            return key.default
        name, value = self._broker.first_of(name for name, _ in key.synonyms)
        if not name:
            return key.default
        factor = dict(key.synonyms)[name]
        if factor == 1 or not isinstance(value, int) or value < 0:
            return value
        return value * factor

    @property
    def is_compacted(self) -> bool:
        """Whether records need keys."""
        return "compact" in self.get_list("cleanup.policy")

    @property
    def is_deleted_by_retention(self) -> bool:
        """Whether retention deletes old segments."""
        return "delete" in self.get_list("cleanup.policy")

    def flush_mode(self, replica_count: int) -> str:
        """Return `fastmq.flush` with `auto` resolved: ack, replicated, interval or never."""
        mode = self.get_str("fastmq.flush")
        if mode != "auto":
            return mode
        return "ack" if replica_count == 1 else "replicated"

    def describe(self, names: Iterable[str] | None = None) -> list[ConfigEntry]:
        """Return what DescribeConfigs says about this topic: all keys, or those that exist of
        `names`.
        """
        wanted = TOPIC_TABLE if names is None else names
        return [self._entry(TOPIC_TABLE[name]) for name in wanted if name in TOPIC_TABLE]

    def _entry(self, key: Key) -> ConfigEntry:
        own = self._own.get(key.name)
        synonyms = (
            [Synonym(key.name, value_text(own), ConfigSource.TOPIC)] if own is not None else []
        )
        synonyms += self._broker.synonyms_of(name for name, _ in key.synonyms)
        return ConfigEntry(
            name=key.name,
            value=None if key.sensitive else value_text(self.get(key.name)),
            source=synonyms[0].source if synonyms else ConfigSource.DEFAULT,
            read_only=False,
            sensitive=key.sensitive,
            type=key.type,
            doc=_full_doc(key),
            synonyms=tuple(synonyms),
        )


def _full_doc(key: Key) -> str:
    return f"{key.doc} No effect here: {key.no_effect}." if key.no_effect else key.doc


def topic_key(name: str) -> Key:
    """Return the table's row.

    Raises:
        ConfigError: no such topic key.
    """
    key = TOPIC_TABLE.get(name)
    if key is None:
        raise ConfigError(f"{name}: unknown topic configuration key")
    return key


def _parse_all(texts: Mapping[str, str], origins: Mapping[str, str]) -> dict[str, Value]:
    parsed = {}
    for name, text in texts.items():
        key = BROKER_TABLE.get(name)
        if key is None:
            raise ConfigError(f"{name}: unknown broker configuration key")
        try:
            parsed[name] = parse_value(key, text)
        except ConfigError as error:
            if name in origins:
                raise ConfigError(f"{origins[name]}: {error}") from None
            raise
    return parsed


def _join_aliases(static: Mapping[str, str]) -> Mapping[str, str]:
    node, broker = static.get("node.id"), static.get("broker.id")
    if node is None and broker is None:
        return static
    if node is not None and broker is not None and node.strip() != broker.strip():
        raise ConfigError(f"node.id={node} and broker.id={broker} are the same thing and differ")
    return {**static, "node.id": node or broker or "", "broker.id": broker or node or ""}
