"""Retention, checkpoints and free space of a real broker with short intervals."""

import time
from functools import partial

import pytest

from fastmq.errors import ErrorCode
from fastmq.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from fastmq.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch

from support.raw import RawClient


def create(client, name, **configs):
    topic = CreatableTopic(
        name=name,
        num_partitions=1,
        replication_factor=1,
        configs=[
            CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()
        ],
    )
    (made,) = client.call(CreateTopicsRequest(topics=[topic]), 7).topics
    assert made.error_code == 0, made


def produce(client, topic, size=10):
    batch = build_batch([NewRecord(None, b"v" * size, timestamp=int(time.time() * 1000))])
    data = ProduceTopic(name=topic, partition_data=[ProducePartition(index=0, records=batch)])
    request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data])
    return client.call(request, 9).responses[0].partition_responses[0]


def log_start(client, topic):
    partition = ListOffsetsPartition(partition_index=0, timestamp=-2)
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[partition])]
    )
    return client.call(request, 9).topics[0].partitions[0].offset


def holds(path, entry):
    return path.exists() and entry in path.read_text()


def wait_until(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_retention_by_size_deletes_old_segments(make_broker):
    broker = make_broker(overrides={"log.retention.check.interval.ms": 100})
    with RawClient(broker.bootstrap) as client:
        create(client, "small", segment_bytes="1048576", retention_bytes="1048576")
        for _ in range(10):
            assert produce(client, "small", 500_000).error_code == 0
        wait_until(lambda: log_start(client, "small") > 0, "nothing was deleted")
        assert log_start(client, "small") < 10


def test_log_start_and_recovery_point_survive_a_kill(make_broker):
    broker = make_broker(
        overrides={
            "log.flush.offset.checkpoint.interval.ms": 100,
            # DeleteRecords itself has to write the log start.
            "log.flush.start.offset.checkpoint.interval.ms": 1_000_000,
        }
    )
    with RawClient(broker.bootstrap) as client:
        create(client, "kept")
        for _ in range(5):
            produce(client, "kept")
        partition = DeleteRecordsPartition(partition_index=0, offset=3)
        topics = [DeleteRecordsTopic(name="kept", partitions=[partition])]
        client.call(DeleteRecordsRequest(topics=topics, timeout_ms=1000), 2)
    for name, entry in (
        ("log-start-offset-checkpoint", "kept 0 3"),
        ("recovery-point-offset-checkpoint", "kept 0 5"),
    ):
        wait_until(partial(holds, broker.data_dir / name, entry), f"{name}: no {entry!r}")
    broker.kill()
    broker.start()
    with RawClient(broker.bootstrap) as client:
        assert log_start(client, "kept") == 3
        assert produce(client, "kept").base_offset == 5


def test_producers_are_refused_while_the_disk_is_too_full(make_broker):
    # No disk has that much: full from the first look on.
    broker = make_broker(
        overrides={
            "fastmq.free.space.floor.bytes": 1 << 60,
            "fastmq.free.space.check.interval.ms": 100,
        }
    )
    wait_until(lambda: "producers are refused" in broker.log_text(), "nobody looked")
    with RawClient(broker.bootstrap) as client:
        create(client, "late")
        wait_until(
            lambda: produce(client, "late").error_code == ErrorCode.KAFKA_STORAGE_ERROR,
            "a producer was not refused",
        )
        assert log_start(client, "late") == 0


@pytest.mark.parametrize("clean", [True, False])
def test_offsets_topic_keeps_its_records(make_broker, clean):
    overrides = {"log.retention.check.interval.ms": 50, "log.retention.ms": 1}
    broker = make_broker(overrides=overrides)
    with RawClient(broker.bootstrap) as client:
        create(client, "t")
    from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest
    from fastmq.protocol.messages.offset_commit import (
        OffsetCommitPartition,
        OffsetCommitRequest,
        OffsetCommitTopic,
    )
    from fastmq.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchTopic

    with RawClient(broker.bootstrap) as client:
        client.call(FindCoordinatorRequest(key="g", key_type=0), 2)
        part = OffsetCommitPartition(partition_index=0, committed_offset=7, committed_metadata="")
        topics = [OffsetCommitTopic(name="t", partitions=[part])]
        client.call(OffsetCommitRequest(group_id="g", topics=topics), 8)
    time.sleep(0.3)
    broker.stop() if clean else broker.kill()
    broker.start()
    with RawClient(broker.bootstrap) as client:
        request = OffsetFetchRequest(
            group_id="g", topics=[OffsetFetchTopic(name="t", partition_indexes=[0])]
        )

        def committed():
            answer = client.call(request, 7)
            return answer.error_code == 0 and answer.topics[0].partitions[0].committed_offset

        wait_until(lambda: committed() == 7, "the committed offset is gone")
