"""SaslAuthenticate: one step of a SASL exchange. KIP-152, KIP-368."""

from fastmq.protocol._message import Message, int16, int64, raw, string
from fastmq.protocol.api import ApiKey

__all__ = ["SaslAuthenticateRequest", "SaslAuthenticateResponse"]


class SaslAuthenticateRequest(Message, api=ApiKey.SASL_AUTHENTICATE):
    """The client's token."""

    auth_bytes: bytes = raw("0+")


class SaslAuthenticateResponse(Message, api=ApiKey.SASL_AUTHENTICATE):
    """The broker's token; a lifetime of 0 means that the session does not end."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    auth_bytes: bytes = raw("0+")
    session_lifetime_ms: int = int64("1+", ignorable=True)
