"""Micro-benchmarks of batches and appends: python perf/micro/records.py [-o FILE] [pyperf options].

CRC-32C goes at 20 GB/s and more, so it is nearly free beside the copy of the same bytes. An append
from Python is what a coordinator pays per batch: one call, one pwrite.
"""

import tempfile
import time
from pathlib import Path

import pyperf

from fastmq._native.core import FLUSH_NEVER, Engine, PartitionConfig, crc32c
from fastmq.records import NewRecord, build_batch, read_batches

RECORDS = [NewRecord(b"key-%d" % i, bytes(100)) for i in range(100)]
BATCH = build_batch(RECORDS)
MEBIBYTE = bytes(1 << 20)


def read_all() -> int:
    """Decode every record of a batch."""
    return sum(len(list(batch.records())) for batch in read_batches(BATCH))


def append(loops: int) -> float:
    """Append batches to a fresh partition, without syncs; seconds."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "topic-0"
        path.mkdir()
        engine = Engine(node_id=1)
        config = PartitionConfig(flush=FLUSH_NEVER)
        engine.start()
        partition = engine.add_partition(
            "topic", 0, topic_id=bytes(range(16)), dir_id=0, path=str(path), config=config
        )
        partition.become_leader(0)
        try:
            began = time.perf_counter()
            for _ in range(loops):
                partition.append(bytearray(BATCH), trusted=True)
            return time.perf_counter() - began
        finally:
            partition.close(clean=True)
            engine.stop()


def main() -> None:
    runner = pyperf.Runner()
    runner.bench_func("crc32c of 1 MiB", crc32c, MEBIBYTE)
    runner.bench_func("build a batch of 100 records", build_batch, RECORDS)
    runner.bench_func("read a batch of 100 records", read_all)
    runner.bench_time_func("append a batch of 100 records", append)


main()
