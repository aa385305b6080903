"""An immutable picture of the cluster at one revision of the metadata store.

`apply` makes the next picture. It copies the outer maps once per call, not per change, so a request
that creates thousands of topics costs one pass, and a reader that holds a picture sees it whole.

Invariants: a topic appears only with all its partitions (their rows come before the topic's own, or
with it, and wait unseen); `topic_names` is the inverse of the topics' ids; applying the changes of
a revision that the image already holds does nothing, so a broker may apply its own commit at once
and meet it again in the watch.
"""

from collections.abc import Iterable, Mapping

from fastmq.cluster.changes import (
    Change,
    ConfigKind,
    DropBroker,
    DropConfig,
    DropPartition,
    DropTopic,
    PutBroker,
    PutConfig,
    PutPartition,
    PutTopic,
)
from fastmq.cluster.state import BrokerState, Endpoint, PartitionState, TopicState

__all__ = ["BrokerState", "ClusterImage", "Endpoint", "PartitionState", "TopicState"]

_NO_VALUES: Mapping[str, str] = {}


class ClusterImage:
    """The cluster at one revision. Treat every attribute as read-only.

    Attributes:
        revision: of the store.
        brokers: by id.
        topics: by name.
        topic_names: names by topic id.
    """

    __slots__ = ("_configs", "_partitions", "_rows", "brokers", "revision", "topic_names", "topics")

    def __init__(self) -> None:
        self.revision = 0
        self.brokers: Mapping[int, BrokerState] = {}
        self.topics: Mapping[str, TopicState] = {}
        self.topic_names: Mapping[bytes, str] = {}
        self._rows: Mapping[str, PutTopic] = {}
        self._partitions: Mapping[bytes, Mapping[int, PartitionState]] = {}
        self._configs: Mapping[tuple[ConfigKind, str], tuple[Mapping[str, str], int]] = {}

    def topic_by_id(self, topic_id: bytes) -> TopicState | None:
        """Return the topic with an id."""
        name = self.topic_names.get(topic_id)
        return None if name is None else self.topics[name]

    def partition(self, topic: str, index: int) -> PartitionState | None:
        """Return a partition's state."""
        state = self.topics.get(topic)
        if state is None or not 0 <= index < len(state.partitions):
            return None
        return state.partitions[index]

    def config(self, kind: ConfigKind, name: str) -> Mapping[str, str]:
        """Return the overrides of a topic, of a broker (its id as text) or of all brokers ("")."""
        found = self._configs.get((kind, name))
        return _NO_VALUES if found is None else found[0]

    def config_revision(self, kind: ConfigKind, name: str) -> int:
        """Return the revision of a row of overrides, 0 when there is none."""
        found = self._configs.get((kind, name))
        return 0 if found is None else found[1]

    def partition_count(self) -> int:
        """Return the number of partitions of all topics."""
        return sum(len(topic.partitions) for topic in self.topics.values())

    def apply(self, changes: Iterable[Change], revision: int) -> "ClusterImage":
        """Return the image after changes that were committed together.

        Args:
            changes: in order.
            revision: of the commit; not newer than this image means that it is in it already.
        """
        if revision <= self.revision:
            return self
        return self.load(((change, revision) for change in changes), revision)

    def load(self, changes: Iterable[tuple[Change, int]], revision: int) -> "ClusterImage":
        """Return the image after changes that each have a revision of their own.

        Args:
            changes: (change, revision of its row); a first load reads a whole store this way.
            revision: of the store afterwards.
        """
        edit = _Edit(self)
        for change, row_revision in changes:
            edit.apply(change, row_revision)
        return edit.finish(revision)


class _Edit:
    """A mutable copy of the maps, for the time of one `load`."""

    def __init__(self, image: ClusterImage) -> None:
        self.old = image
        self.brokers = dict(image.brokers)
        self.rows = dict(image._rows)
        self.partitions = dict(image._partitions)
        self.configs = dict(image._configs)
        self.touched: dict[str, None] = {}
        self.touched_ids: set[bytes] = set()
        self.copied: set[bytes] = set()

    def apply(self, change: Change, revision: int) -> None:
        match change:
            case PutPartition(topic_id, index, state):
                self._own_partitions(topic_id)[index] = state._replace(revision=revision)
            case PutTopic(name, topic_id):
                self.rows[name] = change._replace(expected=revision)
                self._touch(name, topic_id)
            case PutConfig(kind, name, values):
                self.configs[kind, name] = (values, revision)
            case PutBroker(broker):
                self.brokers[broker.id] = broker._replace(revision=revision)
            case DropPartition(topic_id, index):
                self._own_partitions(topic_id).pop(index, None)
            case DropTopic(name):
                row = self.rows.pop(name, None)
                if row is not None:
                    self._touch(name, row.topic_id)
            case DropConfig(kind, name):
                self.configs.pop((kind, name), None)
            case DropBroker(broker_id):
                self.brokers.pop(broker_id, None)

    def _touch(self, name: str, topic_id: bytes) -> None:
        self.touched[name] = None
        self.touched_ids.add(topic_id)

    def _own_partitions(self, topic_id: bytes) -> dict[int, PartitionState]:
        """Return the topic's partitions as a map that this edit may change."""
        self.touched_ids.add(topic_id)
        found = self.partitions.get(topic_id, {})
        if topic_id not in self.copied:
            self.copied.add(topic_id)
            found = self.partitions[topic_id] = dict(found)
        assert isinstance(found, dict)
        return found

    def finish(self, revision: int) -> ClusterImage:
        for topic_id in self.touched_ids:
            name = self.old.topic_names.get(topic_id)
            if name is not None:
                self.touched[name] = None
            if not self.partitions.get(topic_id):
                self.partitions.pop(topic_id, None)
        image = ClusterImage()
        image.revision = revision
        image.brokers = self.brokers
        image._rows = self.rows
        image._partitions = self.partitions
        image._configs = self.configs
        image.topics, image.topic_names = self._rebuilt_topics()
        return image

    def _rebuilt_topics(self) -> tuple[dict[str, TopicState], dict[bytes, str]]:
        topics = dict(self.old.topics)
        names = dict(self.old.topic_names)
        for name in self.touched:
            gone = topics.pop(name, None)
            if gone is not None:
                names.pop(gone.id, None)
            row = self.rows.get(name)
            made = None if row is None else self._whole_topic(row)
            if made is not None:
                topics[name] = made
                names[made.id] = name
        return topics, names

    def _whole_topic(self, row: PutTopic) -> TopicState | None:
        found = self.partitions.get(row.topic_id, {})
        if len(found) < row.partition_count:
            return None
        try:
            states = tuple(found[index] for index in range(row.partition_count))
        except KeyError:
            return None
        return TopicState(row.name, row.topic_id, states, row.expected)
