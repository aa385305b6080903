"""Configuration: one table of keys, and everything that follows from it.

`broker_keys` and `topic_keys` are the table: Kafka's names, type, default, validator, scope and a
sentence of documentation each. From it come the parser (`load_broker_config`: file, environment,
command line), typed access (`BrokerConfig`, `TopicConfig`), what DescribeConfigs says
(`describe`), what AlterConfigs may do (`alter`), and `docs/CONFIG.md` (`python -m fastmq.config`).

Typical use::

    config = load_broker_config(file=ConfigFile(name, text), environ=os.environ,
                                overrides=["num.partitions=3"], dev=False)
    config.get_int("num.partitions"); config.listeners; config.log_dirs
    topic = TopicConfig.resolve(config, {"retention.ms": "1000"})
    topic.get_int("retention.ms"); topic.describe()

It reads no files and no clock: texts come from the caller. No value names code or a URL to load.
A `BrokerConfig` is immutable; a dynamic change makes another one (`with_dynamic`).
"""

from fastmq.config.alter import (
    Alteration,
    AlterOp,
    alter_broker,
    alter_topic,
    check_topic_overrides,
)
from fastmq.config.listeners import Listener, listener_from_address, split_address
from fastmq.config.load import ConfigFile, load_broker_config
from fastmq.config.types import ConfigSource, ConfigType
from fastmq.config.values import (
    BROKER_TABLE,
    TOPIC_TABLE,
    BrokerConfig,
    ConfigEntry,
    Synonym,
    TopicConfig,
)

__all__ = [
    "BROKER_TABLE",
    "TOPIC_TABLE",
    "AlterOp",
    "Alteration",
    "BrokerConfig",
    "ConfigEntry",
    "ConfigFile",
    "ConfigSource",
    "ConfigType",
    "Listener",
    "Synonym",
    "TopicConfig",
    "alter_broker",
    "alter_topic",
    "check_topic_overrides",
    "listener_from_address",
    "load_broker_config",
    "split_address",
]
