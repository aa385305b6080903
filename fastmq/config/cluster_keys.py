"""Keys about the cluster of a broker: where its metadata is, how it is known that it lives."""

from typing import Final

from fastmq.config.types import ConfigType, Key, Scope, at_least, dynamic, fixed, not_empty, one_of

__all__ = ["CLUSTER_KEYS"]

_LONG_MAX: Final = (1 << 63) - 1

CLUSTER_KEYS: Final = (
    fixed(
        "fastmq.metastore",
        ConfigType.STRING,
        "embedded",
        "Where the cluster's metadata is: embedded = in this broker's own process and data "
        "directory, it is the whole cluster; socket = at the supervisor of "
        "`fastmq serve --brokers`, which sets it; etcd.",
        one_of("embedded", "socket", "etcd"),
    ),
    fixed(
        "fastmq.metastore.socket",
        ConfigType.STRING,
        "",
        "Path of the supervisor's Unix socket; `fastmq serve --brokers` sets it.",
    ),
    fixed(
        "fastmq.etcd.endpoints",
        ConfigType.LIST,
        (),
        "Members of the etcd cluster that has the metadata: http(s)://host:port, with commas.",
    ),
    fixed(
        "fastmq.etcd.prefix",
        ConfigType.STRING,
        "fastmq/",
        "What all keys of this cluster begin with in etcd; each cluster needs its own.",
        not_empty(),
    ),
    fixed("fastmq.etcd.user", ConfigType.STRING, "", "User at etcd; empty = no login."),
    Key(
        "fastmq.etcd.password",
        ConfigType.PASSWORD,
        "",
        Scope.READ_ONLY,
        "Password of that user; FASTMQ_ETCD_PASSWORD in the environment sets it too.",
        sensitive=True,
    ),
    fixed(
        "fastmq.etcd.ca.file",
        ConfigType.STRING,
        "",
        "Authorities (PEM) that signed etcd's certificates; empty = the system's.",
    ),
    fixed(
        "fastmq.etcd.cert.file",
        ConfigType.STRING,
        "",
        "Certificate (PEM) to show to etcd; empty = none.",
    ),
    fixed("fastmq.etcd.key.file", ConfigType.STRING, "", "Key (PEM) of that certificate."),
    fixed(
        "fastmq.etcd.timeout.ms",
        ConfigType.INT,
        2_000,
        "How long one member of etcd may take to answer before the next one is asked.",
        at_least(50),
    ),
    fixed(
        "broker.session.timeout.ms",
        ConfigType.INT,
        3_000,
        "How long a broker may give no sign of life before others take over what it leads; Kafka's "
        "default is 9000. `fastmq serve --brokers`, which notices at once that a process dies, "
        "gives its brokers 9000 where its own store is used and nothing is set.",
        at_least(1_000),
    ),
    dynamic(
        "cordoned.log.dirs",
        ConfigType.LIST,
        (),
        "Log directories of this broker that get no new partitions, or * for all of them; what "
        "they have stays. `fastmq cluster cordon` sets it. Not for all brokers at once.",
    ),
    fixed(
        "controlled.shutdown.enable",
        ConfigType.BOOLEAN,
        True,
        "Whether a broker that stops lets others lead its partitions first.",
    ),
    fixed(
        "auto.leader.rebalance.enable",
        ConfigType.BOOLEAN,
        True,
        "Whether the controller gives leadership back to preferred replicas.",
    ),
    fixed(
        "leader.imbalance.check.interval.seconds",
        ConfigType.LONG,
        300,
        "How long the cluster is quiet before the controller looks for that.",
        at_least(1),
    ),
    fixed(
        "leader.imbalance.per.broker.percentage",
        ConfigType.INT,
        10,
        "How many percent of a broker's preferred partitions others may lead before the controller "
        "gives leadership back.",
        at_least(0),
    ),
    dynamic(
        "leader.replication.throttled.rate",
        ConfigType.LONG,
        _LONG_MAX,
        "Bytes per second that this broker, as a leader, sends in all to replicas that catch up, "
        "of partitions in leader.replication.throttled.replicas. Replicas in sync are never held "
        "up.",
        at_least(0),
    ),
    dynamic(
        "follower.replication.throttled.rate",
        ConfigType.LONG,
        _LONG_MAX,
        "Bytes per second that this broker, as a follower, fetches in all for its replicas that "
        "catch up and are in follower.replication.throttled.replicas.",
        at_least(0),
    ),
    dynamic(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        ConfigType.LONG,
        _LONG_MAX,
        "How fast replicas move between the directories of a broker.",
        at_least(1),
        no_effect="they do not; the value is kept and shown, because Kafka's tools reset it",
    ),
)
