"""AlterPartitionReassignments and ListPartitionReassignments.

Any broker plans and commits a move, like other administrators' requests; the controller ends it.
Source: KIP-455, KIP-860.
"""

from fastmq.cluster import Move, MoveAnswer, PartitionState, moving_in
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from fastmq.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request

__all__ = ["handle_alter_partition_reassignments", "handle_list_partition_reassignments"]


async def handle_alter_partition_reassignments(
    context: BrokerContext, _request: Request, message: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    """Begin, change or (null) cancel moves; each partition succeeds or fails alone."""
    moves = [
        Move(
            topic.name,
            part.partition_index,
            None if part.replicas is None else tuple(part.replicas),
        )
        for topic in message.topics
        for part in topic.partitions
    ]
    answers = await context.topics.move(
        moves, may_change_factor=message.allow_replication_factor_change
    )
    topics: dict[str, ReassignableTopicResponse] = {}
    for answer in answers:
        topic = topics.setdefault(
            answer.topic, ReassignableTopicResponse(name=answer.topic, partitions=[])
        )
        topic.partitions.append(_result(answer))
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=message.allow_replication_factor_change,
        error_message=None,
        responses=list(topics.values()),
    )


def _result(answer: MoveAnswer) -> ReassignablePartitionResponse:
    return ReassignablePartitionResponse(
        partition_index=answer.partition,
        error_code=ErrorCode.NONE if answer.error is None else answer.error.code,
        error_message=None if answer.error is None else answer.error.message or None,
    )


def handle_list_partition_reassignments(
    context: BrokerContext, _request: Request, message: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """Answer with the moves under way, of the partitions asked for (null: all)."""
    topics = context.topics.image.topics
    if message.topics is None:
        wanted = {name: range(len(topic.partitions)) for name, topic in topics.items()}
        asked = [(name, index) for name, indexes in wanted.items() for index in indexes]
    else:
        asked = [(t.name, index) for t in message.topics for index in t.partition_indexes]
    found: dict[str, OngoingTopicReassignment] = {}
    for name, index in dict.fromkeys(asked):
        state = context.topics.image.partition(name, index)
        if state is not None and state.is_moving:
            topic = found.setdefault(name, OngoingTopicReassignment(name=name, partitions=[]))
            topic.partitions.append(_move(index, state))
    return ListPartitionReassignmentsResponse(error_message=None, topics=list(found.values()))


def _move(index: int, state: PartitionState) -> OngoingPartitionReassignment:
    return OngoingPartitionReassignment(
        partition_index=index,
        replicas=list(state.replicas),
        adding_replicas=list(moving_in(state)),
        removing_replicas=list(state.removing),
    )
