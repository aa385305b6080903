"""DescribeCluster, DescribeLogDirs, UnregisterBroker.

Source: KIP-700, KIP-919, KIP-1073, KIP-113, KIP-827, KIP-1066, KIP-631.
"""

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from fastmq.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopicResult,
)
from fastmq.protocol.messages.unregister_broker import (
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request
from fastmq.server.handlers.metadata import CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED

__all__ = ["handle_describe_cluster", "handle_describe_log_dirs", "handle_unregister_broker"]

_ENDPOINT_BROKERS = 1


def handle_describe_cluster(
    context: BrokerContext, request: Request, message: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Answer with the brokers at the addresses of the listener that was asked."""
    if message.endpoint_type != _ENDPOINT_BROKERS:
        code = (
            ErrorCode.MISMATCHED_ENDPOINT_TYPE
            if message.endpoint_type == 2
            else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
        )
        return DescribeClusterResponse(
            error_code=code, error_message="this is the endpoint of a broker"
        )
    brokers = [
        DescribeClusterBroker(broker_id=b.node_id, host=b.host, port=b.port, rack=b.rack)
        for b in context.brokers(request.connection.listener)
    ]
    if message.include_fenced_brokers:
        brokers += _fenced(context, request)
    return DescribeClusterResponse(
        error_message=None,
        cluster_id=context.cluster_id,
        controller_id=context.controller_id,
        brokers=brokers,
        cluster_authorized_operations=(
            CLUSTER_OPERATIONS
            if message.include_cluster_authorized_operations
            else OPERATIONS_NOT_ASKED
        ),
    )


def _fenced(context: BrokerContext, request: Request) -> list[DescribeClusterBroker]:
    found = []
    for broker_id in sorted(context.fenced_brokers()):
        broker = context.topics.image.brokers[broker_id]
        endpoint = broker.endpoint(request.connection.listener.name)
        row = DescribeClusterBroker(broker_id=broker_id, rack=broker.rack, is_fenced=True)
        if endpoint is not None:
            row.host, row.port = endpoint.host, endpoint.port
        found.append(row)
    return found


async def handle_unregister_broker(
    context: BrokerContext, _request: Request, message: UnregisterBrokerRequest
) -> UnregisterBrokerResponse:
    """Remove a broker that has no partitions any more."""
    if context.membership is None and message.broker_id == context.node_id:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "the only broker cannot be removed")
    await context.topics.unregister(message.broker_id)
    return UnregisterBrokerResponse(error_message=None)


async def handle_describe_log_dirs(
    context: BrokerContext, _request: Request, message: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    """Answer with the size of each partition asked for (null: all) by directory."""
    wanted: list[Partition] = []
    if message.topics is None:
        wanted = context.topics.handles()
    else:
        for asked in message.topics:
            topic = context.topics.get(asked.topic)
            if topic is not None:
                for index in dict.fromkeys(asked.partitions):
                    handle = topic.handle(index)
                    if handle is not None:
                        wanted.append(handle)
    results = await trio.to_thread.run_sync(_describe, context, wanted)
    return DescribeLogDirsResponse(results=results)


def _describe(context: BrokerContext, wanted: list[Partition]) -> list[DescribeLogDirsResult]:
    by_dir: dict[int, dict[str, list[DescribeLogDirsPartition]]] = {}
    for handle in wanted:
        try:
            size = handle.size_bytes()
        except PartitionError:
            continue
        partitions = by_dir.setdefault(handle.dir_id, {}).setdefault(handle.topic, [])
        partitions.append(
            DescribeLogDirsPartition(
                partition_index=handle.index,
                partition_size=size,
                offset_lag=handle.lag(),
                is_future_key=False,
            )
        )
    row = context.topics.image.brokers.get(context.node_id)
    cordoned = () if row is None else row.cordoned
    results = []
    for dir_id, directory in enumerate(context.storage.directories):
        try:
            total, usable = directory.space()
        except OSError:
            total, usable = -1, -1
        topics = by_dir.get(dir_id, {})
        results.append(
            DescribeLogDirsResult(
                error_code=ErrorCode.NONE if directory.is_online else ErrorCode.KAFKA_STORAGE_ERROR,
                log_dir=directory.path,
                topics=[
                    DescribeLogDirsTopicResult(name=name, partitions=partitions)
                    for name, partitions in topics.items()
                ],
                total_bytes=total,
                usable_bytes=usable,
                is_cordoned=directory.id in cordoned,
            )
        )
    return results
