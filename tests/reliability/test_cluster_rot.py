"""Flipped bits in one replica of three (R10): nobody gets other bytes, and nobody copies them.

`ROT_FLIPS=200 pytest tests/reliability/test_cluster_rot.py -m slow` for longer.
"""

import os
import random
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic

from support.batches import base_offsets
from support.cluster import Cluster
from support.raw import RawClient

pytestmark = [pytest.mark.slow, pytest.mark.reliability]

FLIPS = int(os.environ.get("ROT_FLIPS", "6"))
SEED = int(os.environ.get("ROT_SEED", "1"))
PARTITIONS = FLIPS
BATCHES = 20
WAIT_S = 30.0
NOT_YET = (3, 5, 6)  # the broker has just begun, and has no role yet


def logs(cluster: Cluster, node: int, index: int) -> Path:
    (path,) = Path(cluster.data_dir).glob(f"**/broker_{node}/t-{index}/*.log")
    return path


def read(address: str, index: int, end: int) -> tuple[dict[int, bytes], int]:
    """What one broker serves, by base offset, and how many offsets it says are damaged."""
    found: dict[int, bytes] = {}
    damaged = offset = 0
    with RawClient(address) as client:
        while offset < end:
            asked = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=5_000)
            request = FetchRequest(
                max_wait_ms=100,
                max_bytes=1 << 20,
                topics=[FetchTopic(topic="t", partitions=[asked])],
            )
            (row,) = client.call(request, 12).responses[0].partitions
            assert row.error_code in (0, 2, *NOT_YET), row
            data = bytes(row.records or b"")
            damaged += row.error_code == 2
            if not data:
                offset += 1
                continue
            for base in base_offsets(data):
                size = 12 + int.from_bytes(data[8:12], "big")
                found[base] = data[:size]
                data = data[size:]
                offset = base + 1
    return found, damaged


def read_whole(address: str, index: int) -> dict[int, bytes]:
    """All batches, once the broker knows that they are committed."""
    deadline = time.monotonic() + WAIT_S
    while len((answer := read(address, index, BATCHES))[0]) < BATCHES:
        assert time.monotonic() < deadline, (address, index, answer[1])
    assert answer[1] == 0
    return answer[0]


def fill(cluster: Cluster, rng: random.Random) -> None:
    """Write batches of a record each."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic("t", PARTITIONS, 3)])["t"].result(WAIT_S)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "linger.ms": 0})
    for number in range(BATCHES):
        for index in range(PARTITIONS):
            producer.produce("t", b"%d" % number + rng.randbytes(1_000), partition=index)
        assert producer.flush(WAIT_S) == 0


def test_rot_in_one_replica_reaches_nobody(tmp_path):
    rng = random.Random(SEED)
    overrides = {"broker.rack": "r1,r2,r3", "min.insync.replicas": "3"}
    with Cluster(tmp_path / "cluster", overrides=overrides) as cluster:
        fill(cluster, rng)
        good = {index: read_whole(cluster.all_addresses[0], index) for index in range(PARTITIONS)}
        for address in cluster.all_addresses[1:]:
            assert {index: read_whole(address, index) for index in good} == good
        cluster.stop()
        cluster.port = 0
        victims = {}
        for index in range(PARTITIONS):
            victim = victims[index] = rng.randint(1, 3)
            path = logs(cluster, victim, index)
            data = bytearray(path.read_bytes())
            for _ in range(rng.choice((1, 8, 64))):
                data[rng.randrange(len(data) // 2)] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
        cluster.start()
        for index, stored in good.items():
            for node, address in enumerate(cluster.all_addresses, 1):
                if node != victims[index]:
                    assert read_whole(address, index) == stored
                    continue
                deadline = time.monotonic() + WAIT_S
                while not (answer := read(address, index, BATCHES))[1]:
                    assert time.monotonic() < deadline, "the damage was not found"
                found = answer[0]
                assert found.items() <= stored.items()
                assert len(found) < BATCHES
