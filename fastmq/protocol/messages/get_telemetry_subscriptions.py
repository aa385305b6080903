"""GetTelemetrySubscriptions: which metrics a client shall push. KIP-714."""

from fastmq.protocol._message import Message, array, boolean, int8, int16, int32, string, uuid
from fastmq.protocol.api import ApiKey

__all__ = ["GetTelemetrySubscriptionsRequest", "GetTelemetrySubscriptionsResponse"]


class GetTelemetrySubscriptionsRequest(Message, api=ApiKey.GET_TELEMETRY_SUBSCRIPTIONS):
    """Asks; the id is zero the first time."""

    client_instance_id: bytes = uuid("0+")


class GetTelemetrySubscriptionsResponse(Message, api=ApiKey.GET_TELEMETRY_SUBSCRIPTIONS):
    """The subscription; names of metrics are prefixes."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    client_instance_id: bytes = uuid("0+")
    subscription_id: int = int32("0+")
    accepted_compression_types: list[int] = array(int8, "0+")
    push_interval_ms: int = int32("0+")
    telemetry_max_bytes: int = int32("0+")
    delta_temporality: bool = boolean("0+")
    requested_metrics: list[str] = array(string, "0+")
