"""A lease that is kept alive, and how long its holder may rely on it.

Others see a lease end when the store says so; the holder must know earlier. It may rely on a lease
until `ttl` after the moment at which the last successful renewal was *sent*: the store counts from
later. Time is that of a clock that goes on while the machine sleeps.

A new lease says nothing of what the holder did under the one before: others may have taken its
place meanwhile. It may rely on a new one only when it knows of that (`rely`).
"""

import logging
from collections.abc import Callable
from typing import Final

import trio

from fastmq.metastore.interface import Metastore, MetastoreUnavailableError

__all__ = ["LeaseKeeper"]

logger = logging.getLogger(__name__)

# Renewed so many times per lifetime, so that one answer may be lost, and one be slow.
_RENEWALS: Final = 3
# After an attempt that did not renew it, the next one comes so many times sooner.
_HURRY: Final = 4


class LeaseKeeper:
    """Holds one lease.

    Args:
        store: open.
        ttl_ms: how long the lease lives after its last renewal.
        clock_ms: a clock that never goes back and goes on while the machine sleeps
            (CLOCK_BOOTTIME).
        on_valid: told until when (`clock_ms`) the lease may be relied on, after each success.
        may_renew: asked before each renewal; False lets the lease run out, because the holder
            does not do its work.

    Attributes:
        id: of the lease; 0 while there is none.
    """

    def __init__(
        self,
        store: Metastore,
        *,
        ttl_ms: int,
        clock_ms: Callable[[], int],
        on_valid: Callable[[int], None] = lambda _: None,
        may_renew: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._ttl_ms = ttl_ms
        self._clock_ms = clock_ms
        self._on_valid = on_valid
        self._may_renew = may_renew
        self._valid_until_ms = 0
        self._is_relied_on = False
        self.id = 0

    def is_valid(self) -> bool:
        """Return whether nobody can have seen the lease end yet."""
        is_held = self.id != 0 and self._is_relied_on
        return is_held and self._clock_ms() < self._valid_until_ms

    async def acquire(self) -> int:
        """Take a new lease and return its id; `rely` makes it valid.

        Raises:
            MetastoreError: there is none to be had.
        """
        self._is_relied_on = False
        sent_ms = self._clock_ms()
        self.id = await self._store.grant_lease(self._ttl_ms)
        self._extend(sent_ms)
        return self.id

    def rely(self) -> None:
        """Rely on the lease from now on: what has happened before it is known."""
        if not self._is_relied_on:
            self._is_relied_on = True
            self._on_valid(self._valid_until_ms)

    def _extend(self, sent_ms: int) -> None:
        self._valid_until_ms = max(self._valid_until_ms, sent_ms + self._ttl_ms)
        if self._is_relied_on:
            self._on_valid(self._valid_until_ms)

    async def keep(self) -> None:
        """Renew the lease in time, again and again; return when it has ended."""
        pause_s = self._ttl_ms / 1000 / _RENEWALS
        is_renewed = True
        while self.id:
            await trio.sleep(pause_s if is_renewed else pause_s / _HURRY)
            is_renewed = False
            if not self._may_renew():
                continue
            sent_ms = self._clock_ms()
            try:
                lives = await self._store.keep_alive(self.id)
            except MetastoreUnavailableError as exc:
                logger.warning("cannot renew the lease at the metadata store: %s", exc)
                continue
            if not lives:
                self.id = 0
                return
            is_renewed = True
            self._extend(sent_ms)

    async def release(self) -> None:
        """End the lease now.

        Raises:
            MetastoreError: the store does not answer; the lease runs out by itself.
        """
        lease, self.id = self.id, 0
        if lease:
            await self._store.revoke_lease(lease)
