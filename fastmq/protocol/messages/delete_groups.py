"""DeleteGroups: forget empty groups and their offsets. KIP-229."""

from fastmq.protocol._message import Message, array, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["DeleteGroupsRequest", "DeleteGroupsResponse", "DeletedGroup"]


class DeleteGroupsRequest(Message, api=ApiKey.DELETE_GROUPS):
    """Deletes groups."""

    groups_names: list[str] = array(string, "0+")


class DeletedGroup(Message):
    """The result for one group."""

    group_id: str = string("0+")
    error_code: int = int16("0+")


class DeleteGroupsResponse(Message, api=ApiKey.DELETE_GROUPS):
    """Results per group."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    results: list[DeletedGroup] = array(DeletedGroup, "0+")
