"""Flipped bits in one or two replicas of three (R10): nobody gets other bytes, and what is damaged
is repaired from the others.

`ROT_FLIPS=1000 pytest tests/reliability/test_cluster_rot.py -m slow` for longer (`make rel-rot`).
"""

import os
import random
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic

from support.batches import base_offsets
from support.cluster import Cluster
from support.raw import RawClient

pytestmark = [pytest.mark.slow, pytest.mark.reliability]

FLIPS = int(os.environ.get("ROT_FLIPS", "30"))
SEED = int(os.environ.get("ROT_SEED", "1"))
PARTITIONS = 15
BATCHES = 20
WAIT_S = 30.0
# The broker has just begun, and has no role yet; or it lost records, and is being given them.
NOT_YET = (1, 3, 5, 6)


def home(cluster: Cluster, node: int, index: int) -> Path:
    (path,) = Path(cluster.data_dir).glob(f"**/broker_{node}/t-{index}")
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


def read_whole(address: str, index: int, good: dict[int, bytes] | None = None) -> dict[int, bytes]:
    """All batches, once the broker knows that they are committed, and has repaired them.

    Args:
        address: of a broker.
        index: the partition.
        good: what was written: nothing else may be read meanwhile.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            found, damaged = read(address, index, BATCHES)
        except (OSError, EOFError):
            found, damaged = {}, 0  # killed, and not back yet
        assert good is None or found.items() <= good.items()
        if len(found) == BATCHES and not damaged:
            return found
        assert time.monotonic() < deadline, (address, index, damaged)


def fill(cluster: Cluster, rng: random.Random) -> None:
    """Write batches of a record each."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic("t", PARTITIONS, 3)])["t"].result(WAIT_S)
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "linger.ms": 0})
    for number in range(BATCHES):
        for index in range(PARTITIONS):
            producer.produce("t", b"%d" % number + rng.randbytes(1_000), partition=index)
        assert producer.flush(WAIT_S) == 0


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def choose(directory: Path, rng: random.Random) -> Path:
    """One file of a partition: a segment mostly."""
    files = sorted(path for path in directory.iterdir() if path.stat().st_size)
    logs = [path for path in files if path.suffix == ".log"]
    return rng.choice(logs if rng.random() < 0.6 else files)


def check(cluster: Cluster, good: dict[int, dict[int, bytes]]) -> None:
    """Every replica has every batch as it was written, at the latest after a while."""
    for address in cluster.all_addresses:
        for index, stored in good.items():
            assert read_whole(address, index, stored) == stored


def end(cluster: Cluster) -> None:
    """Kill supervisor and brokers at once."""
    brokers = psutil.Process(cluster.pid).children(recursive=True)
    cluster.kill()
    psutil.wait_procs(brokers, timeout=WAIT_S)


def test_rot_is_repaired_from_the_others(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    overrides = {"broker.rack": "r1,r2,r3", "min.insync.replicas": "2"}
    with Cluster(tmp_path / "cluster", overrides=overrides) as cluster:
        fill(cluster, rng)
        good = {index: read_whole(cluster.all_addresses[0], index) for index in range(PARTITIONS)}
        check(cluster, good)
        for left in range(FLIPS, 0, -PARTITIONS):
            (cluster.stop if rng.random() < 0.5 else partial(end, cluster))()
            cluster.port = 0
            for index in rng.sample(range(PARTITIONS), min(left, PARTITIONS)):
                for node in rng.sample((1, 2, 3), rng.choice((1, 1, 2))):
                    flip(choose(home(cluster, node, index), rng), rng)
            cluster.start()
            check(cluster, good)
        node = rng.randint(1, 3)
        cluster.process_of(node).kill()  # others lead until it is back
        check(cluster, good)
        cluster.stop()
        for index in range(PARTITIONS):
            (size,) = {
                sum(p.stat().st_size for p in home(cluster, node, index).glob("*.log"))
                for node in (1, 2, 3)
            }
            assert size
