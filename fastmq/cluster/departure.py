"""The end of a broker that does not come back. Pure. Source: KIP-631."""

from fastmq.cluster.changes import (
    Change,
    ConfigKind,
    DropBroker,
    DropConfig,
    DropController,
    DropSession,
)
from fastmq.cluster.image import ClusterImage
from fastmq.errors import ErrorCode, KafkaError

__all__ = ["plan_unregister"]


def plan_unregister(image: ClusterImage, broker_id: int) -> list[Change]:
    """Return the changes that remove a broker; one that runs finds its row gone, and stops.

    Raises:
        KafkaError: BROKER_ID_NOT_REGISTERED; INVALID_REQUEST while it has replicas, which would
            stay short for ever.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"there is no broker {broker_id}")
    held = sum(
        broker_id in state.replicas for topic in image.topics.values() for state in topic.partitions
    )
    if held:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"broker {broker_id} has {held} replica(s): move them to others first "
            f"(fastmq cluster decommission {broker_id})",
        )
    changes: list[Change] = [DropBroker(broker_id, broker.revision)]
    session = image.sessions.get(broker_id)
    if session is not None:
        changes.append(DropSession(broker_id, session.revision))
    if image.controller is not None and image.controller.id == broker_id:
        changes.append(DropController(image.controller.revision))
    revision = image.config_revision(ConfigKind.BROKER, str(broker_id))
    if revision:
        changes.append(DropConfig(ConfigKind.BROKER, str(broker_id), revision))
    return changes
