"""FindCoordinator: which broker coordinates a group or a transactional id. KIP-699."""

from fastmq.protocol._message import Message, array, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["FindCoordinatorRequest", "FindCoordinatorResponse", "FoundCoordinator"]


class FindCoordinatorRequest(Message, api=ApiKey.FIND_COORDINATOR):
    """Asks for coordinators; `key_type` is 0 for groups, 1 for transactions, 2 for share groups."""

    key: str = string("0-3")
    key_type: int = int8("1+")
    coordinator_keys: list[str] = array(string, "4+")


class FoundCoordinator(Message):
    """The coordinator of one key."""

    key: str = string("4+")
    node_id: int = int32("4+")
    host: str = string("4+")
    port: int = int32("4+")
    error_code: int = int16("4+")
    error_message: str | None = string("4+", nullable="4+", ignorable=True)


class FindCoordinatorResponse(Message, api=ApiKey.FIND_COORDINATOR):
    """One coordinator at the top before version 4, a list since."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("0-3")
    error_message: str | None = string("1-3", nullable="1-3", ignorable=True)
    node_id: int = int32("0-3")
    host: str = string("0-3")
    port: int = int32("0-3")
    coordinators: list[FoundCoordinator] = array(FoundCoordinator, "4+")
