"""The static table of APIs: keys, names, versions, first flexible version, module of the schema.

Nothing here imports a schema, so that ApiVersions is answered from this table alone; the classes
of an API are imported when its first frame is decoded or built. The versions are those of Kafka
4.3 (stable ones only). A broker advertises the subset it has handlers for: see `advertised`.

Source: protocol guide, API keys; KIP-896 for the minimum versions; KAFKA-18659 for Produce.
"""

from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from fastmq.protocol._message import Message

__all__ = ["APIS", "NEVER", "Api", "ApiKey", "advertised", "request_class", "response_class"]

#: `flexible_from` of an API that has no flexible version.
NEVER = 32767


class ApiKey(IntEnum):
    """Keys of the APIs that have schemas here."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    DESCRIBE_QUORUM = 55
    ALTER_PARTITION = 56
    UPDATE_FEATURES = 57
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75


class Api(NamedTuple):
    """One row of the table. Versions are inclusive."""

    key: ApiKey
    name: str
    min_version: int
    max_version: int
    flexible_from: int

    @property
    def module(self) -> str:
        """The module with the request and response classes."""
        return f"fastmq.protocol.messages.{self.key.name.lower()}"

    def supports(self, version: int) -> bool:
        """Whether there is a schema for this version."""
        return self.min_version <= version <= self.max_version

    def flexible(self, version: int) -> bool:
        """Whether the version has compact types and tagged fields, in header and body."""
        return version >= self.flexible_from


def _table(*rows: tuple[ApiKey, str, int, int, int]) -> dict[int, Api]:
    return {int(row[0]): Api(*row) for row in rows}


#: Every API with a schema, by key.
APIS = _table(
    (ApiKey.PRODUCE, "Produce", 3, 13, 9),
    (ApiKey.FETCH, "Fetch", 4, 18, 12),
    (ApiKey.LIST_OFFSETS, "ListOffsets", 1, 11, 6),
    (ApiKey.METADATA, "Metadata", 0, 13, 9),
    (ApiKey.OFFSET_COMMIT, "OffsetCommit", 2, 10, 8),
    (ApiKey.OFFSET_FETCH, "OffsetFetch", 1, 10, 6),
    (ApiKey.FIND_COORDINATOR, "FindCoordinator", 0, 6, 3),
    (ApiKey.JOIN_GROUP, "JoinGroup", 0, 9, 6),
    (ApiKey.HEARTBEAT, "Heartbeat", 0, 4, 4),
    (ApiKey.LEAVE_GROUP, "LeaveGroup", 0, 5, 4),
    (ApiKey.SYNC_GROUP, "SyncGroup", 0, 5, 4),
    (ApiKey.DESCRIBE_GROUPS, "DescribeGroups", 0, 6, 5),
    (ApiKey.LIST_GROUPS, "ListGroups", 0, 5, 3),
    (ApiKey.SASL_HANDSHAKE, "SaslHandshake", 0, 1, NEVER),
    (ApiKey.API_VERSIONS, "ApiVersions", 0, 4, 3),
    (ApiKey.CREATE_TOPICS, "CreateTopics", 2, 7, 5),
    (ApiKey.DELETE_TOPICS, "DeleteTopics", 1, 6, 4),
    (ApiKey.DELETE_RECORDS, "DeleteRecords", 0, 2, 2),
    (ApiKey.INIT_PRODUCER_ID, "InitProducerId", 0, 5, 2),
    (ApiKey.OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderEpoch", 2, 4, 4),
    (ApiKey.ADD_PARTITIONS_TO_TXN, "AddPartitionsToTxn", 0, 5, 3),
    (ApiKey.ADD_OFFSETS_TO_TXN, "AddOffsetsToTxn", 0, 4, 3),
    (ApiKey.END_TXN, "EndTxn", 0, 5, 3),
    (ApiKey.WRITE_TXN_MARKERS, "WriteTxnMarkers", 1, 2, 1),
    (ApiKey.TXN_OFFSET_COMMIT, "TxnOffsetCommit", 0, 5, 3),
    (ApiKey.DESCRIBE_ACLS, "DescribeAcls", 1, 3, 2),
    (ApiKey.CREATE_ACLS, "CreateAcls", 1, 3, 2),
    (ApiKey.DELETE_ACLS, "DeleteAcls", 1, 3, 2),
    (ApiKey.DESCRIBE_CONFIGS, "DescribeConfigs", 1, 4, 4),
    (ApiKey.ALTER_CONFIGS, "AlterConfigs", 0, 2, 2),
    (ApiKey.DESCRIBE_LOG_DIRS, "DescribeLogDirs", 1, 5, 2),
    (ApiKey.SASL_AUTHENTICATE, "SaslAuthenticate", 0, 2, 2),
    (ApiKey.CREATE_PARTITIONS, "CreatePartitions", 0, 3, 2),
    (ApiKey.DELETE_GROUPS, "DeleteGroups", 0, 2, 2),
    (ApiKey.ELECT_LEADERS, "ElectLeaders", 0, 2, 2),
    (ApiKey.INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", 0, 1, 1),
    (ApiKey.ALTER_PARTITION_REASSIGNMENTS, "AlterPartitionReassignments", 0, 1, 0),
    (ApiKey.LIST_PARTITION_REASSIGNMENTS, "ListPartitionReassignments", 0, 0, 0),
    (ApiKey.OFFSET_DELETE, "OffsetDelete", 0, 0, NEVER),
    (ApiKey.DESCRIBE_CLIENT_QUOTAS, "DescribeClientQuotas", 0, 1, 1),
    (ApiKey.ALTER_CLIENT_QUOTAS, "AlterClientQuotas", 0, 1, 1),
    (ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, "DescribeUserScramCredentials", 0, 0, 0),
    (ApiKey.ALTER_USER_SCRAM_CREDENTIALS, "AlterUserScramCredentials", 0, 0, 0),
    (ApiKey.DESCRIBE_QUORUM, "DescribeQuorum", 0, 2, 0),
    (ApiKey.ALTER_PARTITION, "AlterPartition", 2, 3, 0),
    (ApiKey.UPDATE_FEATURES, "UpdateFeatures", 0, 2, 0),
    (ApiKey.DESCRIBE_CLUSTER, "DescribeCluster", 0, 2, 0),
    (ApiKey.DESCRIBE_PRODUCERS, "DescribeProducers", 0, 0, 0),
    (ApiKey.UNREGISTER_BROKER, "UnregisterBroker", 0, 0, 0),
    (ApiKey.DESCRIBE_TRANSACTIONS, "DescribeTransactions", 0, 0, 0),
    (ApiKey.LIST_TRANSACTIONS, "ListTransactions", 0, 2, 0),
    (ApiKey.CONSUMER_GROUP_HEARTBEAT, "ConsumerGroupHeartbeat", 0, 1, 0),
    (ApiKey.CONSUMER_GROUP_DESCRIBE, "ConsumerGroupDescribe", 0, 1, 0),
    (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, "GetTelemetrySubscriptions", 0, 0, 0),
    (ApiKey.PUSH_TELEMETRY, "PushTelemetry", 0, 0, 0),
    (ApiKey.LIST_CONFIG_RESOURCES, "ListConfigResources", 0, 1, 0),
    (ApiKey.DESCRIBE_TOPIC_PARTITIONS, "DescribeTopicPartitions", 0, 0, 0),
)


def advertised(keys: Iterable[int]) -> list[tuple[int, int, int]]:
    """List what ApiVersions answers for a broker that handles `keys`.

    Returns:
        (key, min_version, max_version), ascending by key. Produce says min 0 although only 3 and
        up are decoded: librdkafka stops compressing without it (KAFKA-18659).
    """
    rows = []
    for key in sorted(keys):
        api = APIS[key]
        low = 0 if key == ApiKey.PRODUCE else api.min_version
        rows.append((int(key), low, api.max_version))
    return rows


@cache
def request_class(api_key: int) -> "type[Message]":
    """Import (at the first use) and return the request class of an API."""
    return _message_class(api_key, "Request")


@cache
def response_class(api_key: int) -> "type[Message]":
    """Import (at the first use) and return the response class of an API."""
    return _message_class(api_key, "Response")


def _message_class(api_key: int, suffix: str) -> "type[Message]":
    api = APIS[api_key]
    return cast("type[Message]", getattr(import_module(api.module), api.name + suffix))
