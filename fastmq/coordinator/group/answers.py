"""Answers that refuse a request: their shape per API and version, and the codes to use.

The driver uses `error_response` for requests that no shard may see (loading, not the
coordinator), the rules for every refusal of their own, and `Reply.refusal` for records that the
log did not take, so that a client sees one form of an error whoever found it.

Source: protocol guide; a failed append is translated as Kafka's coordinator does it, so that a
client looks for the coordinator again or retries, and never sees a code of the Produce API.
"""

from collections.abc import Callable
from functools import partial

from fastmq.coordinator.effects import Call
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.delete_groups import (
    DeletedGroup,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)
from fastmq.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from fastmq.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastmq.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from fastmq.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from fastmq.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartitionResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitTopicResponse,
)
from fastmq.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from fastmq.protocol.messages.offset_fetch import (
    OffsetFetchGroup,
    OffsetFetchGroupResponse,
    OffsetFetchGroupTopic,
    OffsetFetchPartitionResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetFetchTopicResponse,
)
from fastmq.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

__all__ = [
    "commit_refusal",
    "commit_refused",
    "deleted_group_refusal",
    "describe_refusal",
    "error_response",
    "fetch_refusal",
    "group_refusal",
    "join_refused",
    "list_refusal",
    "offset_delete_refusal",
    "single_group",
    "single_group_response",
    "sync_refused",
    "to_client_code",
]

Refusal = Callable[[ErrorCode], object]

_TO_COORDINATOR_NOT_AVAILABLE = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)
_TO_NOT_COORDINATOR = frozenset(
    {ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.KAFKA_STORAGE_ERROR}
)
_TOO_LARGE = frozenset(
    {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_FETCH_SIZE}
)

# From these versions on, the answer of an OffsetFetch has an error of its own, and one per group.
_FETCH_ERROR_FROM = 2
_FETCH_GROUPS_FROM = 8
# First version in which the protocol name of a JoinGroup answer may be null.
_NULL_PROTOCOL_FROM = 7


def to_client_code(
    code: ErrorCode, too_large: ErrorCode = ErrorCode.UNKNOWN_SERVER_ERROR
) -> ErrorCode:
    """Translate why the log did not keep a record into what a client of the group can use."""
    if code in _TO_COORDINATOR_NOT_AVAILABLE:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if code in _TO_NOT_COORDINATOR:
        return ErrorCode.NOT_COORDINATOR
    return too_large if code in _TOO_LARGE else code


def group_refusal(build: Refusal) -> Refusal:
    """Make a `Reply.refusal` from a builder of answers that carry nothing but an error."""
    return lambda code: build(to_client_code(code))


def join_refused(call: Call, code: ErrorCode, member_id: str = "") -> JoinGroupResponse:
    """Build a JoinGroup answer that carries nothing but an error."""
    return JoinGroupResponse(
        error_code=code,
        protocol_name=None if call.version >= _NULL_PROTOCOL_FROM else "",
        member_id=member_id,
    )


def sync_refused(code: ErrorCode) -> SyncGroupResponse:
    """Build a SyncGroup answer that carries nothing but an error."""
    return SyncGroupResponse(error_code=code)


def commit_refused(request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    """Build an OffsetCommit answer with one error for every partition."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitTopicResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitPartitionResponse(
                        partition_index=partition.partition_index, error_code=code
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def commit_refusal(request: OffsetCommitRequest) -> Refusal:
    """Make a `Reply.refusal` for an OffsetCommit."""
    return partial(_commit_lost, request)


def _commit_lost(request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    return commit_refused(request, to_client_code(code, ErrorCode.INVALID_COMMIT_OFFSET_SIZE))


def fetch_refusal(group: OffsetFetchGroup) -> Refusal:
    """Make a `Reply.refusal` for one group of an OffsetFetch."""
    return group_refusal(
        lambda code: OffsetFetchGroupResponse(group_id=group.group_id, error_code=code)
    )


def offset_delete_refusal() -> Refusal:
    """Make a `Reply.refusal` for an OffsetDelete."""
    return group_refusal(lambda code: OffsetDeleteResponse(error_code=code))


def describe_refusal(group_id: str) -> Refusal:
    """Make a `Reply.refusal` for one group of a DescribeGroups."""
    return group_refusal(lambda code: DescribedGroup(group_id=group_id, error_code=code))


def list_refusal() -> Refusal:
    """Make a `Reply.refusal` for a ListGroups."""
    return group_refusal(lambda code: ListGroupsResponse(error_code=code))


def deleted_group_refusal(group_id: str) -> Refusal:
    """Make a `Reply.refusal` for one group of a DeleteGroups."""
    return group_refusal(lambda code: DeletedGroup(group_id=group_id, error_code=code))


def single_group(request: OffsetFetchRequest) -> OffsetFetchGroup:
    """Translate an OffsetFetch before version 8 to the form with groups."""
    topics = request.topics
    return OffsetFetchGroup(
        group_id=request.group_id,
        topics=None
        if topics is None
        else [
            OffsetFetchGroupTopic(name=topic.name, partition_indexes=topic.partition_indexes)
            for topic in topics
        ],
    )


def single_group_response(
    request: OffsetFetchRequest, answer: OffsetFetchGroupResponse, version: int
) -> OffsetFetchResponse:
    """Translate the answer for one group to the form before version 8.

    Version 1 has no error but in partitions, so one for the group is repeated in each of them;
    Kafka does the same in the versions up to 7.
    """
    code = answer.error_code
    if code == ErrorCode.NONE:
        topics = [
            OffsetFetchTopicResponse(
                name=topic.name,
                partitions=[
                    OffsetFetchPartitionResponse(
                        partition_index=row.partition_index,
                        committed_offset=row.committed_offset,
                        committed_leader_epoch=row.committed_leader_epoch,
                        metadata=row.metadata,
                        error_code=row.error_code,
                    )
                    for row in topic.partitions
                ],
            )
            for topic in answer.topics
        ]
        return OffsetFetchResponse(topics=topics)
    return OffsetFetchResponse(
        error_code=code if version >= _FETCH_ERROR_FROM else ErrorCode.NONE,
        topics=[
            OffsetFetchTopicResponse(
                name=topic.name,
                partitions=[
                    OffsetFetchPartitionResponse(
                        partition_index=index, committed_offset=-1, metadata="", error_code=code
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ],
    )


def _fetch_refused(
    request: OffsetFetchRequest, version: int, code: ErrorCode
) -> OffsetFetchResponse:
    if version < _FETCH_GROUPS_FROM:
        return single_group_response(request, OffsetFetchGroupResponse(error_code=code), version)
    groups = [
        OffsetFetchGroupResponse(group_id=group.group_id, error_code=code)
        for group in request.groups
    ]
    return OffsetFetchResponse(groups=groups)


def error_response(request: object, version: int, code: ErrorCode) -> object:
    """Build the answer that refuses a whole request with one code.

    Args:
        request: a request message of any API of the group coordinator.
        version: its API version.
        code: what to answer.

    Raises:
        TypeError: the request is of another API.
    """
    match request:
        case JoinGroupRequest():
            return join_refused(Call(None, version), code, request.member_id)
        case SyncGroupRequest():
            return sync_refused(code)
        case HeartbeatRequest():
            return HeartbeatResponse(error_code=code)
        case LeaveGroupRequest():
            return LeaveGroupResponse(error_code=code)
        case OffsetCommitRequest():
            return commit_refused(request, code)
        case OffsetFetchRequest():
            return _fetch_refused(request, version, code)
        case OffsetDeleteRequest():
            return OffsetDeleteResponse(error_code=code)
        case DescribeGroupsRequest():
            groups = [DescribedGroup(group_id=name, error_code=code) for name in request.groups]
            return DescribeGroupsResponse(groups=groups)
        case ListGroupsRequest():
            return ListGroupsResponse(error_code=code)
        case DeleteGroupsRequest():
            results = [
                DeletedGroup(group_id=name, error_code=code) for name in request.groups_names
            ]
            return DeleteGroupsResponse(results=results)
    raise TypeError(f"{type(request).__name__} is no request to a group coordinator")
