"""DeleteTopics: by name, or since version 6 by name or id. KIP-516."""

from fastmq.protocol._message import Message, array, int16, int32, string, uuid
from fastmq.protocol.api import ApiKey

__all__ = ["DeleteTopicState", "DeleteTopicsRequest", "DeleteTopicsResponse", "DeletedTopic"]


class DeleteTopicState(Message):
    """A topic to delete, by name or by id."""

    name: str | None = string("6+", nullable="6+", default=None)
    topic_id: bytes = uuid("6+")


class DeleteTopicsRequest(Message, api=ApiKey.DELETE_TOPICS):
    """Deletes topics."""

    topics: list[DeleteTopicState] = array(DeleteTopicState, "6+")
    topic_names: list[str] = array(string, "0-5", ignorable=True)
    timeout_ms: int = int32("0+")


class DeletedTopic(Message):
    """The result for one topic."""

    name: str | None = string("0+", nullable="6+")
    topic_id: bytes = uuid("6+", ignorable=True)
    error_code: int = int16("0+")
    error_message: str | None = string("5+", nullable="5+", default=None, ignorable=True)


class DeleteTopicsResponse(Message, api=ApiKey.DELETE_TOPICS):
    """Results per topic."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    responses: list[DeletedTopic] = array(DeletedTopic, "0+")
