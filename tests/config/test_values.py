"""Typed access, the source of each value, synonyms, and alterations."""

import subprocess
import sys

import pytest

from fastmq.config import (
    TOPIC_TABLE,
    Alteration,
    AlterOp,
    BrokerConfig,
    ConfigSource,
    ConfigType,
    TopicConfig,
    alter_broker,
    alter_topic,
    check_topic_overrides,
)
from fastmq.errors import ConfigError


def test_topic_takes_defaults_from_the_broker() -> None:
    broker = BrokerConfig({"log.segment.bytes": "2097152", "message.max.bytes": "5"})
    topic = TopicConfig.resolve(broker)
    assert topic.get_int("segment.bytes") == 2097152
    assert topic.get_int("max.message.bytes") == 5
    assert topic.get_float("min.cleanable.dirty.ratio") == 0.5
    assert topic.get_list("cleanup.policy") == ("delete",)


@pytest.mark.parametrize(
    ("static", "expected"),
    [
        ({}, 604_800_000),
        ({"log.retention.hours": "1"}, 3_600_000),
        ({"log.retention.hours": "-1"}, -1),
        ({"log.retention.hours": "1", "log.retention.minutes": "2"}, 120_000),
        ({"log.retention.hours": "1", "log.retention.minutes": "2", "log.retention.ms": "3"}, 3),
        ({"log.retention.ms": "-1", "log.retention.hours": "5"}, -1),
    ],
)
def test_retention_precedence(static: dict[str, str], expected: int) -> None:
    assert TopicConfig.resolve(BrokerConfig(static)).get_int("retention.ms") == expected


def test_each_source_wins_over_the_next() -> None:
    static = BrokerConfig({"log.retention.ms": "4"})
    cluster = static.with_dynamic({}, {"log.retention.ms": "3"})
    one = static.with_dynamic({"log.retention.ms": "2"}, {"log.retention.ms": "3"})
    topic = TopicConfig.resolve(one, {"retention.ms": "1"})
    for config, value, source in (
        (TopicConfig.resolve(BrokerConfig()), 604_800_000, ConfigSource.DEFAULT),
        (TopicConfig.resolve(static), 4, ConfigSource.STATIC_BROKER),
        (TopicConfig.resolve(cluster), 3, ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (TopicConfig.resolve(one), 2, ConfigSource.DYNAMIC_BROKER),
        (topic, 1, ConfigSource.TOPIC),
    ):
        assert config.get_int("retention.ms") == value
        (entry,) = config.describe(["retention.ms"])
        assert entry.source is source
        assert entry.value == str(value)
    assert [(s.name, s.value, int(s.source)) for s in entry.synonyms] == [
        ("retention.ms", "1", 1),
        ("log.retention.ms", "2", 2),
        ("log.retention.ms", "3", 3),
        ("log.retention.ms", "4", 4),
        ("log.retention.hours", "168", 5),
    ]


def test_describe_lists_every_topic_key_with_its_type() -> None:
    entries = TopicConfig.resolve(BrokerConfig()).describe()
    assert [entry.name for entry in entries] == list(TOPIC_TABLE)
    by_name = {entry.name: entry for entry in entries}
    assert by_name["cleanup.policy"].type is ConfigType.LIST
    assert by_name["preallocate"].value == "false"
    assert "No effect here: fastmq.flush decides" in by_name["flush.ms"].doc
    assert by_name["compression.type"].synonyms[0].name == "compression.type"
    assert all(entry.value is not None and not entry.read_only for entry in entries)


def test_describe_broker_says_what_can_change() -> None:
    config = BrokerConfig({"num.partitions": "3"}).with_dynamic({"max.connections": "9"}, {})
    partitions, connections, retention = config.describe(
        ["num.partitions", "max.connections", "log.retention.ms", "no.such.key"]
    )
    assert (partitions.value, partitions.read_only) == ("3", True)
    assert partitions.source is ConfigSource.STATIC_BROKER
    assert (connections.value, connections.read_only) == ("9", False)
    assert connections.source is ConfigSource.DYNAMIC_BROKER
    assert (retention.value, retention.source) == (None, ConfigSource.DEFAULT)


def test_unknown_key_and_wrong_value_are_refused() -> None:
    with pytest.raises(KeyError):
        BrokerConfig().get("no.such.key")
    with pytest.raises(ConfigError, match="unknown topic"):
        TopicConfig.resolve(BrokerConfig(), {"no.such.key": "1"})
    with pytest.raises(ConfigError, match=r"^retention\.ms: "):
        check_topic_overrides({"retention.ms": "-2"})


def test_flush_mode_depends_on_the_replicas() -> None:
    auto = TopicConfig.resolve(BrokerConfig())
    assert (auto.flush_mode(1), auto.flush_mode(3)) == ("ack", "replicated")
    never = TopicConfig.resolve(BrokerConfig({"fastmq.flush": "never"}))
    assert (never.flush_mode(1), never.flush_mode(3)) == ("never", "never")


def test_cleanup_policy_may_be_empty() -> None:
    topic = TopicConfig.resolve(BrokerConfig(), {"cleanup.policy": ""})
    assert not topic.is_compacted
    assert not topic.is_deleted_by_retention


def alter(
    overrides: dict[str, str], *alterations: tuple[str, AlterOp, str | None]
) -> dict[str, str]:
    topic = TopicConfig.resolve(BrokerConfig(), overrides)
    return alter_topic(topic, [Alteration(*alteration) for alteration in alterations])


def test_alterations_of_a_topic() -> None:
    assert alter({}, ("retention.ms", AlterOp.SET, " 05 ")) == {"retention.ms": "5"}
    assert alter({"retention.ms": "5"}, ("retention.ms", AlterOp.DELETE, None)) == {}
    assert alter({}, ("retention.ms", AlterOp.DELETE, None)) == {}
    appended = alter({}, ("cleanup.policy", AlterOp.APPEND, "compact,delete"))
    assert appended == {"cleanup.policy": "delete,compact"}
    assert alter(appended, ("cleanup.policy", AlterOp.SUBTRACT, "delete")) == {
        "cleanup.policy": "compact"
    }


@pytest.mark.parametrize(
    ("alterations", "message"),
    [
        ([("retention.mss", AlterOp.SET, "1")], "did you mean retention.ms"),
        ([("retention.ms", AlterOp.APPEND, "1")], "not a list"),
        ([("retention.ms", AlterOp.SET, None)], "a value is missing"),
        ([("retention.ms", AlterOp.SET, "1"), ("retention.ms", AlterOp.DELETE, None)], "twice"),
        ([("cleanup.policy", AlterOp.APPEND, "shred")], "'shred' is none of"),
        (
            [
                ("min.compaction.lag.ms", AlterOp.SET, "9"),
                ("max.compaction.lag.ms", AlterOp.SET, "8"),
            ],
            "larger than",
        ),
        ([("remote.storage.enable", AlterOp.SET, "true")], "only false works"),
    ],
)
def test_refused_alterations(
    alterations: list[tuple[str, AlterOp, str | None]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        alter({}, *alterations)


def test_only_dynamic_broker_keys_can_be_altered() -> None:
    broker = BrokerConfig()
    change = Alteration("max.connections", AlterOp.SET, "10")
    assert alter_broker(broker, {"log.retention.ms": "1"}, [change]) == {
        "log.retention.ms": "1",
        "max.connections": "10",
    }
    with pytest.raises(ConfigError, match="cannot change while"):
        alter_broker(broker, {}, [Alteration("num.partitions", AlterOp.SET, "1")])


def test_import_stays_light() -> None:
    """Start-up rules: neither heavy standard modules nor third parties come with the table."""
    code = (
        "import sys; before = set(sys.modules); import fastmq.config; "
        "new = set(sys.modules) - before; "
        "print(*sorted(new & {'dataclasses','inspect','tomllib','difflib','json','ast','trio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
