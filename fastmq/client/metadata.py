"""What a client knows about the cluster: nodes, topics, partitions, leaders.

The cache is fed by Metadata answers and by the hints in answers that refuse (KIP-951). Leader
epochs never go back within a topic's life: an answer from a broker that is behind does not replace
what is known to be newer (KIP-320). A topic that was deleted and made again has another id, and
begins anew.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fastmq.errors import ErrorCode, error_code
from fastmq.ids import UUID_ZERO
from fastmq.protocol.messages.metadata import MetadataResponse, MetadataTopic

__all__ = ["ClusterMetadata", "NodeAddress", "PartitionInfo", "TopicInfo"]


class NodeAddress(NamedTuple):
    """Where a broker listens."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionInfo(NamedTuple):
    """A partition. `leader` is -1 while it has none."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...]
    error: int


class TopicInfo(NamedTuple):
    """A topic with its partitions by index."""

    name: str
    topic_id: bytes
    is_internal: bool
    partitions: Mapping[int, PartitionInfo]

    @property
    def partition_count(self) -> int:
        """Partitions that there are, with or without a leader."""
        return len(self.partitions)


class ClusterMetadata:
    """The cache. Plain attributes to read; changed by `update` and `update_leader` only.

    Attributes:
        nodes: the brokers by id.
        topics: those that were asked for and exist, by name.
        topic_errors: the error of those that were asked for and do not, by name.
        controller_id: -1 when not known.
        cluster_id: None when not known.
        revision: counts the changes.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, NodeAddress] = {}
        self.topics: dict[str, TopicInfo] = {}
        self.topic_errors: dict[str, ErrorCode] = {}
        self.controller_id = -1
        self.cluster_id: str | None = None
        self.revision = 0
        self._names: dict[bytes, str] = {}

    def partition(self, topic: str, index: int) -> PartitionInfo | None:
        """The partition, None when it is not known."""
        info = self.topics.get(topic)
        return None if info is None else info.partitions.get(index)

    def leader(self, topic: str, index: int) -> int | None:
        """Node id of the leader, None when there is none or it is not known."""
        found = self.partition(topic, index)
        return None if found is None or found.leader < 0 else found.leader

    def topic_name(self, topic_id: bytes) -> str | None:
        """The name of the topic with this id, None when it is not known."""
        return self._names.get(topic_id)

    def update(self, response: MetadataResponse, *, all_topics: bool) -> None:
        """Take in an answer.

        Args:
            response: the answer.
            all_topics: whether it lists all topics, so that others are gone.
        """
        self.revision += 1
        if response.brokers:
            self.nodes = {
                row.node_id: NodeAddress(row.node_id, row.host, row.port, row.rack)
                for row in response.brokers
            }
        self.controller_id = response.controller_id
        self.cluster_id = response.cluster_id or self.cluster_id
        listed = set()
        for row in response.topics:
            if row.name is not None:
                listed.add(row.name)
                self._update_topic(row.name, row)
        if all_topics:
            for name in self.topics.keys() - listed:
                self.forget(name)

    def forget(self, name: str) -> None:
        """Drop a topic."""
        info = self.topics.pop(name, None)
        self.topic_errors.pop(name, None)
        if info is not None:
            self._names.pop(info.topic_id, None)

    def update_leader(
        self,
        topic: str,
        index: int,
        leader: int,
        leader_epoch: int,
        endpoints: Iterable[NodeAddress] = (),
    ) -> bool:
        """Take in a hint about a new leader; returns whether it told something new."""
        known = self.partition(topic, index)
        if known is None or leader < 0 or leader_epoch <= known.leader_epoch:
            return False
        for node in endpoints:
            self.nodes[node.node_id] = node
        if leader not in self.nodes:
            return False
        changed = known._replace(leader=leader, leader_epoch=leader_epoch, error=ErrorCode.NONE)
        info = self.topics[topic]
        self.topics[topic] = info._replace(partitions={**info.partitions, index: changed})
        self.revision += 1
        return True

    def _update_topic(self, name: str, row: MetadataTopic) -> None:
        if row.error_code != ErrorCode.NONE:
            error = error_code(row.error_code)
            if error in (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID):
                self.forget(name)
            self.topic_errors[name] = error
            return
        self.topic_errors.pop(name, None)
        old = self.topics.get(name)
        known: Mapping[int, PartitionInfo] = {}
        if old is not None and (old.topic_id == row.topic_id or row.topic_id == UUID_ZERO):
            known = old.partitions
        partitions = {}
        for part in row.partitions:
            before = known.get(part.partition_index)
            if before is not None and -1 < part.leader_epoch < before.leader_epoch:
                partitions[part.partition_index] = before
                continue
            partitions[part.partition_index] = PartitionInfo(
                part.partition_index,
                part.leader_id,
                part.leader_epoch,
                tuple(part.replica_nodes),
                tuple(part.isr_nodes),
                tuple(part.offline_replicas),
                part.error_code,
            )
        if old is not None:
            self._names.pop(old.topic_id, None)
        if row.topic_id != UUID_ZERO:
            self._names[row.topic_id] = name
        self.topics[name] = TopicInfo(name, row.topic_id, row.is_internal, partitions)
