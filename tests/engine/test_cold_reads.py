"""Fetches of data that has left the page cache."""

import os
from pathlib import Path

import pytest

from support.batches import as_stored, batch
from support.engine import Harness, fetch, only, produce


def drop_from_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return
    finally:
        os.close(fd)
    pytest.skip("the file system of the temporary directory keeps every file in memory")


def fill(harness: Harness, count: int = 40) -> tuple[list[bytes], Path]:
    partition = harness.partition()
    client = harness.client()
    batches = [batch(b"%d" % i + os.urandom(20_000)) for i in range(count)]
    for data in batches:
        client.call(9, produce((0, data)))
    log = Path(partition.path) / f"{0:020}.log"
    return [as_stored(data, i, 3) for i, data in enumerate(batches)], log


def test_cold_data_is_served_whole(harness: Harness) -> None:
    stored, log = fill(harness)
    drop_from_cache(log)
    part = only(harness.client().call(12, fetch((0, 0), partition_max_bytes=8 << 20)))
    assert bytes(part.records) == b"".join(stored)


def test_damage_is_found_by_who_reads_little_at_a_time(harness: Harness) -> None:
    """Looking for the slice brings its headers, and with them its pages, into the cache."""
    stored, log = fill(harness, 8)
    at = sum(map(len, stored[:5])) + 5_000
    with log.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 1,)))
    drop_from_cache(log)
    client = harness.client()
    for offset in (3, 4, 5, 6):
        part = only(client.call(12, fetch((0, offset), partition_max_bytes=2_000)))
        assert part.error_code == (2 if offset == 5 else 0)
        assert bytes(part.records) == (b"" if offset == 5 else stored[offset])


def test_a_damaged_batch_is_found_and_never_served(harness: Harness) -> None:
    stored, log = fill(harness)
    at = sum(map(len, stored[:17])) + 5_000
    damaged = bytearray(log.read_bytes())
    damaged[at] ^= 0x10
    with log.open("r+b") as file:
        file.seek(at)
        file.write(damaged[at : at + 1])
    drop_from_cache(log)
    client = harness.client()
    for _ in range(2):  # cold, then warm
        part = only(client.call(12, fetch((0, 0), partition_max_bytes=8 << 20)))
        assert bytes(part.records) == b"".join(stored[:17])
    part = only(client.call(12, fetch((0, 17), partition_max_bytes=8 << 20)))
    assert part.error_code == 2
    part = only(client.call(12, fetch((0, 18), partition_max_bytes=8 << 20)))
    assert bytes(part.records) == b"".join(stored[18:])
    assert harness.engine.metrics()["corrupt_batches"] == 1
