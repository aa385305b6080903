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
from support.messages import plausible
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


@pytest.mark.parametrize(("key", "version"), ALL)
def test_an_answer_comes_in_every_version(served: Any, key: int, version: int) -> None:
    broker, topic_id = served
    with RawClient(broker.bootstrap) as client:
        message = plausible(request_class(key), version, topic_id)
        answer = client.call(message, version)
        assert "error_code=-1" not in repr(answer), "an exception in the handler"
        # The connection is in order afterwards.
        assert client.call(MetadataRequest(topics=[]), 12).brokers


def test_every_route_is_advertised() -> None:
    assert {key for key, _, _ in advertised(ROUTES)} == set(ROUTES)
