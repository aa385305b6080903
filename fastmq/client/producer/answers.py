"""Reading Produce answers: which partition a row is about, and hints to new leaders (KIP-951)."""

from typing import TYPE_CHECKING, Final

from fastmq.client.metadata import ClusterMetadata, NodeAddress
from fastmq.errors import ErrorCode
from fastmq.ids import UUID_ZERO
from fastmq.protocol.messages.produce import ProducePartitionResponse, ProduceResponse

if TYPE_CHECKING:
    from fastmq.client.producer.partition import Partition

__all__ = ["SEQUENCE_ERRORS", "STALE_METADATA_ERRORS", "hinted_leader", "rows_by_partition"]

#: The broker's producer state does not fit the batch; see `partition.py`.
SEQUENCE_ERRORS: Final = frozenset(
    {
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
    }
)
STALE_METADATA_ERRORS: Final = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.NETWORK_EXCEPTION,
    }
)


def rows_by_partition(
    metadata: ClusterMetadata, response: ProduceResponse
) -> dict[tuple[str, int], ProducePartitionResponse]:
    """The rows of an answer by topic name and partition."""
    rows = {}
    for topic in response.responses:
        name: str | None = topic.name
        if topic.topic_id != UUID_ZERO:
            name = metadata.topic_name(topic.topic_id)
        if name is not None:
            for row in topic.partition_responses:
                rows[name, row.index] = row
    return rows


def hinted_leader(
    metadata: ClusterMetadata,
    partition: "Partition",
    row: ProducePartitionResponse | None,
    response: ProduceResponse,
) -> bool:
    """Take in the new leader that a refusal names; returns whether it named one."""
    if row is None or row.current_leader is None:
        return False
    leader = row.current_leader
    endpoints = [
        NodeAddress(node.node_id, node.host, node.port, node.rack)
        for node in response.node_endpoints
    ]
    return metadata.update_leader(
        partition.topic, partition.index, leader.leader_id, leader.leader_epoch, endpoints
    )
