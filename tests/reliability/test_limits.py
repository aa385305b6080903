"""What clients may create is bounded: topics, partitions, connections per second (S6, S13)."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic

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
