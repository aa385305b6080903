"""A topic as an Arrow table."""

import re
import sys

import pytest
from confluent_kafka import Producer

import fastmq
from fastmq.errors import ConfigError, ErrorCode, KafkaError, RequestTimedOut

from support.broker import Broker

pyarrow = pytest.importorskip("pyarrow")

HOUR_MS = 3_600_000
BASE_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("tables") / "broker") as made:
        yield made


@pytest.fixture
def t(request):
    return "t-" + re.sub("[^a-z0-9]+", "-", request.node.name.lower())


def fill(broker: Broker, topic: str, count: int, *, partitions: int = 1, **options: object) -> None:
    """Records an hour apart in each partition."""
    with fastmq.Admin(broker.bootstrap) as admin:
        admin.create_topic(topic, partitions)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, **options})
    for n in range(count):
        producer.produce(
            topic,
            b"v%d" % n,
            key=None if n % 2 else b"k",
            partition=n % partitions,
            timestamp=BASE_MS + n // partitions * HOUR_MS,
            headers=[("h", b"%d" % n)] if n == 0 else None,
        )
    assert producer.flush(20) == 0


def test_all_that_there_is_with_all_its_columns(broker, t):
    fill(broker, t, 100, partitions=3, **{"compression.type": "zstd"})
    table = fastmq.read_topic(broker.bootstrap, t, timeout=30)
    assert table.schema.names == ["partition", "offset", "timestamp", "key", "value", "headers"]
    rows = table.to_pylist()
    assert sorted(row["value"] for row in rows) == sorted(b"v%d" % n for n in range(100))
    for index in range(3):
        offsets = [row["offset"] for row in rows if row["partition"] == index]
        assert offsets == list(range(len(offsets)))
    first = next(row for row in rows if row["value"] == b"v0")
    assert first["key"] == b"k"
    assert first["headers"] == [{"key": "h", "value": b"0"}]
    assert first["timestamp"].timestamp() * 1000 == BASE_MS
    assert next(row for row in rows if row["value"] == b"v1")["key"] is None


def test_a_part_by_time_partition_and_count_as_text(broker, t):
    fill(broker, t, 40, partitions=2)
    table = fastmq.read_topic(
        broker.bootstrap,
        t,
        partitions=[1],
        since_ms=BASE_MS + 3 * HOUR_MS - 1,
        until_ms=BASE_MS + 5 * HOUR_MS,
        text=True,
        timeout=30,
    )
    assert table.column("value").to_pylist() == ["v7", "v9"]
    assert fastmq.read_topic(broker.bootstrap, t, max_records=7, timeout=30).num_rows == 7
    later = fastmq.read_topic(broker.bootstrap, t, since_ms=BASE_MS + 900 * HOUR_MS, timeout=30)
    assert later.num_rows == 0
    assert later.schema == fastmq.read_topic(broker.bootstrap, t, max_records=1).schema


def test_deleted_and_empty_parts_are_not_waited_for(broker, t):
    fill(broker, t, 10, partitions=3)
    with fastmq.Admin(broker.bootstrap) as admin:
        admin.delete_records({(t, 0): 4, (t, 1): 1})
        admin.create_topic(t + "-empty", 2)
    table = fastmq.read_topic(broker.bootstrap, t, text=True, timeout=30)
    assert sorted(table.column("value").to_pylist()) == ["v2", "v4", "v5", "v7", "v8"]
    assert fastmq.read_topic(broker.bootstrap, t + "-empty", timeout=30).num_rows == 0


def test_what_cannot_work_says_why(broker, t, monkeypatch):
    fill(broker, t, 3)
    with pytest.raises(KafkaError) as told:
        fastmq.read_topic(broker.bootstrap, t + "-none", timeout=30)
    assert told.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    with pytest.raises(ConfigError, match="no partitions \\[3\\]"):
        fastmq.read_topic(broker.bootstrap, t, partitions=[0, 3])
    with pytest.raises(ConfigError, match="without a group"):
        fastmq.read_topic(broker.bootstrap, t, group_id="g")
    with pytest.raises(RequestTimedOut):
        fastmq.read_topic(broker.bootstrap, t, timeout=-1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        fastmq.read_topic(broker.bootstrap, t)
