"""What clients may create is bounded: topics, partitions, connections per second (S6, S13)."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq.errors import ErrorCode
from fastmq.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastmq.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastmq.protocol.messages.init_producer_id import InitProducerIdRequest
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)

from support.raw import RawClient
from support.wire import API_VERSIONS, Peer

pytestmark = pytest.mark.reliability


def test_no_more_topics_and_partitions_than_allowed(make_broker):
    broker = make_broker(
        overrides={"fastmq.topics.max": 3, "fastmq.partitions.max": 60},
    )
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})

    def create(name: str, partitions: int) -> int:
        try:
            admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)
        except KafkaException as exc:
            return exc.args[0].code()
        return 0

    # __consumer_offsets, one topic with 50 partitions, is there.
    refused = KafkaError.POLICY_VIOLATION
    assert create("a", 11) == refused
    assert create("a", 9) == 0
    with RawClient(broker.bootstrap) as client:
        grow = CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name="a", count=11, assignments=None)], timeout_ms=5_000
        )
        (result,) = client.call(grow, 3).results
        assert result.error_code == refused
    assert create("b", 1) == 0
    assert create("c", 1) == refused
    with RawClient(broker.bootstrap) as client:
        wanted = MetadataRequest(
            topics=[MetadataRequestTopic(name="d")], allow_auto_topic_creation=True
        )
        (topic,) = client.call(wanted, 12).topics
        assert topic.error_code == refused


def test_connections_are_not_accepted_faster_than_allowed(make_broker):
    broker = make_broker(overrides={"max.connection.creation.rate": 20})
    began = time.monotonic()
    for _ in range(50):
        with Peer(broker.port) as peer:
            peer.call(API_VERSIONS, 0, b"")
    took_s = time.monotonic() - began
    # A burst of 20, then 20 each second.
    assert 1.2 <= took_s


FLOOD = 5_000
FLOOD_BYTES_MAX = 48 << 20


def pipelined(client: RawClient, version: int, requests: list) -> list:
    """Send many requests at once, some hundreds unanswered at a time, and return the answers."""
    answers = []
    for start in range(0, len(requests), 200):
        chunk = requests[start : start + 200]
        sent = [client.send(request, version) for request in chunk]
        answers += [
            client.receive(chunk[0].API_KEY, version, correlation_id) for correlation_id in sent
        ]
    return answers


def commit_to(group: str, metadata: str | None = None) -> OffsetCommitRequest:
    partition = OffsetCommitPartition(
        partition_index=0, committed_offset=0, committed_metadata=metadata
    )
    return OffsetCommitRequest(
        group_id=group, topics=[OffsetCommitTopic(name="flooded", partitions=[partition])]
    )


def join_as_new(group: str) -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id=group,
        session_timeout_ms=30_000,
        rebalance_timeout_ms=30_000,
        protocol_type="consumer",
        protocols=[JoinGroupProtocol(name="range", metadata=bytes(100))],
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_floods_of_what_clients_can_create_are_borne_or_refused(make_broker):
    """S13: thousands of topics, groups, members, producers; texts that are too long."""
    broker = make_broker(overrides={"fastmq.topics.max": 100, "group.max.size": 50})
    with RawClient(broker.bootstrap, timeout_s=60) as client:
        topics = [
            CreatableTopic(name="flooded" if i == 0 else f"t{i}", num_partitions=1)
            for i in range(FLOOD)
        ]
        for topic in topics:
            topic.replication_factor = 1
        made = client.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), 5).topics
        codes = [topic.error_code for topic in made]
        # __consumer_offsets is one of the hundred.
        assert codes.count(ErrorCode.NONE) == 99
        assert codes.count(ErrorCode.POLICY_VIOLATION) == FLOOD - 99
        before = broker.rss_bytes()

        commits = pipelined(client, 5, [commit_to(f"group-{i}") for i in range(FLOOD)])
        assert {a.topics[0].partitions[0].error_code for a in commits} == {0}
        long = client.call(commit_to("group-0", "m" * 4_097), 5)
        code = long.topics[0].partitions[0].error_code
        assert code == ErrorCode.OFFSET_METADATA_TOO_LARGE

        ids = pipelined(client, 5, [join_as_new("crowd") for _ in range(FLOOD)])
        assert {a.error_code for a in ids} <= {
            ErrorCode.MEMBER_ID_REQUIRED,
            ErrorCode.GROUP_MAX_SIZE_REACHED,
        }
        pids = pipelined(
            client, 4, [InitProducerIdRequest(transactional_id=None) for _ in range(FLOOD)]
        )
        assert len({a.producer_id for a in pids}) == FLOOD
        grown = broker.rss_bytes() - before
    print(f"\n{FLOOD} groups, member ids and producers: {grown / (1 << 20):+.1f} MiB")
    assert grown < FLOOD_BYTES_MAX
