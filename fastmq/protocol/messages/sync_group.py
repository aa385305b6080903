"""SyncGroup: exchange assignments in a classic group. KIP-345, KIP-559."""

from fastmq.protocol._message import Message, array, int16, int32, raw, string
from fastmq.protocol.api import ApiKey

__all__ = ["SyncGroupAssignment", "SyncGroupRequest", "SyncGroupResponse"]


class SyncGroupAssignment(Message):
    """What the leader gives to one member."""

    member_id: str = string("0+")
    assignment: bytes = raw("0+")


class SyncGroupRequest(Message, api=ApiKey.SYNC_GROUP):
    """Asks for the member's assignment; the leader's request carries everybody's."""

    group_id: str = string("0+")
    generation_id: int = int32("0+")
    member_id: str = string("0+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None)
    protocol_type: str | None = string("5+", nullable="5+", default=None, ignorable=True)
    protocol_name: str | None = string("5+", nullable="5+", default=None, ignorable=True)
    assignments: list[SyncGroupAssignment] = array(SyncGroupAssignment, "0+")


class SyncGroupResponse(Message, api=ApiKey.SYNC_GROUP):
    """The member's assignment."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("0+")
    protocol_type: str | None = string("5+", nullable="5+", default=None, ignorable=True)
    protocol_name: str | None = string("5+", nullable="5+", default=None, ignorable=True)
    assignment: bytes = raw("0+")
