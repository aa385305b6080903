"""Where the logs of other brokers begin and end, for the lag of groups that are coordinated here.

One link per broker, asked at each look for all of its partitions at once. A broker that does not
answer is left out of that look and asked again at the next.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, cast

import trio

from fastmq.errors import ErrorCode, FastmqError
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from fastmq.server.peers import AddressOf, PeerCredentials, PeerLink

__all__ = ["Bounds", "RemoteEnds"]

logger = logging.getLogger(__name__)

_EARLIEST: Final = -2
_LATEST: Final = -1
_VERSION: Final = 7
_TIMEOUT_S: Final = 3.0

Bounds = dict[tuple[str, int], tuple[int, int]]
"""(log start, high watermark) by topic and partition."""


class RemoteEnds:
    """Asks other brokers. For one task at a time.

    Args:
        credentials: by which they know this broker.
        address_of: where they listen.
    """

    def __init__(self, credentials: PeerCredentials, address_of: AddressOf) -> None:
        self._credentials = credentials
        self._address_of = address_of
        self._links: dict[int, PeerLink] = {}

    async def ask(self, wanted: Mapping[int, Sequence[tuple[str, int]]]) -> Bounds:
        """Return what the leaders say.

        Args:
            wanted: topics and partitions by the broker that leads them.
        """
        found: Bounds = {}
        for broker_id in self._links.keys() - wanted.keys():
            await self._links.pop(broker_id).close()
        async with trio.open_nursery() as nursery:
            for broker_id, partitions in wanted.items():
                nursery.start_soon(self._ask_one, broker_id, partitions, found)
        return found

    async def close(self) -> None:
        """End the links."""
        while self._links:
            await self._links.popitem()[1].close()

    async def _ask_one(
        self, broker_id: int, partitions: Sequence[tuple[str, int]], found: Bounds
    ) -> None:
        try:
            link = await self._linked(broker_id)
            if link is None:
                return
            starts = await self._offsets(link, partitions, _EARLIEST)
            ends = await self._offsets(link, partitions, _LATEST)
        except FastmqError as exc:
            logger.debug("broker %d does not tell where its logs end: %s", broker_id, exc)
            link = self._links.pop(broker_id, None)
            if link is not None:
                await link.close()
            return
        for key in starts.keys() & ends.keys():
            found[key] = starts[key], ends[key]

    async def _linked(self, broker_id: int) -> PeerLink | None:
        link = self._links.get(broker_id)
        if link is None:
            address = self._address_of(broker_id)
            if address is None:
                return None
            link = self._links[broker_id] = await PeerLink.open(*address, self._credentials)
        return link

    @staticmethod
    async def _offsets(
        link: PeerLink, partitions: Sequence[tuple[str, int]], which: int
    ) -> dict[tuple[str, int], int]:
        by_topic: dict[str, list[ListOffsetsPartition]] = {}
        for topic, partition in partitions:
            row = ListOffsetsPartition(partition_index=partition, timestamp=which)
            by_topic.setdefault(topic, []).append(row)
        request = ListOffsetsRequest(
            replica_id=-1,
            topics=[
                ListOffsetsTopic(name=name, partitions=rows) for name, rows in by_topic.items()
            ],
        )
        answer = await link.call(request, _VERSION, timeout_s=_TIMEOUT_S)
        return {
            (topic.name, row.partition_index): row.offset
            for topic in cast("ListOffsetsResponse", answer).topics
            for row in topic.partitions
            if row.error_code == ErrorCode.NONE
        }
