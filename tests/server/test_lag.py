"""Lag over HTTP and on the metrics page, read as the scalers do that the guide names."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

import fastmq
from fastmq.cli import main
from fastmq.testing import Broker


@pytest.fixture(scope="module")
def broker():
    config = {"fastmq.metrics.listener": "127.0.0.1:0", "fastmq.lag.interval.ms": 20}
    with Broker(in_process=True, config=config) as made:
        yield made


def get(broker, path):
    with urllib.request.urlopen(broker.metrics_url + path, timeout=10) as answer:
        return answer.read().decode()


def wait_for(broker, path, condition, timeout_s=20.0):
    """Poll a page until its JSON is as expected; the last one is shown when it never is."""
    deadline, seen = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        try:
            seen = json.loads(get(broker, path))
        except urllib.error.HTTPError as error:
            seen = error.code
        else:
            if condition(seen):
                return seen
        time.sleep(0.01)
    raise AssertionError(seen)


def gjson(document, path):
    """Evaluate a path as KEDA's metrics-api does: names, indexes, `#(key=="value")`, `\\.`."""
    value = document
    for step in re.findall(r"#\([^)]*\)|(?:\\.|[^.\\])+", path):
        query = re.fullmatch(r'#\((\w+)=="([^"]*)"\)', step)
        if query:
            value = next(row for row in value if row[query[1]] == query[2])
        elif isinstance(value, list):
            value = value[int(step)]
        else:
            value = value[step.replace("\\.", ".")]
    assert isinstance(value, int | float), "KEDA wants a number"
    return value


def commit(broker, group, topic, offsets):
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": str(group)})
    rows = [TopicPartition(str(topic), index, at) for index, at in offsets.items()]
    consumer.commit(offsets=rows, asynchronous=False)
    consumer.close()


@pytest.fixture
def group(broker):
    """A group that is 7 records behind in one of two partitions of `orders.v1`."""
    topic = broker.topic("orders.v1")
    if not topic.partition_count():
        broker.create_topic("orders.v1", partitions=2)
        topic.produce_many([(None, b"x")] * 10)
        topic.produce_many([(None, b"x")] * 5, partition=1)
    group = broker.group()
    commit(broker, group, topic, {0: 3, 1: 5})
    return group


def test_the_lag_of_a_group_is_told(broker, group):
    seen = wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag"] == 7)
    assert seen["state"] == "Empty"
    assert seen["members"] == 0
    assert seen["lagging_partitions"] == 1
    assert seen["wanted_consumers"] == 1
    assert seen["eta_seconds"] is None
    (topic,) = seen["topics"]
    assert topic["partition_count"] == 2
    first, second = topic["partitions"]
    assert (first["committed_offset"], first["end_offset"], first["lag"]) == (3, 10, 7)
    assert (second["committed_offset"], second["end_offset"], second["lag"]) == (5, 5, 0)
    assert json.loads(get(broker, f"/groups/{group}"))["group"] == str(group)
    (row,) = [g for g in json.loads(get(broker, "/groups"))["groups"] if g["group"] == str(group)]
    assert row["lag"] == 7
    assert "topics" not in row


def test_lag_in_seconds_comes_from_the_record_where_history_is_too_short(broker):
    topic = broker.create_topic()
    topic.produce("x", timestamp_ms=int(time.time() * 1000) - 3_600_000)
    group = broker.group()
    commit(broker, group, topic, {0: 0})
    seen = wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag_seconds"] > 0)
    assert 3600 <= seen["lag_seconds"] < 3700


def test_partitions_without_a_commit_count_whole(broker, group):
    other = broker.group()
    commit(broker, other, "orders.v1", {0: 10})
    seen = wait_for(broker, f"/groups/{other}/lag", lambda seen: seen["lag"] == 5)
    assert seen["topics"][0]["partitions"][1]["committed_offset"] is None


def test_a_group_that_catches_up_is_done(broker, group):
    wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag"] == 7)
    commit(broker, group, "orders.v1", {0: 10, 1: 5})
    seen = wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag"] == 0)
    assert seen["eta_seconds"] == seen["lag_seconds"] == 0
    assert seen["lagging_partitions"] == 0


def test_the_command_line_shows_the_estimates(broker, group):
    wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag"] == 7)

    def describe(name, *args, code=0):
        command = ["group", "describe", name, "-b", broker.bootstrap_servers, *args]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == code, result.output
        return result

    url = broker.metrics_url
    (shown,) = json.loads(describe(str(group), "--url", url, "--json").stdout)
    estimate = shown["estimate"]
    assert estimate["lag"] == shown["lag"] > 0
    assert estimate["wanted_consumers"] >= 1
    told = describe(str(group), "--url", url).stdout
    assert "wanted consumers" in told
    assert "caught up in" in told
    assert "no such group" in describe("nobody", "--url", url, code=1).stderr
    assert "metrics.listener" in describe("x", "--url", "http://127.0.0.1:1", code=3).stderr
    describe("x", "--url", "https://127.0.0.1:1", code=2)


def test_keda_finds_its_values(broker, group):
    seen = wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag"] == 7)
    assert gjson(seen, "lag") == 7
    assert gjson(seen, "wanted_consumers") == 1
    assert gjson(seen, 'topics.#(topic=="orders.v1").lag') == 7
    assert gjson(seen, "topics.0.partitions.0.lag") == 7
    everything = json.loads(get(broker, "/groups"))
    assert gjson(everything, f'groups.#(group=="{group}").lag') == 7


def test_prometheus_finds_its_gauges(broker, group):
    wait_for(broker, f"/groups/{group}/lag", lambda seen: seen["lag"] == 7)
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(get(broker, "/metrics"))
        for sample in family.samples
        if sample.labels == {"group": str(group)}
    }
    assert found["fastmq_group_lag_sum"] == 7
    assert found["fastmq_group_wanted_consumers"] == 1
    assert found["fastmq_group_lagging_partitions"] == 1
    assert found["fastmq_group_lag_seconds"] >= 0
    assert {"fastmq_group_consume_rate", "fastmq_group_produce_rate"} <= found.keys()
    # Without an end in sight there is no number.
    assert "fastmq_group_eta_seconds" not in found


def test_what_the_guide_names_is_there(broker):
    """Paths and series of docs/LAG.md, with a group and a topic as it names them."""
    guide = (Path(fastmq.__file__).parent.parent / "docs" / "LAG.md").read_text()
    topic = broker.create_topic("mails")
    topic.produce_many([(None, b"x")] * 3)
    commit(broker, "mailer", topic, {0: 1})
    seen = wait_for(broker, "/groups/mailer/lag", lambda seen: seen["lag"] == 2)
    paths = re.findall(r"valueLocation: ([a-z_]+)", guide) + re.findall(
        r"`(topics\.#[^`]+)`", guide
    )
    assert paths == ["wanted_consumers", "lag", 'topics.#(topic=="mails").lag']
    assert [gjson(seen, path) for path in paths] == [1, 2, 2]
    (example,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    assert shape(json.loads(example)) == shape(seen)
    # One that is caught up has all the series.
    commit(broker, "mailer", topic, {0: 3})
    wait_for(broker, "/groups/mailer/lag", lambda seen: seen["lag"] == 0)
    series = set(re.findall(r"^(\w+)\{group=\"mailer\"\}", get(broker, "/metrics"), re.MULTILINE))
    assert series == set(re.findall(r"fastmq_group_[a-z_]+", guide))


def shape(value):
    """The names in a document."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value[:1]] if isinstance(value, list) else None


@pytest.mark.parametrize("path", ["/groups/unknown/lag", "/groups/", "/groupsx", "/groups/a/b"])
def test_what_is_not_there_is_not_found(broker, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(broker, path)


def test_a_group_with_an_odd_name_is_found(broker, group):
    odd = broker.group("a/b c%ü")
    commit(broker, odd, "orders.v1", {0: 9, 1: 5})
    path = "/groups/a%2Fb%20c%25%C3%BC/lag"
    assert wait_for(broker, path, lambda seen: seen["lag"] == 1)["group"] == "a/b c%ü"
