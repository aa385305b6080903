"""What a consumer asks for, and in which order: a scripted cluster, virtual time."""

import pytest

from fastmq.client.consumer import ConsumerMachine, ConsumerOptions
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, LogTruncated
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.fetch import FetchPartitionData, FetchResponse, FetchTopicResponse
from fastmq.protocol.messages.offset_commit import OffsetCommitResponse
from fastmq.protocol.messages.offset_fetch import OffsetFetchGroupResponse, OffsetFetchResponse
from fastmq.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochResponse,
    OffsetForLeaderEpochResult,
    OffsetForLeaderEpochTopicResult,
)
from fastmq.records import NewRecord, build_batch

from support.scripted import SILENT, ScriptedCluster

OLD, NEW = 4, 5


class Cluster(ScriptedCluster):
    """Logs of ten batches of ten records in each partition of "t", written in epoch OLD."""

    def __init__(self, partitions: int = 1, group_id: str | None = None, **options) -> None:
        super().__init__(2, ConsumerOptions, group_id=group_id, **options)
        self.topics["t"] = [1] * partitions
        self.epochs["t"] = OLD
        self.end = 100
        self.served: list[int] = []
        self.handlers[ApiKey.FETCH] = self.fetch
        self.handlers[ApiKey.LIST_OFFSETS] = lambda node, request: SILENT
        self.handlers[ApiKey.OFFSET_FOR_LEADER_EPOCH] = self.epoch_end
        self.epoch_ends = {OLD: 100}
        self.refuse = ErrorCode.NONE
        self.machine = ConsumerMachine(
            self.core, self.options, notify=lambda: None, wall_ms=lambda: self.now_ms
        )

    def read_from(self, offset: int = 0) -> None:
        names = [TopicPartition("t", n) for n in range(len(self.topics["t"]))]
        self.machine.assign(names)
        for name in names:
            self.machine.seek(name, offset)
        self.machine.errors.clear()
        self.settle()

    def fetch(self, node, request):
        """As a broker: fills the answer in the order of the request."""
        room = request.max_bytes
        rows = []
        for topic in request.topics:
            for part in topic.partitions:
                records = b""
                offset = part.fetch_offset
                while offset < self.end and ((not records and room > 0) or len(records) < room):
                    batch = build_batch(
                        [NewRecord(None, bytes(100)) for _ in range(10)],
                        base_offset=offset,
                        leader_epoch=OLD,
                    )
                    if records and len(records) + len(batch) > part.partition_max_bytes:
                        break
                    records += bytes(batch)
                    offset += 10
                room -= len(records)
                if records:
                    self.served.append(part.partition)
                code = self.refuse if part.current_leader_epoch == OLD else ErrorCode.NONE
                rows.append(
                    FetchPartitionData(
                        partition_index=part.partition,
                        error_code=code,
                        high_watermark=self.end,
                        records=None if code else records,
                    )
                )
        if not any(row.records or row.error_code for row in rows):
            return SILENT  # it waits for more
        topic = request.topics[0]
        return FetchResponse(
            responses=[
                FetchTopicResponse(topic=topic.topic, topic_id=topic.topic_id, partitions=rows)
            ]
        )

    def epoch_end(self, node, request):
        (topic,) = request.topics
        rows = [
            OffsetForLeaderEpochResult(
                partition=row.partition,
                leader_epoch=row.leader_epoch,
                end_offset=self.epoch_ends.get(row.leader_epoch, -1),
            )
            for row in topic.partitions
        ]
        return OffsetForLeaderEpochResponse(
            topics=[OffsetForLeaderEpochTopicResult(topic=topic.topic, partitions=rows)]
        )

    def elect(self, end: int) -> None:
        """Another leader, whose log of epoch OLD ends there."""
        self.topics["t"] = [2] * len(self.topics["t"])
        self.epochs["t"] = NEW
        self.epoch_ends[OLD] = end
        self.refuse = ErrorCode.FENCED_LEADER_EPOCH
        self.cut(1)

    def take(self) -> int:
        """Read one chunk, as the program does; the offset that it reaches."""
        state, chunk = self.machine.fetcher.chunks.popleft()
        while chunk.next_run() is not None:
            state.delivered = chunk.offset
        self.machine.fetcher.took(state, chunk)
        return chunk.offset


@pytest.fixture
def cluster():
    return Cluster()


def position(cluster):
    return cluster.machine.states["t", 0].fetch_offset


def test_a_new_leader_is_asked_once_whether_it_has_what_was_read(cluster):
    cluster.read_from(0)
    while cluster.machine.fetcher.chunks:
        cluster.take()
        cluster.settle()
    assert cluster.sent(ApiKey.OFFSET_FOR_LEADER_EPOCH) == []
    cluster.elect(end=100)
    cluster.end = 120
    cluster.advance(5_000)
    ((node, request),) = cluster.sent(ApiKey.OFFSET_FOR_LEADER_EPOCH)
    (row,) = request.topics[0].partitions
    assert (node, row.leader_epoch, row.current_leader_epoch) == (2, OLD, NEW)
    assert position(cluster) == 120
    assert not cluster.machine.errors


def test_after_a_truncation_reading_goes_on_where_the_logs_part(cluster, caplog):
    cluster.read_from(0)
    while cluster.machine.fetcher.chunks:
        cluster.take()
        cluster.settle()
    cluster.elect(end=60)
    cluster.advance(5_000)
    assert cluster.machine.fetcher.chunks
    assert cluster.machine.fetcher.chunks[0][1].offset == 60
    assert "truncated at 60" in caplog.text


def test_what_the_program_did_not_get_yet_is_not_skipped(cluster):
    cluster.read_from(0)
    cluster.machine.fetcher.chunks[0][0].delivered = 20
    cluster.elect(end=60)
    cluster.end = 200
    cluster.take()  # asks for more
    cluster.machine.states["t", 0].delivered = 20
    cluster.advance(5_000)
    assert cluster.machine.fetcher.chunks[0][1].offset == 20


def test_a_program_that_wants_to_know_of_a_truncation_is_told_where():
    cluster = Cluster(auto_offset_reset="none")
    cluster.read_from(0)
    while cluster.machine.fetcher.chunks:
        cluster.take()
        cluster.settle()
    cluster.elect(end=60)
    cluster.advance(5_000)
    (error,) = cluster.machine.errors
    assert isinstance(error, LogTruncated)
    assert (error.topic, error.partition, error.diverged_at) == ("t", 0, 60)
    assert "seek" in str(error)
    cluster.machine.seek(TopicPartition("t", 0), 60)
    cluster.settle()
    assert cluster.machine.fetcher.chunks[0][1].offset == 60


def test_a_leader_that_does_not_know_the_epoch_is_no_evidence(cluster):
    cluster.read_from(0)
    while cluster.machine.fetcher.chunks:
        cluster.take()
        cluster.settle()
    cluster.elect(end=-1)
    cluster.end = 110
    cluster.advance(5_000)
    assert position(cluster) == 110


def test_when_memory_is_short_the_partitions_take_turns():
    cluster = Cluster(partitions=8, prefetch_max_bytes=4_000, max_partition_fetch_bytes=2_000)
    cluster.read_from(0)
    for _ in range(60):
        if cluster.machine.fetcher.chunks:
            cluster.take()
        cluster.settle()
    first = cluster.served[:16]
    assert set(first) == set(range(8)), first


def test_a_commit_tells_the_leader_epoch_of_what_was_read():
    made = Cluster(group_id="g")
    made.coordinators["g"] = 2
    nothing = OffsetFetchGroupResponse(group_id="g", topics=[])
    made.handlers[ApiKey.OFFSET_FETCH] = lambda *_: OffsetFetchResponse(groups=[nothing])
    made.handlers[ApiKey.OFFSET_COMMIT] = lambda node, request: OffsetCommitResponse()
    made.read_from(20)
    name = TopicPartition("t", 0)
    state = made.machine.states[name]
    assert state.fetch_offset == 100

    def committed(offset: int) -> int:
        made.machine.committer.commit({name: offset}, lambda _: None)
        made.settle()
        _, request = made.sent(ApiKey.OFFSET_COMMIT)[-1]
        return request.topics[0].partitions[0].committed_leader_epoch

    assert [committed(at) for at in (19, 20, 21, 100, 101)] == [-1, -1, OLD, OLD, -1]
    state.fetched(110, OLD)
    state.fetched(120, NEW)
    assert [committed(at) for at in (100, 105, 110, 111, 120)] == [OLD, OLD, OLD, NEW, NEW]
    made.machine.states[name].seek(50, NEW)
    assert [committed(at) for at in (49, 50, 51)] == [-1, NEW, -1]
    for epoch in range(100):
        state.fetched(51 + epoch, 10 + epoch)
    assert len(state.epochs) < 20
    assert [committed(at) for at in (51, 150)] == [-1, 109]
