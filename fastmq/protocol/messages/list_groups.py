"""ListGroups: the groups that this broker coordinates. KIP-518, KIP-848."""

from fastmq.protocol._message import Message, array, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["ListGroupsRequest", "ListGroupsResponse", "ListedGroup"]


class ListGroupsRequest(Message, api=ApiKey.LIST_GROUPS):
    """Asks for groups in some states and of some types; an empty list means any."""

    states_filter: list[str] = array(string, "4+")
    types_filter: list[str] = array(string, "5+")


class ListedGroup(Message):
    """One group."""

    group_id: str = string("0+")
    protocol_type: str = string("0+")
    group_state: str = string("4+", ignorable=True)
    group_type: str = string("5+", ignorable=True)


class ListGroupsResponse(Message, api=ApiKey.LIST_GROUPS):
    """The groups."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("0+")
    groups: list[ListedGroup] = array(ListedGroup, "0+")
