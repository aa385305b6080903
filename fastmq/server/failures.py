"""Responses that refuse a whole request with one error code, for every API that is served.

The dispatcher uses them for whatever a handler raises. Where an API has no error field at the top,
each topic, partition, group or resource of the request gets the code; a request for everything is
then answered with an empty list, as there is no other way to say it.
"""

import struct
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from fastmq.errors import ErrorCode
from fastmq.protocol import Message, response_class
from fastmq.protocol.api import APIS, ApiKey, advertised

__all__ = ["error_response", "unsupported_api_versions"]

# Any: the messages come in as any of thirty classes and each builder knows its own; naming them
# here would import every schema at the first error.
_Builder = Callable[[Any, int, ErrorCode, str], Message]

_GROUP_KEYS = frozenset(
    {
        ApiKey.JOIN_GROUP,
        ApiKey.SYNC_GROUP,
        ApiKey.HEARTBEAT,
        ApiKey.LEAVE_GROUP,
        ApiKey.OFFSET_COMMIT,
        ApiKey.OFFSET_FETCH,
        ApiKey.OFFSET_DELETE,
        ApiKey.DESCRIBE_GROUPS,
        ApiKey.LIST_GROUPS,
        ApiKey.DELETE_GROUPS,
    }
)


def error_response(
    api_key: int, version: int, request: Message, code: ErrorCode, text: str = ""
) -> Message:
    """Build the response that refuses `request`.

    Args:
        api_key: a served API.
        version: of the request.
        request: decoded.
        code: what to answer, not NONE.
        text: for people; sent where the API has room for it.
    """
    if api_key in _GROUP_KEYS:
        from fastmq.coordinator.group import error_response as group_error

        response = group_error(request, version, code)
        assert isinstance(response, Message)
        return response
    builder = _BUILDERS.get(api_key)
    if builder is not None:
        return builder(request, version, code, text)
    # Any: the class is that of whatever API this is; all of these have the field at the top.
    response_type: Any = response_class(api_key)
    refusal: Message = response_type(error_code=code)
    if hasattr(refusal, "error_message"):
        refusal.error_message = text or None
    return refusal


def unsupported_api_versions(correlation_id: int, served: Iterable[int]) -> bytes:
    """Encode the version 0 answer to an ApiVersions request that is newer than ours: error 35 and
    all our ranges, so that the client asks again with a version that we know (KIP-511).
    """
    rows = advertised(served)
    body = struct.pack(">ihi", correlation_id, ErrorCode.UNSUPPORTED_VERSION, len(rows))
    return body + b"".join(struct.pack(">hhh", *row) for row in rows)


def _names(api_key: int) -> Any:
    """Return the module with the message classes of an API."""
    return import_module(APIS[api_key].module)


def _metadata(request: Any, version: int, code: ErrorCode, _text: str) -> Message:
    m = _names(ApiKey.METADATA)
    topics = [
        m.MetadataTopic(
            error_code=code, name=t.name if version >= 12 else t.name or "", topic_id=t.topic_id
        )
        for t in request.topics or ()
    ]
    response: Message = m.MetadataResponse(topics=topics, error_code=code)
    return response


def _list_offsets(request: Any, _version: int, code: ErrorCode, _text: str) -> Message:
    m = _names(ApiKey.LIST_OFFSETS)
    response: Message = m.ListOffsetsResponse(
        topics=[
            m.ListOffsetsTopicResponse(
                name=t.name,
                partitions=[
                    m.ListOffsetsPartitionResponse(
                        partition_index=p.partition_index, error_code=code
                    )
                    for p in t.partitions
                ],
            )
            for t in request.topics
        ]
    )
    return response


def _find_coordinator(request: Any, version: int, code: ErrorCode, text: str) -> Message:
    m = _names(ApiKey.FIND_COORDINATOR)
    response: Message
    if version < 4:
        response = m.FindCoordinatorResponse(
            error_code=code, error_message=text or None, node_id=-1, host="", port=-1
        )
    else:
        response = m.FindCoordinatorResponse(
            coordinators=[
                m.FoundCoordinator(
                    key=key,
                    node_id=-1,
                    host="",
                    port=-1,
                    error_code=code,
                    error_message=text or None,
                )
                for key in request.coordinator_keys
            ]
        )
    return response


def _produce(request: Any, _version: int, code: ErrorCode, text: str) -> Message:
    m = _names(ApiKey.PRODUCE)
    response: Message = m.ProduceResponse(
        responses=[
            m.ProduceTopicResponse(
                name=t.name,
                topic_id=t.topic_id,
                partition_responses=[
                    m.ProducePartitionResponse(
                        index=p.index, error_code=code, base_offset=-1, error_message=text or None
                    )
                    for p in t.partition_data
                ],
            )
            for t in request.topic_data
        ]
    )
    return response


def _fetch(request: Any, version: int, code: ErrorCode, _text: str) -> Message:
    m = _names(ApiKey.FETCH)
    response: Message
    if version >= 7:
        response = m.FetchResponse(error_code=code)
        return response
    response = m.FetchResponse(
        responses=[
            m.FetchTopicResponse(
                topic=t.topic,
                partitions=[
                    m.FetchPartitionData(
                        partition_index=p.partition, error_code=code, high_watermark=-1
                    )
                    for p in t.partitions
                ],
            )
            for t in request.topics
        ]
    )
    return response


def _create_topics(request: Any, _version: int, code: ErrorCode, text: str) -> Message:
    m = _names(ApiKey.CREATE_TOPICS)
    response: Message = m.CreateTopicsResponse(
        topics=[
            m.CreatedTopic(name=t.name, error_code=code, error_message=text or None, configs=None)
            for t in request.topics
        ]
    )
    return response


def _create_partitions(request: Any, _version: int, code: ErrorCode, text: str) -> Message:
    m = _names(ApiKey.CREATE_PARTITIONS)
    response: Message = m.CreatePartitionsResponse(
        results=[
            m.CreatePartitionsResult(name=t.name, error_code=code, error_message=text or None)
            for t in request.topics
        ]
    )
    return response


def _delete_topics(request: Any, version: int, code: ErrorCode, text: str) -> Message:
    m = _names(ApiKey.DELETE_TOPICS)
    wanted = (
        [(t.name, t.topic_id) for t in request.topics]
        if version >= 6
        else [(name, bytes(16)) for name in request.topic_names]
    )
    response: Message = m.DeleteTopicsResponse(
        responses=[
            m.DeletedTopic(name=name, topic_id=id_, error_code=code, error_message=text or None)
            for name, id_ in wanted
        ]
    )
    return response


def _delete_records(request: Any, _version: int, code: ErrorCode, _text: str) -> Message:
    m = _names(ApiKey.DELETE_RECORDS)
    response: Message = m.DeleteRecordsResponse(
        topics=[
            m.DeleteRecordsTopicResult(
                name=t.name,
                partitions=[
                    m.DeleteRecordsPartitionResult(
                        partition_index=p.partition_index, low_watermark=-1, error_code=code
                    )
                    for p in t.partitions
                ],
            )
            for t in request.topics
        ]
    )
    return response


def _offset_for_leader_epoch(request: Any, _version: int, code: ErrorCode, _text: str) -> Message:
    m = _names(ApiKey.OFFSET_FOR_LEADER_EPOCH)
    response: Message = m.OffsetForLeaderEpochResponse(
        topics=[
            m.OffsetForLeaderEpochTopicResult(
                topic=t.topic,
                partitions=[
                    m.OffsetForLeaderEpochResult(partition=p.partition, error_code=code)
                    for p in t.partitions
                ],
            )
            for t in request.topics
        ]
    )
    return response


def _describe_configs(request: Any, _version: int, code: ErrorCode, text: str) -> Message:
    m = _names(ApiKey.DESCRIBE_CONFIGS)
    response: Message = m.DescribeConfigsResponse(
        results=[
            m.DescribeConfigsResult(
                error_code=code,
                error_message=text or None,
                resource_type=r.resource_type,
                resource_name=r.resource_name,
            )
            for r in request.resources
        ]
    )
    return response


def _alter_configs(api_key: int, class_name: str, result_name: str) -> _Builder:
    def build(request: Any, _version: int, code: ErrorCode, text: str) -> Message:
        m = _names(api_key)
        response: Message = getattr(m, class_name)(
            responses=[
                getattr(m, result_name)(
                    error_code=code,
                    error_message=text or None,
                    resource_type=r.resource_type,
                    resource_name=r.resource_name,
                )
                for r in request.resources
            ]
        )
        return response

    return build


def _describe_topic_partitions(request: Any, _version: int, code: ErrorCode, _t: str) -> Message:
    m = _names(ApiKey.DESCRIBE_TOPIC_PARTITIONS)
    response: Message = m.DescribeTopicPartitionsResponse(
        topics=[
            m.DescribeTopicPartitionsTopic(error_code=code, name=t.name) for t in request.topics
        ]
    )
    return response


_BUILDERS: dict[int, _Builder] = {
    ApiKey.METADATA: _metadata,
    ApiKey.LIST_OFFSETS: _list_offsets,
    ApiKey.FIND_COORDINATOR: _find_coordinator,
    ApiKey.PRODUCE: _produce,
    ApiKey.FETCH: _fetch,
    ApiKey.CREATE_TOPICS: _create_topics,
    ApiKey.CREATE_PARTITIONS: _create_partitions,
    ApiKey.DELETE_TOPICS: _delete_topics,
    ApiKey.DELETE_RECORDS: _delete_records,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: _offset_for_leader_epoch,
    ApiKey.DESCRIBE_CONFIGS: _describe_configs,
    ApiKey.ALTER_CONFIGS: _alter_configs(
        ApiKey.ALTER_CONFIGS, "AlterConfigsResponse", "AlterConfigsResult"
    ),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: _alter_configs(
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
        "IncrementalAlterConfigsResponse",
        "IncrementalAlterConfigsResult",
    ),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: _describe_topic_partitions,
}
