"""The metrics page of a real broker."""

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch

from support.raw import RawClient


@pytest.fixture
def page(make_broker):
    broker = make_broker(overrides={"fastmq.metrics.listener": "127.0.0.1:0"})
    address = json.loads(broker.ready_path.read_text())["metrics"]

    def get(path="/metrics"):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.read().decode()

    return broker, get


def wait_for_the_offsets_topic(broker):
    with RawClient(broker.bootstrap) as client:
        assert client.call(FindCoordinatorRequest(key="g", key_type=0), 2).error_code == 0


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_page_counts_requests_bytes_logs_and_groups(page):
    broker, get = page
    wait_for_the_offsets_topic(broker)
    with RawClient(broker.bootstrap) as client:
        client.call(MetadataRequest(topics=[MetadataRequestTopic(name="counted")]), 9)
        batch = build_batch([NewRecord(None, b"v", timestamp=1)])
        topic = ProduceTopic(
            name="counted", partition_data=[ProducePartition(index=0, records=batch)]
        )
        client.call(ProduceRequest(acks=1, timeout_ms=1000, topic_data=[topic]), 9)
    found = samples(get())
    assert found["kafka_network_requestmetrics_requests_total", ("request", "Metadata")] == 1
    assert found["kafka_server_brokertopicmetrics_messagesin_total",] == 1
    place = (("partition", "0"), ("topic", "counted"))
    assert found["kafka_log_log_logendoffset", *place] == 1
    produced = (("request", "Produce"),)
    assert found["fastmq_engine_request_seconds_count", *produced] == 1
    assert 0 < found["fastmq_engine_request_seconds_sum", *produced] < 10
    assert found["kafka_log_log_size", *place] == len(batch)
    # Ours and those of the offsets topic.
    assert found["kafka_server_replicamanager_partitioncount",] == 51


def test_other_pages_and_methods_are_refused(page):
    _, get = page
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/etc/passwd")


def test_labels_do_not_grow_with_client_ids(page):
    broker, get = page
    wait_for_the_offsets_topic(broker)
    before = len(get().splitlines())
    with RawClient(broker.bootstrap) as client:
        for number in range(200):
            client.call(MetadataRequest(topics=[]), 9, client_id=f"client-{number}")
    assert len(get().splitlines()) == before
