"""ElectLeaders: preferred leaders, and leaders that lack records where none else is left.

Only the controller changes leaders, and clients ask it; another broker answers NOT_CONTROLLER.
Source: KIP-183, KIP-460.
"""

from typing import Final

from fastmq.cluster import Election
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.elect_leaders import (
    ElectLeadersPartitionResult,
    ElectLeadersRequest,
    ElectLeadersResponse,
    ElectLeadersTopicResult,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request

__all__ = ["handle_elect_leaders"]

_PREFERRED: Final = 0
_UNCLEAN: Final = 1


async def handle_elect_leaders(
    context: BrokerContext, request: Request, message: ElectLeadersRequest
) -> ElectLeadersResponse:
    """Elect leaders of the partitions asked for (null: of all)."""
    if message.election_type not in (_PREFERRED, _UNCLEAN):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "an election is preferred (0) or unclean (1)")
    wanted = None
    if message.topic_partitions is not None:
        wanted = [(t.topic, index) for t in message.topic_partitions for index in t.partitions]
    is_unclean = message.election_type == _UNCLEAN
    try:
        elections = await _elect(context, wanted, is_unclean=is_unclean)
    except KafkaError as exc:
        if request.version >= 1:
            return ElectLeadersResponse(error_code=exc.code)
        elections = [Election(topic, index, exc.code) for topic, index in wanted or ()]
    topics: dict[str, ElectLeadersTopicResult] = {}
    for election in elections:
        if wanted is None and election.error is ErrorCode.ELECTION_NOT_NEEDED:
            continue
        topic = topics.setdefault(
            election.topic, ElectLeadersTopicResult(topic=election.topic, partition_result=[])
        )
        topic.partition_result.append(
            ElectLeadersPartitionResult(
                partition_id=election.partition,
                error_code=election.error,
                error_message=None,
            )
        )
    return ElectLeadersResponse(replica_election_results=list(topics.values()))


async def _elect(
    context: BrokerContext, wanted: list[tuple[str, int]] | None, *, is_unclean: bool
) -> list[Election]:
    if context.membership is not None:
        return await context.membership.elect(wanted, is_unclean=is_unclean)
    # A broker that stands alone leads all that there is.
    return [
        Election(
            name,
            index,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if context.topics.image.partition(name, index) is None
            else ErrorCode.ELECTION_NOT_NEEDED,
        )
        for name, index in wanted or ()
    ]
