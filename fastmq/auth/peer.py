"""How brokers of one cluster know each other: both prove that they have its secret.

A SASL mechanism of our own, spoken with SaslHandshake and SaslAuthenticate. The secret stays where
it is; each side signs both nonces, so neither can be made to sign for somebody else, and what was
listened to once does not work again:

    broker that connects                     broker that listens
    (nothing)                            ->
                                         <-  server nonce
    identity, client nonce, signature    ->
                                         <-  signature

It proves who opened the connection, not who speaks on it later: use TLS where others can write
to the network.
"""

import hmac
import struct
from typing import Final, NamedTuple

from fastmq.errors import AuthenticationError

__all__ = ["PEER_MECHANISM", "PeerClient", "PeerIdentity", "PeerServer"]

PEER_MECHANISM: Final = "FASTMQ-PEER"

NONCE_SIZE: Final = 32
_SIGNATURE_SIZE: Final = 32
_IDENTITY: Final = struct.Struct(">iq")


class PeerIdentity(NamedTuple):
    """A broker in one of its lives."""

    broker_id: int
    broker_epoch: int


def _sign(secret: bytes, *parts: bytes) -> bytes:
    return hmac.digest(secret, b"\0".join(parts), "sha256")


class PeerServer:
    """The side that listens.

    Args:
        secret: of the cluster.
        nonce: 32 bytes that were never used before.
    """

    def __init__(self, secret: bytes, nonce: bytes) -> None:
        assert len(nonce) == NONCE_SIZE
        self._secret = secret
        self._nonce = nonce
        self._asked = False
        self.identity: PeerIdentity | None = None

    def respond(self, token: bytes) -> bytes:
        """Return the answer to a token; `identity` is set once the peer has proved itself.

        Raises:
            AuthenticationError: it has not; the connection is to be closed.
        """
        if not self._asked:
            self._asked = True
            return self._nonce
        if self.identity is not None or len(token) != (
            _IDENTITY.size + NONCE_SIZE + _SIGNATURE_SIZE
        ):
            raise AuthenticationError("the peer does not speak the brokers' mechanism")
        identity, rest = token[: _IDENTITY.size], token[_IDENTITY.size :]
        nonce, signature = rest[:NONCE_SIZE], rest[NONCE_SIZE:]
        expected = _sign(self._secret, b"connects", identity, self._nonce, nonce)
        if not hmac.compare_digest(signature, expected):
            raise AuthenticationError("the peer does not have this cluster's secret")
        self.identity = PeerIdentity(*_IDENTITY.unpack(identity))
        return _sign(self._secret, b"listens", identity, nonce, self._nonce)


class PeerClient:
    """The side that connects.

    Args:
        secret: of the cluster.
        identity: who we are.
        nonce: 32 bytes that were never used before.
    """

    def __init__(self, secret: bytes, identity: PeerIdentity, nonce: bytes) -> None:
        assert len(nonce) == NONCE_SIZE
        self._secret = secret
        self._identity = _IDENTITY.pack(*identity)
        self._nonce = nonce
        self._server_nonce = b""

    def prove(self, server_nonce: bytes) -> bytes:
        """Return the token that answers the listener's nonce.

        Raises:
            AuthenticationError: it is no nonce.
        """
        if len(server_nonce) != NONCE_SIZE:
            raise AuthenticationError("the other broker does not speak the brokers' mechanism")
        self._server_nonce = server_nonce
        signature = _sign(self._secret, b"connects", self._identity, server_nonce, self._nonce)
        return self._identity + self._nonce + signature

    def check(self, signature: bytes) -> None:
        """Check that the listener has the secret, too.

        Raises:
            AuthenticationError: it has not.
        """
        expected = _sign(self._secret, b"listens", self._identity, self._nonce, self._server_nonce)
        if not hmac.compare_digest(signature, expected):
            raise AuthenticationError("the other broker does not have this cluster's secret")
