"""JoinGroup: enter a classic group. KIP-62, KIP-345, KIP-394, KIP-559, KIP-800, KIP-814."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, raw, string
from fastmq.protocol.api import ApiKey

__all__ = ["JoinGroupMember", "JoinGroupProtocol", "JoinGroupRequest", "JoinGroupResponse"]


class JoinGroupProtocol(Message):
    """A protocol (assignor) that the member can work with, and what it tells the leader."""

    name: str = string("0+")
    metadata: bytes = raw("0+")


class JoinGroupRequest(Message, api=ApiKey.JOIN_GROUP):
    """Joins; `member_id` is empty the first time."""

    group_id: str = string("0+")
    session_timeout_ms: int = int32("0+")
    rebalance_timeout_ms: int = int32("1+", default=-1, ignorable=True)
    member_id: str = string("0+")
    group_instance_id: str | None = string("5+", nullable="5+", default=None)
    protocol_type: str = string("0+")
    protocols: list[JoinGroupProtocol] = array(JoinGroupProtocol, "0+")
    reason: str | None = string("8+", nullable="8+", default=None, ignorable=True)


class JoinGroupMember(Message):
    """A member as the leader sees it."""

    member_id: str = string("0+")
    group_instance_id: str | None = string("5+", nullable="5+", default=None, ignorable=True)
    metadata: bytes = raw("0+")


class JoinGroupResponse(Message, api=ApiKey.JOIN_GROUP):
    """The generation joined; `members` is filled for the leader only."""

    throttle_time_ms: int = int32("2+", ignorable=True)
    error_code: int = int16("0+")
    generation_id: int = int32("0+", default=-1)
    protocol_type: str | None = string("7+", nullable="7+", default=None, ignorable=True)
    protocol_name: str | None = string("0+", nullable="7+")
    leader: str = string("0+")
    skip_assignment: bool = boolean("9+")
    member_id: str = string("0+")
    members: list[JoinGroupMember] = array(JoinGroupMember, "0+")
