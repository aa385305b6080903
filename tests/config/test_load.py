"""Loading: file formats, environment, overrides, precedence, and errors that help."""

import pytest

from fastmq.config import BROKER_TABLE, ConfigFile, load_broker_config
from fastmq.config.load import environment_name
from fastmq.config.properties import parse_properties
from fastmq.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a=b", [("a", "b", 1)]),
        ("a = b ", [("a", "b ", 1)]),
        ("a:b", [("a", "b", 1)]),
        ("a b=c", [("a", "b=c", 1)]),
        ("a", [("a", "", 1)]),
        ("# c\n! d\n\n  a=b", [("a", "b", 4)]),
        ("# c \\\na=b", [("a", "b", 2)]),
        ("a=b,\\\n   c,\\\n\td\ne=f", [("a", "b,c,d", 1), ("e", "f", 4)]),
        ("a=b\\\\\nc=d", [("a", "b\\", 1), ("c", "d", 2)]),
        ("a\\=b=c", [("a=b", "c", 1)]),
        ("a\\ b=c", [("a b", "c", 1)]),
        ("a=\\t\\n\\u00e4\\z", [("a", "\t\näz", 1)]),
        ("a=\\ud83d\\ude00", [("a", "😀", 1)]),
        ("a=b\r\nc=d\re=f", [("a", "b", 1), ("c", "d", 2), ("e", "f", 3)]),
        ("a=x\\", [("a", "x", 1)]),
        ("a=1\na=2", [("a", "1", 1), ("a", "2", 2)]),
        ("a==b", [("a", "=b", 1)]),
    ],
)
def test_properties_rules(text: str, entries: list[tuple[str, str, int]]) -> None:
    assert parse_properties(text, name="f") == entries


def test_bad_unicode_escape_names_file_and_line() -> None:
    with pytest.raises(ConfigError, match=r"server\.properties:2: "):
        parse_properties("a=b\nc=\\u12g4", name="server.properties")


def test_later_sources_win() -> None:
    file = ConfigFile(
        "server.properties",
        "num.partitions=2\nfetch.max.bytes=2000\nnode.id=2\ngroup.initial.rebalance.delay.ms=7\n",
    )
    environ = {"FASTMQ_FETCH_MAX_BYTES": "3000", "FASTMQ_NODE_ID": "3", "HOME": "/"}
    config = load_broker_config(
        file=file, environ=environ, overrides=["node.id=4", "node.id=5"], dev=True
    )
    assert config.get_int("num.partitions") == 2
    assert config.get_int("fetch.max.bytes") == 3000
    assert config.node_id == 5
    assert config.get_int("group.initial.rebalance.delay.ms") == 7
    assert config.get_str("fastmq.flush") == "never"


def test_dev_profile_changes_only_defaults() -> None:
    assert load_broker_config().get_str("fastmq.flush") == "auto"
    assert load_broker_config(dev=True).get_int("group.initial.rebalance.delay.ms") == 0


def test_toml_is_flattened() -> None:
    text = """
num.partitions = 3
"fastmq.flush" = "ack"
fastmq.flush.interval.ms = 20
listeners = ["PLAINTEXT://127.0.0.1:1", "OTHER://127.0.0.1:2"]
[log]
retention.ms = 1000
[log.roll]
ms = 5
[auto]
create.topics.enable = false
"""
    config = load_broker_config(file=ConfigFile("fastmq.toml", text))
    assert config.get_int("num.partitions") == 3
    assert config.get_int("log.retention.ms") == 1000
    assert config.get_int("log.roll.ms") == 5
    assert config.get_bool("auto.create.topics.enable") is False
    assert config.get_int("fastmq.flush.interval.ms") == 20
    assert [listener.name for listener in config.listeners] == ["PLAINTEXT", "OTHER"]


def test_a_stock_kafka_file_is_accepted() -> None:
    text = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""
    config = load_broker_config(file=ConfigFile("server.properties", text))
    assert [listener.name for listener in config.listeners] == ["PLAINTEXT"]
    assert config.listeners[0].advertised_host == "localhost"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"file": ConfigFile("a.properties", "\nnum.partition=1")},
            r"a\.properties:2: unknown key num\.partition; did you mean num\.partitions\?",
        ),
        (
            {"file": ConfigFile("a.properties", "x=1\\\n2\nnum.partitions=x")},
            r"a\.properties:1: unknown key x; docs/CONFIG\.md",
        ),
        (
            {"file": ConfigFile("a.properties", "#\nnum.partitions=x")},
            r"a\.properties:2: num\.partitions: 'x' is not a whole number",
        ),
        (
            {"file": ConfigFile("a.toml", "[num]\nio.threads = 1\npartition = 3")},
            r"a\.toml:3: unknown key num\.partition; did you mean num\.partitions",
        ),
        ({"file": ConfigFile("a.toml", "a = [")}, r"a\.toml: "),
        ({"file": ConfigFile("a.toml", "num.partitions = 1979-05-27")}, r"a\.toml:1: num"),
        ({"overrides": ["num.partitions"]}, "--override num.partitions: write key=value"),
        ({"overrides": ["num.partitions=0"]}, "--override num.partitions=0: num.partitions: 0 is"),
        (
            {"environ": {"FASTMQ_NUM_PARTITION": "1"}},
            "FASTMQ_NUM_PARTITION: unknown key .* mean num.partitions",
        ),
        ({"overrides": ["sasl.enabled.mechanisms=PLAIN"]}, "not supported: there is no SASL"),
        ({"overrides": ["zookeeper.connect=h:1"]}, "not supported: there is no ZooKeeper"),
        ({"overrides": ["retention.ms=1"]}, "log.retention.ms"),
        ({"overrides": ["node.id=1", "broker.id=2"]}, "same thing and differ"),
        ({"overrides": ["group.min.session.timeout.ms=2000000"]}, "larger than"),
        ({"overrides": ["log.dirs=a,b,a"]}, "given twice"),
        ({"overrides": ["log.dirs=a,,b"]}, "empty"),
        ({"overrides": ["remote.log.storage.system.enable=true"]}, "only false works"),
        ({"overrides": ["max.connections.per.ip.overrides=10.0.0.1"]}, "ADDRESS:COUNT"),
    ],
)
def test_errors_name_the_place_and_help(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_broker_config(**arguments)  # type: ignore[arg-type]


def test_node_id_and_broker_id_are_one() -> None:
    assert load_broker_config(overrides=["broker.id=7"]).node_id == 7
    assert load_broker_config(overrides=["node.id=7"]).get_int("broker.id") == 7


def test_environment_names_are_distinct() -> None:
    assert len({environment_name(key) for key in BROKER_TABLE}) == len(BROKER_TABLE)
    assert environment_name("fastmq.flush") == "FASTMQ_FLUSH"
    config = load_broker_config(environ={"FASTMQ_FLUSH": "ack", "FASTMQ_TEST_X": "1"})
    assert config.get_str("fastmq.flush") == "ack"


def test_variables_that_clients_read_do_not_stop_a_broker():
    environ = {"FASTMQ_PROFILE": "production", "FASTMQ_BOOTSTRAP_SERVERS": "mq:9092"}
    load_broker_config(environ=environ)
