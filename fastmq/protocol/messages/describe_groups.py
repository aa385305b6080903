"""DescribeGroups: state and members of classic groups. KIP-345, KIP-430, KIP-1043."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, raw, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeGroupsRequest",
    "DescribeGroupsResponse",
    "DescribedGroup",
    "DescribedGroupMember",
]


class DescribeGroupsRequest(Message, api=ApiKey.DESCRIBE_GROUPS):
    """Asks for groups by name."""

    groups: list[str] = array(string, "0+")
    include_authorized_operations: bool = boolean("3+")


class DescribedGroupMember(Message):
    """A member, with its metadata and assignment as its assignor wrote them."""

    member_id: str = string("0+")
    group_instance_id: str | None = string("4+", nullable="4+", default=None, ignorable=True)
    client_id: str = string("0+")
    client_host: str = string("0+")
    member_metadata: bytes = raw("0+")
    member_assignment: bytes = raw("0+")


class DescribedGroup(Message):
    """A group; `protocol_data` is the name of the chosen assignor."""

    error_code: int = int16("0+")
    error_message: str | None = string("6+", nullable="6+", default=None)
    group_id: str = string("0+")
    group_state: str = string("0+")
    protocol_type: str = string("0+")
    protocol_data: str = string("0+")
    members: list[DescribedGroupMember] = array(DescribedGroupMember, "0+")
    authorized_operations: int = int32("3+", default=-(2**31))


class DescribeGroupsResponse(Message, api=ApiKey.DESCRIBE_GROUPS):
    """The groups."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    groups: list[DescribedGroup] = array(DescribedGroup, "0+")
