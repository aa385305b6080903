"""CreateTopics, DeleteTopics, CreatePartitions.

Each topic of a request succeeds or fails alone. An answer goes out when the store has committed
and the partitions serve; the request's timeout is not needed for that and is ignored.
Source: KIP-4, KIP-195, KIP-464, KIP-516, KIP-525.
"""

from fastmq.cluster import NewPartitions, NewTopic, TopicPlan
from fastmq.config import ConfigEntry, TopicConfig
from fastmq.errors import ErrorCode, KafkaError
from fastmq.ids import UUID_ZERO
from fastmq.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsResult,
)
from fastmq.protocol.messages.create_topics import (
    CreatableTopic,
    CreatedTopic,
    CreatedTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from fastmq.protocol.messages.delete_topics import (
    DeletedTopic,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request

__all__ = ["handle_create_partitions", "handle_create_topics", "handle_delete_topics"]


async def handle_create_topics(
    context: BrokerContext, request: Request, message: CreateTopicsRequest
) -> CreateTopicsResponse:
    """Create topics, or with `validate_only` say whether they could be."""
    plans = await context.topics.create(
        [_new_topic(topic) for topic in message.topics], validate_only=message.validate_only
    )
    described: dict[frozenset[tuple[str, str]], list[CreatedTopicConfig]] = {}
    return CreateTopicsResponse(
        topics=[_created(context, request.version, plan, described) for plan in plans]
    )


def _new_topic(topic: CreatableTopic) -> NewTopic:
    assignments: dict[int, list[int]] = {}
    for entry in topic.assignments:
        if entry.partition_index in assignments:
            # A gap in the numbering is what the planner refuses; so is one index given twice.
            assignments[-1] = entry.broker_ids
        assignments[entry.partition_index] = entry.broker_ids
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        assignments,
        {config.name: config.value for config in topic.configs},
    )


def _created(
    context: BrokerContext,
    version: int,
    plan: TopicPlan,
    described: dict[frozenset[tuple[str, str]], list[CreatedTopicConfig]],
) -> CreatedTopic:
    if plan.error is not None or plan.topic is None:
        error = plan.error or KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
        return CreatedTopic(
            name=plan.name, error_code=error.code, error_message=error.message or None, configs=None
        )
    created = CreatedTopic(
        name=plan.name,
        topic_id=plan.topic.id,
        num_partitions=len(plan.topic.partitions),
        replication_factor=plan.topic.replication_factor,
    )
    if version >= 5:
        # Thousands of topics with the same settings share one list.
        key = frozenset(plan.configs.items())
        if key not in described:
            config = TopicConfig.resolve(context.config, plan.configs)
            described[key] = [_config(entry) for entry in config.describe()]
        created.configs = described[key]
    return created


def _config(entry: ConfigEntry) -> CreatedTopicConfig:
    return CreatedTopicConfig(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
    )


async def handle_delete_topics(
    context: BrokerContext, request: Request, message: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    """Delete topics by name, or from version 6 on by name or id."""
    if not context.config.get_bool("delete.topic.enable"):
        raise KafkaError(ErrorCode.TOPIC_DELETION_DISABLED, "delete.topic.enable is false")
    if request.version < 6:
        wanted = [DeleteTopicState(name=name) for name in message.topic_names]
    else:
        wanted = message.topics
    names: dict[str, None] = {}
    ids: dict[bytes, None] = {}
    refused: list[DeletedTopic] = []
    for topic in wanted:
        has_name, has_id = topic.name is not None, topic.topic_id != UUID_ZERO
        duplicate = topic.name in names if has_name else topic.topic_id in ids
        if has_name == has_id or duplicate:
            refused.append(
                DeletedTopic(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    error_code=ErrorCode.INVALID_REQUEST,
                    error_message="give each topic once, by name or by id",
                )
            )
        elif topic.name is not None:
            names[topic.name] = None
        else:
            ids[topic.topic_id] = None
    plans = await context.topics.delete(names, ids)
    by_name, by_id = plans[: len(names)], plans[len(names) :]
    answers = [_deleted(plan, UUID_ZERO) for plan in by_name]
    answers += [_deleted(plan, topic_id) for plan, topic_id in zip(by_id, ids, strict=True)]
    return DeleteTopicsResponse(responses=[*answers, *refused])


def _deleted(plan: TopicPlan, asked_id: bytes) -> DeletedTopic:
    if plan.error is not None:
        return DeletedTopic(
            name=None if asked_id != UUID_ZERO else plan.name,
            topic_id=asked_id,
            error_code=plan.error.code,
            error_message=plan.error.message or None,
        )
    topic_id = UUID_ZERO if plan.topic is None else plan.topic.id
    return DeletedTopic(name=plan.name, topic_id=topic_id)


async def handle_create_partitions(
    context: BrokerContext, _request: Request, message: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    """Add partitions to topics."""
    plans = await context.topics.add_partitions(
        [
            NewPartitions(
                topic.name,
                topic.count,
                None
                if topic.assignments is None
                else [entry.broker_ids for entry in topic.assignments],
            )
            for topic in message.topics
        ],
        validate_only=message.validate_only,
    )
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsResult(
                name=plan.name,
                error_code=ErrorCode.NONE if plan.error is None else plan.error.code,
                error_message=None if plan.error is None else plan.error.message or None,
            )
            for plan in plans
        ]
    )
