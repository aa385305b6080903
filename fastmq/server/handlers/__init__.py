"""One function per API, grouped by area, and the table that finds them.

A handler is called with the broker's context, the request and its decoded message. It returns the
response; an inline one may return DEFERRED instead and answer later. What it raises becomes an
error response in `fastmq.server.dispatch`. Errors of single topics or partitions are put into the
response by the handler itself.

ApiVersions advertises what `ROUTES` does not keep between brokers: such a row means that the API is
finished.
"""

from typing import Final

from fastmq.protocol.api import ApiKey
from fastmq.server.routes import Kind, Route

__all__ = ["ADVERTISED", "ROUTES"]


def _route(kind: Kind, area: str, function: str, *, advertised: bool = True) -> Route:
    return Route(kind, f"fastmq.server.handlers.{area}", function, advertised)


ROUTES: Final[dict[int, Route]] = {
    ApiKey.PRODUCE: _route(Kind.DATA, "produce", "handle_produce"),
    ApiKey.FETCH: _route(Kind.DATA, "fetch", "handle_fetch"),
    ApiKey.LIST_OFFSETS: _route(Kind.SLOW, "offsets", "handle_list_offsets"),
    ApiKey.METADATA: _route(Kind.INLINE, "metadata", "handle_metadata"),
    ApiKey.OFFSET_COMMIT: _route(Kind.INLINE, "groups", "handle_offset_commit"),
    ApiKey.OFFSET_FETCH: _route(Kind.INLINE, "groups", "handle_offset_fetch"),
    ApiKey.FIND_COORDINATOR: _route(Kind.INLINE, "groups", "handle_find_coordinator"),
    ApiKey.JOIN_GROUP: _route(Kind.INLINE, "groups", "handle_join_group"),
    ApiKey.HEARTBEAT: _route(Kind.INLINE, "groups", "handle_heartbeat"),
    ApiKey.LEAVE_GROUP: _route(Kind.INLINE, "groups", "handle_leave_group"),
    ApiKey.SYNC_GROUP: _route(Kind.INLINE, "groups", "handle_sync_group"),
    ApiKey.DESCRIBE_GROUPS: _route(Kind.INLINE, "groups", "handle_describe_groups"),
    ApiKey.LIST_GROUPS: _route(Kind.INLINE, "groups", "handle_list_groups"),
    ApiKey.API_VERSIONS: _route(Kind.INLINE, "api_versions", "handle_api_versions"),
    ApiKey.CREATE_TOPICS: _route(Kind.SLOW, "topics", "handle_create_topics"),
    ApiKey.DELETE_TOPICS: _route(Kind.SLOW, "topics", "handle_delete_topics"),
    ApiKey.DELETE_RECORDS: _route(Kind.SLOW, "offsets", "handle_delete_records"),
    ApiKey.INIT_PRODUCER_ID: _route(Kind.INLINE, "producer_ids", "handle_init_producer_id"),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: _route(Kind.SLOW, "offsets", "handle_offset_for_leader_epoch"),
    ApiKey.DESCRIBE_CONFIGS: _route(Kind.INLINE, "configs", "handle_describe_configs"),
    ApiKey.ALTER_CONFIGS: _route(Kind.SLOW, "configs", "handle_alter_configs"),
    ApiKey.DESCRIBE_LOG_DIRS: _route(Kind.SLOW, "cluster", "handle_describe_log_dirs"),
    ApiKey.CREATE_PARTITIONS: _route(Kind.SLOW, "topics", "handle_create_partitions"),
    ApiKey.DELETE_GROUPS: _route(Kind.INLINE, "groups", "handle_delete_groups"),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: _route(
        Kind.SLOW, "configs", "handle_incremental_alter_configs"
    ),
    ApiKey.OFFSET_DELETE: _route(Kind.INLINE, "groups", "handle_offset_delete"),
    ApiKey.DESCRIBE_CLUSTER: _route(Kind.INLINE, "cluster", "handle_describe_cluster"),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: _route(
        Kind.INLINE, "metadata", "handle_describe_topic_partitions"
    ),
    ApiKey.ELECT_LEADERS: _route(Kind.SLOW, "elections", "handle_elect_leaders"),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: _route(
        Kind.SLOW, "reassignments", "handle_alter_partition_reassignments"
    ),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: _route(
        Kind.INLINE, "reassignments", "handle_list_partition_reassignments"
    ),
    ApiKey.UNREGISTER_BROKER: _route(Kind.SLOW, "cluster", "handle_unregister_broker"),
    # Refused: not to be found makes librdkafka look for another coordinator for ever.
    ApiKey.CONSUMER_GROUP_HEARTBEAT: _route(
        Kind.INLINE, "groups", "handle_consumer_group_heartbeat"
    ),
    # Between brokers.
    ApiKey.ALTER_PARTITION: _route(
        Kind.SLOW, "alter_partition", "handle_alter_partition", advertised=False
    ),
    ApiKey.SASL_HANDSHAKE: _route(Kind.INLINE, "peers", "handle_sasl_handshake", advertised=False),
    ApiKey.SASL_AUTHENTICATE: _route(
        Kind.INLINE, "peers", "handle_sasl_authenticate", advertised=False
    ),
}

#: What ApiVersions tells clients of.
ADVERTISED: Final = tuple(key for key, route in ROUTES.items() if route.advertised)
