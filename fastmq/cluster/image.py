"""An immutable picture of the cluster at one revision of the metadata store.

`apply` makes the next picture. It copies the outer maps once per call, not per change, so a request
that creates thousands of topics costs one pass, and a reader that holds a picture sees it whole.

Invariants: a topic appears only with all its partitions (their rows come before the topic's own, or
with it, and wait as `loose`; a row without them is in `half_topics`); `topic_names` is the inverse
of the topics' ids; applying the changes of a revision that the image already holds does nothing, so
a broker may apply its own commit at once and meet it again in the watch.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fastmq.cluster.changes import (
    Change,
    ConfigKind,
    DropBroker,
    DropConfig,
    DropController,
    DropPartition,
    DropSession,
    DropTopic,
    PutBroker,
    PutConfig,
    PutController,
    PutPartition,
    PutSession,
    PutTopic,
)
from fastmq.cluster.state import (
    BrokerState,
    ControllerState,
    Endpoint,
    PartitionState,
    SessionState,
    TopicState,
)

__all__ = [
    "BrokerState",
    "ClusterImage",
    "ControllerState",
    "Endpoint",
    "PartitionState",
    "SessionState",
    "TopicState",
]

_NO_VALUES: Mapping[str, str] = {}


class ClusterImage:
    """The cluster at one revision. Treat every attribute as read-only.

    Attributes:
        revision: of the store.
        brokers: by id.
        sessions: of the brokers that live, by id.
        controller: None while there is none.
        topics: by name.
        topic_names: names by topic id.
        loose: partitions by topic id and index whose topic does not exist yet, or no more, or does
            not count them yet.
    """

    __slots__ = (
        "_configs",
        "_half",
        "brokers",
        "controller",
        "loose",
        "revision",
        "sessions",
        "topic_names",
        "topics",
    )

    def __init__(self) -> None:
        self.revision = 0
        self.brokers: Mapping[int, BrokerState] = {}
        self.sessions: Mapping[int, SessionState] = {}
        self.controller: ControllerState | None = None
        self.topics: Mapping[str, TopicState] = {}
        self.topic_names: Mapping[bytes, str] = {}
        self.loose: Mapping[bytes, Mapping[int, PartitionState]] = {}
        self._half: Mapping[str, _Row] = {}
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

    def config_names(self, kind: ConfigKind) -> list[str]:
        """Return the names that have overrides."""
        return [name for of, name in self._configs if of is kind]

    @property
    def half_topics(self) -> dict[str, int]:
        """Revisions of topics' rows that count partitions which do not exist, by name."""
        return {name: row.revision for name, row in self._half.items()}

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


class _Row(NamedTuple):
    """What a topic's row says."""

    topic_id: bytes
    partition_count: int
    revision: int


class _Edit:
    """A mutable copy of what changes, for the time of one `load`."""

    def __init__(self, image: ClusterImage) -> None:
        self.old = image
        self.brokers = dict(image.brokers)
        self.sessions = dict(image.sessions)
        self.controller = image.controller
        self.configs = dict(image._configs)
        # Of the topics that are touched: their rows by name, their partitions by id.
        self.rows: dict[str, _Row | None] = {}
        self.drafts: dict[bytes, dict[int, PartitionState]] = {}

    def apply(self, change: Change, revision: int) -> None:
        match change:
            case PutPartition(topic_id, index, state):
                self._draft(topic_id)[index] = state._replace(revision=revision)
            case PutTopic(name, topic_id, partition_count):
                self.rows[name] = _Row(topic_id, partition_count, revision)
            case PutConfig(kind, name, values):
                self.configs[kind, name] = (values, revision)
            case PutBroker(broker):
                self.brokers[broker.id] = broker._replace(revision=revision)
            case PutSession(broker_id, epoch):
                self.sessions[broker_id] = SessionState(epoch, revision)
            case PutController(broker_id):
                self.controller = ControllerState(broker_id, revision)
            case DropSession(broker_id):
                self.sessions.pop(broker_id, None)
            case DropController():
                self.controller = None
            case DropPartition(topic_id, index):
                self._draft(topic_id).pop(index, None)
            case DropTopic(name):
                self.rows[name] = None
            case DropConfig(kind, name):
                self.configs.pop((kind, name), None)
            case DropBroker(broker_id):
                self.brokers.pop(broker_id, None)

    def _draft(self, topic_id: bytes) -> dict[int, PartitionState]:
        """Return all partitions of a topic id, as a map that this edit may change."""
        draft = self.drafts.get(topic_id)
        if draft is None:
            topic = self.old.topic_by_id(topic_id)
            draft = dict(enumerate(topic.partitions)) if topic is not None else {}
            draft.update(self.old.loose.get(topic_id, {}))
            self.drafts[topic_id] = draft
        return draft

    def finish(self, revision: int) -> ClusterImage:
        image = ClusterImage()
        image.revision = revision
        image.brokers = self.brokers
        image.sessions = self.sessions
        image.controller = self.controller
        image._configs = self.configs
        self._finish_topics(image)
        return image

    def _finish_topics(self, image: ClusterImage) -> None:
        topics = dict(self.old.topics)
        names = dict(self.old.topic_names)
        half = dict(self.old._half)
        for name, missing in half.items():
            if missing.topic_id in self.drafts:
                self.rows.setdefault(name, missing)
        for name in [names[topic_id] for topic_id in self.drafts if topic_id in names]:
            # Only partitions changed: the row stays as it was.
            topic = topics[name]
            self.rows.setdefault(name, _Row(topic.id, len(topic.partitions), topic.revision))
        for name, row in self.rows.items():
            gone = topics.pop(name, None)
            half.pop(name, None)
            if gone is not None:
                self._draft(gone.id)
                names.pop(gone.id, None)
            made = None if row is None else _whole_topic(name, row, self._draft(row.topic_id))
            if made is not None:
                topics[name] = made
                names[made.id] = name
            elif row is not None:
                half[name] = row
        loose = dict(self.old.loose)
        for topic_id, draft in self.drafts.items():
            held = topics[names[topic_id]].partitions if topic_id in names else ()
            rest = {index: state for index, state in draft.items() if index >= len(held)}
            loose.pop(topic_id, None)
            if rest:
                loose[topic_id] = rest
        image.topics, image.topic_names, image.loose = topics, names, loose
        image._half = half


def _whole_topic(
    name: str, row: _Row, partitions: Mapping[int, PartitionState]
) -> TopicState | None:
    """Return the topic when all its partitions are there."""
    found = [partitions.get(index) for index in range(row.partition_count)]
    states = tuple(state for state in found if state is not None)
    if len(states) < row.partition_count:
        return None
    return TopicState(name, row.topic_id, states, row.revision)
