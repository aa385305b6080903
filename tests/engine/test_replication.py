"""Leading a partition that other engines follow, and following: real engines, sockets between."""

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmq._native.core import (
    EVENT_CORRUPT,
    EVENT_FETCHER,
    EVENT_REPLICAS,
    FLUSH_ACK,
    FLUSH_NEVER,
    FLUSH_REPLICATED,
    REPLICA_IN,
    REPLICA_JOINING,
    REPLICA_OUT,
    Fetcher,
    Partition,
    PartitionConfig,
    PartitionError,
)
from fastmq.errors import ErrorCode

from support.batches import base_offsets, batch
from support.engine import TOPIC_ID, Client, Harness, fetch, only, produce

WAIT_S = 20


class Node:
    """A broker without its Python: an engine and one replica of the partition."""

    def __init__(self, path: Path, broker_id: int, flush: int, min_insync: int) -> None:
        self.broker_id = broker_id
        path.mkdir()
        self.harness = Harness(path)
        where = path / "events-0"
        where.mkdir()
        self.partition: Partition = self.harness.engine.add_partition(
            "events",
            0,
            topic_id=TOPIC_ID,
            dir_id=0,
            path=str(where),
            config=PartitionConfig(flush=flush, min_insync_replicas=min_insync),
        )
        self.fetcher: Fetcher | None = None
        self.correlation_id = 0

    def peer(self) -> Client:
        """A connection that may fetch as a replica."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.settimeout(10)
        self.harness.engine.set_peer(self.harness.engine.add_connection(theirs.detach()))
        client = Client(ours)
        self.harness.clients.append(client)
        return client

    def follow(self, leader: "Node", epoch: int) -> Client:
        self.partition.follow(epoch)
        self.fetcher = Fetcher(
            self.harness.engine, replica_id=self.broker_id, broker_epoch=7, max_wait_ms=50
        )
        self.fetcher.add(self.partition)
        return leader.peer()

    def fetch_once(self, link: Client) -> list[tuple[bytes, int, int]]:
        """One request and its answer; returns what was in trouble."""
        assert self.fetcher is not None
        self.correlation_id += 1
        deadline = time.monotonic() + WAIT_S
        while not (frame := self.fetcher.request(self.correlation_id)):
            assert time.monotonic() < deadline
            self.harness.engine.take()
            time.sleep(0.001)
        link.sock.sendall(frame)
        got, error, _, _, trouble = self.fetcher.apply(link.receive_raw())
        assert (got, error) == (self.correlation_id, 0)
        return trouble

    def catch_up(self, link: Client, end: int) -> None:
        """Fetch until the log ends there, which may wait for the leader's disk, and tell so."""
        deadline = time.monotonic() + WAIT_S
        while self.partition.log_end() < end:
            assert time.monotonic() < deadline
            self.fetch_once(link)
        self.fetch_once(link)

    def content(self) -> bytes:
        """All batches of the log, those above the high watermark too."""
        out = b""
        offset = self.partition.log_start()
        while data := self.partition.read(offset, 1 << 20, limit_offset=self.partition.log_end()):
            out += data
            last = base_offsets(data)[-1]
            at = 0
            while struct.unpack_from(">q", data, at)[0] != last:
                at += 12 + struct.unpack_from(">i", data, at + 8)[0]
            offset = last + struct.unpack_from(">i", data, at + 23)[0] + 1
        return out


class Cluster:
    def __init__(self, path: Path, *, flush: int = FLUSH_REPLICATED, min_insync: int = 2) -> None:
        self.flush = flush
        self.nodes = [Node(path / str(i), i, flush, min_insync) for i in range(3)]

    def lead(self, leader: int, epoch: int, **standings: int) -> dict[int, Client]:
        """Let one lead and the others follow; returns the followers' links."""
        others = [
            (node.broker_id, standings.get(f"n{node.broker_id}", REPLICA_IN))
            for node in self.nodes
            if node.broker_id != leader
        ]
        self.nodes[leader].partition.lead(epoch, others)
        return {
            node.broker_id: node.follow(self.nodes[leader], epoch)
            for node in self.nodes
            if node.broker_id != leader
        }

    def close(self) -> None:
        for node in self.nodes:
            node.fetcher = None
            node.harness.close()


@pytest.fixture(params=[FLUSH_REPLICATED, FLUSH_ACK], ids=["replicated", "ack"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, flush=request.param)
    yield made
    made.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, flush=FLUSH_NEVER)
    yield made
    made.close()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_acks_all_waits_until_every_replica_in_sync_has_fetched(cluster: Cluster) -> None:
    links = cluster.lead(0, 1)
    leader = cluster.nodes[0]
    writer = leader.harness.client()
    writer.send(9, produce((0, batch(b"a", b"b"))))
    cluster.nodes[1].catch_up(links[1], 2)
    assert writer.silent()
    assert leader.partition.high_watermark() == 0
    cluster.nodes[2].catch_up(links[2], 2)
    assert only(writer.receive(0, 9)[1]).base_offset == 0
    assert leader.partition.high_watermark() == 2
    # The followers learn the watermark with their next answer.
    cluster.nodes[1].fetch_once(links[1])
    assert cluster.nodes[1].partition.high_watermark() == 2
    assert cluster.nodes[1].content() == cluster.nodes[2].content() == leader.content()


def test_acks_one_waits_for_nobody_else(cluster: Cluster) -> None:
    cluster.lead(0, 1)
    leader = cluster.nodes[0]
    client = leader.harness.client()
    assert only(client.call(9, produce((0, batch(b"a")), acks=1))).error_code == 0
    assert leader.partition.high_watermark() == 0
    if cluster.flush == FLUSH_ACK:
        assert leader.partition.synced() == 1


def test_without_its_lease_a_leader_takes_only_what_the_others_take_too(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    leader = quick.nodes[0]
    leader.harness.engine.set_lease(0)
    client = leader.harness.client()
    part = only(client.call(9, produce((0, batch(b"a")), acks=1)))
    assert part.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    client.send(9, produce((0, batch(b"b"))))
    for node in (1, 2):
        quick.nodes[node].fetch_once(links[node])
        quick.nodes[node].fetch_once(links[node])
    assert only(client.receive(0, 9)[1]).base_offset == 0
    leader.harness.engine.set_lease(-1)
    assert only(client.call(9, produce((0, batch(b"c")), acks=1))).error_code == 0


def test_without_its_lease_a_leader_does_not_say_that_an_offset_is_not_there(
    quick: Cluster,
) -> None:
    """Who leads by now may have it; a consumer that is told so begins elsewhere."""
    quick.lead(0, 1)
    leader = quick.nodes[0]
    client = leader.harness.client()
    assert only(client.call(12, fetch((0, 5)))).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    leader.harness.engine.set_lease(0)
    assert only(client.call(12, fetch((0, 5)))).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_too_few_in_sync_refuse_acks_all_and_freeze_the_watermark(quick: Cluster) -> None:
    quick.lead(0, 1, n1=REPLICA_OUT, n2=REPLICA_JOINING)
    leader = quick.nodes[0]
    client = leader.harness.client()
    part = only(client.call(9, produce((0, batch(b"a")))))
    assert part.error_code == ErrorCode.NOT_ENOUGH_REPLICAS
    assert "min.insync.replicas" in part.error_message
    assert only(client.call(9, produce((0, batch(b"a")), acks=1))).error_code == 0
    assert (leader.partition.log_end(), leader.partition.high_watermark()) == (1, 0)
    # With one more in sync the watermark still waits for what joins.
    leader.partition.lead(1, [(1, REPLICA_IN), (2, REPLICA_JOINING)])
    quick.nodes[1].partition.follow(1)


def test_no_more_in_sync_can_be_asked_for_than_there_are(tmp_path: Path) -> None:
    """KIP-966: `min.insync.replicas` above the replication factor means all of them."""
    cluster = Cluster(tmp_path, flush=FLUSH_NEVER, min_insync=4)
    try:
        links = cluster.lead(0, 1, n1=REPLICA_IN, n2=REPLICA_OUT)
        client = cluster.nodes[0].harness.client()
        part = only(client.call(9, produce((0, batch(b"a")))))
        assert part.error_code == ErrorCode.NOT_ENOUGH_REPLICAS
        cluster.nodes[0].partition.lead(1, [(1, REPLICA_IN), (2, REPLICA_IN)])
        client.send(9, produce((0, batch(b"a"))))
        for node in (1, 2):
            cluster.nodes[node].catch_up(links[node], 1)
        assert only(client.receive(0, 9)[1]).error_code == 0
        assert cluster.nodes[0].partition.high_watermark() == 1
    finally:
        cluster.close()


def test_the_watermark_waits_for_who_joins_and_not_for_who_is_out(quick: Cluster) -> None:
    links = quick.lead(0, 1, n1=REPLICA_IN, n2=REPLICA_JOINING)
    leader = quick.nodes[0].partition
    client = quick.nodes[0].harness.client()
    client.send(9, produce((0, batch(b"a"))))
    for _ in range(2):
        quick.nodes[1].fetch_once(links[1])
    assert client.silent()
    leader.lead(1, [(1, REPLICA_IN), (2, REPLICA_OUT)])
    assert only(client.receive(0, 9)[1]).error_code == 0
    assert leader.high_watermark() == 1


def test_throttled_followers_that_are_out_of_sync_wait_for_the_rate(quick: Cluster) -> None:
    leader, behind, other = quick.nodes
    links = quick.lead(0, 1, n1=REPLICA_OUT, n2=REPLICA_IN)
    leader.partition.set_throttled(True)
    leader.harness.engine.set_throttle(1)
    for round_ in range(3):
        leader.partition.append(bytearray(batch(b"x" * 1000)))
        other.catch_up(links[2], round_ + 1)  # in sync: never held up
    behind.fetch_once(links[1])
    assert behind.partition.log_end() >= 1, "the first answer comes at once"
    leader.partition.append(bytearray(batch(b"y")))
    had = behind.partition.log_end()
    for _ in range(3):
        behind.fetch_once(links[1])
    assert behind.partition.log_end() == had, "a thousand seconds of debt"
    leader.partition.set_throttled(False)
    behind.catch_up(links[1], 4)
    leader.partition.set_throttled(True)
    leader.harness.engine.set_throttle(-1)
    leader.partition.append(bytearray(batch(b"z")))
    behind.catch_up(links[1], 5)


def test_a_follower_is_woken_by_an_append_and_not_by_the_watermark(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    node = quick.nodes[1]
    assert node.fetcher is not None
    node.fetcher = Fetcher(
        node.harness.engine, replica_id=1, broker_epoch=7, max_wait_ms=int(WAIT_S * 1000)
    )
    node.fetcher.add(node.partition)
    links[1].sock.sendall(node.fetcher.request(1))
    assert links[1].silent()
    quick.nodes[0].harness.client().send(9, produce((0, batch(b"a"))))
    _, _, size, _, trouble = node.fetcher.apply(links[1].receive_raw())
    assert size > 0
    assert trouble == []


def test_a_waiting_follower_is_not_woken_by_the_fetch_of_another(cluster: Cluster) -> None:
    links = cluster.lead(0, 1)
    leader = cluster.nodes[0]
    leader.harness.client().send(9, produce((0, batch(b"a"))))
    for node in cluster.nodes[1:]:
        node.catch_up(links[node.broker_id], 1)
    waiting = cluster.nodes[1]
    wait_until(lambda: waiting.partition.synced() == 1)
    waiting.fetcher = Fetcher(
        waiting.harness.engine, replica_id=1, broker_epoch=7, max_wait_ms=int(WAIT_S * 1000)
    )
    waiting.fetcher.add(waiting.partition)
    links[1].sock.sendall(waiting.fetcher.request(1))
    assert links[1].silent()
    for _ in range(3):
        assert cluster.nodes[2].fetch_once(links[2]) == []
    assert links[1].silent()


def test_only_peers_may_fetch_as_a_replica(quick: Cluster) -> None:
    quick.lead(0, 1)
    stranger = quick.nodes[0].harness.client()
    frame = quick.nodes[1].fetcher.request(1)  # type: ignore[union-attr]
    stranger.sock.sendall(frame)
    assert stranger.closed()
    # A peer that is no replica gets an error; the leader's watermark does not move.
    peer = quick.nodes[0].peer()
    part = only(peer.call(14, fetch((0, 0), replica_id=9)))
    assert part.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_followers_refuse_produce_and_let_clients_read_what_is_committed(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    writer = quick.nodes[0].harness.client()
    writer.send(9, produce((0, batch(b"a"))))
    for _ in range(3):
        for index in (1, 2):
            quick.nodes[index].fetch_once(links[index])
    assert only(writer.receive(0, 9)[1]).error_code == 0
    client = quick.nodes[1].harness.client()
    refused = only(client.call(9, produce((0, batch(b"b")))))
    assert refused.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    part = only(client.call(12, fetch((0, 0))))
    assert base_offsets(bytes(part.records)) == [0]
    old = only(client.call(10, fetch((0, 0))))
    assert old.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_consumers_are_sent_to_a_replica_in_their_rack(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    leader = quick.nodes[0].harness
    client = leader.client()
    client.call(9, produce((0, batch(b"a")), acks=1))

    def preferred(rack: str, offset: int = 0, version: int = 11) -> int:
        part = only(client.call(version, fetch((0, offset), rack_id=rack)))
        assert part.error_code == 0
        assert bool(part.records) == (part.preferred_read_replica < 0 and offset == 0), part
        return int(part.preferred_read_replica)

    for node in (1, 2):
        quick.nodes[node].catch_up(links[node], 1)
    assert preferred("r2") == -1
    leader.engine.set_racks({0: "r0", 1: "r1", 2: "r2"})
    assert preferred("r2") == 2
    assert preferred("r2", version=17) == 2
    assert preferred("r2", offset=1) == 2
    assert preferred("r9") == preferred("") == -1
    # One that is out of sync, or does not have the offset, is not read from.
    client.call(9, produce((0, batch(b"b")), acks=1))
    quick.nodes[1].catch_up(links[1], 2)
    assert preferred("r2", offset=1) == 2
    quick.nodes[0].partition.lead(1, [(1, REPLICA_IN), (2, REPLICA_OUT)])
    assert preferred("r2") == -1
    leader.engine.set_racks({})


def test_followers_learn_the_watermark_at_once_where_consumers_read_from_them(
    quick: Cluster,
) -> None:
    links = quick.lead(0, 1)
    quick.nodes[0].harness.engine.set_racks({0: "r0", 1: "r1", 2: "r2"})
    fetchers = [quick.nodes[node] for node in (1, 2)]
    for node in fetchers:
        node.catch_up(links[node.broker_id], 0)
    quick.nodes[0].harness.client().call(9, produce((0, batch(b"a")), acks=1))
    for node in fetchers:
        node.fetch_once(links[node.broker_id])
    # One waits at the end; the other's fetch moves the watermark, and both are told.
    assert fetchers[0].fetcher is not None
    fetchers[0].correlation_id += 1
    links[1].sock.sendall(fetchers[0].fetcher.request(fetchers[0].correlation_id))
    assert links[1].silent(0.02)
    began = time.monotonic()
    fetchers[1].fetch_once(links[2])
    fetchers[0].fetcher.apply(links[1].receive_raw())
    assert time.monotonic() - began < WAIT_S
    assert [node.partition.high_watermark() for node in fetchers] == [1, 1]


def test_a_new_leader_makes_followers_cut_what_it_does_not_have(cluster: Cluster) -> None:
    links = cluster.lead(0, 1)
    a, b, c = cluster.nodes
    writer = a.harness.client()
    writer.call(9, produce((0, batch(b"1")), acks=1))
    for _ in range(2):
        b.fetch_once(links[1])
        c.fetch_once(links[2])
    # Only the old leader has these.
    for value in (b"2", b"3", b"4"):
        writer.call(9, produce((0, batch(value)), acks=1))
    writer.send(9, produce((0, batch(b"5"))))
    links = cluster.lead(1, 2)
    refused = only(writer.receive(0, 9)[1])
    assert refused.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    b.harness.client().call(9, produce((0, batch(b"other", b"records")), acks=1))
    for _ in range(4):
        a.fetch_once(links[0])
        c.fetch_once(links[2])
    assert a.content() == b.content() == c.content()
    assert a.partition.log_end() == 3
    assert a.partition.epoch_end(1) == (1, 1)


def test_an_old_leader_and_an_old_epoch_are_fenced(quick: Cluster) -> None:
    links = quick.lead(0, 5)
    with pytest.raises(PartitionError) as fenced:
        quick.nodes[0].partition.lead(4, [])
    assert fenced.value.code == ErrorCode.FENCED_LEADER_EPOCH
    with pytest.raises(PartitionError):
        quick.nodes[1].partition.follow(4)
    # A follower that knows a newer epoch than the leader it asks.
    quick.nodes[1].partition.follow(6)
    ((_, index, code),) = quick.nodes[1].fetch_once(links[1])
    assert (index, code) == (0, ErrorCode.UNKNOWN_LEADER_EPOCH)
    assert quick.nodes[1].fetcher.request(9) == b""  # type: ignore[union-attr]


def test_an_answer_of_an_older_epoch_is_dropped(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    node = quick.nodes[1]
    quick.nodes[0].harness.client().call(9, produce((0, batch(b"a")), acks=1))
    assert node.fetcher is not None
    links[1].sock.sendall(node.fetcher.request(1))
    answer = links[1].receive_raw()
    node.partition.follow(2)
    _, _, size, _, _ = node.fetcher.apply(answer)
    assert size == 0
    assert node.partition.log_end() == 0


def test_a_follower_behind_the_log_start_begins_anew(quick: Cluster) -> None:
    links = quick.lead(0, 1, n1=REPLICA_OUT, n2=REPLICA_OUT)
    leader = quick.nodes[0].partition
    leader.set_config(PartitionConfig(flush=FLUSH_NEVER, min_insync_replicas=1))
    client = quick.nodes[0].harness.client()
    for value in (b"a", b"b", b"c"):
        client.call(9, produce((0, batch(value))))
    assert leader.delete_records(2) == 2
    for _ in range(2):
        assert quick.nodes[1].fetch_once(links[1]) == []
    follower = quick.nodes[1].partition
    assert (follower.log_start(), follower.log_end()) == (2, 3)


def test_hints_tell_who_lags_and_who_has_caught_up(quick: Cluster) -> None:
    links = quick.lead(0, 1, n1=REPLICA_OUT, n2=REPLICA_IN)
    engine = quick.nodes[0].harness.engine
    quick.nodes[0].harness.client().call(9, produce((0, batch(b"a")), acks=1))
    assert engine.isr_hints(60_000) == []
    wait_until(lambda: (TOPIC_ID, 0, 1, 2, False) in engine.isr_hints(1))
    for _ in range(2):
        quick.nodes[1].fetch_once(links[1])
    wait_until(lambda: (EVENT_REPLICAS,) in engine.take())
    assert (TOPIC_ID, 0, 1, 1, True) in engine.isr_hints(60_000)
    views = {view[0]: view for view in quick.nodes[0].partition.replicas()}
    assert views[1][1:3] == (REPLICA_OUT, 1)
    assert views[1][4] == 7
    assert views[2][1:3] == (REPLICA_IN, -1)


def test_a_fetcher_that_waits_for_its_sync_is_told_when_to_go_on(tmp_path: Path) -> None:
    made = Cluster(tmp_path, flush=FLUSH_ACK)
    try:
        links = made.lead(0, 1)
        made.nodes[0].harness.client().call(9, produce((0, batch(b"a" * 100_000)), acks=1))
        node = made.nodes[1]
        node.fetch_once(links[1])
        assert node.fetcher is not None
        if node.fetcher.request(2) == b"":
            wait_until(lambda: (EVENT_FETCHER, 0) in node.harness.engine.take())
        assert node.partition.synced() == node.partition.log_end() == 1
        assert node.fetcher.request(3) != b""
    finally:
        made.close()


def test_the_watermark_of_a_reopened_replica_is_what_was_checkpointed(tmp_path: Path) -> None:
    made = Cluster(tmp_path, flush=FLUSH_NEVER)
    try:
        node = made.nodes[0]
        node.partition.lead(1, [])
        node.partition.set_config(PartitionConfig(flush=FLUSH_NEVER))
        client = node.harness.client()
        for value in (b"a", b"b", b"c"):
            client.call(9, produce((0, batch(value)), acks=1))
        node.partition.close(clean=True)
        node.harness.engine.remove_partition(node.partition)
        again = node.harness.engine.add_partition(
            "events",
            0,
            topic_id=TOPIC_ID,
            dir_id=0,
            path=str(tmp_path / "0" / "events-0"),
            config=PartitionConfig(flush=FLUSH_NEVER, min_insync_replicas=2),
        )
        again.set_watermark(2)
        again.follow(2)
        assert (again.high_watermark(), again.log_end()) == (2, 3)
        # As a leader with nobody in sync it stays there; alone in the set it has everything.
        again.lead(3, [(1, REPLICA_OUT)])
        assert again.high_watermark() == 2
        again.set_config(PartitionConfig(flush=FLUSH_NEVER, min_insync_replicas=1))
        assert again.high_watermark() == 3
        node.partition = again
    finally:
        made.close()


def test_what_fetchers_are_sent_cannot_harm_them(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    node = quick.nodes[1]
    assert node.fetcher is not None
    quick.nodes[0].harness.client().call(9, produce((0, batch(b"a")), acks=1))
    links[1].sock.sendall(node.fetcher.request(1))
    answer = links[1].receive_raw()
    rng = random.Random(5)
    for _ in range(3_000):
        bad = bytearray(answer)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        bad = bad[: rng.randint(0, len(bad))]
        try:
            node.fetcher.apply(bytes(bad))
        except PartitionError as exc:
            assert exc.code == ErrorCode.CORRUPT_MESSAGE  # noqa: PT017
        node.fetcher.resume(node.partition)
        node.fetcher.request(2)
    # Whatever was taken for true, the leader itself sets it right.
    node.fetcher.apply(answer)
    for _ in range(5):
        node.fetcher.resume(node.partition)
        assert node.fetch_once(links[1]) == []
    assert node.content() == quick.nodes[0].content() != b""


def test_a_follower_never_copies_rot(quick: Cluster) -> None:
    leader = quick.nodes[0]
    leader.partition.become_leader(1)
    client = leader.harness.client()
    for number in range(20):
        client.call(9, produce((0, batch(b"%02d" % number + bytes(3_000))), acks=1))
    stored = leader.content()
    path = Path(leader.partition.path)
    leader.partition.close(clean=True)
    leader.harness.engine.remove_partition(leader.partition)
    size = len(stored) // 20
    log = bytearray((path / f"{0:020}.log").read_bytes())
    log[12 * size + 1_000] ^= 4
    (path / f"{0:020}.log").write_bytes(log)
    leader.partition = leader.harness.engine.add_partition(
        "events",
        0,
        topic_id=TOPIC_ID,
        dir_id=0,
        path=str(path),
        config=PartitionConfig(flush=FLUSH_NEVER, min_insync_replicas=1),
    )
    link = quick.lead(0, 2)[1]
    follower = quick.nodes[1]
    trouble: list[tuple[bytes, int, int]] = []
    for _ in range(10):
        trouble = trouble or follower.fetch_once(link)
    assert trouble == [(TOPIC_ID, 0, ErrorCode.CORRUPT_MESSAGE)]
    assert follower.content() == stored[: 12 * size]
    events = leader.harness.engine.take()
    assert [one[1:] for one in events if one[0] == EVENT_CORRUPT] == [(TOPIC_ID, 0, 12, 13)]


def test_a_fetcher_names_its_partitions_once(quick: Cluster) -> None:
    links = quick.lead(0, 1)
    node = quick.nodes[1]
    assert node.fetcher is not None
    client = quick.nodes[0].harness.client()
    full = len(node.fetcher.request(1))
    node.catch_up(links[1], 0)
    idle = len(node.fetcher.request(2))
    assert idle < full - 30

    def sent() -> int:
        """Go on, and return the size of the request."""
        assert node.fetcher is not None
        frame = node.fetcher.request(3)
        links[1].sock.sendall(frame)
        node.fetcher.apply(links[1].receive_raw())
        return len(frame)

    assert sent() == full  # that one had no answer
    assert sent() == idle
    client.call(9, produce((0, batch(b"a")), acks=1))
    assert sent() == idle  # nothing has changed here yet, and the leader sends what it has
    assert sent() == full
    assert sent() == idle
    # The leader loses the session.
    (session,) = struct.unpack_from(">i", node.fetcher.request(4), 42)
    links[2].call(13, fetch(session_id=session, session_epoch=-1, replica_id=2))
    client.call(9, produce((0, batch(b"b")), acks=1))
    node.catch_up(links[1], 2)
    assert node.content() == quick.nodes[0].content() != b""
    # What moves away is forgotten, and may come back at once.
    node.fetcher.remove(node.partition)
    node.fetcher.add(node.partition)
    assert sent() == full
    client.call(9, produce((0, batch(b"c")), acks=1))
    node.catch_up(links[1], 3)
    assert node.content() == quick.nodes[0].content()


@pytest.mark.parametrize("seed", range(3))
def test_changing_leaders_lose_nothing_that_was_acknowledged(quick: Cluster, seed: int) -> None:
    """Elections among those in sync while a producer writes with acks=all: a model of R1."""
    rng = random.Random(seed)
    acknowledged: list[bytes] = []
    epoch = 0
    in_sync = {0, 1, 2}
    leader = 0
    for _ in range(12):
        epoch += 1
        leader = rng.choice(sorted(in_sync))
        others = {node.broker_id for node in quick.nodes} - {leader}
        # Who was out stays out until it has caught up with this leader.
        standings = {f"n{i}": REPLICA_IN if i in in_sync else REPLICA_OUT for i in others}
        links = quick.lead(leader, epoch, **standings)
        stop = threading.Event()
        asleep = rng.choice(sorted(others))  # one follower fetches less

        def run(node: Node, link: Client, lazy: bool, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                node.fetch_once(link)
                if lazy:
                    time.sleep(0.003)

        threads = [
            threading.Thread(target=run, args=(quick.nodes[i], links[i], i == asleep))
            for i in others
        ]
        for thread in threads:
            thread.start()
        client = quick.nodes[leader].harness.client()
        for number in range(rng.randint(1, 15)):
            value = b"%d-%d" % (epoch, number)
            if rng.random() < 0.3:  # never promised
                client.call(9, produce((0, batch(b"x" + value)), acks=1))
                continue
            part = only(client.call(9, produce((0, batch(value)))))
            assert part.error_code == 0
            acknowledged.append(value)
        stop.set()
        for thread in threads:
            thread.join()
    final = quick.nodes[leader].content()
    at = -1
    for value in acknowledged:
        at = final.index(value, at + 1)
