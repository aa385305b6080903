"""The simulator's model of the store does what a real etcd does with the same random histories."""

import random
from collections.abc import Iterator

import pytest
import trio

from fastmq.metastore import (
    CompactedError,
    Compare,
    Conflict,
    Delete,
    Event,
    Metastore,
    MetastoreError,
    Op,
    Put,
)
from fastmq.testing.sim.network import Network
from fastmq.testing.sim.store import StoreClient, StoreModel

from support.etcd import EtcdCluster, etcd_cluster, etcd_missing

pytestmark = pytest.mark.trio

KEYS = [f"k/{number}" for number in range(5)]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    missing = etcd_missing()
    if missing is not None:
        pytest.skip(missing)
    with etcd_cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


async def play(store: Metastore, seed: int, base: int) -> list[object]:
    """Carry a history out; what was answered, with revisions counted from `base` on."""
    rng = random.Random(seed)
    told: list[object] = []
    leases: list[int] = []
    known: dict[str, int] = {}
    for _ in range(80):
        kind = rng.random()
        if kind < 0.08 and len(leases) < 3:
            leases.append(await store.grant_lease(60_000))
        elif kind < 0.14 and leases:
            await store.revoke_lease(leases.pop(rng.randrange(len(leases))))
        elif kind < 0.2:
            told.append(await store.keep_alive(rng.choice([*leases, 999_999_999])))
        else:
            told.append(await transact(store, rng, leases, known, base))
        snapshot = await store.read("k/")
        told.append((snapshot.revision - base, [(i.key, i.value) for i in snapshot.items]))
        known.update({item.key: item.revision for item in snapshot.items})
    told.append([(e.key, e.value, e.revision - base) for e in await watched(store, base)])
    last = (await store.read("k/")).revision
    await store.compact(last)  # type: ignore[attr-defined]
    with pytest.raises(CompactedError), trio.fail_after(20):
        await anext(store.watch("k/", base + 1))
    return told


async def transact(
    store: Metastore, rng: random.Random, leases: list[int], known: dict[str, int], base: int
) -> object:
    compares = [
        Compare(key, known.get(key, 0) if rng.random() < 0.8 else 0)
        for key in rng.sample(KEYS, rng.randrange(3))
    ]
    ops: list[Op] = []
    for key in rng.sample(KEYS, rng.randrange(4)):
        lease = rng.choice([0, *leases, 999_999_999]) if rng.random() < 0.3 else 0
        ops.append(Put(key, rng.randbytes(3), lease) if rng.random() < 0.6 else Delete(key))
    try:
        done = await store.txn(compares, ops)
    except MetastoreError:
        return "refused"
    return done if isinstance(done, Conflict) else done - base


async def watched(store: Metastore, base: int) -> list[Event]:
    """All events up to now, by a watch from the beginning; a last write ends it."""
    done = await store.txn([], [Put("k/end", b"")])
    assert isinstance(done, int)
    found: list[Event] = []
    with trio.fail_after(20):
        async for events in store.watch("k/", base + 1):
            found += events
            if events[-1].revision == done:
                return found
    raise AssertionError("the watch has ended")


class CompactableClient(StoreClient):
    async def compact(self, revision: int) -> None:
        assert revision == self._model.revision
        self._model.compact()


@pytest.mark.parametrize("seed", range(4))
async def test_the_model_does_what_etcd_does(etcd: EtcdCluster, seed: int) -> None:
    from fastmq.metastore.etcd import EtcdMetastore, EtcdOptions

    async with trio.open_nursery() as nursery:
        network = Network(random.Random(seed), nursery)
        network.delay_s = (0.0, 0.0)
        model = CompactableClient(StoreModel(), network, "b1", random.Random(seed))
        expected = await play(model, seed, 0)
        real = EtcdMetastore(EtcdOptions(etcd.endpoints, prefix=f"sim-{seed}/", timeout_ms=10_000))
        await real.open()
        try:
            base = (await real.read("k/")).revision
            assert await play(real, seed, base) == expected
        finally:
            await real.close()
        nursery.cancel_scope.cancel()
