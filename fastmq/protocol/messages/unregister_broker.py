"""UnregisterBroker: remove a broker that does not come back. KIP-631."""

from fastmq.protocol._message import Message, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["UnregisterBrokerRequest", "UnregisterBrokerResponse"]


class UnregisterBrokerRequest(Message, api=ApiKey.UNREGISTER_BROKER):
    """Names the broker."""

    broker_id: int = int32("0+")


class UnregisterBrokerResponse(Message, api=ApiKey.UNREGISTER_BROKER):
    """Says whether it is removed."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
