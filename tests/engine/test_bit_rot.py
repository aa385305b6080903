"""Flipped bits in the files of a log (R10): no reader ever gets other bytes than were written.

`FASTMQ_FLIPS=1000` for the full figure (`make rel-rot`).
"""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.batches import as_stored, base_offsets, batch
from support.engine import Client, Harness, fetch, only, produce

FLIPS = int(os.environ.get("FASTMQ_FLIPS", "30"))
SEED = int(os.environ.get("FASTMQ_SEED", "1"))
EPOCHS = (3, 4, 7)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


def write_log(harness: Harness, rng: random.Random) -> dict[int, bytes]:
    """Some segments of batches of all sizes, closed cleanly; by base offset what is stored."""
    partition = harness.partition(segment_bytes=1 << 18, index_interval_bytes=512)
    client = harness.client()
    stored = {}
    offset = 0
    for epoch in EPOCHS:
        partition.become_leader(epoch)
        for _ in range(25):
            values = [rng.randbytes(rng.choice((10, 300, 9_000))) for _ in range(rng.randint(1, 4))]
            data = batch(*values)
            assert only(client.call(9, produce((0, data)))).error_code == 0
            stored[offset] = as_stored(data, offset, epoch)
            offset += len(values)
    partition.close(clean=True)
    return stored


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    area = len(data) if rng.random() < 0.5 else min(len(data), 400)  # headers are small
    at = rng.randrange(len(data) - area + 1)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[at + rng.randrange(area)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def read_all(client: Client, topic: str, end: int, limit: int, stored: dict[int, bytes]) -> int:
    """Read on behind what is damaged; returns how many batches came."""
    offset = 0
    seen = set()
    while offset < end:
        part = only(client.call(12, fetch((0, offset), topic=topic, partition_max_bytes=limit)))
        data = bytes(part.records or b"")
        assert part.error_code in (0, 1, 2, 56), part
        if part.error_code or not data:
            assert part.error_code != 0 or offset >= part.high_watermark, part
            offset += 1
            continue
        for base in base_offsets(data):
            size = len(stored[base])  # an offset that never was is a KeyError
            assert data[:size] == stored[base], base
            data = data[size:]
            seen.add(base)
            offset = max(offset + 1, int(base) + 1)
    return len(seen)


def test_flipped_bits_are_never_served(harness: Harness) -> None:
    rng = random.Random(SEED)
    stored = write_log(harness, rng)
    end = max(stored) + 1
    origin = harness.path / "events-0"
    names = sorted(p.name for p in origin.iterdir())
    logs = [name for name in names if name.endswith(".log")]
    assert len(logs) >= 2
    harmed = 0
    for number in range(FLIPS):
        topic = f"copy{number}"
        copy = harness.path / f"{topic}-0"
        shutil.copytree(origin, copy)
        victim = rng.choice(logs if rng.random() < 0.7 else names)
        flip(copy / victim, rng)
        partition = harness.partition(topic=topic, topic_id=number.to_bytes(16, "little"), epoch=8)
        client = harness.client()
        for limit in (1, 2_000, 1 << 20):
            seen = read_all(client, topic, end, limit, stored)
            if victim not in logs:
                assert seen == len(stored), victim
            harmed += seen < len(stored)
        client.sock.close()
        harness.engine.remove_partition(partition)
        shutil.rmtree(copy)
    assert harmed > FLIPS // 4
    assert harness.engine.metrics()["corrupt_batches"] > 0
