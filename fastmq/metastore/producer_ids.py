"""Blocks of producer ids: one transaction hands out a thousand of them.

An id is never handed out twice, whatever fails: the counter moves before the block is used, and
what is left of a block when a broker stops is lost. Source: KIP-730.
"""

from typing import NamedTuple

from fastmq.ids import ProducerId
from fastmq.limits import PRODUCER_ID_BLOCK_SIZE, PRODUCER_ID_MAX
from fastmq.metastore.interface import Compare, Conflict, Metastore, MetastoreError, Put
from fastmq.metastore.keys import PRODUCER_IDS_KEY, decode_json, encode_json

__all__ = ["ProducerIdBlock", "allocate_producer_ids"]


class ProducerIdBlock(NamedTuple):
    """The ids from `first` up to, not including, `end`."""

    first: ProducerId
    end: ProducerId


async def allocate_producer_ids(
    store: Metastore, size: int = PRODUCER_ID_BLOCK_SIZE
) -> ProducerIdBlock:
    """Take a block of ids that nobody else has or gets.

    Raises:
        MetastoreError: the ids are used up.
        MetastoreUnavailableError: the store did not answer; a block may be lost.
    """
    while True:
        snapshot = await store.read(PRODUCER_IDS_KEY)
        found = [item for item in snapshot.items if item.key == PRODUCER_IDS_KEY]
        first = int(decode_json(PRODUCER_IDS_KEY, found[0].value)["next"]) if found else 0
        if first > PRODUCER_ID_MAX - size:
            raise MetastoreError("all producer ids are used up")
        result = await store.txn(
            [Compare(PRODUCER_IDS_KEY, found[0].revision if found else 0)],
            [Put(PRODUCER_IDS_KEY, encode_json({"next": first + size}))],
        )
        # A conflict means that another broker took the block: try the next one.
        if not isinstance(result, Conflict):
            return ProducerIdBlock(ProducerId(first), ProducerId(first + size))
