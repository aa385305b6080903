"""Typed values: parsing, printing, validators, and a table that agrees with itself."""

import pytest

from fastmq.config.broker_keys import BROKER_KEYS, DEV_PROFILE, REFUSED_KEYS
from fastmq.config.topic_keys import TOPIC_KEYS
from fastmq.config.types import ConfigType, Key, Scope, Value, check_value, parse_value, value_text
from fastmq.config.values import BROKER_TABLE, TOPIC_TABLE
from fastmq.errors import ConfigError


def key(kind: ConfigType) -> Key:
    return Key("some.key", kind, None, Scope.READ_ONLY, "")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (ConfigType.BOOLEAN, " True ", True),
        (ConfigType.BOOLEAN, "false", False),
        (ConfigType.INT, "-12", -12),
        (ConfigType.INT, "2147483647", 2147483647),
        (ConfigType.LONG, "9223372036854775807", (1 << 63) - 1),
        (ConfigType.DOUBLE, "0.5", 0.5),
        (ConfigType.LIST, "", ()),
        (ConfigType.LIST, "a, b ,c", ("a", "b", "c")),
        (ConfigType.STRING, " x ", "x"),
    ],
)
def test_text_becomes_value(kind: ConfigType, text: str, value: Value) -> None:
    assert parse_value(key(kind), text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ConfigType.BOOLEAN, "yes"),
        (ConfigType.INT, "2147483648"),
        (ConfigType.INT, "1_000"),
        (ConfigType.INT, ""),
        (ConfigType.INT, "1.5"),
        (ConfigType.INT, "٣"),
        (ConfigType.SHORT, "40000"),
        (ConfigType.LONG, "9223372036854775808"),
        (ConfigType.LONG, "9" * 4000),
        (ConfigType.DOUBLE, "nan"),
        (ConfigType.DOUBLE, "many"),
        (ConfigType.STRING, "x" * 40_000),
    ],
)
def test_wrong_text_is_refused_and_the_key_is_named(kind: ConfigType, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^some\.key: "):
        parse_value(key(kind), text)


@pytest.mark.parametrize("row", [*BROKER_KEYS, *TOPIC_KEYS], ids=lambda row: row.name)
def test_each_default_is_valid_and_survives_its_text(row: Key) -> None:
    default = row.default
    if default is not None:
        assert check_value(row, default) == default
        assert parse_value(row, value_text(default) or "") == default
    assert row.doc.endswith(".")
    assert not row.no_effect.endswith(".")


def test_no_key_is_there_twice_or_refused_as_well() -> None:
    assert len(BROKER_TABLE) == len(BROKER_KEYS)
    assert len(TOPIC_TABLE) == len(TOPIC_KEYS)
    for name, _ in REFUSED_KEYS:
        assert name not in BROKER_TABLE
        assert not any(known.startswith(name) for known in BROKER_TABLE if name.endswith("."))


@pytest.mark.parametrize(
    ("topic_key", "broker_key", "factor"),
    [(row.name, name, factor) for row in TOPIC_KEYS for name, factor in row.synonyms],
)
def test_topic_key_and_its_broker_key_agree(topic_key: str, broker_key: str, factor: int) -> None:
    row, source = TOPIC_TABLE[topic_key], BROKER_TABLE[broker_key]
    assert source.type in (row.type, ConfigType.INT)
    if source.default is None:
        return
    default = source.default
    if factor != 1:
        assert isinstance(default, int)
        default *= factor
    assert default == row.default


def test_dev_profile_sets_known_keys() -> None:
    for name, text in DEV_PROFILE.items():
        parse_value(BROKER_TABLE[name], text)
