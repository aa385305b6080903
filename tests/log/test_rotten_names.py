"""Rot in `partition.metadata`: a partition is not taken for another topic's and set aside."""

import os
from pathlib import Path

from fastmq.log import Disk, Expected, LogDirs, NewPartition

TOPIC_ID = bytes(range(100, 116))


def test_every_flipped_bit_of_partition_metadata_is_mended(tmp_path: Path) -> None:
    dirs = LogDirs.open(
        [str(tmp_path)], node_id=1, random_bytes=os.urandom, disk=Disk(durable=False)
    )
    dirs.join("cluster")
    (directory,) = dirs.directories
    directory.create_partitions([NewPartition("t", 0, TOPIC_ID)])
    path = tmp_path / "t-0" / "partition.metadata"
    good = path.read_bytes()
    expected = {("t", 0): Expected(TOPIC_ID, directory.id)}
    for at in range(len(good)):
        for bit in range(8):
            data = bytearray(good)
            data[at] ^= 1 << bit
            path.write_bytes(data)
            found = dirs.reconcile(expected)
            assert not found.strays
            assert not found.missing
            assert directory.topic_id_of("t", 0) == TOPIC_ID
    # Another topic's directory is set aside all the same.
    directory.name_topic("t", 0, bytes(16))
    assert dirs.reconcile(expected).strays
    dirs.close()
