"""Random histories: the driver against a dict, and images against the store they come from."""

import random
from pathlib import Path

import pytest

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    ConfigKind,
    NewPartitions,
    NewTopic,
    PutBroker,
    plan_add_partitions,
    plan_config,
    plan_create_topics,
    plan_delete_topics,
    plan_new_epochs,
)
from fastmq.ids import new_uuid
from fastmq.metastore import (
    Compare,
    Conflict,
    Delete,
    MetadataCache,
    Op,
    Put,
    SQLiteMetastore,
    load_image,
)

pytestmark = pytest.mark.trio

NAMES = [f"topic-{number}" for number in range(6)]


@pytest.mark.parametrize("seed", range(5))
async def test_the_driver_does_what_a_dict_would(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = SQLiteMetastore(tmp_path / "metadata.sqlite", durable=False)
    await store.open()
    model: dict[str, tuple[bytes, int]] = {}
    revision = 0
    for _ in range(150):
        compares = [
            Compare(name, model.get(name, (b"", 0))[1] if rng.random() < 0.9 else rng.randrange(20))
            for name in rng.sample(NAMES, rng.randrange(3))
        ]
        ops: list[Op] = [
            Put(name, rng.randbytes(3)) if rng.random() < 0.7 else Delete(name)
            for name in rng.sample(NAMES, rng.randrange(4))
        ]
        failing = tuple(name for name, wanted in compares if model.get(name, (b"", 0))[1] != wanted)
        result = await store.txn(compares, ops)
        if failing:
            assert result == Conflict(failing)
            continue
        revision += bool(ops)
        assert result == revision
        for op in ops:
            if isinstance(op, Put):
                model[op.key] = (op.value, revision)
            else:
                model.pop(op.key, None)
        if rng.random() < 0.1:
            await store.close()
            store = SQLiteMetastore(tmp_path / "metadata.sqlite", durable=False)
            await store.open()
        snapshot = await store.read("topic-")
        assert snapshot.revision == revision
        assert {key: (value, at) for key, value, at in snapshot.items} == model
        assert [item.key for item in snapshot.items] == sorted(model)
    await store.close()


def random_plan(image: ClusterImage, rng: random.Random) -> tuple[Change, ...]:
    name = rng.choice(NAMES)
    match rng.randrange(6):
        case 0 | 1:
            (plan,) = plan_create_topics(
                image,
                [
                    NewTopic(
                        name, rng.randrange(1, 4), configs={"retention.ms": str(rng.random())[2:5]}
                    )
                ],
                default_partitions=1,
                default_replication_factor=1,
                new_id=lambda: new_uuid(rng.randbytes),
            )
            return plan.changes
        case 2:
            return plan_delete_topics(image, [name])[0].changes
        case 3:
            return plan_add_partitions(image, [NewPartitions(name, rng.randrange(1, 8))])[0].changes
        case 4:
            values = {"max.connections": str(rng.randrange(3))} if rng.random() < 0.7 else {}
            return plan_config(image, ConfigKind.BROKER, rng.choice(["", "1"]), values)
        case _:
            return tuple(plan_new_epochs(image, 1))


@pytest.mark.parametrize("ops_max", [2, 20_000])
@pytest.mark.parametrize("seed", range(5))
async def test_the_image_is_always_what_a_fresh_load_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, ops_max: int
) -> None:
    monkeypatch.setattr(SQLiteMetastore, "ops_max", ops_max)
    rng = random.Random(seed)
    store = SQLiteMetastore(tmp_path / "metadata.sqlite", durable=False)
    await store.open()
    cache = MetadataCache(store)
    seen = 0
    async with cache.lock:
        await cache.commit([PutBroker(BrokerState(1, 0, (), directories=(b"d" * 16,)), 0)])
        for _ in range(100):
            changes = random_plan(cache.image, rng)
            await cache.commit(changes)
            seen += bool(changes)
            loaded = await load_image(store)
            for attribute in ("revision", "brokers", "topics", "topic_names", "loose", "_configs"):
                assert getattr(cache.image, attribute) == getattr(loaded, attribute), attribute
            assert not loaded.loose
            assert all(
                loaded.topic_names[topic.id] == name for name, topic in loaded.topics.items()
            )
    assert seen > 30
    await store.close()
