"""OffsetFetch: read the positions of groups. KIP-447, KIP-709 (several groups), KIP-848."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, int64, string, uuid
from fastmq.protocol.api import ApiKey

__all__ = [
    "OffsetFetchGroup",
    "OffsetFetchGroupPartitionResponse",
    "OffsetFetchGroupResponse",
    "OffsetFetchGroupTopic",
    "OffsetFetchGroupTopicResponse",
    "OffsetFetchPartitionResponse",
    "OffsetFetchRequest",
    "OffsetFetchResponse",
    "OffsetFetchTopic",
    "OffsetFetchTopicResponse",
]


class OffsetFetchTopic(Message):
    """Partitions of one topic, in the form for one group."""

    name: str = string("0-7")
    partition_indexes: list[int] = array(int32, "0-7")


class OffsetFetchGroupTopic(Message):
    """A topic, by name before version 10 and by id since."""

    name: str = string("8-9", ignorable=True)
    topic_id: bytes = uuid("10+", ignorable=True)
    partition_indexes: list[int] = array(int32, "8+")


class OffsetFetchGroup(Message):
    """A group; topics null means all of its topics."""

    group_id: str = string("8+")
    member_id: str | None = string("9+", nullable="9+", default=None, ignorable=True)
    member_epoch: int = int32("9+", default=-1, ignorable=True)
    topics: list[OffsetFetchGroupTopic] | None = array(OffsetFetchGroupTopic, "8+", nullable="8+")


class OffsetFetchRequest(Message, api=ApiKey.OFFSET_FETCH):
    """Asks for one group before version 8, for several since."""

    group_id: str = string("0-7")
    topics: list[OffsetFetchTopic] | None = array(OffsetFetchTopic, "0-7", nullable="2-7")
    groups: list[OffsetFetchGroup] = array(OffsetFetchGroup, "8+")
    require_stable: bool = boolean("7+")


class OffsetFetchPartitionResponse(Message):
    """The committed offset, or -1, in the form for one group."""

    partition_index: int = int32("0-7")
    committed_offset: int = int64("0-7")
    committed_leader_epoch: int = int32("5-7", default=-1, ignorable=True)
    metadata: str | None = string("0-7", nullable="0-7")
    error_code: int = int16("0-7")


class OffsetFetchTopicResponse(Message):
    """The offsets for one topic, in the form for one group."""

    name: str = string("0-7")
    partitions: list[OffsetFetchPartitionResponse] = array(OffsetFetchPartitionResponse, "0-7")


class OffsetFetchGroupPartitionResponse(Message):
    """The committed offset, or -1."""

    partition_index: int = int32("8+")
    committed_offset: int = int64("8+")
    committed_leader_epoch: int = int32("8+", default=-1, ignorable=True)
    metadata: str | None = string("8+", nullable="8+")
    error_code: int = int16("8+")


class OffsetFetchGroupTopicResponse(Message):
    """The offsets for one topic."""

    name: str = string("8-9", ignorable=True)
    topic_id: bytes = uuid("10+", ignorable=True)
    partitions: list[OffsetFetchGroupPartitionResponse] = array(
        OffsetFetchGroupPartitionResponse, "8+"
    )


class OffsetFetchGroupResponse(Message):
    """The offsets of one group."""

    group_id: str = string("8+")
    topics: list[OffsetFetchGroupTopicResponse] = array(OffsetFetchGroupTopicResponse, "8+")
    error_code: int = int16("8+")


class OffsetFetchResponse(Message, api=ApiKey.OFFSET_FETCH):
    """Offsets; version 1 has no error at the top, so it goes into each partition."""

    throttle_time_ms: int = int32("3+", ignorable=True)
    topics: list[OffsetFetchTopicResponse] = array(OffsetFetchTopicResponse, "0-7")
    error_code: int = int16("2-7", ignorable=True)
    groups: list[OffsetFetchGroupResponse] = array(OffsetFetchGroupResponse, "8+")
