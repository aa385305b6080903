"""Batches of another replica in the place of damaged ones, whatever bits have flipped."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmq._native.core import Partition, PartitionError, Repair

from support.batches import as_stored, batch
from support.engine import Harness

BATCHES = 60
FLIPS = 60


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


def fill(harness: Harness, rng: random.Random) -> tuple[Partition, list[bytes], Path]:
    """A log in one file, in three epochs, and what is stored in it."""
    partition = harness.partition(epoch=1, index_interval_bytes=512)
    stored = []
    for number in range(BATCHES):
        if number in (20, 40):
            partition.become_leader(1 + number // 20)
        data = batch(rng.randbytes(rng.choice((10, 300, 2_000))))
        assert partition.append(bytearray(data))[0] == 0
        stored.append(as_stored(data, number, 1 + number // 20))
    partition.flush()
    return partition, stored, harness.path / "events-0" / f"{0:020}.log"


def repair(partition: Partition, stored: list[bytes], offset: int, end: int) -> int:
    """As the broker does it, a few batches at a time."""
    before = offset
    replaced = 0
    while True:
        one = Repair(partition, offset, before)
        try:
            while not one.has_reached_end and (one.offset < end or not one.ends_in_good):
                chunk = b"".join(stored[one.offset : one.offset + 4])
                replaced += one.take(chunk, partition.leader_epoch())[0]
        except PartitionError as exc:
            if one.is_certain or exc.code != 2:
                raise
            before = -1 if before < offset else one.offset
            continue
        partition.repaired(0, end)
        return replaced


def test_what_was_flipped_is_as_it_was(harness: Harness) -> None:
    rng = random.Random(1)
    partition, stored, path = fill(harness, rng)
    good = path.read_bytes()
    assert good == b"".join(stored)
    for _ in range(FLIPS):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with path.open("r+b") as file:
            file.write(data)
        first = next(n for n in range(len(data)) if data[n] != good[n])
        offset = next(n for n in range(BATCHES) if first < sum(map(len, stored[: n + 1])))
        assert repair(partition, stored, offset, BATCHES) > 0
        assert path.read_bytes() == good


def test_other_records_are_never_written_over(harness: Harness) -> None:
    rng = random.Random(2)
    partition, stored, path = fill(harness, rng)
    good = path.read_bytes()
    other = list(stored)
    other[30] = as_stored(batch(b"something else"), 30, 2)
    one = Repair(partition, 30, -1)
    with pytest.raises(PartitionError, match="other records"):
        one.take(b"".join(other), partition.leader_epoch())
    # Nor anything in another epoch, or with another CRC.
    with pytest.raises(PartitionError):
        one.take(b"".join(stored), partition.leader_epoch() + 1)
    damaged = bytearray(b"".join(stored))
    damaged[70] ^= 1
    with pytest.raises(PartitionError, match="a damaged batch"):
        one.take(damaged, partition.leader_epoch())
    assert path.read_bytes() == good


def test_a_scrub_finds_damage_that_nobody_has_read(harness: Harness) -> None:
    _, stored, path = fill(harness, random.Random(3))
    data = bytearray(path.read_bytes())
    data[sum(map(len, stored[:33])) + 70] ^= 4
    copy = harness.path / "copy-0"
    copy.mkdir()
    (copy / path.name).write_bytes(data)
    partition = harness.partition(topic="copy", topic_id=b"c" * 16, epoch=4)
    offset, is_damaged = 0, False
    while not is_damaged:
        offset, is_damaged = partition.scrub(offset, 4_000)
    assert offset == 33
    assert partition.damage() == [(33, 34)]
    assert repair(partition, stored, 33, 34) == 1
    assert partition.damage() == []
    assert (copy / path.name).read_bytes() == path.read_bytes()


def test_a_flipped_bit_in_the_epoch_checkpoint_changes_no_epoch(harness: Harness) -> None:
    partition, _, path = fill(harness, random.Random(4))
    ends = [partition.epoch_end(epoch) for epoch in (1, 2, 3)]
    partition.close(clean=True)
    good = (path.parent / "leader-epoch-checkpoint").read_bytes()
    for at in range(len(good)):
        topic = f"copy{at}"
        copy = harness.path / f"{topic}-0"
        copy.mkdir()
        (copy / path.name).write_bytes(path.read_bytes())
        data = bytearray(good)
        data[at] ^= 1 << at % 8
        (copy / "leader-epoch-checkpoint").write_bytes(data)
        topic_id = at.to_bytes(16, "little")
        opened = harness.partition(topic=topic, topic_id=topic_id, epoch=4)
        assert [opened.epoch_end(epoch) for epoch in (1, 2, 3)] == ends
        harness.engine.remove_partition(opened)


def test_an_epoch_that_was_read_from_a_damaged_header_is_forgotten(harness: Harness) -> None:
    partition, stored, path = fill(harness, random.Random(5))
    ends = [partition.epoch_end(epoch) for epoch in (1, 2, 3)]
    copy = harness.path / "copy-0"
    copy.mkdir()
    data = bytearray(path.read_bytes())
    data[13] ^= 1  # the epoch of the first batch: 65537
    (copy / path.name).write_bytes(data)
    opened = harness.partition(topic="copy", topic_id=b"c" * 16, epoch=4)
    assert repair(opened, stored, 0, BATCHES) == 1
    assert [opened.epoch_end(epoch) for epoch in (1, 2, 3)] == ends
