"""SaslHandshake and SaslAuthenticate between brokers: who may fetch as a replica.

Clients cannot log in yet; a mechanism of theirs is refused. Source: KIP-43, KIP-152.
"""

import logging
import os

from fastmq.auth import PEER_MECHANISM, PeerServer
from fastmq.auth.peer import NONCE_SIZE
from fastmq.errors import AuthenticationError, ErrorCode
from fastmq.protocol.messages.sasl_authenticate import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)
from fastmq.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request

__all__ = ["handle_sasl_authenticate", "handle_sasl_handshake"]

logger = logging.getLogger(__name__)


def handle_sasl_handshake(
    context: BrokerContext, request: Request, message: SaslHandshakeRequest
) -> SaslHandshakeResponse:
    """Begin the brokers' exchange; a broker that stands alone has none."""
    known = [PEER_MECHANISM] if context.peer_secret is not None else []
    if context.peer_secret is None or message.mechanism != PEER_MECHANISM or request.version < 1:
        return SaslHandshakeResponse(
            error_code=ErrorCode.UNSUPPORTED_SASL_MECHANISM, mechanisms=known
        )
    request.connection.peer_exchange = PeerServer(context.peer_secret, os.urandom(NONCE_SIZE))
    return SaslHandshakeResponse(error_code=ErrorCode.NONE, mechanisms=known)


def handle_sasl_authenticate(
    context: BrokerContext, request: Request, message: SaslAuthenticateRequest
) -> SaslAuthenticateResponse:
    """One step of the exchange; the last one lets the connection fetch as a replica."""
    connection = request.connection
    exchange = connection.peer_exchange
    if exchange is None:
        return SaslAuthenticateResponse(
            error_code=ErrorCode.ILLEGAL_SASL_STATE, error_message="SaslHandshake comes first"
        )
    try:
        token = exchange.respond(message.auth_bytes)
    except AuthenticationError as exc:
        connection.peer_exchange = None
        logger.warning("refused a broker at %s: %s", connection.host, exc.message)
        return SaslAuthenticateResponse(error_code=exc.code, error_message=exc.message)
    if exchange.identity is not None:
        connection.peer_exchange = None
        connection.peer = exchange.identity
        context.engine.set_peer(connection.conn_id)
    return SaslAuthenticateResponse(error_code=ErrorCode.NONE, auth_bytes=token)
