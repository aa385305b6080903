"""Plans: creation, deletion, growth, overrides; Kafka's errors; guarded changes."""

from collections.abc import Callable
from itertools import count

import pytest

from fastmq.cluster import (
    BrokerState,
    ClusterImage,
    ConfigKind,
    DropConfig,
    NewPartitions,
    NewTopic,
    PutBroker,
    PutConfig,
    PutTopic,
    Quota,
    TopicPlan,
    check_topic_name,
    plan_add_partitions,
    plan_config,
    plan_create_topics,
    plan_delete_topics,
    plan_new_epochs,
)
from fastmq.errors import ErrorCode, KafkaError


def ids() -> Callable[[], bytes]:
    numbers = count(1)
    return lambda: next(numbers).to_bytes(16, "big")


def cluster(broker_count: int = 3, **fields: object) -> ClusterImage:
    brokers = [
        BrokerState(number, 1, (), directories=(b"%016d" % number,), **fields)  # type: ignore[arg-type]
        for number in range(broker_count)
    ]
    return ClusterImage().apply([PutBroker(broker, 0) for broker in brokers], 1)


def create(image: ClusterImage, *requests: NewTopic) -> list[TopicPlan]:
    return plan_create_topics(
        image, requests, default_partitions=2, default_replication_factor=1, new_id=ids()
    )


def with_topic(image: ClusterImage, request: NewTopic) -> ClusterImage:
    (plan,) = create(image, request)
    assert plan.error is None
    return image.apply(plan.changes, image.revision + 1)


def test_created_topic_takes_defaults_and_becomes_visible() -> None:
    image = with_topic(cluster(), NewTopic("t", configs={"retention.ms": "1"}))
    assert len(image.topics["t"].partitions) == 2
    assert image.topics["t"].replication_factor == 1
    assert image.config(ConfigKind.TOPIC, "t") == {"retention.ms": "1"}
    state = image.topics["t"].partitions[0]
    assert state.leader == state.replicas[0]
    assert state.directories == (b"%016d" % state.leader,)


def test_new_rows_are_guarded_and_the_topic_comes_last() -> None:
    (plan,) = create(cluster(), NewTopic("t", 3, 2))
    assert [change.expected for change in plan.changes] == [0, 0, 0, 0]
    assert isinstance(plan.changes[-1], PutTopic)
    assert plan.topic is not None
    assert plan.topic.id == (1).to_bytes(16, "big")


def test_a_topic_whose_creation_was_interrupted_can_be_created_again() -> None:
    """Rows of its partitions are there and its own is not: it does not exist."""
    (plan,) = create(cluster(), NewTopic("half", 3))
    half = cluster().apply(plan.changes[:2], 9)
    assert "half" not in half.topics
    (again,) = plan_create_topics(
        half,
        [NewTopic("half", 3)],
        default_partitions=1,
        default_replication_factor=1,
        new_id=lambda: b"another topic id",
    )
    assert again.error is None
    assert len(half.apply(again.changes, 10).topics["half"].partitions) == 3


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (NewTopic("old"), ErrorCode.TOPIC_ALREADY_EXISTS),
        (NewTopic(""), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic("a/b"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic("with_dot"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic("t", 0), ErrorCode.INVALID_PARTITIONS),
        (NewTopic("t", -2), ErrorCode.INVALID_PARTITIONS),
        (NewTopic("t", 1 << 31), ErrorCode.INVALID_PARTITIONS),
        (NewTopic("t", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic("t", 1, 4), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic("t", 1, 30_000), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic("t", 2, -1, {0: [1]}), ErrorCode.INVALID_REQUEST),
        (NewTopic("t", assignments={1: [1]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("t", assignments={0: []}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("t", assignments={0: [9]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("t", assignments={0: [1, 1]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("t", assignments={0: [1], 1: [1, 2]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("t", configs={"no.such": "1"}), ErrorCode.INVALID_CONFIG),
        (NewTopic("t", configs={"retention.ms": None}), ErrorCode.INVALID_CONFIG),
        (NewTopic("t", configs={"retention.ms": "x"}), ErrorCode.INVALID_CONFIG),
    ],
)
def test_refused_topics(request_: NewTopic, code: ErrorCode) -> None:
    image = with_topic(with_topic(cluster(), NewTopic("old")), NewTopic("with.dot"))
    refused, made = create(image, request_, NewTopic("fine"))
    assert refused.error is not None
    assert refused.error.code is code
    assert refused.error.message
    assert not refused.changes
    assert made.error is None


def test_topic_twice_in_a_request_is_refused_twice() -> None:
    plans = create(cluster(), NewTopic("t"), NewTopic("u"), NewTopic("t"))
    assert [plan.error and plan.error.code for plan in plans] == [
        ErrorCode.INVALID_REQUEST,
        None,
        ErrorCode.INVALID_REQUEST,
    ]


def test_names_of_one_request_must_not_collide() -> None:
    first, second = create(cluster(), NewTopic("a.b"), NewTopic("a_b"))
    assert first.error is None
    assert second.error is not None
    assert second.error.code is ErrorCode.INVALID_TOPIC_EXCEPTION


def test_request_has_a_partition_budget() -> None:
    plans = create(cluster(), *(NewTopic(f"t{number}", 20_000) for number in range(3)))
    assert [plan.error is None for plan in plans] == [True, True, False]


def test_manual_assignment_is_kept() -> None:
    (plan,) = create(cluster(), NewTopic("t", assignments={1: [2, 0], 0: [0, 1]}))
    assert plan.topic is not None
    assert [state.replicas for state in plan.topic.partitions] == [(0, 1), (2, 0)]
    assert [state.leader for state in plan.topic.partitions] == [0, 2]


def test_deletion_is_guarded_by_the_rows_it_removes() -> None:
    image = with_topic(cluster(), NewTopic("t", configs={"retention.ms": "1"}))
    by_name, unknown, by_id, foreign = plan_delete_topics(
        image, ["t", "no"], [image.topics["t"].id, b"x" * 16]
    )
    assert by_name.changes == by_id.changes
    assert {change.expected for change in by_name.changes} == {2}
    after = image.apply(by_name.changes, 3)
    assert not after.topics
    assert after.config_revision(ConfigKind.TOPIC, "t") == 0
    assert unknown.error is not None
    assert unknown.error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert foreign.error is not None
    assert foreign.error.code is ErrorCode.UNKNOWN_TOPIC_ID


def test_added_partitions_keep_the_old_ones() -> None:
    image = with_topic(cluster(), NewTopic("t", 2, 3))
    (plan,) = plan_add_partitions(image, [NewPartitions("t", 4)])
    after = image.apply(plan.changes, 9)
    assert after.topics["t"].partitions[:2] == image.topics["t"].partitions
    assert all(len(state.replicas) == 3 for state in after.topics["t"].partitions)
    assert [change.expected for change in plan.changes] == [0, 0, 2]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (NewPartitions("no", 3), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (NewPartitions("t", 2), ErrorCode.INVALID_PARTITIONS),
        (NewPartitions("t", 1), ErrorCode.INVALID_PARTITIONS),
        (NewPartitions("t", 1 << 30), ErrorCode.INVALID_PARTITIONS),
        (NewPartitions("t", 4, [[1]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewPartitions("t", 3, [[1, 2]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (NewPartitions("t", 3, [[7]]), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_refused_additions(request_: NewPartitions, code: ErrorCode) -> None:
    image = with_topic(cluster(), NewTopic("t"))
    (plan,) = plan_add_partitions(image, [request_])
    assert plan.error is not None
    assert plan.error.code is code
    assert not plan.changes


def test_topic_twice_in_an_addition_is_refused_the_second_time() -> None:
    image = with_topic(cluster(), NewTopic("t"))
    first, second = plan_add_partitions(image, [NewPartitions("t", 3), NewPartitions("t", 4)])
    assert first.error is None
    assert second.error is not None


def test_overrides_are_guarded_and_dropped_when_empty() -> None:
    image = cluster()
    (put,) = plan_config(image, ConfigKind.BROKER, "", {"max.connections": "5"})
    assert put == PutConfig(ConfigKind.BROKER, "", {"max.connections": "5"}, 0)
    image = image.apply([put], 4)
    assert plan_config(image, ConfigKind.BROKER, "", {"max.connections": "5"}) == ()
    assert plan_config(image, ConfigKind.BROKER, "", {}) == (DropConfig(ConfigKind.BROKER, "", 4),)


def test_unclean_restart_moves_the_epochs_of_led_partitions() -> None:
    image = with_topic(cluster(2), NewTopic("t", 4))
    changes = plan_new_epochs(image, 0)
    after = image.apply(changes, 8)
    epochs = [(state.leader, state.leader_epoch) for state in after.topics["t"].partitions]
    assert sorted(epochs) == [(0, 1), (0, 1), (1, 0), (1, 0)]


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "..a", "x" * 249])
def test_legal_names(name: str) -> None:
    check_topic_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 250, "a b", "a/b", "ä", "a\x00", "a\n"])
def test_illegal_names(name: str) -> None:
    with pytest.raises(KafkaError) as caught:
        check_topic_name(name)
    assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION


def codes(plans: list[TopicPlan]) -> list[ErrorCode]:
    return [ErrorCode.NONE if plan.error is None else plan.error.code for plan in plans]


def test_topics_beyond_the_quota_are_refused() -> None:
    image = with_topic(cluster(), NewTopic("old"))

    def plan(quota: Quota) -> list[ErrorCode]:
        return codes(
            plan_create_topics(
                image,
                [NewTopic("a", 3), NewTopic("b", 3)],
                default_partitions=2,
                default_replication_factor=1,
                new_id=ids(),
                quota=quota,
            )
        )

    refused = ErrorCode.POLICY_VIOLATION
    assert plan(Quota(3, 8)) == [ErrorCode.NONE, ErrorCode.NONE]
    assert plan(Quota(topics=2)) == [ErrorCode.NONE, refused]
    assert plan(Quota(partitions=7)) == [ErrorCode.NONE, refused]
    assert plan(Quota(topics=0)) == [refused, refused]


def test_partitions_beyond_the_quota_are_refused() -> None:
    image = with_topic(with_topic(cluster(), NewTopic("a")), NewTopic("b"))
    wanted = [NewPartitions("a", 4), NewPartitions("b", 4)]
    assert codes(plan_add_partitions(image, wanted, Quota(2, 8))) == [ErrorCode.NONE] * 2
    (first, second) = plan_add_partitions(image, wanted, Quota(partitions=7))
    assert first.error is None
    assert second.error is not None
    assert second.error.code == ErrorCode.POLICY_VIOLATION
    assert "fastmq.partitions.max" in second.error.message
