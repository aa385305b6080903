"""Plans: from an image and a request to guarded changes, or to Kafka's error.

Each topic's plan stands alone: one refused topic does not hold up the others, and the changes of a
topic may be committed alone or with those of others. `TopicPlan.changes` is empty when there is
nothing to commit. Sources: KIP-4, 195, 464, 516, 525.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from fastmq.cluster.changes import (
    Change,
    ConfigKind,
    DropConfig,
    DropPartition,
    DropTopic,
    PutConfig,
    PutPartition,
    PutTopic,
)
from fastmq.cluster.image import ClusterImage
from fastmq.cluster.names import check_topic_name, collision_name
from fastmq.cluster.placement import Placer
from fastmq.cluster.state import PartitionState, TopicState
from fastmq.config import check_topic_overrides
from fastmq.errors import ConfigError, ErrorCode, KafkaError
from fastmq.limits import (
    PARTITIONS_PER_REQUEST_MAX,
    PARTITIONS_PER_TOPIC_MAX,
    REPLICATION_FACTOR_MAX,
)

__all__ = [
    "NewPartitions",
    "NewTopic",
    "Quota",
    "TopicPlan",
    "plan_add_partitions",
    "plan_config",
    "plan_create_topics",
    "plan_delete_topics",
    "plan_new_epochs",
]

_DEFAULT = -1
_LEFT_OVER = "the controller removes what is left of it within a minute, try again then"


class NewTopic(NamedTuple):
    """One topic of a CreateTopics request.

    Attributes:
        partitions: -1 = the broker's default.
        replication_factor: -1 = the broker's default.
        assignments: broker ids by partition index; excludes the two counts.
        configs: texts by topic key; None stands for a missing value.
    """

    name: str
    partitions: int = _DEFAULT
    replication_factor: int = _DEFAULT
    assignments: Mapping[int, Sequence[int]] = {}
    configs: Mapping[str, str | None] = {}


class NewPartitions(NamedTuple):
    """One topic of a CreatePartitions request.

    Attributes:
        total: partitions afterwards.
        assignments: broker ids for each new partition; None = the broker chooses.
    """

    name: str
    total: int
    assignments: Sequence[Sequence[int]] | None = None


class Quota(NamedTuple):
    """How much clients may create; None = no limit.

    Attributes:
        topics: `fastmq.topics.max`: topics in all.
        partitions: `fastmq.partitions.max`: partitions of all topics together.
    """

    topics: int | None = None
    partitions: int | None = None


NO_QUOTA: Final = Quota()


class TopicPlan(NamedTuple):
    """What a request does to one topic: either an error, or the changes to commit.

    Attributes:
        topic: as it is afterwards; as it was before for a deletion; None with an error.
        configs: overrides of a new topic in normal form.
    """

    name: str
    error: KafkaError | None
    topic: TopicState | None
    configs: Mapping[str, str]
    changes: tuple[Change, ...]


def plan_create_topics(
    image: ClusterImage,
    requests: Iterable[NewTopic],
    *,
    default_partitions: int,
    default_replication_factor: int,
    new_id: Callable[[], bytes],
    quota: Quota = NO_QUOTA,
) -> list[TopicPlan]:
    """Plan new topics, one plan per request, in order.

    Args:
        image: the cluster now.
        requests: what is wanted. A name that is given twice is refused each time.
        default_partitions: `num.partitions`.
        default_replication_factor: `default.replication.factor`.
        new_id: draws a topic id, see `fastmq.ids.new_uuid`.
        quota: what does not fit into it is refused with POLICY_VIOLATION.
    """
    requests = list(requests)
    room = _Room(image, quota)
    creator = _Creator(image, default_partitions, default_replication_factor, new_id, room)
    counts: dict[str, int] = {}
    for request in requests:
        counts[request.name] = counts.get(request.name, 0) + 1
    return [
        _refused(request.name, ErrorCode.INVALID_REQUEST, "the topic is twice in the request")
        if counts[request.name] > 1
        else creator.plan(request)
        for request in requests
    ]


class _Room:
    """What is left of a quota while the topics of one request are planned."""

    def __init__(self, image: ClusterImage, quota: Quota) -> None:
        self._quota = quota
        self._topics = len(image.topics)
        # Counting walks over all topics, so it is left out where nobody wants to know.
        self._partitions = 0 if quota.partitions is None else image.partition_count()

    def check(self, topics: int, partitions: int) -> None:
        """Refuse with POLICY_VIOLATION what does not fit."""
        for added, used, limit, what in (
            (topics, self._topics, self._quota.topics, "topics"),
            (partitions, self._partitions, self._quota.partitions, "partitions"),
        ):
            if limit is not None and added and used + added > limit:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION,
                    f"there are {used} {what}, and fastmq.{what}.max allows {limit}",
                )

    def take(self, topics: int, partitions: int) -> None:
        self._topics += topics
        self._partitions += partitions


class _Creator:
    """Plans the topics of one request; each takes its place from the next."""

    def __init__(
        self,
        image: ClusterImage,
        default_partitions: int,
        default_replication_factor: int,
        new_id: Callable[[], bytes],
        room: "_Room",
    ) -> None:
        self._image = image
        self._room = room
        self._default_partitions = default_partitions
        self._default_replication_factor = default_replication_factor
        self._new_id = new_id
        self._placer = Placer(image)
        self._taken = {collision_name(name): name for name in image.topics}
        self._budget = PARTITIONS_PER_REQUEST_MAX

    def plan(self, request: NewTopic) -> TopicPlan:
        try:
            self._check_name(request.name)
            configs = _checked_configs(request.configs)
            states = self._states(request)
        except KafkaError as error:
            return TopicPlan(request.name, error, None, {}, ())
        self._taken[collision_name(request.name)] = request.name
        self._room.take(1, len(states))
        return self._made(request.name, states, configs)

    def _check_name(self, name: str) -> None:
        check_topic_name(name)
        if name in self._image.topics:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic {name} already exists")
        if name in self._image.half_topics:
            raise KafkaError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"{name} was made by half: {_LEFT_OVER}",
            )
        other = self._taken.get(collision_name(name))
        if other is not None:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"{name} differs from the topic {other} only in '.' and '_'",
            )

    def _states(self, request: NewTopic) -> list[PartitionState]:
        if request.assignments:
            return self._assigned_states(request)
        count = request.partitions
        if count == _DEFAULT:
            count = self._default_partitions
        if count <= 0:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS, "the number of partitions must be at least 1"
            )
        self._spend(count)
        factor = request.replication_factor
        if factor == _DEFAULT:
            factor = self._default_replication_factor
        if not 0 < factor <= REPLICATION_FACTOR_MAX:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"the replication factor must be in 1..{REPLICATION_FACTOR_MAX}",
            )
        return self._placer.place(count, factor)

    def _assigned_states(self, request: NewTopic) -> list[PartitionState]:
        if request.partitions != _DEFAULT or request.replication_factor != _DEFAULT:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                "with an assignment, partitions and replication factor must both be -1",
            )
        self._spend(len(request.assignments))
        if sorted(request.assignments) != list(range(len(request.assignments))):
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                "assigned partitions must be numbered from 0 without a gap",
            )
        ordered = [request.assignments[index] for index in range(len(request.assignments))]
        _check_equal_factors(ordered, len(ordered[0]))
        return [self._placer.place_manually(replicas) for replicas in ordered]

    def _spend(self, count: int) -> None:
        _check_count(count)
        if count > self._budget:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                f"one request creates at most {PARTITIONS_PER_REQUEST_MAX} partitions",
            )
        self._room.check(1, count)
        self._budget -= count

    def _made(self, name: str, states: list[PartitionState], configs: dict[str, str]) -> TopicPlan:
        topic_id = self._new_id()
        changes: list[Change] = [
            PutPartition(topic_id, index, state, 0) for index, state in enumerate(states)
        ]
        # What a deletion that was cut short has left must not become this one's.
        expected = self._image.config_revision(ConfigKind.TOPIC, name)
        if configs:
            changes.append(PutConfig(ConfigKind.TOPIC, name, configs, expected))
        elif expected:
            changes.append(DropConfig(ConfigKind.TOPIC, name, expected))
        changes.append(PutTopic(name, topic_id, len(states), 0))
        topic = TopicState(name, topic_id, tuple(states), 0)
        return TopicPlan(name, None, topic, configs, tuple(changes))


def plan_delete_topics(
    image: ClusterImage, names: Iterable[str] = (), ids: Iterable[bytes] = ()
) -> list[TopicPlan]:
    """Plan the end of topics: one plan per name, then one per id, in order.

    A plan for an unknown id has an empty name and UNKNOWN_TOPIC_ID.
    """
    plans = [
        _deletion(image, image.topics[name])
        if name in image.topics
        else _refused(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")
        for name in names
    ]
    for topic_id in ids:
        topic = image.topic_by_id(topic_id)
        plans.append(
            _refused("", ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id")
            if topic is None
            else _deletion(image, topic)
        )
    return plans


def _deletion(image: ClusterImage, topic: TopicState) -> TopicPlan:
    changes: list[Change] = [DropTopic(topic.name, topic.revision)]
    revision = image.config_revision(ConfigKind.TOPIC, topic.name)
    if revision:
        changes.append(DropConfig(ConfigKind.TOPIC, topic.name, revision))
    changes += [
        DropPartition(topic.id, index, state.revision)
        for index, state in enumerate(topic.partitions)
    ]
    return TopicPlan(topic.name, None, topic, {}, tuple(changes))


def plan_add_partitions(
    image: ClusterImage, requests: Iterable[NewPartitions], quota: Quota = NO_QUOTA
) -> list[TopicPlan]:
    """Plan more partitions for topics, one plan per request, in order.

    What does not fit into the quota is refused with POLICY_VIOLATION.
    """
    placer = Placer(image)
    room = _Room(image, quota)
    plans = []
    budget = PARTITIONS_PER_REQUEST_MAX
    seen: set[str] = set()
    for request in requests:
        if request.name in seen:
            twice = "the topic is twice in the request"
            plans.append(_refused(request.name, ErrorCode.INVALID_REQUEST, twice))
            continue
        seen.add(request.name)
        try:
            plan = _addition(image, placer, request, budget, room)
        except KafkaError as error:
            plan = TopicPlan(request.name, error, None, {}, ())
        budget -= len(plan.changes)
        plans.append(plan)
    return plans


def _addition(
    image: ClusterImage, placer: Placer, request: NewPartitions, budget: int, room: _Room
) -> TopicPlan:
    topic = image.topics.get(request.name)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {request.name}")
    before = len(topic.partitions)
    added = request.total - before
    if added <= 0:
        problem = "already has" if added == 0 else "has more than"
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"topic {request.name} {problem} {request.total} partitions (it has {before})",
        )
    _check_count(request.total)
    if not image.loose.get(topic.id, {}).keys().isdisjoint(range(before, request.total)):
        raise KafkaError(
            ErrorCode.REQUEST_TIMED_OUT, f"{request.name} was grown by half: {_LEFT_OVER}"
        )
    if added > budget:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"one request creates at most {PARTITIONS_PER_REQUEST_MAX} partitions",
        )
    room.check(0, added)
    if request.assignments is None:
        states = placer.place(added, topic.replication_factor)
    else:
        if len(request.assignments) != added:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"{added} partition(s) are new, but {len(request.assignments)} assigned",
            )
        _check_equal_factors(request.assignments, topic.replication_factor)
        states = [placer.place_manually(replicas) for replicas in request.assignments]
    changes: list[Change] = [
        PutPartition(topic.id, before + index, state, 0) for index, state in enumerate(states)
    ]
    # Rewriting the topic's row is what makes two additions at once conflict.
    changes.append(PutTopic(topic.name, topic.id, request.total, topic.revision))
    grown = topic._replace(partitions=topic.partitions + tuple(states))
    room.take(0, added)
    return TopicPlan(request.name, None, grown, {}, tuple(changes))


def plan_config(
    image: ClusterImage, kind: ConfigKind, name: str, values: Mapping[str, str]
) -> tuple[Change, ...]:
    """Plan other overrides; the values are checked already (`fastmq.config.alter`)."""
    if image.config(kind, name) == values:
        return ()
    revision = image.config_revision(kind, name)
    if values:
        return (PutConfig(kind, name, dict(values), revision),)
    return (DropConfig(kind, name, revision),)


def plan_new_epochs(image: ClusterImage, broker_id: int) -> list[Change]:
    """Plan a new leader epoch for each partition that a broker leads.

    After an unclean stop a log may have lost its unsynced end. The new epoch marks what follows,
    so that consumers that read the lost end find out (KIP-320).
    """
    return [
        PutPartition(
            topic.id,
            index,
            state._replace(
                leader_epoch=state.leader_epoch + 1, partition_epoch=state.partition_epoch + 1
            ),
            state.revision,
        )
        for topic in image.topics.values()
        for index, state in enumerate(topic.partitions)
        if state.leader == broker_id
    ]


def _refused(name: str, code: ErrorCode, message: str) -> TopicPlan:
    return TopicPlan(name, KafkaError(code, message), None, {}, ())


def _checked_configs(configs: Mapping[str, str | None]) -> dict[str, str]:
    try:
        return check_topic_overrides(configs)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None


def _check_count(count: int) -> None:
    if count > PARTITIONS_PER_TOPIC_MAX:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"a topic has at most {PARTITIONS_PER_TOPIC_MAX} partitions",
        )


def _check_equal_factors(assignments: Sequence[Sequence[int]], factor: int) -> None:
    if any(len(replicas) != factor for replicas in assignments):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "all partitions of a topic need the same number of replicas",
        )
