"""The secret by which the brokers of a cluster know each other: drawn once, kept in the store."""

from typing import Final

from fastmq.ids import RandomBytes
from fastmq.metastore.interface import Compare, Conflict, Metastore, Put
from fastmq.metastore.keys import decode_json, encode_json

__all__ = ["ensure_peer_secret"]

PEER_SECRET_KEY: Final = "peer-secret"  # noqa: S105 - the name of the row
_SIZE: Final = 32


async def ensure_peer_secret(store: Metastore, random_bytes: RandomBytes) -> bytes:
    """Return the secret (32 bytes), drawing it when the store has none.

    Raises:
        MetastoreUnavailableError: the store did not answer.
    """
    while True:
        snapshot = await store.read(PEER_SECRET_KEY)
        for item in snapshot.items:
            if item.key == PEER_SECRET_KEY:
                return bytes.fromhex(decode_json(item.key, item.value)["secret"])
        drawn = random_bytes(_SIZE)
        result = await store.txn(
            [Compare(PEER_SECRET_KEY, 0)],
            [Put(PEER_SECRET_KEY, encode_json({"secret": drawn.hex()}))],
        )
        # A conflict means that another broker was first: read what it has drawn.
        if not isinstance(result, Conflict):
            return drawn
