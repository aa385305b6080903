"""LeaveGroup: leave a classic group, several members at once since version 3. KIP-345, KIP-800."""

from fastmq.protocol._message import Message, array, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "LeaveGroupMember",
    "LeaveGroupMemberResponse",
    "LeaveGroupRequest",
    "LeaveGroupResponse",
]


class LeaveGroupMember(Message):
    """A member that leaves, by its id or its instance id."""

    member_id: str = string("3+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None)
    reason: str | None = string("5+", nullable="5+", default=None, ignorable=True)


class LeaveGroupRequest(Message, api=ApiKey.LEAVE_GROUP):
    """Leaves: one member in versions 0 to 2."""

    group_id: str = string("0+")
    member_id: str = string("0-2")
    members: list[LeaveGroupMember] = array(LeaveGroupMember, "3+")


class LeaveGroupMemberResponse(Message):
    """The result for one member."""

    member_id: str = string("3+")
    group_instance_id: str | None = string("3+", nullable="3+")
    error_code: int = int16("3+")


class LeaveGroupResponse(Message, api=ApiKey.LEAVE_GROUP):
    """The result, per member since version 3."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("0+")
    members: list[LeaveGroupMemberResponse] = array(LeaveGroupMemberResponse, "3+")
