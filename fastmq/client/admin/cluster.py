"""The cluster and its disks. Pure. Source: KIP-113, 700, 827, 1066."""

from collections.abc import Iterable, Sequence
from typing import Final

from fastmq.client.admin import configs
from fastmq.client.admin.refusals import refusal
from fastmq.client.admin.results import BrokerInfo, ClusterDescription, LogDir, ReplicaSize
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.admin.topics import metadata_of
from fastmq.client.calls import AnyNode, Node, Request
from fastmq.errors import ErrorCode, error_code
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.describe_cluster import DescribeClusterRequest
from fastmq.protocol.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsResult,
)

__all__ = ["CORDONED", "cordon_broker", "describe_cluster", "describe_log_dirs"]

CORDONED: Final = "cordoned.log.dirs"

# Brokers that do not serve are told of from here on (KIP-1073).
_FENCED_FROM = 2


def describe_cluster(*, fenced: bool = False) -> Steps[ClusterDescription]:
    """Describe the brokers, sorted by id; those that do not serve, too, where it is wanted."""

    def build(version: int) -> DescribeClusterRequest:
        return DescribeClusterRequest(include_fenced_brokers=fenced and version >= _FENCED_FROM)

    (response,) = yield [Ask(AnyNode(), Request(ApiKey.DESCRIBE_CLUSTER, build))]
    if response.error_code:
        raise refusal(response.error_code, "the cluster", response.error_message)
    brokers = [
        BrokerInfo(row.broker_id, row.host, row.port, row.rack, row.is_fenced)
        for row in response.brokers
    ]
    return ClusterDescription(
        response.cluster_id,
        response.controller_id,
        tuple(sorted(brokers, key=lambda one: one.node_id)),
    )


def describe_log_dirs(node_ids: Iterable[int] | None) -> Steps[list[LogDir]]:
    """Describe the log directories of brokers (None: all)."""
    if node_ids is None:
        response = yield from metadata_of([])
        nodes = sorted(row.node_id for row in response.brokers)
    else:
        nodes = list(node_ids)
    responses = yield [Ask(Node(node_id), DescribeLogDirsRequest(topics=None)) for node_id in nodes]
    found = []
    for node_id, response in zip(nodes, responses, strict=True):
        if response.error_code:
            raise refusal(response.error_code, f"log directories of broker {node_id}")
        found += [_log_dir(node_id, row) for row in response.results]
    return found


def cordon_broker(node_id: int, directories: Sequence[str]) -> Steps[None]:
    """Let directories of a broker get no new partitions ("*": all; none: undo that)."""
    found = yield from describe_cluster(fenced=True)
    (is_fenced,) = [one.is_fenced for one in found.brokers if one.node_id == node_id] or [False]
    yield from configs.alter(
        configs.broker(node_id),
        set_={CORDONED: ",".join(directories)} if directories else None,
        delete=() if directories else (CORDONED,),
        validate_only=False,
        anywhere=is_fenced,
    )


def _log_dir(node_id: int, row: DescribeLogDirsResult) -> LogDir:
    replicas = [
        ReplicaSize(topic.name, part.partition_index, part.partition_size, part.offset_lag)
        for topic in row.topics
        for part in topic.partitions
    ]
    error = error_code(row.error_code)
    return LogDir(
        node_id,
        row.log_dir,
        "" if error == ErrorCode.NONE else error.name,
        row.total_bytes,
        row.usable_bytes,
        tuple(sorted(replicas, key=lambda one: (one.topic, one.partition))),
        row.is_cordoned,
    )
