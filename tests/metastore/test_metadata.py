"""Images, plans and the store together: round trips, conflicts, and thousands of topics."""

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    ConfigKind,
    DropBroker,
    Endpoint,
    NewPartitions,
    NewTopic,
    PartitionState,
    PutBroker,
    PutConfig,
    PutPartition,
    plan_add_partitions,
    plan_config,
    plan_create_topics,
    plan_delete_topics,
)
from fastmq.ids import new_uuid
from fastmq.metastore import (
    CommitConflictError,
    Event,
    Item,
    MetadataCache,
    Metastore,
    MetastoreError,
    Put,
    SQLiteMetastore,
    allocate_producer_ids,
    ensure_cluster_id,
    load_image,
    read_cluster_id,
)
from fastmq.metastore.keys import change_of, operation_of

pytestmark = pytest.mark.trio

BROKER = BrokerState(
    1,
    7,
    (Endpoint("PLAINTEXT", "::1", 9092), Endpoint("INSIDE", "h", 1)),
    rack="r",
    host="machine",
    boot_id="b",
    directories=(b"d" * 16,),
    fenced=False,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Metastore]:
    made = SQLiteMetastore(tmp_path / "metadata.sqlite")
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def cache(store: Metastore) -> MetadataCache:
    made = MetadataCache(store)
    async with made.lock:
        await made.commit([PutBroker(BROKER, 0)])
    return made


def same(one: ClusterImage, other: ClusterImage) -> bool:
    return (one.brokers, one.topics, one.topic_names, one._configs, one.revision) == (
        other.brokers,
        other.topics,
        other.topic_names,
        other._configs,
        other.revision,
    )


def create(image: ClusterImage, *requests: NewTopic) -> list[Change]:
    plans = plan_create_topics(
        image,
        requests,
        default_partitions=1,
        default_replication_factor=1,
        new_id=lambda: new_uuid(os.urandom),
    )
    assert not any(plan.error for plan in plans)
    return [change for plan in plans for change in plan.changes]


async def test_the_image_after_each_commit_is_what_the_store_holds(cache: MetadataCache) -> None:
    changes = create(cache.image, NewTopic("t", 3, configs={"retention.ms": "5"}), NewTopic("u"))
    async with cache.lock:
        await cache.commit(changes)
        assert same(cache.image, await load_image(cache._store))
        (grown,) = plan_add_partitions(cache.image, [NewPartitions("t", 5)])
        await cache.commit(grown.changes)
        await cache.commit(plan_config(cache.image, ConfigKind.TOPIC, "t", {}))
        await cache.commit(
            plan_config(cache.image, ConfigKind.BROKER, "", {"max.connections": "1"})
        )
        (gone,) = plan_delete_topics(cache.image, ["u"])
        await cache.commit(gone.changes)
    loaded = await load_image(cache._store)
    assert same(cache.image, loaded)
    assert len(loaded.topics["t"].partitions) == 5
    assert loaded.brokers[1] == BROKER._replace(revision=1)
    assert loaded.config(ConfigKind.BROKER, "") == {"max.connections": "1"}


async def test_a_plan_made_of_an_old_image_conflicts(
    cache: MetadataCache, store: Metastore
) -> None:
    other = MetadataCache(store)
    await other.load()
    changes = create(cache.image, NewTopic("t"))
    async with cache.lock:
        await cache.commit(changes)
    async with other.lock:
        with pytest.raises(CommitConflictError, match="topics/t"):
            await other.commit(create(other.image, NewTopic("t")))
    grown = plan_add_partitions(cache.image, [NewPartitions("t", 2)])[0].changes
    again = plan_add_partitions(cache.image, [NewPartitions("t", 3)])[0].changes
    async with cache.lock:
        await cache.commit(grown)
        with pytest.raises(CommitConflictError):
            await cache.commit(again)


async def test_the_watch_brings_what_others_commit(cache: MetadataCache, store: Metastore) -> None:
    seen: list[int] = []
    other = MetadataCache(store, lambda before, after: seen.append(after.revision))
    await other.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        nursery.start_soon(cache.run)
        async with cache.lock:
            await cache.commit(create(cache.image, NewTopic("t")))
        # Commits before the watch has told it of the first: its own rows must not hide that one.
        async with other.lock:
            await other.commit(create(other.image, NewTopic("u")))
        await trio.testing.wait_all_tasks_blocked()
        assert set(other.image.topics) == set(cache.image.topics) == {"t", "u"}
        assert same(other.image, await load_image(store))
        nursery.cancel_scope.cancel()
    assert seen[-1] == 3


async def test_a_watcher_far_behind_loads_everything(
    cache: MetadataCache, store: Metastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmq.metastore.sqlite.METASTORE_HISTORY_EVENTS_MAX", 1)
    caught_up = trio.Event()

    def on_change(before: ClusterImage, after: ClusterImage) -> None:
        if len(after.topics) == 5:
            caught_up.set()

    other = MetadataCache(store, on_change)
    async with cache.lock:
        for number in range(5):
            await cache.commit(create(cache.image, NewTopic(f"t{number}")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        with trio.fail_after(5):
            await caught_up.wait()
        nursery.cancel_scope.cancel()


async def test_a_plan_larger_than_a_transaction_is_cut(
    cache: MetadataCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLiteMetastore, "ops_max", 4)
    async with cache.lock:
        await cache.commit(create(cache.image, NewTopic("t", 10)))
    # The fixture's, four changes, and three at a time with a look at the first partition.
    assert cache.image.revision == 5
    assert same(cache.image, await load_image(cache._store))


async def test_three_thousand_topics_are_created_and_loaded_in_one_go(
    cache: MetadataCache, store: Metastore
) -> None:
    requests = [
        NewTopic(f"topic-{number}", configs={"retention.ms": "5"}) for number in range(3000)
    ]
    before = cache.image.revision
    async with cache.lock:
        await cache.commit(create(cache.image, *requests))
    assert cache.image.revision == before + 1
    assert same(cache.image, await load_image(store))


async def test_cluster_id_is_drawn_once(store: Metastore) -> None:
    assert await read_cluster_id(store) is None
    drawn = await ensure_cluster_id(store, random.Random(1).randbytes)
    assert len(drawn) == 22
    assert await ensure_cluster_id(store, random.Random(2).randbytes) == drawn


async def test_producer_id_blocks_never_overlap(store: Metastore) -> None:
    blocks = []

    async def take() -> None:
        blocks.extend([await allocate_producer_ids(store, 10) for _ in range(5)])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(take)
    ids = sorted(number for first, end in blocks for number in range(first, end))
    assert ids == list(range(200))


async def test_producer_ids_end_some_day(store: Metastore) -> None:
    await store.txn([], [Put("producer-ids", b'{"next":9223372036854775000}')])
    with pytest.raises(MetastoreError, match="used up"):
        await allocate_producer_ids(store)


async def test_rows_survive_their_encoding() -> None:
    state = PartitionState(-1, 3, 4, (1, 2), (2,), (b"a" * 16, b"b" * 16))
    for change in (
        PutPartition(b"i" * 16, 123, state, -1),
        PutBroker(BROKER, -1),
        PutBroker(BrokerState(5, 0, (), fenced=True), -1),
        DropBroker(5, -1),
        PutConfig(ConfigKind.TOPIC, "ä.b", {"k": "ü,\n"}, -1),
    ):
        compare, op = operation_of(change)
        assert compare is None
        value = op.value if isinstance(op, Put) else None
        assert change_of(Event(op.key, value, 1)) == change


@pytest.mark.parametrize(
    "row",
    [
        Item("topics/t", b"{", 1),
        Item("topics/t", b"[]", 1),
        Item("topics/t", b"{}", 1),
        Item("topics/t", b'{"id":"x","n":1}', 1),
        Item("partitions/x/000000", b"{}", 1),
        Item("configs/planet/x", b"{}", 1),
        Item("brokers/one", b'{"e":1,"l":[],"d":[]}', 1),
    ],
)
async def test_damaged_rows_are_named(row: Item) -> None:
    with pytest.raises(MetastoreError, match=row.key):
        change_of(row)


async def test_unknown_keys_are_ignored() -> None:
    assert change_of(Item("future/x", b"?", 1)) is None
