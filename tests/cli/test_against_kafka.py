"""The commands against Apache Kafka: what works with fastmq works there."""

import time

import pytest
from confluent_kafka import Producer

from support import apache_kafka

pytestmark = [pytest.mark.slow, pytest.mark.interop]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    if why := apache_kafka.missing():
        pytest.skip(why)
    with apache_kafka.ApacheKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


def test_commands(call, kafka, monkeypatch):
    """Topics, records, groups, settings, the cluster; an end behind markers of transactions."""
    monkeypatch.setenv("FASTMQ_BOOTSTRAP_SERVERS", kafka.bootstrap)
    call("topic", "create", "events", "-p", 2, "-r", 1, "-c", "retention.ms=600000")
    deadline = time.monotonic() + 20
    while "events" not in call("topic", "list", "--names").out:
        assert time.monotonic() < deadline
    call("produce", "events", "-K", ":", "-z", "zstd", stdin="a:1\nb:2\nc:3\n")

    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": "t", "log_level": 0}
    )
    producer.init_transactions(30)
    for end, value in ((producer.commit_transaction, "kept"), (producer.abort_transaction, "not")):
        producer.begin_transaction()
        producer.produce("events", value, partition=0)
        producer.flush(30)
        end(30)

    everything = call("consume", "events", "-e").out.split()
    assert sorted(everything) == ["1", "2", "3", "kept", "not"]
    committed = call("consume", "events", "-e", "--isolation", "read_committed").out.split()
    assert sorted(committed) == ["1", "2", "3", "kept"]
    assert sorted(call("consume", "events", "-e", "-g", "readers").out.split()) == sorted(
        everything
    )

    (described,) = call("topic", "describe", "events", "--json").json
    assert described["config"]["retention.ms"] == "600000"
    assert all(len(part["isr"]) == 1 for part in described["partitions"])
    assert "readers" in call("group", "list", "--names").out
    (group,) = call("group", "describe", "readers", "--json").json
    assert group["state"] == "Empty"
    call("group", "reset-offsets", "readers", "-t", "events", "--to-earliest", "--execute")
    (group,) = call("group", "describe", "readers", "--json").json
    assert group["lag"] >= 5
    call("config", "set", "topic", "events", "retention.ms=700000")
    assert call("cluster", "info", "--json").json["brokers"]
    assert call("cluster", "health", "--json").json["is_healthy"]
    assert call("cluster", "disks", "--json").json
    assert call("perf", "produce", "-n", 2000, "--json").json["failed"] == 0
    call("group", "delete", "readers")
    call("topic", "trim", "events", "--all")
    call("topic", "delete", "events")
