"""Moving partitions, electing leaders, removing brokers. Pure. Source: KIP-455, 460, 631."""

from collections.abc import Iterable, Mapping, Sequence

from fastmq.client.admin.offsets import by_topic
from fastmq.client.admin.refusals import moved, raise_failures, refusal
from fastmq.client.admin.results import Reassignment
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.calls import Controller
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from fastmq.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersTopic
from fastmq.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopic,
)
from fastmq.protocol.messages.unregister_broker import UnregisterBrokerRequest

__all__ = ["elect_leaders", "list_reassignments", "reassign", "unregister_broker"]

_PREFERRED, _UNCLEAN = 0, 1


def reassign(
    moves: Mapping[TopicPartition, Sequence[int] | None], *, timeout_ms: int
) -> Steps[None]:
    """Begin moves of partitions to other brokers, or cancel them (None)."""
    topics = [
        ReassignableTopic(
            name=topic,
            partitions=[
                ReassignablePartition(
                    partition_index=index,
                    replicas=None if wanted is None else list(wanted),
                )
                for index in indexes
                for wanted in (moves[TopicPartition(topic, index)],)
            ],
        )
        for topic, indexes in by_topic(moves).items()
    ]
    message = AlterPartitionReassignmentsRequest(topics=topics, timeout_ms=timeout_ms)
    (response,) = yield [Ask(Controller(), message, lambda r: moved([r.error_code]))]
    if response.error_code:
        raise refusal(response.error_code, "reassignment", response.error_message)
    raise_failures(
        {
            name: refusal(row.error_code, str(name), row.error_message)
            for topic in response.responses
            for row in topic.partitions
            for name in (TopicPartition(topic.name, row.partition_index),)
            if row.error_code
        }
    )


def list_reassignments(
    partitions: Iterable[TopicPartition] | None, *, timeout_ms: int
) -> Steps[dict[TopicPartition, Reassignment]]:
    """Return the moves that are under way, of some partitions or (None) of all."""
    topics = None
    if partitions is not None:
        topics = [
            ListPartitionReassignmentsTopic(name=topic, partition_indexes=list(indexes))
            for topic, indexes in by_topic(partitions).items()
        ]
    message = ListPartitionReassignmentsRequest(topics=topics, timeout_ms=timeout_ms)
    (response,) = yield [Ask(Controller(), message, lambda r: moved([r.error_code]))]
    if response.error_code:
        raise refusal(response.error_code, "reassignments", response.error_message)
    return {
        TopicPartition(topic.name, row.partition_index): Reassignment(
            tuple(row.replicas), tuple(row.adding_replicas), tuple(row.removing_replicas)
        )
        for topic in response.topics
        for row in topic.partitions
    }


def elect_leaders(
    partitions: Iterable[TopicPartition] | None, *, unclean: bool, timeout_ms: int
) -> Steps[dict[TopicPartition, KafkaError | None]]:
    """Elect preferred leaders, or where nobody in sync is left any that lives.

    Returns:
        By partition why there is no other leader; None where there is. Those that need none are
        left out.
    """
    topics = None
    if partitions is not None:
        topics = [
            ElectLeadersTopic(topic=topic, partitions=list(indexes))
            for topic, indexes in by_topic(partitions).items()
        ]
    message = ElectLeadersRequest(
        election_type=_UNCLEAN if unclean else _PREFERRED,
        topic_partitions=topics,
        timeout_ms=timeout_ms,
    )
    (response,) = yield [Ask(Controller(), message, lambda r: moved([r.error_code]))]
    if response.error_code:
        raise refusal(response.error_code, "election")
    found: dict[TopicPartition, KafkaError | None] = {}
    for topic in response.replica_election_results:
        for row in topic.partition_result:
            name = TopicPartition(topic.topic, row.partition_id)
            if row.error_code == ErrorCode.NONE:
                found[name] = None
            elif row.error_code != ErrorCode.ELECTION_NOT_NEEDED:
                found[name] = refusal(row.error_code, str(name), row.error_message)
    return found


def unregister_broker(node_id: int) -> Steps[None]:
    """Remove a broker that has no partitions and does not come back."""
    message = UnregisterBrokerRequest(broker_id=node_id)
    (response,) = yield [Ask(Controller(), message, lambda r: moved([r.error_code]))]
    if response.error_code:
        raise refusal(response.error_code, f"broker {node_id}", response.error_message)
