"""The group APIs: find the shard, run the operation, put parts together.

The machines answer for one group in one shard; requests that name several groups, or all, are
split here and their parts gathered, in the order asked. Topic ids of the newest versions are
turned into names on the way in and back on the way out. Source: KIP-62, KIP-699, KIP-709, KIP-848.
"""

from collections.abc import Callable
from functools import partial

from fastmq.cluster.names import CONSUMER_OFFSETS
from fastmq.coordinator.effects import Call, Effects
from fastmq.coordinator.group import (
    GroupCoordinatorShard,
    error_response,
    single_group,
    single_group_response,
)
from fastmq.coordinator.partitioning import partition_for
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol import Message
from fastmq.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
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
from fastmq.protocol.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    FoundCoordinator,
)
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import JoinGroupRequest
from fastmq.protocol.messages.leave_group import LeaveGroupRequest
from fastmq.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartitionResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitTopic,
    OffsetCommitTopicResponse,
)
from fastmq.protocol.messages.offset_delete import OffsetDeleteRequest
from fastmq.protocol.messages.offset_fetch import (
    OffsetFetchGroup,
    OffsetFetchGroupPartitionResponse,
    OffsetFetchGroupResponse,
    OffsetFetchGroupTopic,
    OffsetFetchGroupTopicResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from fastmq.protocol.messages.sync_group import SyncGroupRequest
from fastmq.server.context import BrokerContext
from fastmq.server.coordinators import Answerable, call_of
from fastmq.server.dispatch import Request
from fastmq.server.handlers.producer_ids import NO_TRANSACTIONS, NO_TRANSACTIONS_CODE
from fastmq.server.routes import DEFERRED, Deferred

__all__ = [
    "handle_consumer_group_heartbeat",
    "handle_delete_groups",
    "handle_describe_groups",
    "handle_find_coordinator",
    "handle_heartbeat",
    "handle_join_group",
    "handle_leave_group",
    "handle_list_groups",
    "handle_offset_commit",
    "handle_offset_delete",
    "handle_offset_fetch",
    "handle_sync_group",
]

Operation = Callable[[GroupCoordinatorShard, Call, int], Effects]

# READ 3, DELETE 6, DESCRIBE 8, DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11: what applies to a group.
_GROUP_OPERATIONS = sum(1 << op for op in (3, 6, 8, 10, 11))
_KEY_GROUP = 0
_KEY_TRANSACTION = 1
_TOPIC_IDS_FROM = 10


class _Gather:
    """Collects the answers to the parts of a request and finishes when the last is in."""

    def __init__(self, count: int, finish: Callable[[list[object]], None]) -> None:
        self._parts: list[object] = [None] * count
        self._missing = count
        self._finish = finish

    def part(self, index: int) -> "_Part":
        """Return the token of one part."""
        return _Part(self, index)

    def put(self, index: int, response: object) -> None:
        """Take one part."""
        self._parts[index] = response
        self._missing -= 1
        if not self._missing:
            self._finish(self._parts)


class _Part:
    """One part of a request; what a shard sees as the one to answer."""

    def __init__(self, gather: _Gather, index: int) -> None:
        self._gather = gather
        self._index = index

    def reply(self, response: object) -> None:
        """Take the shard's answer."""
        self._gather.put(self._index, response)


class _Mapped:
    """Answers a request with what a function makes of the shard's answer."""

    def __init__(self, request: Request, function: Callable[[object], Message]) -> None:
        self._request = request
        self._function = function

    def reply(self, response: object) -> None:
        """Send the changed answer."""
        self._request.reply(self._function(response))


def _submit(
    context: BrokerContext,
    request: Request,
    group_id: str,
    operation: Operation,
    *,
    token: Answerable | None = None,
    gather: bool = False,
) -> Deferred:
    """Run one operation on the shard of a group. Raises what `runner_for` raises."""
    runner = context.groups.runner_for(group_id)
    call = call_of(
        request if token is None else token,
        request.version,
        request.client_id,
        request.connection.host,
    )
    runner.step(lambda shard, now_ms: operation(shard, call, now_ms), gather=gather)
    return DEFERRED


def handle_join_group(
    context: BrokerContext, request: Request, message: JoinGroupRequest
) -> Deferred:
    """Enter a group, or a new generation of it."""
    return _submit(
        context, request, message.group_id, lambda s, call, now: s.join_group(call, message, now)
    )


def handle_sync_group(
    context: BrokerContext, request: Request, message: SyncGroupRequest
) -> Deferred:
    """Bring or get assignments."""
    return _submit(
        context, request, message.group_id, lambda s, call, now: s.sync_group(call, message, now)
    )


def handle_heartbeat(
    context: BrokerContext, request: Request, message: HeartbeatRequest
) -> Deferred:
    """Show that a member lives."""
    return _submit(
        context, request, message.group_id, lambda s, call, now: s.heartbeat(call, message, now)
    )


def handle_leave_group(
    context: BrokerContext, request: Request, message: LeaveGroupRequest
) -> Deferred:
    """Take members out of a group."""
    return _submit(
        context, request, message.group_id, lambda s, call, now: s.leave_group(call, message, now)
    )


def handle_offset_delete(
    context: BrokerContext, request: Request, message: OffsetDeleteRequest
) -> Deferred:
    """Forget committed offsets of a group."""
    return _submit(
        context,
        request,
        message.group_id,
        lambda s, call, now: s.delete_offsets(call, message, now),
    )


def handle_consumer_group_heartbeat(
    _context: BrokerContext, _request: Request, _message: ConsumerGroupHeartbeatRequest
) -> Deferred:
    """Refuse the newer group protocol, as Kafka does where it is switched off."""
    raise KafkaError(
        ErrorCode.UNSUPPORTED_VERSION,
        "this broker has no consumer groups of the new protocol (KIP-848): set "
        "group.protocol=classic",
    )


# Offsets.


def handle_offset_commit(
    context: BrokerContext, request: Request, message: OffsetCommitRequest
) -> Deferred | OffsetCommitResponse:
    """Store offsets. Partitions that do not exist are refused here, the rest by the shard."""
    known: list[OffsetCommitTopic] = []
    refused: list[OffsetCommitTopicResponse] = []
    by_id = request.version >= _TOPIC_IDS_FROM
    for asked in message.topics:
        topic = context.topics.by_id(asked.topic_id) if by_id else context.topics.get(asked.name)
        if topic is None:
            code = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            refused.append(_commit_refused(asked, code, range(0)))
            continue
        asked.name = topic.name
        there = range(len(topic.states))
        if all(p.partition_index in there for p in asked.partitions):
            known.append(asked)
            continue
        refused.append(_commit_refused(asked, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, there))
        partitions = [p for p in asked.partitions if p.partition_index in there]
        if partitions:
            known.append(
                OffsetCommitTopic(name=asked.name, topic_id=asked.topic_id, partitions=partitions)
            )
    message.topics = known
    if refused and not known:
        return OffsetCommitResponse(topics=refused)

    token = None
    if refused or by_id:
        ids = {topic.name: topic.topic_id for topic in known}
        token = _Mapped(request, partial(_merge_commit, refused, ids if by_id else {}))
    return _submit(
        context,
        request,
        message.group_id,
        lambda s, call, now: s.commit_offsets(call, message, now),
        token=token,
        gather=True,
    )


def _commit_refused(
    topic: OffsetCommitTopic, code: ErrorCode, there: range
) -> OffsetCommitTopicResponse:
    return OffsetCommitTopicResponse(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetCommitPartitionResponse(partition_index=p.partition_index, error_code=code)
            for p in topic.partitions
            if p.partition_index not in there
        ],
    )


def _merge_commit(
    refused: list[OffsetCommitTopicResponse], ids: dict[str, bytes], response: object
) -> Message:
    assert isinstance(response, OffsetCommitResponse)
    merged = {(topic.name, topic.topic_id): topic for topic in refused}
    for topic in response.topics:
        topic.topic_id = ids.get(topic.name, topic.topic_id)
        other = merged.get((topic.name, topic.topic_id))
        if other is None:
            merged[topic.name, topic.topic_id] = topic
        else:
            other.partitions += topic.partitions
    return OffsetCommitResponse(topics=list(merged.values()))


def handle_offset_fetch(
    context: BrokerContext, request: Request, message: OffsetFetchRequest
) -> Deferred | OffsetFetchResponse:
    """Answer with committed offsets, of one group or (version 8 on) of several."""
    if request.version < 8:
        return _submit(
            context,
            request,
            message.group_id,
            partial(_fetch_group, single_group(message)),
            token=_Mapped(
                request,
                lambda part: single_group_response(message, _as_fetched(part), request.version),
            ),
        )
    if not message.groups:
        return OffsetFetchResponse(groups=[])
    by_id = request.version >= _TOPIC_IDS_FROM

    def finish(parts: list[object]) -> None:
        request.reply(OffsetFetchResponse(groups=[_as_fetched(part) for part in parts]))

    gather = _Gather(len(message.groups), finish)
    for index, group in enumerate(message.groups):
        part: Answerable = gather.part(index)
        if by_id:
            part = _resolve_fetch(context, group, part)
        try:
            _submit(context, request, group.group_id, partial(_fetch_group, group), token=part)
        except KafkaError as exc:
            gather.put(
                index, OffsetFetchGroupResponse(group_id=group.group_id, error_code=exc.code)
            )
    return DEFERRED


def _fetch_group(
    group: OffsetFetchGroup, shard: GroupCoordinatorShard, call: Call, now_ms: int
) -> Effects:
    return shard.fetch_offsets(call, group, now_ms)


def _as_fetched(part: object) -> OffsetFetchGroupResponse:
    assert isinstance(part, OffsetFetchGroupResponse)
    return part


class _NamedFetch:
    """Puts topic ids into the answer about one group, and the topics that have no name."""

    def __init__(
        self, context: BrokerContext, part: Answerable, unknown: list[OffsetFetchGroupTopic]
    ) -> None:
        self._context = context
        self._part = part
        self._unknown = unknown

    def reply(self, response: object) -> None:
        """Complete and pass on."""
        group = _as_fetched(response)
        if group.error_code == ErrorCode.NONE:
            named = []
            for row in group.topics:
                topic = self._context.topics.get(row.name)
                # The offsets of a topic that was deleted meanwhile cannot be named by id.
                if topic is not None:
                    row.topic_id = topic.topic_id
                    named.append(row)
            group.topics = named + [_unknown_topic(topic) for topic in self._unknown]
        self._part.reply(group)


def _resolve_fetch(context: BrokerContext, group: OffsetFetchGroup, part: Answerable) -> Answerable:
    unknown: list[OffsetFetchGroupTopic] = []
    if group.topics is not None:
        known = []
        for asked in group.topics:
            topic = context.topics.by_id(asked.topic_id)
            if topic is None:
                unknown.append(asked)
            else:
                asked.name = topic.name
                known.append(asked)
        group.topics = known
    return _NamedFetch(context, part, unknown)


def _unknown_topic(asked: OffsetFetchGroupTopic) -> OffsetFetchGroupTopicResponse:
    return OffsetFetchGroupTopicResponse(
        topic_id=asked.topic_id,
        partitions=[
            OffsetFetchGroupPartitionResponse(
                partition_index=index,
                committed_offset=-1,
                committed_leader_epoch=-1,
                metadata="",
                error_code=ErrorCode.UNKNOWN_TOPIC_ID,
            )
            for index in asked.partition_indexes
        ],
    )


# Administration.


def handle_describe_groups(
    context: BrokerContext, request: Request, message: DescribeGroupsRequest
) -> Deferred | DescribeGroupsResponse:
    """Describe groups one by one."""
    if not message.groups:
        return DescribeGroupsResponse(groups=[])

    def finish(parts: list[object]) -> None:
        groups = [part for part in parts if isinstance(part, DescribedGroup)]
        for group in groups:
            if message.include_authorized_operations and group.error_code == ErrorCode.NONE:
                group.authorized_operations = _GROUP_OPERATIONS
        request.reply(DescribeGroupsResponse(groups=groups))

    _each(
        context,
        request,
        message.groups,
        finish,
        operation=lambda s, call, name, now: s.describe_group(call, name, now),
        refused=lambda name, code: DescribedGroup(group_id=name, error_code=code),
    )
    return DEFERRED


def handle_delete_groups(
    context: BrokerContext, request: Request, message: DeleteGroupsRequest
) -> Deferred | DeleteGroupsResponse:
    """Delete empty groups."""
    if not message.groups_names:
        return DeleteGroupsResponse(results=[])

    def finish(parts: list[object]) -> None:
        results = [part for part in parts if isinstance(part, DeletedGroup)]
        request.reply(DeleteGroupsResponse(results=results))

    _each(
        context,
        request,
        message.groups_names,
        finish,
        operation=lambda s, call, name, now: s.delete_group(call, name, now),
        refused=lambda name, code: DeletedGroup(group_id=name, error_code=code),
    )
    return DEFERRED


def _each(
    context: BrokerContext,
    request: Request,
    names: list[str],
    finish: Callable[[list[object]], None],
    *,
    operation: Callable[[GroupCoordinatorShard, Call, str, int], Effects],
    refused: Callable[[str, ErrorCode], object],
) -> None:
    """Run an operation for each group, whichever shard it is in."""
    names = list(dict.fromkeys(names))
    gather = _Gather(len(names), finish)
    for index, name in enumerate(names):

        def run(shard: GroupCoordinatorShard, call: Call, now_ms: int, name: str = name) -> Effects:
            return operation(shard, call, name, now_ms)

        try:
            _submit(context, request, name, run, token=gather.part(index))
        except KafkaError as exc:
            gather.put(index, refused(name, exc.code))


def handle_list_groups(
    context: BrokerContext, request: Request, message: ListGroupsRequest
) -> Deferred | ListGroupsResponse:
    """List the groups of all shards."""
    runners = list(context.groups.runners())
    if not runners:
        return ListGroupsResponse(groups=[])

    def finish(parts: list[object]) -> None:
        answers = [part for part in parts if isinstance(part, ListGroupsResponse)]
        failed = next((a.error_code for a in answers if a.error_code), ErrorCode.NONE)
        request.reply(
            ListGroupsResponse(error_code=failed, groups=[g for a in answers for g in a.groups])
        )

    gather = _Gather(len(runners), finish)
    for index, runner in enumerate(runners):
        try:
            runner.check_active()
        except KafkaError as exc:
            gather.put(index, error_response(message, request.version, exc.code))
            continue
        call = call_of(
            gather.part(index), request.version, request.client_id, request.connection.host
        )
        runner.step(partial(_list_shard, message, call))
    return DEFERRED


def _list_shard(
    message: ListGroupsRequest, call: Call, shard: GroupCoordinatorShard, now_ms: int
) -> Effects:
    return shard.list_groups(call, message, now_ms)


# FindCoordinator.


def handle_find_coordinator(
    context: BrokerContext, request: Request, message: FindCoordinatorRequest
) -> FindCoordinatorResponse | Deferred:
    """Answer with each group's coordinator; make the offsets topic at the first request."""
    if request.version >= 1 and message.key_type == _KEY_TRANSACTION:
        raise KafkaError(NO_TRANSACTIONS_CODE, NO_TRANSACTIONS)
    if request.version >= 1 and message.key_type != _KEY_GROUP:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"key type {message.key_type} is not served")
    if context.groups.partition_count:
        return _coordinators(context, request, message)

    async def create_and_answer() -> FindCoordinatorResponse:
        await context.create_offsets_topic()
        return _coordinators(context, request, message)

    return request.defer(create_and_answer)


def _coordinators(
    context: BrokerContext, request: Request, message: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    if request.version < 4:
        found = _coordinator(context, request, message.key)
        return FindCoordinatorResponse(
            error_code=found.error_code,
            error_message=found.error_message,
            node_id=found.node_id,
            host=found.host,
            port=found.port,
        )
    return FindCoordinatorResponse(
        coordinators=[_coordinator(context, request, key) for key in message.coordinator_keys]
    )


def _coordinator(context: BrokerContext, request: Request, group_id: str) -> FoundCoordinator:
    """Return who leads the partition that a group is kept in."""
    topic = context.topics.get(CONSUMER_OFFSETS)
    broker = None
    if topic is not None:
        leader = topic.states[partition_for(group_id, len(topic.states))].leader
        broker = context.address_of(leader, request.connection.listener)
    if broker is None:
        return FoundCoordinator(
            key=group_id,
            node_id=-1,
            host="",
            port=-1,
            error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE,
            error_message="nobody leads the group's partition of the offsets topic",
        )
    return FoundCoordinator(
        key=group_id, node_id=broker.node_id, host=broker.host, port=broker.port, error_message=None
    )
