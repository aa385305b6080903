"""The cluster image: changes in, pictures out."""

from fastmq.cluster import (
    ANY_REVISION,
    BrokerState,
    Change,
    ClusterImage,
    ConfigKind,
    DropBroker,
    DropConfig,
    DropPartition,
    DropTopic,
    Endpoint,
    PartitionState,
    PutBroker,
    PutConfig,
    PutPartition,
    PutTopic,
)

ID = b"i" * 16
OTHER_ID = b"j" * 16
STATE = PartitionState(1, 0, 0, (1,), (1,), (b"d" * 16,))


def topic(name: str, topic_id: bytes, count: int) -> list[PutPartition | PutTopic]:
    rows: list[PutPartition | PutTopic] = [
        PutPartition(topic_id, index, STATE, 0) for index in range(count)
    ]
    return [*rows, PutTopic(name, topic_id, count, 0)]


def test_topic_appears_with_its_partitions_and_revisions() -> None:
    image = ClusterImage().apply(topic("t", ID, 2), 7)
    assert image.revision == 7
    assert image.topics["t"].partitions == (STATE._replace(revision=7),) * 2
    assert image.topics["t"].revision == 7
    assert image.topic_by_id(ID) is image.topics["t"]
    assert image.partition("t", 1) == STATE._replace(revision=7)
    assert image.partition("t", 2) is None
    assert image.partition("t", -1) is None
    assert image.partition_count() == 2


def test_topic_is_unseen_until_it_is_whole() -> None:
    *partitions, row = topic("t", ID, 3)
    image = ClusterImage().apply(partitions[:2], 1)
    assert not image.topics
    image = image.apply([partitions[2], row], 2)
    assert [state.revision for state in image.topics["t"].partitions] == [1, 1, 2]
    assert not ClusterImage().apply([partitions[0], row], 1).topics


def test_old_pictures_do_not_change() -> None:
    first = ClusterImage().apply(topic("t", ID, 1), 1)
    newer = STATE._replace(leader_epoch=5)
    second = first.apply([PutPartition(ID, 0, newer, 1)], 2)
    assert first.topics["t"].partitions[0].leader_epoch == 0
    assert second.topics["t"].partitions[0].leader_epoch == 5
    assert second.topics["t"].revision == 1


def test_a_revision_is_applied_once() -> None:
    image = ClusterImage().apply(topic("t", ID, 1), 3)
    assert image.apply([DropTopic("t", ANY_REVISION)], 3) is image


def test_deleted_topic_is_gone_by_name_and_id() -> None:
    image = ClusterImage().apply(topic("t", ID, 1), 1)
    image = image.apply([DropTopic("t", 1), DropPartition(ID, 0, 1)], 2)
    assert not image.topics
    assert image.topic_by_id(ID) is None
    assert image.partition("t", 0) is None


def test_growth_in_two_steps_is_seen_at_the_second() -> None:
    image = ClusterImage().apply(topic("t", ID, 1), 1)
    image = image.apply([PutPartition(ID, 1, STATE, 0)], 2)
    assert len(image.topics["t"].partitions) == 1
    image = image.apply([PutTopic("t", ID, 2, 1)], 3)
    assert [state.revision for state in image.topics["t"].partitions] == [1, 2]
    assert not image.loose


def test_deletion_in_two_steps_leaves_nothing() -> None:
    image = ClusterImage().apply(topic("t", ID, 2), 1)
    image = image.apply([DropTopic("t", 1)], 2)
    assert not image.topics
    assert image.topic_by_id(ID) is None
    image = image.apply([DropPartition(ID, 0, 1), DropPartition(ID, 1, 1)], 3)
    assert not image.loose


def test_recreated_topic_has_its_new_id_only() -> None:
    image = ClusterImage().apply(topic("t", ID, 2), 1)
    drop: list[Change] = [DropTopic("t", 1), DropPartition(ID, 0, 1), DropPartition(ID, 1, 1)]
    image = image.apply([*drop, *topic("t", OTHER_ID, 1)], 2)
    assert image.topic_by_id(ID) is None
    assert image.topics["t"].id == OTHER_ID
    assert len(image.topics["t"].partitions) == 1


def test_overrides_and_brokers() -> None:
    broker = BrokerState(1, 4, (Endpoint("PLAINTEXT", "h", 9092),))
    image = ClusterImage().apply(
        [
            PutBroker(broker, 0),
            PutConfig(ConfigKind.TOPIC, "t", {"retention.ms": "1"}, 0),
            PutConfig(ConfigKind.BROKER, "", {"max.connections": "1"}, 0),
        ],
        5,
    )
    assert image.brokers[1].revision == 5
    assert image.brokers[1].endpoint("PLAINTEXT") == Endpoint("PLAINTEXT", "h", 9092)
    assert image.brokers[1].endpoint("OTHER") is None
    assert image.config(ConfigKind.TOPIC, "t") == {"retention.ms": "1"}
    assert image.config_revision(ConfigKind.TOPIC, "t") == 5
    assert image.config(ConfigKind.TOPIC, "") == {}
    image = image.apply([DropConfig(ConfigKind.TOPIC, "t", 5), DropBroker(1, 5)], 6)
    assert image.config_revision(ConfigKind.TOPIC, "t") == 0
    assert not image.brokers
