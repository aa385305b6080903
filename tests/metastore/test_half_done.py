"""Whoever dies between the transactions of one plan leaves nothing that stays, or is in the way."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    ConfigKind,
    DropPartition,
    Move,
    NewPartitions,
    NewTopic,
    PutBroker,
    find_orphans,
    plan_add_partitions,
    plan_create_topics,
    plan_delete_topics,
    plan_moves,
    plan_orphans,
)
from fastmq.errors import KafkaError
from fastmq.ids import new_uuid
from fastmq.metastore import CommitConflictError, Compare, MetadataCache, Op, SQLiteMetastore
from fastmq.metastore.interface import Conflict

pytestmark = pytest.mark.trio

# So few operations per transaction that every plan below needs several.
OPS = 4


class DiedError(Exception):
    """The process is gone."""


class MortalStore(SQLiteMetastore):
    """Dies before a transaction, counted from when `lives` is set."""

    ops_max = OPS
    lives = -1

    async def txn(self, compares: list[Compare], ops: list[Op]) -> int | Conflict:  # type: ignore[override]
        if self.lives == 0:
            raise DiedError
        self.lives -= 1
        return await super().txn(compares, ops)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MortalStore]:
    made = MortalStore(tmp_path / "metadata.sqlite", durable=False)
    await made.open()
    try:
        cache = MetadataCache(made)
        await run(
            cache, [PutBroker(BrokerState(n, 1, (), directories=(b"d" * 16,)), 0) for n in (1, 2)]
        )
        yield made
    finally:
        await made.close()


async def run(cache: MetadataCache, changes: list[Change]) -> None:
    async with cache.lock:
        await cache.commit(changes)


async def loaded(store: MortalStore) -> MetadataCache:
    cache = MetadataCache(store)
    await cache.load()
    return cache


async def clean(store: MortalStore) -> ClusterImage:
    """What the next controller does at its second look."""
    cache = await loaded(store)
    await run(cache, plan_orphans(cache.image, find_orphans(cache.image)))
    cache = await loaded(store)
    # Where a topic had loose partitions, its settings go at the look after that.
    await run(cache, plan_orphans(cache.image, find_orphans(cache.image)))
    return (await loaded(store)).image


async def keys(store: MortalStore) -> list[str]:
    found = (await store.read("")).items
    return [item.key for item in found if not item.key.startswith("brokers/")]


def create(image: ClusterImage, *names: str) -> list[Change]:
    plans = plan_create_topics(
        image,
        [NewTopic(name, 5, configs={"retention.ms": "5"}) for name in names],
        default_partitions=1,
        default_replication_factor=1,
        new_id=lambda: new_uuid(os.urandom),
    )
    assert not any(plan.error for plan in plans)
    return [change for plan in plans for change in plan.changes]


def grow(image: ClusterImage) -> list[Change]:
    (plan,) = plan_add_partitions(image, [NewPartitions("t", 12)])
    if plan.error is not None:
        raise plan.error
    return list(plan.changes)


def delete(image: ClusterImage) -> list[Change]:
    return [change for plan in plan_delete_topics(image, ["t", "u"]) for change in plan.changes]


def move(image: ClusterImage) -> list[Change]:
    moves = [
        Move("t", n, (2,) if image.topics["t"].partitions[n].leader == 1 else (1,))
        for n in range(5)
    ]
    return plan_moves(image, moves)[0]


async def crash_points(
    store: MortalStore, plan: Callable[[ClusterImage], list[Change]]
) -> AsyncIterator[tuple[list[str], list[Change]]]:
    """Let the plan die before each transaction in turn; yields the keys before, and the plan."""
    for lives in range(1, 50):
        cache = await loaded(store)
        before = await keys(store)
        changes = plan(cache.image)
        store.lives = lives
        try:
            await run(cache, changes)
        except DiedError:
            store.lives = -1
            yield before, changes
        else:
            store.lives = -1
            assert lives > 1, "the plan took too few transactions to be cut"
            return
    raise AssertionError("the plan never ends")


async def test_a_creation_leaves_whole_topics_or_none(store: MortalStore) -> None:
    async for before, _ in crash_points(store, lambda image: create(image, "t", "u")):
        image = await clean(store)
        assert not find_orphans(image)
        made = set(image.topics)
        assert made in (set(), {"t"})
        for name in made:
            assert len(image.topics[name].partitions) == 5
            assert image.config(ConfigKind.TOPIC, name) == {"retention.ms": "5"}
        cache = await loaded(store)
        await run(
            cache,
            delete(cache.image)
            if not made
            else [c for p in plan_delete_topics(image, made) for c in p.changes],
        )
        await clean(store)
        assert await keys(store) == before == []


async def test_a_growth_is_whole_or_undone_and_can_be_repeated(store: MortalStore) -> None:
    await run(cache := await loaded(store), create(cache.image, "t"))
    async for before, _ in crash_points(store, grow):
        image = (await loaded(store)).image
        assert len(image.topics["t"].partitions) == 5
        with pytest.raises(KafkaError, match="grown by half"):
            grow(image)
        await clean(store)
        assert await keys(store) == before
    assert len((await loaded(store)).image.topics["t"].partitions) == 12


async def test_a_deletion_is_finished(store: MortalStore) -> None:
    await run(cache := await loaded(store), create(cache.image, "t", "u"))
    async for _, _ in crash_points(store, delete):
        image = await clean(store)
        assert not find_orphans(image)
        assert "t" not in image.topics
        assert {key for key in await keys(store) if "partitions" not in key} <= {
            "topics/u",
            "configs/topic/u",
        }
        cache = await loaded(store)
        await run(cache, create(cache.image, *{"t", "u"} - set(cache.image.topics)))
    assert not find_orphans(await clean(store))
    assert await keys(store) == []


async def test_a_name_does_not_inherit_the_settings_of_the_half_deleted(store: MortalStore) -> None:
    await run(cache := await loaded(store), create(cache.image, "t"))
    (gone,) = plan_delete_topics(cache.image, ["t"])
    await run(cache, list(gone.changes[:1]))
    (plan,) = plan_create_topics(
        cache.image,
        [NewTopic("t", 1)],
        default_partitions=1,
        default_replication_factor=1,
        new_id=lambda: new_uuid(os.urandom),
    )
    await run(cache, list(plan.changes))
    image = await clean(store)
    assert image.config(ConfigKind.TOPIC, "t") == {}
    assert len(image.topics["t"].partitions) == 1
    assert len([key for key in await keys(store) if key.startswith("partitions/")]) == 1


async def test_half_of_the_moves_that_have_begun_are_whole_moves(store: MortalStore) -> None:
    await run(cache := await loaded(store), create(cache.image, "t"))
    async for _, _ in crash_points(store, move):
        image = await clean(store)
        partitions = image.topics["t"].partitions
        moving = [state for state in partitions if state.is_moving]
        assert 0 < len(moving) < 5
        assert all(set(state.target) == set(state.adding) for state in moving)
        # Taken back, so that the next round begins at the same place.
        begun = [Move("t", n, None) for n, state in enumerate(partitions) if state.is_moving]
        await run(await loaded(store), plan_moves(image, begun)[0])


async def test_who_was_only_slow_finishes_nothing_after_the_cleaning(store: MortalStore) -> None:
    """A creator stops before each of its transactions, is cleaned away, and goes on."""
    for lives in range(1, 4):
        slow = await loaded(store)
        txn = store.txn
        count = 0

        async def stopped(compares, ops, txn=txn, lives=lives):  # type: ignore[no-untyped-def]
            nonlocal count
            count += 1
            if count == lives + 1:
                store.txn = txn  # type: ignore[method-assign]
                await clean(store)
            return await txn(compares, ops)

        store.txn = stopped  # type: ignore[method-assign]
        with pytest.raises(CommitConflictError):
            await run(slow, create(slow.image, "t", "u"))
        image = await clean(store)
        assert set(image.topics) <= {"t"}
        await run(
            await loaded(store),
            [change for plan in plan_delete_topics(image, image.topics) for change in plan.changes],
        )
        await clean(store)
        assert await keys(store) == []


async def test_a_topic_without_its_partitions_is_told_and_removed(store: MortalStore) -> None:
    await run(cache := await loaded(store), create(cache.image, "t"))
    topic = cache.image.topics["t"]
    await run(cache, [DropPartition(topic.id, 3, topic.partitions[3].revision)])
    for image in (cache.image, (await loaded(store)).image):
        assert image.topics == {}
        assert list(image.half_topics) == ["t"]
        (plan,) = plan_create_topics(
            image,
            [NewTopic("t", 1)],
            default_partitions=1,
            default_replication_factor=1,
            new_id=lambda: new_uuid(os.urandom),
        )
        assert plan.error is not None
        assert "made by half" in plan.error.message
    await clean(store)
    assert await keys(store) == []
