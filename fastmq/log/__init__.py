"""Log directories and their files, as Python needs them: synchronous, the disk handed in.

The bytes of logs belong to the C engine; here is what is around them: ownership of a directory
(`meta.properties`, a lock), the comparison with the metadata, partition directories, offset
checkpoints in Kafka's format, the clean-shutdown marker, deletion, and the watch over free space.
`dump` reads the files of a log for people.

Every call blocks on the disk. At the start that is wanted; later, call from a worker thread.
"""

from fastmq.log.checkpoints import OffsetTable, PartitionKey
from fastmq.log.directories import (
    HIGH_WATERMARK,
    LOG_START,
    RECOVERY_POINT,
    DirectoryInUseError,
    Expected,
    Found,
    LogDir,
    LogDirs,
    NewPartition,
    Reconciled,
    remove_tree,
)
from fastmq.log.disk import Disk
from fastmq.log.free_space import FreeSpaceWatch

__all__ = [
    "HIGH_WATERMARK",
    "LOG_START",
    "RECOVERY_POINT",
    "DirectoryInUseError",
    "Disk",
    "Expected",
    "Found",
    "FreeSpaceWatch",
    "LogDir",
    "LogDirs",
    "NewPartition",
    "OffsetTable",
    "PartitionKey",
    "Reconciled",
    "remove_tree",
]
