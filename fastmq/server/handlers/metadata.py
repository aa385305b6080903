"""Metadata and DescribeTopicPartitions: who leads what, at which address.

The addresses are those of the listener that the request came in on. A topic that the request may
create is created before the answer, so that the answer already names its leaders.

Answers to one common question, all topics, are kept encoded until the image changes.
Source: KIP-4, KIP-430, KIP-516, KIP-966.
"""

from collections.abc import Iterable

from fastmq.cluster.names import CONSUMER_OFFSETS, is_internal_topic
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.ids import UUID_ZERO
from fastmq.limits import DESCRIBED_PARTITIONS_MAX, METADATA_TOPICS_MAX
from fastmq.protocol import ApiKey, encode_response
from fastmq.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsNextCursor,
    DescribeTopicPartitionsPartition,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsTopic,
)
from fastmq.protocol.messages.metadata import (
    MetadataBroker,
    MetadataPartition,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataTopic,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request
from fastmq.server.routes import DEFERRED, Deferred
from fastmq.server.topics import Topic

__all__ = ["handle_describe_topic_partitions", "handle_metadata"]

# Operations that may be shown without an authorizer: everything that applies to the resource, as
# bits 1 << operation (protocol guide: READ 3 .. ALTER_CONFIGS 11).
TOPIC_OPERATIONS = sum(1 << op for op in (3, 4, 5, 6, 7, 8, 10, 11))
CLUSTER_OPERATIONS = sum(1 << op for op in (5, 7, 8, 9, 10, 11, 12))
OPERATIONS_NOT_ASKED = -(1 << 31)
_CORRELATION_SIZE = 4


def handle_metadata(
    context: BrokerContext, request: Request, message: MetadataRequest
) -> MetadataResponse | Deferred:
    """Answer with brokers and the topics asked for, creating those that may be created."""
    asked = message.topics
    if asked is not None and len(asked) > METADATA_TOPICS_MAX:
        # Not an answer for each: all others would wait for it.
        raise ProtocolError(f"a Metadata request names {len(asked)} topics")
    if asked is None or (request.version == 0 and not asked):
        return _all_topics(context, request, message)
    missing = _to_create(context, request, message, asked)
    if not missing:
        return _answer(context, request, message, asked, {})

    async def create_and_answer() -> MetadataResponse:
        if CONSUMER_OFFSETS in missing:
            await context.create_offsets_topic()
        errors = await context.topics.create_automatically(
            name for name in missing if not is_internal_topic(name)
        )
        return _answer(context, request, message, asked, errors)

    return request.defer(create_and_answer)


def _all_topics(context: BrokerContext, request: Request, message: MetadataRequest) -> Deferred:
    """Answer with every topic, from bytes that are kept until a topic changes."""
    key = (
        request.version,
        request.connection.listener.listener_id,
        message.include_topic_authorized_operations,
        message.include_cluster_authorized_operations,
    )
    body = context.metadata_cache.get(key, context.topics.generation)
    if body is None:
        fenced = context.fenced_brokers()
        topics = [_describe(topic, message, fenced) for topic in context.topics]
        response = _respond(context, request, message, topics)
        body = encode_response(ApiKey.METADATA, request.version, 0, response)[_CORRELATION_SIZE:]
        context.metadata_cache.put(key, body)
    request.reply_encoded(request.correlation_id.to_bytes(_CORRELATION_SIZE, signed=True) + body)
    return DEFERRED


def _to_create(
    context: BrokerContext,
    request: Request,
    message: MetadataRequest,
    asked: Iterable[MetadataRequestTopic],
) -> list[str]:
    allowed = request.version < 4 or message.allow_auto_topic_creation
    if not allowed or not context.config.get_bool("auto.create.topics.enable"):
        return []
    names = dict.fromkeys(t.name for t in asked if t.name and t.topic_id == UUID_ZERO)
    return [name for name in names if context.topics.get(name) is None]


def _answer(
    context: BrokerContext,
    request: Request,
    message: MetadataRequest,
    asked: Iterable[MetadataRequestTopic],
    errors: dict[str, ErrorCode],
) -> MetadataResponse:
    found = []
    for wanted in asked:
        if wanted.topic_id != UUID_ZERO:
            topic = context.topics.by_id(wanted.topic_id)
            if topic is None:
                found.append(
                    MetadataTopic(
                        error_code=ErrorCode.UNKNOWN_TOPIC_ID,
                        name=None if request.version >= 12 else "",
                        topic_id=wanted.topic_id,
                    )
                )
                continue
        else:
            name = wanted.name or ""
            topic = context.topics.get(name)
            if topic is None:
                code = errors.get(name) or context.topics.missing_code(name)
                found.append(MetadataTopic(error_code=code, name=name))
                continue
        found.append(_describe(topic, message, context.fenced_brokers()))
    return _respond(context, request, message, found)


def _respond(
    context: BrokerContext,
    request: Request,
    message: MetadataRequest,
    topics: list[MetadataTopic],
) -> MetadataResponse:
    return MetadataResponse(
        brokers=[
            MetadataBroker(node_id=b.node_id, host=b.host, port=b.port, rack=b.rack)
            for b in context.brokers(request.connection.listener)
        ],
        cluster_id=context.cluster_id,
        controller_id=context.controller_id,
        topics=topics,
        cluster_authorized_operations=(
            CLUSTER_OPERATIONS
            if 8 <= request.version <= 10 and message.include_cluster_authorized_operations
            else OPERATIONS_NOT_ASKED
        ),
    )


def _describe(topic: Topic, message: MetadataRequest, fenced: frozenset[int]) -> MetadataTopic:
    return MetadataTopic(
        error_code=ErrorCode.NONE,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[
            MetadataPartition(
                error_code=(
                    ErrorCode.NONE if state.leader >= 0 else ErrorCode.LEADER_NOT_AVAILABLE
                ),
                partition_index=index,
                leader_id=state.leader,
                leader_epoch=state.leader_epoch,
                replica_nodes=list(state.replicas),
                isr_nodes=list(state.isr),
                offline_replicas=[one for one in state.replicas if one in fenced],
            )
            for index, state in enumerate(topic.states)
        ],
        topic_authorized_operations=(
            TOPIC_OPERATIONS
            if message.include_topic_authorized_operations
            else OPERATIONS_NOT_ASKED
        ),
    )


def handle_describe_topic_partitions(
    context: BrokerContext, _request: Request, message: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    """Answer one page of partitions, topics in order of their names."""
    limit = min(
        max(message.response_partition_limit, 1),
        context.config.get_int("max.request.partition.size.limit"),
        DESCRIBED_PARTITIONS_MAX,
    )
    names = sorted({t.name for t in message.topics} or {t.name for t in context.topics})
    first_index = 0
    if message.cursor is not None:
        if message.cursor.partition_index < 0:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "the cursor's partition is negative")
        names = [name for name in names if name >= message.cursor.topic_name]
        if names and names[0] == message.cursor.topic_name:
            first_index = message.cursor.partition_index
    response = DescribeTopicPartitionsResponse(topics=[])
    for name in names:
        if limit <= 0:
            response.next_cursor = DescribeTopicPartitionsNextCursor(
                topic_name=name, partition_index=first_index
            )
            break
        topic = context.topics.get(name)
        if topic is None:
            response.topics.append(
                DescribeTopicPartitionsTopic(
                    error_code=context.topics.missing_code(name), name=name
                )
            )
            continue
        page = _page(topic, first_index, limit, context.fenced_brokers())
        response.topics.append(page)
        limit -= len(page.partitions)
        following = first_index + len(page.partitions)
        if following < len(topic.states):
            response.next_cursor = DescribeTopicPartitionsNextCursor(
                topic_name=name, partition_index=following
            )
            break
        first_index = 0
    return response


def _page(
    topic: Topic, first_index: int, limit: int, fenced: frozenset[int]
) -> DescribeTopicPartitionsTopic:
    return DescribeTopicPartitionsTopic(
        error_code=ErrorCode.NONE,
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[
            DescribeTopicPartitionsPartition(
                error_code=(
                    ErrorCode.NONE if state.leader >= 0 else ErrorCode.LEADER_NOT_AVAILABLE
                ),
                partition_index=index,
                leader_id=state.leader,
                leader_epoch=state.leader_epoch,
                replica_nodes=list(state.replicas),
                isr_nodes=list(state.isr),
                eligible_leader_replicas=list(state.elr),
                last_known_elr=[state.last_known] if state.last_known >= 0 else [],
                offline_replicas=[one for one in state.replicas if one in fenced],
            )
            for index, state in list(enumerate(topic.states))[first_index : first_index + limit]
        ],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )
