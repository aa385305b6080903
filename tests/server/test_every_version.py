"""Every advertised API in every version, against a broker: one sensible request each.

The requests are what a client would send; the answers must decode, and none may be the product of
an exception. It finds fields that are set in a version that lacks them.
"""

from typing import Any

import pytest

from fastmq.protocol import advertised, request_class
from fastmq.protocol.api import APIS, ApiKey
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.server.handlers import ROUTES

from support.broker import Broker
from support.messages import present
from support.raw import RawClient

# Versions that the broker refuses although ApiVersions shows them (KAFKA-18659).
PRODUCE_MIN = 3
ALL = [
    (key, version)
    for key in sorted(ROUTES)
    for version in range(
        max(APIS[key].min_version, PRODUCE_MIN if key == ApiKey.PRODUCE else 0),
        APIS[key].max_version + 1,
    )
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        with RawClient(broker.bootstrap) as client:
            topic_id = create_topic(client)
        yield broker, topic_id


def create_topic(client: RawClient) -> bytes:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name="events")], allow_auto_topic_creation=True
    )
    for _ in range(100):
        (topic,) = client.call(request, 12).topics
        if topic.error_code == 0:
            return topic.topic_id
    raise AssertionError("the topic never appeared")


def fill(cls: Any, version: int, topic_id: bytes) -> Any:
    """An instance with one element in every array and plausible values, by field name."""
    known = {
        "topic": "events",
        "topic_id": topic_id,
        "topic_ids": [topic_id],
        "group_id": f"group-{cls.__name__}-{version}",  # no member of another case to wait for
        "group": "group",
        "groups_names": ["group"],
        "key": "group",
        "coordinator_keys": ["group"],
        "protocol_type": "consumer",
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "timeout_ms": 5_000,
        "max_bytes": 1 << 20,
        "partition_max_bytes": 1 << 20,
        "resource_type": 2,
        "resource_name": "events",
        "response_partition_limit": 10,
        "topic_names": ["unknown-topic"],
        "groups": ["group"],
        "offset": -1,
        "timestamp": -1,
        "validate_only": True,
        "count": 2,
        "transactional_id": None,
        "producer_id": -1,
        "producer_epoch": -1,
        "acks": 1,
        "replica_id": -1,
        "replica_state": None,
        "records": None,
        "generation_id_or_member_epoch": -1,
        "generation_id": -1,
        "member_id": "",
        "member_epoch": -1,
        "group_instance_id": None,
        "client_software_name": "sweep",
        "client_software_version": "1",
        "cursor": None,
        "states_filter": [],
        "types_filter": [],
        "configuration_keys": None,
        "configuration_key_names": None,
        "assignments": [],
        "num_partitions": 1,
        "replication_factor": 1,
        "configs": [],
        "current_leader_epoch": -1,
        "leader_epoch": 0,
        "isolation_level": 1,
    }
    values: dict[str, Any] = {}
    for field in cls.__fields__:
        if not present(field, version) or field.tag is not None:
            continue
        if field.name in known and not (field.struct and known[field.name]):
            values[field.name] = known[field.name]
        elif field.name == "name":
            values["name"] = "events" if "Create" not in cls.__name__ else "another"
        elif field.struct is not None:
            values[field.name] = [fill(field.struct, version, topic_id)]
    return cls(**values)


@pytest.mark.parametrize(("key", "version"), ALL)
def test_an_answer_comes_in_every_version(served: Any, key: int, version: int) -> None:
    broker, topic_id = served
    with RawClient(broker.bootstrap) as client:
        message = fill(request_class(key), version, topic_id)
        answer = client.call(message, version)
        assert "error_code=-1" not in repr(answer), "an exception in the handler"
        # The connection is in order afterwards.
        assert client.call(MetadataRequest(topics=[]), 12).brokers


def test_every_route_is_advertised() -> None:
    assert {key for key, _, _ in advertised(ROUTES)} == set(ROUTES)
