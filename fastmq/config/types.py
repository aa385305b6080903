"""What a configuration key is: its type, scope, validator and text form.

A `Key` is one row of the tables in `broker_keys` and `topic_keys`. `parse_value` turns text into
the typed value and `value_text` back into the text that Kafka's tools print. Both raise
`ConfigError` whose message begins with the key's name.

Rows are named tuples, not dataclasses: the table has about 200 of them and is read before the
broker can answer, and importing `dataclasses` alone would cost more than the whole table.
"""

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

from fastmq.errors import ConfigError
from fastmq.limits import CONFIG_VALUE_CHARS_MAX

__all__ = [
    "ConfigSource",
    "ConfigType",
    "Key",
    "Scope",
    "Validator",
    "Value",
    "at_least",
    "between",
    "check_value",
    "dynamic",
    "fixed",
    "list_of",
    "not_empty",
    "one_of",
    "only",
    "parse_value",
    "value_text",
]

Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None


class ConfigType(IntEnum):
    """The type numbers of DescribeConfigs (KIP-569)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class ConfigSource(IntEnum):
    """Where a value comes from, as DescribeConfigs numbers it."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


class Scope(Enum):
    """Who may set a key, and when it takes effect."""

    READ_ONLY = "read-only"  # broker, at the start
    DYNAMIC = "dynamic"  # broker, also while it runs
    TOPIC = "topic"


class Validator(NamedTuple):
    """A check beyond the type. `check` returns what is wrong, or None."""

    doc: str
    check: Callable[[Value], str | None]


class Key(NamedTuple):
    """One configuration key.

    Attributes:
        name: Kafka's name, or one of ours below `fastmq.`.
        default: the typed value when nothing is set; None prints as null.
        doc: what it does here, in a sentence or two.
        no_effect: why setting it changes nothing; empty when it does something.
        sensitive: the value is never shown.
        synonyms: for a topic key, the broker keys that give its default, the first that is set
            wins; each with the factor that turns its unit into the topic key's.
    """

    name: str
    type: ConfigType
    default: Value
    scope: Scope
    doc: str
    validator: Validator | None = None
    no_effect: str = ""
    sensitive: bool = False
    synonyms: tuple[tuple[str, int], ...] = ()


_INTEGER_RANGES: Final = {
    ConfigType.INT: (-(1 << 31), (1 << 31) - 1),
    ConfigType.SHORT: (-(1 << 15), (1 << 15) - 1),
    ConfigType.LONG: (-(1 << 63), (1 << 63) - 1),
}


def fixed(
    name: str,
    kind: ConfigType,
    default: Value,
    doc: str,
    validator: Validator | None = None,
    no_effect: str = "",
) -> Key:
    """Return a key that counts at the start."""
    return Key(name, kind, default, Scope.READ_ONLY, doc, validator, no_effect)


def dynamic(
    name: str,
    kind: ConfigType,
    default: Value,
    doc: str,
    validator: Validator | None = None,
    no_effect: str = "",
) -> Key:
    """Return a key that may change while the broker runs."""
    return Key(name, kind, default, Scope.DYNAMIC, doc, validator, no_effect)


def parse_value(key: Key, text: str) -> Value:
    """Return the typed and checked value of `text`.

    Raises:
        ConfigError: the text is no value of the key's type, or the validator refuses it.
    """
    if len(text) > CONFIG_VALUE_CHARS_MAX:
        raise ConfigError(f"{key.name}: a value has at most {CONFIG_VALUE_CHARS_MAX} characters")
    value = _parse_typed(key, text.strip())
    return check_value(key, value)


def check_value(key: Key, value: Value) -> Value:
    """Return `value`, which has the key's type, when the validator accepts it.

    Raises:
        ConfigError: it does not.
    """
    problem = None if key.validator is None else key.validator.check(value)
    if problem is not None:
        raise ConfigError(f"{key.name}: {problem}")
    return value


def _parse_typed(key: Key, text: str) -> Value:
    kind = key.type
    if kind is ConfigType.BOOLEAN:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise ConfigError(f"{key.name}: {text!r} is neither true nor false")
        return lowered == "true"
    if kind in _INTEGER_RANGES:
        return _parse_integer(key, text)
    if kind is ConfigType.DOUBLE:
        try:
            number = float(text)
        except ValueError:
            raise ConfigError(f"{key.name}: {text!r} is not a number") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise ConfigError(f"{key.name}: {text!r} is not a finite number")
        return number
    if kind is ConfigType.LIST:
        return tuple(part.strip() for part in text.split(",")) if text else ()
    return text


def _parse_integer(key: Key, text: str) -> int:
    # int() also takes 1_000, blanks and other scripts' digits: a typing error here, so refused.
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise ConfigError(f"{key.name}: {text!r} is not a whole number")
    number = int(text)
    low, high = _INTEGER_RANGES[key.type]
    if not low <= number <= high:
        raise ConfigError(f"{key.name}: {number} is outside {low}..{high}")
    return number


def value_text(value: Value) -> str | None:
    """Return the text of a typed value as Kafka prints it; None for null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def at_least(low: float) -> Validator:
    """Accept numbers from `low` on."""

    def check(value: Value) -> str | None:
        assert isinstance(value, int | float)
        return None if value >= low else f"{value} is too small, the least is {low}"

    return Validator(f"{low} or more", check)


def between(low: float, high: float) -> Validator:
    """Accept numbers in low..high."""

    def check(value: Value) -> str | None:
        assert isinstance(value, int | float)
        return None if low <= value <= high else f"{value} is outside {low}..{high}"

    return Validator(f"{low}..{high}", check)


def one_of(*choices: str) -> Validator:
    """Accept one of the words."""

    def check(value: Value) -> str | None:
        return None if value in choices else f"{value!r} is none of: {', '.join(choices)}"

    return Validator(", ".join(choices), check)


def list_of(*choices: str, least: int = 0) -> Validator:
    """Accept a list of distinct words from `choices`, at least `least` of them."""

    def check(value: Value) -> str | None:
        assert isinstance(value, tuple)
        foreign = [part for part in value if part not in choices]
        if foreign:
            return f"{foreign[0]!r} is none of: {', '.join(choices)}"
        if len(set(value)) != len(value):
            return "a word is given twice"
        return None if len(value) >= least else "the list must not be empty"

    return Validator("list of: " + ", ".join(choices), check)


def not_empty() -> Validator:
    """Accept any list or text with something in it."""

    def check(value: Value) -> str | None:
        if not value:
            return "must not be empty"
        blank = isinstance(value, tuple) and not all(value)
        return "an entry of the list is empty" if blank else None

    return Validator("not empty", check)


def only(wanted: Value, reason: str) -> Validator:
    """Accept just one value, because of `reason`."""

    def check(value: Value) -> str | None:
        return None if value == wanted else f"only {value_text(wanted)} works: {reason}"

    return Validator(f"only {value_text(wanted)}", check)
