"""The table of broker keys: Kafka's that make sense for a broker here, and ours below `fastmq.`.

Keys of Kafka's stock `server.properties`, and keys that tools read through DescribeConfigs, are
here even when they change nothing (`no_effect` says why). Keys that promise security, or that name
code to load, are not: `REFUSED_KEYS` says why, since ignoring them would be worse than stopping.
"""

from typing import Final

from fastmq.config.cluster_keys import CLUSTER_KEYS
from fastmq.config.log_keys import LOG_KEYS
from fastmq.config.topic_keys import CODECS, FLUSH_MODES
from fastmq.config.types import (
    ConfigType,
    Key,
    Validator,
    Value,
    at_least,
    between,
    dynamic,
    fixed,
    list_of,
    not_empty,
    one_of,
    only,
)

__all__ = ["BROKER_KEYS", "DEV_PROFILE", "REFUSED_KEYS"]

_INT_MAX: Final = (1 << 31) - 1

_BOOLEAN, _STRING, _INT, _SHORT, _LONG, _DOUBLE, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.SHORT,
    ConfigType.LONG,
    ConfigType.DOUBLE,
    ConfigType.LIST,
)

_NO_CLUSTER: Final = "the broker stands alone; the value is kept and shown"
_NO_TRANSACTIONS: Final = "there are no transactions yet; the value is kept and shown"
_NO_POOLS: Final = "one reactor serves all connections; there is no such thread pool"
_NO_QUORUM: Final = "metadata is in a store, not in a Raft quorum"


def _address_counts() -> Validator:
    def check(value: Value) -> str | None:
        assert isinstance(value, tuple)
        for entry in value:
            address, _, count = entry.rpartition(":")
            if not address or not (count.isascii() and count.isdigit()):
                return f"{entry!r} is not ADDRESS:COUNT"
        return None

    return Validator("list of ADDRESS:COUNT", check)


_IDENTITY: Final = (
    fixed("node.id", _INT, 1, "Number of this broker, unique in its cluster.", at_least(0)),
    fixed("broker.id", _INT, 1, "Older name of node.id.", at_least(0)),
    fixed(
        "broker.rack",
        _STRING,
        None,
        "Zone of this broker, shown to clients; with --brokers one for each, in turn, with commas "
        "between.",
    ),
    fixed(
        "replica.selector.class",
        _STRING,
        "",
        "org.apache.kafka.common.replica.RackAwareReplicaSelector: consumers that tell their rack "
        "(client.rack) read from a replica in it, where one is in sync. Otherwise all read from "
        "leaders.",
        one_of(
            "",
            "org.apache.kafka.common.replica.LeaderSelector",
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        ),
    ),
    fixed(
        "fastmq.host",
        _STRING,
        "",
        "Name of the machine, so that replicas go to distinct machines first; empty = the "
        "machine's host name.",
    ),
    fixed(
        "process.roles",
        _LIST,
        ("broker", "controller"),
        "Roles of the process.",
        list_of("broker", "controller", least=1),
        "every process is both",
    ),
    fixed("controller.quorum.bootstrap.servers", _LIST, (), "Controllers.", no_effect=_NO_QUORUM),
    fixed("controller.quorum.voters", _LIST, (), "Controllers and ids.", no_effect=_NO_QUORUM),
    fixed(
        "inter.broker.protocol.version",
        _STRING,
        "4.3-IV0",
        "The version of Kafka whose protocol this broker speaks, for tools that ask.",
        no_effect="the protocol version is fixed; tools read the value",
    ),
)

_NETWORK: Final = (
    fixed(
        "listeners",
        _LIST,
        ("PLAINTEXT://127.0.0.1:9092",),
        "Where clients may connect: NAME://host:port, several with commas. No host = all "
        "addresses; IPv6 in brackets; port 0 = a free one.",
        not_empty(),
    ),
    fixed(
        "advertised.listeners",
        _LIST,
        (),
        "What clients are told to connect to, per listener name; those not named advertise "
        "themselves.",
    ),
    fixed(
        "listener.security.protocol.map",
        _LIST,
        (
            "PLAINTEXT:PLAINTEXT",
            "SSL:SSL",
            "SASL_PLAINTEXT:SASL_PLAINTEXT",
            "SASL_SSL:SASL_SSL",
        ),
        "Security protocol of each listener name, NAME:PROTOCOL. A name that is not here is "
        "PLAINTEXT. Listeners can only be PLAINTEXT for now.",
    ),
    fixed(
        "controller.listener.names",
        _LIST,
        (),
        "Names in listeners that are for Kafka's controllers; they are not opened.",
    ),
    fixed(
        "inter.broker.listener.name",
        _STRING,
        None,
        "Listener that brokers use between them.",
        no_effect=_NO_CLUSTER,
    ),
    fixed(
        "security.inter.broker.protocol",
        _STRING,
        "PLAINTEXT",
        "Security between brokers.",
        only("PLAINTEXT", "there is no TLS or SASL yet"),
    ),
    fixed(
        "socket.request.max.bytes",
        _INT,
        104_857_600,
        "Largest request; a larger one closes the connection.",
        at_least(1024),
    ),
    fixed(
        "queued.max.request.bytes",
        _LONG,
        512 << 20,
        "Memory for requests and answers in flight, all connections together; beyond it the "
        "broker stops reading.",
        at_least(1 << 20),
    ),
    fixed(
        "queued.max.requests",
        _INT,
        500,
        "Requests in the queue between Kafka's thread pools.",
        at_least(1),
        "queued.max.request.bytes and fastmq.connection.frames.max bound what waits",
    ),
    fixed(
        "connections.max.idle.ms",
        _LONG,
        600_000,
        "A connection without a request for so long is closed.",
        at_least(1),
    ),
    dynamic("max.connections", _INT, _INT_MAX, "Most connections at once.", at_least(0)),
    dynamic(
        "max.connections.per.ip",
        _INT,
        _INT_MAX,
        "Most connections at once from one address.",
        at_least(0),
    ),
    dynamic(
        "max.connections.per.ip.overrides",
        _LIST,
        (),
        "Other limits for single addresses, ADDRESS:COUNT.",
        _address_counts(),
    ),
    dynamic(
        "max.connection.creation.rate",
        _INT,
        _INT_MAX,
        "Most new connections per second, all listeners together; more wait to be accepted.",
        at_least(1),
    ),
    fixed(
        "socket.listen.backlog.size",
        _INT,
        512,
        "Connections that may wait to be accepted.",
        at_least(1),
        "the backlog is fixed, and large",
    ),
    fixed(
        "socket.send.buffer.bytes",
        _INT,
        102_400,
        "Send buffer of a connection, SO_SNDBUF; -1: the operating system's. What is under way "
        "then stays in the processor's cache; a larger one helps consumers far away.",
        at_least(-1),
    ),
    fixed(
        "socket.receive.buffer.bytes",
        _INT,
        102_400,
        "Receive buffer of a socket.",
        at_least(-1),
        "the operating system sizes its buffers by itself",
    ),
    fixed("num.network.threads", _INT, 3, "Network threads.", at_least(1), _NO_POOLS),
    fixed("num.io.threads", _INT, 8, "Request threads.", at_least(1), _NO_POOLS),
    fixed("background.threads", _INT, 10, "Background threads.", at_least(1), _NO_POOLS),
    fixed(
        "fetch.max.bytes",
        _INT,
        57_671_680,
        "The most that one Fetch answer holds, whatever the client asks for.",
        at_least(1024),
    ),
    fixed(
        "max.incremental.fetch.session.cache.slots",
        _INT,
        1000,
        "Fetch sessions kept (KIP-227): a client or follower names its partitions once.",
        at_least(0),
    ),
    fixed(
        "max.request.partition.size.limit",
        _INT,
        2000,
        "Most partitions in one DescribeTopicPartitions answer.",
        at_least(1),
    ),
    fixed(
        "fastmq.frame.timeout.ms",
        _LONG,
        30_000,
        "A request that began to arrive must be whole after so long, or its connection is closed.",
        at_least(100),
    ),
    fixed(
        "fastmq.connection.frames.max",
        _INT,
        256,
        "Unanswered requests on one connection; beyond it the broker stops reading from it.",
        between(1, 65_536),
    ),
    fixed(
        "fastmq.reactor",
        _STRING,
        "thread",
        "What drives the connections: a thread of its own, or nested in the event loop (less "
        "memory, higher latency).",
        one_of("thread", "nested"),
    ),
)

_TOPICS: Final = (
    fixed(
        "auto.create.topics.enable",
        _BOOLEAN,
        True,
        "Create a topic when a client that allows it asks for its metadata.",
    ),
    fixed("delete.topic.enable", _BOOLEAN, True, "Allow DeleteTopics."),
    fixed(
        "num.partitions",
        _INT,
        1,
        "Partitions of a topic whose creator does not say.",
        between(1, 20_000),
    ),
    dynamic(
        "fastmq.topics.max",
        _INT,
        100_000,
        "Most topics; clients that want more get POLICY_VIOLATION.",
        at_least(0),
    ),
    dynamic(
        "fastmq.partitions.max",
        _INT,
        200_000,
        "Most partitions of all topics together; clients that want more get POLICY_VIOLATION. "
        "An idle partition holds about 2 KiB of memory, and a directory.",
        at_least(0),
    ),
    fixed(
        "default.replication.factor",
        _INT,
        1,
        "Replicas of a topic whose creator does not say.",
        between(1, 32),
    ),
    dynamic(
        "min.insync.replicas",
        _INT,
        1,
        "Default of the topic key of the same name.",
        at_least(1),
    ),
    dynamic(
        "unclean.leader.election.enable",
        _BOOLEAN,
        False,
        "Default of the topic key of the same name.",
    ),
    dynamic(
        "message.max.bytes",
        _INT,
        1_048_588,
        "Default of max.message.bytes.",
        at_least(0),
    ),
    dynamic(
        "compression.type",
        _STRING,
        "producer",
        "Default of the topic key of the same name.",
        one_of(*CODECS),
    ),
    dynamic("compression.gzip.level", _INT, -1, "Default of the topic key.", between(-1, 9)),
    dynamic("compression.lz4.level", _INT, 9, "Default of the topic key.", between(1, 17)),
    dynamic("compression.zstd.level", _INT, 3, "Default of the topic key.", between(-131072, 22)),
    dynamic(
        "fastmq.flush",
        _STRING,
        "auto",
        "Default of the topic key of the same name: when a record is acknowledged.",
        one_of(*FLUSH_MODES),
    ),
    dynamic(
        "fastmq.validation",
        _STRING,
        "header",
        "Default of the topic key of the same name: what is checked of each batch.",
        one_of("header", "records"),
    ),
)

_GROUPS: Final = (
    fixed(
        "group.min.session.timeout.ms",
        _INT,
        6_000,
        "Shortest session time-out that a group member may ask for.",
        at_least(100),
    ),
    fixed(
        "group.max.session.timeout.ms",
        _INT,
        1_800_000,
        "Longest session time-out that a group member may ask for.",
        at_least(100),
    ),
    fixed("group.max.size", _INT, _INT_MAX, "Most members of one group.", at_least(1)),
    fixed(
        "group.initial.rebalance.delay.ms",
        _INT,
        3_000,
        "How long an empty group waits for more members before its first rebalance.",
        at_least(0),
    ),
    fixed(
        "group.coordinator.rebalance.protocols",
        _LIST,
        ("classic",),
        "Group protocols that are served.",
        list_of("classic", least=1),
        "only classic groups are served yet",
    ),
    fixed(
        "group.coordinator.threads",
        _INT,
        1,
        "Coordinator threads.",
        at_least(1),
        "coordinators run in the event loop",
    ),
    fixed(
        "offsets.retention.minutes",
        _INT,
        10_080,
        "How long committed offsets are kept after their group is empty or no longer subscribed.",
        at_least(1),
    ),
    fixed(
        "offsets.retention.check.interval.ms",
        _LONG,
        600_000,
        "How often expired offsets are looked for.",
        at_least(1),
    ),
    fixed(
        "offset.metadata.max.bytes",
        _INT,
        4_096,
        "Largest metadata text of a committed offset.",
        at_least(0),
    ),
    fixed(
        "offsets.commit.timeout.ms",
        _INT,
        5_000,
        "How long a commit waits until its record is safe.",
        at_least(1),
        "a commit is answered when its record is safe, or cannot be",
    ),
    fixed(
        "offsets.load.buffer.size",
        _INT,
        5_242_880,
        "Bytes of __consumer_offsets that are read at once when a partition of it is loaded.",
        at_least(1),
        "the broker reads 4 MiB at a time",
    ),
    fixed(
        "offsets.topic.num.partitions",
        _INT,
        50,
        "Partitions of __consumer_offsets when it is created; must not change later.",
        between(1, 20_000),
    ),
    fixed(
        "offsets.topic.replication.factor",
        _SHORT,
        1,
        "Replicas of __consumer_offsets when it is created.",
        between(1, 32),
    ),
    fixed(
        "offsets.topic.segment.bytes",
        _INT,
        104_857_600,
        "segment.bytes of __consumer_offsets.",
        at_least(1 << 20),
    ),
    fixed(
        "offsets.topic.compression.codec",
        _INT,
        0,
        "Codec of __consumer_offsets.",
        only(0, "offsets are stored uncompressed"),
    ),
)

_TRANSACTIONS: Final = (
    fixed(
        "transaction.max.timeout.ms",
        _INT,
        900_000,
        "Longest transaction.",
        at_least(1),
        _NO_TRANSACTIONS,
    ),
    fixed(
        "transactional.id.expiration.ms",
        _INT,
        604_800_000,
        "How long an unused transactional id is kept.",
        at_least(1),
        _NO_TRANSACTIONS,
    ),
    fixed(
        "transaction.state.log.num.partitions",
        _INT,
        50,
        "Partitions of __transaction_state.",
        at_least(1),
        _NO_TRANSACTIONS,
    ),
    fixed(
        "transaction.state.log.replication.factor",
        _SHORT,
        1,
        "Replicas of __transaction_state.",
        at_least(1),
        _NO_TRANSACTIONS,
    ),
    fixed(
        "transaction.state.log.min.isr",
        _INT,
        1,
        "min.insync.replicas of __transaction_state.",
        at_least(1),
        _NO_TRANSACTIONS,
    ),
    fixed(
        "share.coordinator.state.topic.replication.factor",
        _SHORT,
        1,
        "Replicas of __share_group_state.",
        at_least(1),
        "there are no share groups yet; the value is kept and shown",
    ),
    fixed(
        "share.coordinator.state.topic.min.isr",
        _SHORT,
        1,
        "min.insync.replicas of __share_group_state.",
        at_least(1),
        "there are no share groups yet; the value is kept and shown",
    ),
)

_CLUSTER: Final = (
    fixed(
        "replica.high.watermark.checkpoint.interval.ms",
        _LONG,
        5_000,
        "How often high watermarks are written.",
        at_least(1),
    ),
    fixed(
        "replica.lag.time.max.ms",
        _LONG,
        30_000,
        "How long a follower may lag and stay in sync.",
        at_least(1),
    ),
    fixed(
        "replica.fetch.max.bytes",
        _INT,
        1_048_576,
        "Bytes per partition that a follower asks for.",
        at_least(0),
    ),
    fixed(
        "replica.fetch.wait.max.ms",
        _INT,
        500,
        "How long a follower's fetch waits.",
        at_least(0),
    ),
    fixed("num.replica.fetchers", _INT, 1, "Fetchers per leader.", at_least(1), _NO_CLUSTER),
)

_OPERATION: Final = (
    fixed(
        "fastmq.shutdown.timeout.ms",
        _LONG,
        30_000,
        "How long a stop waits for requests that are being answered.",
        at_least(0),
    ),
    fixed(
        "fastmq.metrics.listener",
        _STRING,
        "",
        "host:port of the Prometheus endpoint; empty = none.",
    ),
    fixed(
        "fastmq.lag.interval.ms",
        _LONG,
        5_000,
        "How often the lag of groups is worked out, where there is a metrics listener.",
        at_least(10),
    ),
    fixed(
        "fastmq.lag.target.ms",
        _LONG,
        60_000,
        "wanted_consumers of a group are those that would catch up in this time.",
        at_least(1),
    ),
    fixed(
        "fastmq.log.format",
        _STRING,
        "text",
        "Form of the broker's own log on standard error.",
        one_of("text", "json"),
    ),
    fixed(
        "fastmq.log.level",
        _STRING,
        "info",
        "The least severity that the broker logs.",
        one_of("debug", "info", "warning", "error"),
    ),
)

BROKER_KEYS: Final[tuple[Key, ...]] = (
    _IDENTITY
    + _NETWORK
    + _TOPICS
    + LOG_KEYS
    + _GROUPS
    + _TRANSACTIONS
    + _CLUSTER
    + CLUSTER_KEYS
    + _OPERATION
)

# A name that ends in a dot stands for all keys that begin so.
REFUSED_KEYS: Final = (
    ("sasl.", "there is no SASL yet, and ignoring it would leave the broker open"),
    ("ssl.", "there is no TLS yet, and ignoring it would leave the broker open"),
    ("listener.name.", "listeners have no settings of their own yet"),
    ("authorizer.class.name", "there is no authorizer yet, and no configuration names code"),
    ("super.users", "there is no authorizer yet"),
    ("allow.everyone.if.no.acl.found", "there is no authorizer yet"),
    ("principal.builder.class", "no configuration names code to load"),
    ("create.topic.policy.class.name", "no configuration names code to load"),
    ("alter.config.policy.class.name", "no configuration names code to load"),
    ("metric.reporters", "no configuration names code; see fastmq.metrics.listener"),
    ("zookeeper.", "there is no ZooKeeper; metadata is in the data directory"),
)

# What --dev puts in place of the defaults; files, environment and --override win over it.
DEV_PROFILE: Final[dict[str, str]] = {
    "fastmq.flush": "never",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "true",
    "fastmq.free.space.floor.bytes": "0",
}
