"""AlterPartition: the controller's answer to leaders of other brokers. Source: KIP-497, KIP-903."""

from fastmq.cluster import IsrAnswer, IsrProposal
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResult,
    AlterPartitionTopicResult,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request

__all__ = ["handle_alter_partition"]


async def handle_alter_partition(
    context: BrokerContext, request: Request, message: AlterPartitionRequest
) -> AlterPartitionResponse:
    """Change in-sync sets, for a broker that has proved who it is."""
    peer = request.connection.peer
    if peer is None or peer.broker_id != message.broker_id:
        raise KafkaError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "only brokers may ask this")
    leader = context.topics.image.brokers.get(message.broker_id)
    if leader is None or leader.epoch != message.broker_epoch:
        raise KafkaError(ErrorCode.STALE_BROKER_EPOCH)
    if context.membership is None:
        raise KafkaError(ErrorCode.NOT_CONTROLLER)
    proposals = [
        IsrProposal(
            topic.topic_id,
            part.partition_index,
            part.leader_epoch,
            part.partition_epoch,
            tuple((one.broker_id, one.broker_epoch) for one in part.new_isr_with_epochs),
        )
        for topic in message.topics
        for part in topic.partitions
    ]
    answers = await context.membership.alter_partition(message.broker_id, proposals)
    topics: dict[bytes, AlterPartitionTopicResult] = {}
    for answer in answers:
        topic = topics.setdefault(
            answer.topic_id, AlterPartitionTopicResult(topic_id=answer.topic_id, partitions=[])
        )
        topic.partitions.append(_result(answer))
    return AlterPartitionResponse(topics=list(topics.values()))


def _result(answer: IsrAnswer) -> AlterPartitionResult:
    state = answer.state
    if state is None:
        return AlterPartitionResult(
            partition_index=answer.partition, error_code=answer.error, leader_id=-1
        )
    return AlterPartitionResult(
        partition_index=answer.partition,
        error_code=answer.error,
        leader_id=state.leader,
        leader_epoch=state.leader_epoch,
        isr=list(state.isr),
        partition_epoch=state.partition_epoch,
    )
