"""SaslHandshake: choose a SASL mechanism. KIP-12, KIP-43, KIP-152."""

from fastmq.protocol._message import Message, array, int16, string
from fastmq.protocol.api import ApiKey

__all__ = ["SaslHandshakeRequest", "SaslHandshakeResponse"]


class SaslHandshakeRequest(Message, api=ApiKey.SASL_HANDSHAKE):
    """Chooses; after version 0 raw tokens follow, after version 1 SaslAuthenticate frames."""

    mechanism: str = string("0+")


class SaslHandshakeResponse(Message, api=ApiKey.SASL_HANDSHAKE):
    """The mechanisms that the broker has."""

    error_code: int = int16("0+")
    mechanisms: list[str] = array(string, "0+")
