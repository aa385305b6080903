"""Who is at the other end of a connection. Pure: nonces are handed in."""

from fastmq.auth.peer import PEER_MECHANISM, PeerClient, PeerIdentity, PeerServer

__all__ = ["PEER_MECHANISM", "PeerClient", "PeerIdentity", "PeerServer"]
