"""The etcd driver where etcd fails: members die, stop, lose their leader; login and TLS."""

import signal
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fastmq.metastore import (
    Compare,
    Conflict,
    MetastoreError,
    MetastoreUnavailableError,
    Put,
)

from support.etcd import EtcdCluster, etcd_cluster, etcd_missing, free_ports

pytest.importorskip("httpx", reason="httpx is not installed: pip install '.[etcd]'")

from fastmq.metastore import etcd_watch
from fastmq.metastore.etcd import EtcdMetastore, EtcdOptions, end_of_prefix

pytestmark = pytest.mark.trio

MISSING = etcd_missing()
needs_etcd = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@asynccontextmanager
async def opened(endpoints, **options):
    store = EtcdMetastore(EtcdOptions(tuple(endpoints), **options))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path / "etcd", members=3) as cluster:
        yield cluster


async def test_the_end_of_a_prefix() -> None:
    assert end_of_prefix(b"a/") == b"a0"
    assert end_of_prefix(b"a\xff") == b"b"
    assert end_of_prefix(b"") == b"\0"


async def test_nobody_there_is_told_in_time() -> None:
    endpoints = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    with trio.fail_after(30), pytest.raises(MetastoreUnavailableError, match="does not answer"):
        async with opened(endpoints, timeout_ms=200):
            pass


async def test_endpoints_are_checked() -> None:
    with pytest.raises(MetastoreError, match="no etcd endpoints"):
        EtcdOptions(())
    with pytest.raises(MetastoreError, match="http"):
        EtcdOptions(("127.0.0.1:2379",))


@needs_etcd
async def test_what_was_committed_survives_the_death_of_members(three: EtcdCluster) -> None:
    """Counts up by guarded transactions, each doubt resolved by reading, across two deaths."""
    done = 0
    seen: list[int] = []
    seen_all = trio.Event()
    async with opened(three.endpoints, timeout_ms=1_000) as store:
        first = (await store.read("")).revision

        async def follow() -> None:
            async for events in store.watch("count", first + 1):
                seen.extend(int(event.value) for event in events)
                if seen[-1] >= 100:
                    seen_all.set()

        async def count_to(goal: int) -> None:
            nonlocal done
            while done < goal:
                try:
                    items = (await store.read("count")).items
                    done = int(items[0].value) if items else 0
                    revision = items[0].revision if items else 0
                    await store.txn(
                        [Compare("count", revision)], [Put("count", b"%d" % (done + 1))]
                    )
                except MetastoreUnavailableError:
                    continue

        with trio.fail_after(90):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await count_to(20)
                leader = three.leader()
                three.signal(leader, signal.SIGKILL)
                await count_to(60)
                three.start(leader)
                three.wait(leader)
                stopped = (leader + 1) % 3
                three.signal(stopped, signal.SIGSTOP)
                await count_to(100)
                three.signal(stopped, signal.SIGCONT)
                await seen_all.wait()
                nursery.cancel_scope.cancel()
    assert seen == list(range(1, seen[-1] + 1))


@needs_etcd
async def test_a_watch_leaves_a_member_that_keeps_silent(
    three: EtcdCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_watch, "SILENCE_S", 0.5)
    follower = next(member for member in range(3) if member != three.leader())
    others = [url for member, url in enumerate(three.endpoints) if member != follower]
    endpoints = [three.endpoints[follower], *others]
    async with opened(endpoints, timeout_ms=500) as store, opened(others) as writer:
        revision = (await store.read("")).revision
        watch = store.watch("", revision + 1)
        await writer.txn([], [Put("a", b"1")])
        with trio.fail_after(20):
            assert (await anext(watch))[0].key == "a"
            three.signal(follower, signal.SIGSTOP)
            await writer.txn([], [Put("b", b"2")])
            assert (await anext(watch))[0].key == "b"


@needs_etcd
async def test_without_a_majority_nothing_is_committed_and_all_heals(three: EtcdCluster) -> None:
    async with opened(three.endpoints, timeout_ms=300) as store:
        first = await store.txn([], [Put("a", b"1")])
        lease = await store.grant_lease(60_000)
        for member in (0, 1):
            three.signal(member, signal.SIGKILL)
        with trio.fail_after(30), pytest.raises(MetastoreUnavailableError):
            await store.txn([Compare("a", first)], [Put("a", b"2")])
        for member in (0, 1):
            three.start(member)
        for member in (0, 1):
            three.wait(member)
        with trio.fail_after(30):
            (item,) = (await store.read("a")).items
            # In doubt until now; a guarded repetition cannot do it twice.
            again = await store.txn([Compare("a", first)], [Put("a", b"2")])
            assert isinstance(again, Conflict) == (item.value == b"2")
            assert await store.keep_alive(lease)


@needs_etcd
async def test_user_and_password(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path / "etcd") as cluster:
        async with opened(cluster.endpoints) as store:
            for path, body in (
                ("user/add", {"name": "root", "password": "secret"}),
                ("role/add", {"name": "root"}),
                ("user/grant", {"user": "root", "role": "root"}),
                ("enable", {}),
            ):
                await store._http.call(f"/v3/auth/{path}", body, idempotent=False)
        with pytest.raises(MetastoreError, match="etcd"):
            async with opened(cluster.endpoints, timeout_ms=500):
                pass
        with pytest.raises(MetastoreError, match="authentication failed"):
            async with opened(cluster.endpoints, user="root", password="wrong"):
                pass
        async with opened(cluster.endpoints, user="root", password="secret") as store:
            revision = await store.txn([], [Put("a", b"1")])
            assert isinstance(revision, int)
            # A token that has run out is replaced.
            store._http._token = "nonsense"
            await store.txn([], [Put("a", b"2")])
            store._http._token = "nonsense"
            with trio.fail_after(20):
                assert (await anext(store.watch("", revision)))[0].value == b"1"


@needs_etcd
async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client.example")
    paths = {
        name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "own-cert", "own-key")
    }
    authority.cert_pem.write_to_path(paths["ca"])
    server.cert_chain_pems[0].write_to_path(paths["cert"])
    server.private_key_pem.write_to_path(paths["key"])
    client.cert_chain_pems[0].write_to_path(paths["own-cert"])
    client.private_key_pem.write_to_path(paths["own-key"])
    tls = {"cert-file": paths["cert"], "key-file": paths["key"]}
    with etcd_cluster(tmp_path / "etcd", tls=tls) as cluster:
        own = {"cert_file": str(paths["own-cert"]), "key_file": str(paths["own-key"])}
        async with opened(cluster.endpoints, ca_file=str(paths["ca"]), **own) as store:
            revision = await store.txn([], [Put("a", b"1")])
            assert (await anext(store.watch("", revision)))[0].key == "a"
        with pytest.raises(MetastoreUnavailableError, match="certificate"):
            async with opened(cluster.endpoints, timeout_ms=300):
                pass
    with pytest.raises(MetastoreError, match="certificates"):
        async with opened(["https://127.0.0.1:1"], ca_file=str(tmp_path / "none.pem")):
            pass
