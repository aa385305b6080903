"""Topics: create, delete, list, describe, more partitions. Pure. Source: KIP-4, 195, 516."""

from collections.abc import Iterable, Sequence

from fastmq.client.admin.refusals import moved, raise_failures, refusal
from fastmq.client.admin.results import (
    CreatedTopic,
    NewTopic,
    PartitionDescription,
    TopicDescription,
)
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.calls import AnyNode, Controller, Request
from fastmq.errors import ErrorCode, KafkaError
from fastmq.ids import uuid_text
from fastmq.protocol import ApiKey, Message
from fastmq.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastmq.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicAssignment,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from fastmq.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastmq.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataTopic,
)

__all__ = [
    "add_partitions",
    "config_text",
    "create_topics",
    "delete_topics",
    "describe_topics",
    "metadata_of",
]

# Counts of -1 mean the broker's default from here on (KIP-464).
_DEFAULT_COUNTS_FROM = 4
_DELETE_STATES_FROM = 6
# A name can be asked for without making the topic from here on.
_METADATA_FROM = 4


def config_text(value: str | float | bool) -> str:
    """Return a setting's value as Kafka writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def create_topics(
    topics: Iterable[NewTopic], *, if_not_exists: bool, validate_only: bool, timeout_ms: int
) -> Steps[list[CreatedTopic]]:
    """Create topics; see `fastmq.Admin.create_topics`."""
    wanted = list(topics)
    message = CreateTopicsRequest(
        topics=[_creatable(topic) for topic in wanted],
        timeout_ms=timeout_ms,
        validate_only=validate_only,
    )
    needs_defaults = any(
        t.assignments is None and None in (t.partitions, t.replication_factor) for t in wanted
    )
    low = _DEFAULT_COUNTS_FROM if needs_defaults else 1
    request = Request(ApiKey.CREATE_TOPICS, lambda _: message, low=low)
    (response,) = yield [
        Ask(Controller(), request, lambda r: moved([t.error_code for t in r.topics]))
    ]
    created = []
    failures: dict[str, KafkaError] = {}
    for row in response.topics:
        existed = row.error_code == ErrorCode.TOPIC_ALREADY_EXISTS and if_not_exists
        if row.error_code and not existed:
            failures[row.name] = refusal(row.error_code, f"topic {row.name}", row.error_message)
            continue
        created.append(
            CreatedTopic(
                row.name,
                uuid_text(row.topic_id),
                row.num_partitions,
                row.replication_factor,
                existed,
            )
        )
    raise_failures(failures)
    return created


def _creatable(topic: NewTopic) -> CreatableTopic:
    by_hand = topic.assignments is not None
    return CreatableTopic(
        name=topic.name,
        num_partitions=-1 if by_hand or topic.partitions is None else topic.partitions,
        replication_factor=(
            -1 if by_hand or topic.replication_factor is None else topic.replication_factor
        ),
        assignments=[
            CreatableTopicAssignment(partition_index=index, broker_ids=list(brokers))
            for index, brokers in enumerate(topic.assignments or ())
        ],
        configs=[
            CreatableTopicConfig(name=name, value=config_text(value))
            for name, value in topic.config.items()
        ],
    )


def delete_topics(names: Sequence[str], *, if_exists: bool, timeout_ms: int) -> Steps[None]:
    """Delete topics by name."""

    def build(version: int) -> Message:
        if version >= _DELETE_STATES_FROM:
            states = [DeleteTopicState(name=name) for name in names]
            return DeleteTopicsRequest(topics=states, timeout_ms=timeout_ms)
        return DeleteTopicsRequest(topic_names=list(names), timeout_ms=timeout_ms)

    (response,) = yield [
        Ask(
            Controller(),
            Request(ApiKey.DELETE_TOPICS, build),
            lambda r: moved([t.error_code for t in r.responses]),
        )
    ]
    failures = {}
    for row in response.responses:
        missing = row.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and if_exists
        if row.error_code and not missing:
            failures[row.name] = refusal(row.error_code, f"topic {row.name}", row.error_message)
    raise_failures(failures)


def add_partitions(
    topic: str, total: int, *, assignments: None, validate_only: bool, timeout_ms: int
) -> Steps[None]:
    """Raise a topic's number of partitions to `total`."""
    message = CreatePartitionsRequest(
        topics=[CreatePartitionsTopic(name=topic, count=total, assignments=assignments)],
        timeout_ms=timeout_ms,
        validate_only=validate_only,
    )
    (response,) = yield [
        Ask(Controller(), message, lambda r: moved([t.error_code for t in r.results]))
    ]
    for row in response.results:
        if row.error_code:
            raise refusal(row.error_code, f"topic {row.name}", row.error_message)


def metadata_of(names: Iterable[str] | None) -> Steps[MetadataResponse]:
    """Ask any broker for topics (None: all) without making those that are missing."""
    message = MetadataRequest(
        topics=None if names is None else [MetadataRequestTopic(name=name) for name in names],
        allow_auto_topic_creation=False,
    )
    request = Request(ApiKey.METADATA, lambda _: message, low=_METADATA_FROM)
    (response,) = yield [Ask(AnyNode(), request)]
    assert isinstance(response, MetadataResponse)
    return response


def describe_topics(
    names: Sequence[str] | None, *, internal: bool = True
) -> Steps[list[TopicDescription]]:
    """Describe topics (None: all), sorted by name when all are asked for."""
    response = yield from metadata_of(names)
    failures: dict[str, KafkaError] = {}
    found: dict[str, TopicDescription] = {}
    for row in response.topics:
        name = row.name or ""
        if row.error_code and (names is not None or not row.partitions):
            failures[name] = refusal(row.error_code, f"topic {name}")
        elif internal or not row.is_internal:
            found[name] = _description(name, row)
    if names is None:
        return sorted(found.values(), key=lambda topic: topic.name)
    raise_failures(failures)
    return [found[name] for name in dict.fromkeys(names) if name in found]


def _description(name: str, row: MetadataTopic) -> TopicDescription:
    partitions = [
        PartitionDescription(
            part.partition_index,
            part.leader_id,
            part.leader_epoch,
            tuple(part.replica_nodes),
            tuple(part.isr_nodes),
            tuple(part.offline_replicas),
        )
        for part in sorted(row.partitions, key=lambda part: part.partition_index)
    ]
    return TopicDescription(name, uuid_text(row.topic_id), row.is_internal, tuple(partitions))
