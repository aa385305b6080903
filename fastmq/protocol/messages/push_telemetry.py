"""PushTelemetry: a client's metrics. KIP-714."""

from fastmq.protocol._message import Message, boolean, int8, int16, int32, raw, uuid
from fastmq.protocol.api import ApiKey

__all__ = ["PushTelemetryRequest", "PushTelemetryResponse"]


class PushTelemetryRequest(Message, api=ApiKey.PUSH_TELEMETRY):
    """Metrics as OTLP, compressed."""

    client_instance_id: bytes = uuid("0+")
    subscription_id: int = int32("0+")
    terminating: bool = boolean("0+")
    compression_type: int = int8("0+")
    metrics: bytes = raw("0+")


class PushTelemetryResponse(Message, api=ApiKey.PUSH_TELEMETRY):
    """Nothing but an error."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
