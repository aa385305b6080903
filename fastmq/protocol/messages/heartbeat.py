"""Heartbeat: stay alive in a classic group. KIP-345."""

from fastmq.protocol._message import Message, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["HeartbeatRequest", "HeartbeatResponse"]


class HeartbeatRequest(Message, api=ApiKey.HEARTBEAT):
    """Says that a member is alive in a generation."""

    group_id: str = string("0+")
    generation_id: int = int32("0+")
    member_id: str = string("0+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None)


class HeartbeatResponse(Message, api=ApiKey.HEARTBEAT):
    """Nothing but an error, of which REBALANCE_IN_PROGRESS is the usual one."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("0+")
