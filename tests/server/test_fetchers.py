"""Following another broker over real sockets: links, authentication, fetching, coming back."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from fastmq._native import core
from fastmq._native.core import FLUSH_ACK, REPLICA_IN, Engine, Partition, PartitionConfig
from fastmq.auth import PeerIdentity
from fastmq.errors import ConnectionFailed, ErrorCode, KafkaError
from fastmq.server.connections import Connection, ConnectionLimits, ConnectionTable
from fastmq.server.dispatch import Dispatcher
from fastmq.server.fetchers import ReplicaFetchers
from fastmq.server.handlers import ROUTES
from fastmq.server.peers import PeerCredentials, PeerLink
from fastmq.server.world import World

from support.batches import batch
from support.engine import TOPIC_ID

SECRET = b"s" * 32


class Node:
    """An engine, a listener and the dispatcher: what two brokers need to replicate."""

    def __init__(self, path: Path, node_id: int) -> None:
        path.mkdir(exist_ok=True)
        self.node_id = node_id
        self.engine = Engine(node_id=node_id)
        where = path / "events-0"
        where.mkdir()
        self.partition: Partition = self.engine.add_partition(
            "events",
            0,
            topic_id=TOPIC_ID,
            dir_id=0,
            path=str(where),
            config=PartitionConfig(flush=FLUSH_ACK, min_insync_replicas=2),
        )
        self.port = 0
        self.table = ConnectionTable(ConnectionLimits(1000, 1000))
        self.context: Any = SimpleNamespace(
            engine=self.engine,
            peer_secret=SECRET,
            fetchers=None,
            after_events=lambda: None,
            on_appended=lambda token, code: self.appended.append((token, code)),
            on_fetcher=lambda tag: self.context.fetchers.on_synced(tag),
            on_replicas=lambda: None,
        )
        self.appended: list[tuple[int, int]] = []

    def credentials(self, secret: bytes = SECRET) -> PeerCredentials:
        return PeerCredentials(secret, PeerIdentity(self.node_id, 1), World().connect, os.urandom)

    def accept(self, sock: socket.socket) -> None:
        conn_id = self.engine.add_connection(sock.detach())
        self.table.add(Connection(conn_id, None, "127.0.0.1"))  # type: ignore[arg-type]

    async def listen(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        listener = trio.socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        task_status.started()
        with listener:
            while True:
                peer, _ = await listener.accept()
                raw = socket.socket(fileno=peer.detach())
                raw.setblocking(False)
                self.accept(raw)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[trio.CancelScope]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.listen)
            yield nursery.cancel_scope
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A leader and a follower of epoch 1, the follower's tasks not started."""
    nodes = [Node(tmp_path / str(i), i) for i in range(2)]
    try:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                node.engine.start()
                dispatcher = Dispatcher(node.engine, node.table, ROUTES, node.context)
                nursery.start_soon(dispatcher.run)
            nodes[0].partition.lead(1, [(1, REPLICA_IN)])
            nodes[1].partition.follow(1)
            nodes[1].context.fetchers = ReplicaFetchers(
                nodes[1].engine,
                credentials=nodes[1].credentials(),
                address_of=lambda broker_id: ("127.0.0.1", nodes[broker_id].port),
                max_wait_ms=100,
            )
            yield nodes[0], nodes[1]
            nursery.cancel_scope.cancel()
    finally:
        for node in nodes:
            node.engine.stop()
            node.partition.close(clean=False)


async def until(condition: Any, timeout_s: float = 20) -> None:
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - the engine has no event for it
            await trio.sleep(0.005)


async def test_a_follower_copies_the_log_and_lets_the_leader_acknowledge(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), leader.serving(), trio.open_nursery() as n:
        n.start_soon(follower.context.fetchers.run)
        follower.context.fetchers.assign(follower.partition, 0)
        for token in range(1, 101):
            code, *_ = leader.partition.append(bytearray(batch(b"x" * 1000)), wait_token=token)
            assert code == 0
        await until(lambda: len(leader.appended) == 100)
        assert leader.appended == [(token, 0) for token in range(1, 101)]
        await until(lambda: follower.partition.high_watermark() == 100)
        assert follower.partition.read(0, 1 << 20) == leader.partition.read(0, 1 << 20)
        n.cancel_scope.cancel()


async def test_a_follower_comes_back_after_its_leader_was_away(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), trio.open_nursery() as nursery:
        nursery.start_soon(follower.context.fetchers.run)
        follower.context.fetchers.assign(follower.partition, 0)
        await until(lambda: nursery.child_tasks)
        for round_ in range(2):
            async with leader.serving():
                leader.partition.append(bytearray(batch(b"x")), wait_token=1)
                await until(lambda done=round_ + 1: follower.partition.log_end() == done)
                for conn_id in list(leader.table._open):
                    leader.engine.close_connection(conn_id)
        nursery.cancel_scope.cancel()


async def test_a_partition_moves_to_another_leader_and_the_task_ends(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), leader.serving(), trio.open_nursery() as n:
        fetchers = follower.context.fetchers
        n.start_soon(fetchers.run)
        fetchers.assign(follower.partition, 0)
        leader.partition.append(bytearray(batch(b"a")))
        await until(lambda: follower.partition.log_end() == 1)
        fetchers.assign(follower.partition, 1)
        assert set(fetchers._sources) == {(1, False)}
        fetchers.release(follower.partition)
        assert fetchers._sources == {}
        # Following in a newer epoch than the leader knows is trouble that passes.
        follower.partition.follow(2)
        fetchers.assign(follower.partition, 0)
        leader.partition.append(bytearray(batch(b"b")))
        await trio.sleep(0.15)
        assert follower.partition.log_end() == 1
        leader.partition.lead(2, [(1, REPLICA_IN)])
        await until(lambda: follower.partition.log_end() == 2)
        n.cancel_scope.cancel()


async def test_throttled_replicas_wait_on_a_link_of_their_own(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), leader.serving(), trio.open_nursery() as n:
        fetchers = follower.context.fetchers
        fetchers.set_rate(1)
        n.start_soon(fetchers.run)
        fetchers.assign(follower.partition, 0, throttled=True)
        assert set(fetchers._sources) == {(0, True)}
        leader.partition.append(bytearray(batch(b"x" * 1000)))
        await until(lambda: follower.partition.log_end() == 1)
        leader.partition.append(bytearray(batch(b"y")))
        await trio.sleep(0.15)
        assert follower.partition.log_end() == 1, "a thousand seconds of debt"
        # In sync again: the other link does not wait.
        fetchers.assign(follower.partition, 0)
        assert set(fetchers._sources) == {(0, False)}
        await until(lambda: follower.partition.log_end() == 2)
        # A higher rate is taken up at once.
        fetchers.set_rate(2)
        fetchers.assign(follower.partition, 0, throttled=True)
        leader.partition.append(bytearray(batch(b"z" * 1000)))
        await until(lambda: follower.partition.log_end() == 3)
        leader.partition.append(bytearray(batch(b"z")))
        fetchers.set_rate(1 << 30)
        await until(lambda: follower.partition.log_end() == 4)
        n.cancel_scope.cancel()


async def test_a_large_answer_is_taken_whole(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), leader.serving(), trio.open_nursery() as n:
        data = batch(b"x" * 900_000)
        for _ in range(5):
            leader.partition.append(bytearray(data))
        n.start_soon(follower.context.fetchers.run)
        follower.context.fetchers.assign(follower.partition, 0)
        await until(lambda: follower.partition.log_end() == 5)
        n.cancel_scope.cancel()


async def test_links_need_the_clusters_secret(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), leader.serving():
        with pytest.raises(KafkaError) as refused:
            await PeerLink.open("127.0.0.1", leader.port, follower.credentials(b"t" * 32))
        assert refused.value.code is ErrorCode.SASL_AUTHENTICATION_FAILED
        leader.context.peer_secret = None
        with pytest.raises(KafkaError) as refused:
            await PeerLink.open("127.0.0.1", leader.port, follower.credentials())
        assert refused.value.code is ErrorCode.UNSUPPORTED_SASL_MECHANISM
        port = leader.port
    with pytest.raises(ConnectionFailed):
        await PeerLink.open("127.0.0.1", port, follower.credentials(), timeout_s=5)


async def test_frames_of_a_link_that_proved_itself_may_fetch_as_a_replica(tmp_path: Path) -> None:
    async with pair(tmp_path) as (leader, follower), leader.serving():
        link = await PeerLink.open("127.0.0.1", leader.port, follower.credentials())
        fetcher = core.Fetcher(follower.engine, replica_id=1, broker_epoch=1, max_wait_ms=10)
        fetcher.add(follower.partition)
        answer = await link.exchange(fetcher.request(5), timeout_s=10)
        assert fetcher.apply(answer) == (5, 0, 0, 0, [])
        (connection,) = leader.table._open.values()
        assert connection.peer == PeerIdentity(1, 1)
        await link.close()
