"""The controller's look for rows that nobody will finish; see `fastmq.cluster.orphans`."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from fastmq.cluster import Change, ClusterImage, Orphan, find_orphans, plan_orphans
from fastmq.errors import KafkaError

__all__ = ["Leftovers"]

logger = logging.getLogger(__name__)

# What is left over is removed when it was there at two looks, so far apart.
_LOOK_S: Final = 10.0


class Leftovers:
    """Remembers what looked left over at the last look, and removes what still does.

    Args:
        carry_out: commits, as the controller, what a plan finds.

    Attributes:
        next_look: when the next one is due, on trio's clock.
    """

    def __init__(
        self, carry_out: Callable[[Callable[[ClusterImage], list[Change]]], Awaitable[bool]]
    ) -> None:
        self._carry_out = carry_out
        self._seen: set[Orphan] = set()
        self.next_look = -math.inf

    async def look(self, image: ClusterImage, *, is_controller: bool) -> None:
        """Look, when it is time to; only the controller finds and removes anything."""
        now = trio.current_time()
        if now < self.next_look:
            return
        self.next_look = now + _LOOK_S
        before, self._seen = self._seen, find_orphans(image) if is_controller else set()
        left = before & self._seen
        if not left:
            return
        logger.warning(
            "removing what is left of topics that were made, grown or deleted by half (%d)",
            len(left),
        )
        try:
            await self._carry_out(lambda newer: plan_orphans(newer, left))
        except KafkaError as exc:
            logger.info("it is removed later: %s", exc)
