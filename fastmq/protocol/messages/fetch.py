"""Fetch: read record batches. KIP-227, KIP-320, KIP-392, KIP-516, KIP-595, KIP-903, KIP-951."""

from fastmq.protocol._message import (
    Buffer,
    Message,
    array,
    int8,
    int16,
    int32,
    int64,
    records,
    string,
    struct,
    uuid,
)
from fastmq.protocol.api import ApiKey

__all__ = [
    "FetchAbortedTransaction",
    "FetchDivergingEpoch",
    "FetchForgottenTopic",
    "FetchLeader",
    "FetchNodeEndpoint",
    "FetchPartition",
    "FetchPartitionData",
    "FetchReplicaState",
    "FetchRequest",
    "FetchResponse",
    "FetchSnapshotId",
    "FetchTopic",
    "FetchTopicResponse",
]


class FetchReplicaState(Message):
    """Which follower asks, since version 15."""

    replica_id: int = int32("15+", default=-1)
    replica_epoch: int = int64("15+", default=-1)


class FetchPartition(Message):
    """From where to read one partition, and how much at most."""

    partition: int = int32("0+")
    current_leader_epoch: int = int32("9+", default=-1, ignorable=True)
    fetch_offset: int = int64("0+")
    last_fetched_epoch: int = int32("12+", default=-1)
    log_start_offset: int = int64("5+", default=-1, ignorable=True)
    partition_max_bytes: int = int32("0+")
    replica_directory_id: bytes = uuid("17+", tag=0, ignorable=True)
    high_watermark: int = int64("18+", tag=1, default=2**63 - 1, ignorable=True)


class FetchTopic(Message):
    """A topic, by name before version 13 and by id since."""

    topic: str = string("0-12", ignorable=True)
    topic_id: bytes = uuid("13+", ignorable=True)
    partitions: list[FetchPartition] = array(FetchPartition, "0+")


class FetchForgottenTopic(Message):
    """Partitions to drop from an incremental fetch session."""

    topic: str = string("7-12", ignorable=True)
    topic_id: bytes = uuid("13+", ignorable=True)
    partitions: list[int] = array(int32, "7+")


class FetchRequest(Message, api=ApiKey.FETCH):
    """Reads partitions; waits up to `max_wait_ms` for `min_bytes`."""

    cluster_id: str | None = string("12+", nullable="12+", tag=0, default=None, ignorable=True)
    replica_id: int = int32("0-14", default=-1)
    replica_state: FetchReplicaState | None = struct(FetchReplicaState, "15+", tag=1)
    max_wait_ms: int = int32("0+")
    min_bytes: int = int32("0+")
    max_bytes: int = int32("3+", default=2**31 - 1, ignorable=True)
    isolation_level: int = int8("4+")
    session_id: int = int32("7+", ignorable=True)
    session_epoch: int = int32("7+", default=-1, ignorable=True)
    topics: list[FetchTopic] = array(FetchTopic, "0+")
    forgotten_topics_data: list[FetchForgottenTopic] = array(FetchForgottenTopic, "7+")
    rack_id: str = string("11+", ignorable=True)


class FetchDivergingEpoch(Message):
    """Where the fetcher's log leaves the leader's: the largest epoch below its own, and its end."""

    epoch: int = int32("12+", default=-1)
    end_offset: int = int64("12+", default=-1)


class FetchLeader(Message):
    """Who leads the partition, when it is not the broker that was asked."""

    leader_id: int = int32("12+", default=-1)
    leader_epoch: int = int32("12+", default=-1)


class FetchSnapshotId(Message):
    """The snapshot to load instead of the log (metadata topic only)."""

    end_offset: int = int64("0+", default=-1)
    epoch: int = int32("0+", default=-1)


class FetchAbortedTransaction(Message):
    """Records of this producer from this offset up to its abort marker are void."""

    producer_id: int = int64("4+")
    first_offset: int = int64("4+")


class FetchPartitionData(Message):
    """What was read from one partition."""

    partition_index: int = int32("0+")
    error_code: int = int16("0+")
    high_watermark: int = int64("0+")
    last_stable_offset: int = int64("4+", default=-1, ignorable=True)
    log_start_offset: int = int64("5+", default=-1, ignorable=True)
    diverging_epoch: FetchDivergingEpoch | None = struct(
        FetchDivergingEpoch, "12+", tag=0, ignorable=True
    )
    current_leader: FetchLeader | None = struct(FetchLeader, "12+", tag=1, ignorable=True)
    snapshot_id: FetchSnapshotId | None = struct(FetchSnapshotId, "12+", tag=2, ignorable=True)
    aborted_transactions: list[FetchAbortedTransaction] | None = array(
        FetchAbortedTransaction, "4+", nullable="4+", ignorable=True
    )
    preferred_read_replica: int = int32("11+", default=-1)
    records: Buffer | None = records("0+", nullable="0+")


class FetchTopicResponse(Message):
    """The answers for one topic."""

    topic: str = string("0-12", ignorable=True)
    topic_id: bytes = uuid("13+", ignorable=True)
    partitions: list[FetchPartitionData] = array(FetchPartitionData, "0+")


class FetchNodeEndpoint(Message):
    """Where a leader that is named in the answer listens."""

    node_id: int = int32("16+")
    host: str = string("16+")
    port: int = int32("16+")
    rack: str | None = string("16+", nullable="16+", default=None)


class FetchResponse(Message, api=ApiKey.FETCH):
    """Record batches per partition."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("7+", ignorable=True)
    session_id: int = int32("7+")
    responses: list[FetchTopicResponse] = array(FetchTopicResponse, "0+")
    node_endpoints: list[FetchNodeEndpoint] = array(FetchNodeEndpoint, "16+", tag=0, ignorable=True)
