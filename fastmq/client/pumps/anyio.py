"""The pump for async programs: one task, under trio or asyncio.

It waits until the poller's own descriptor is readable or a timer is due, and takes a step. All
calls into the core come from the same thread; between two steps anybody in it may call the core
directly (`call` does), because a step never awaits.
"""

from collections.abc import Callable
from typing import Any

import anyio

from fastmq.client.core import ClientCore
from fastmq.client.pumps.forks import watch_forks
from fastmq.client.pumps.poller import Poller
from fastmq.errors import ClientClosed

__all__ = ["AnyioPump"]


class AnyioPump:
    """Runs a core in the task that calls `run`."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self._poller = Poller(core)
        self._stopping = False
        self._broken: BaseException | None = None
        self._forked = False
        #: Called in the child after a fork; machines mark themselves unusable there.
        self.on_fork: Callable[[], None] | None = None
        watch_forks(self)

    async def run(self) -> None:
        """Move bytes until `stop`."""
        poller = self._poller
        try:
            while not self.is_stopping:
                poller.step(0)
                timeout_s = poller.timeout_s()
                with anyio.move_on_after(timeout_s):
                    await anyio.wait_readable(poller.fileno())
        except Exception as error:
            self._broken = error
            raise
        finally:
            self._stopping = True
            self.core.close()
            poller.run_posted()
            poller.close()

    def stop(self) -> None:
        """Let `run` end; calls that are not done fail with `ClientClosed`."""
        self._stopping = True
        self._poller.wake()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called or `run` has ended."""
        return self._stopping

    @property
    def wake(self) -> Callable[[], None]:
        """Ends the task's wait; from any thread, never raises."""
        return self._poller.wake

    def enter(self) -> None:
        """Before the core is called from outside of the task.

        Raises:
            ClientClosed: the pump is stopped.
        """
        self.check()
        self._poller.enter()

    def leave(self) -> None:
        """After the core was called: carry out what it asks for, at once."""
        self._poller.perform()
        self._poller.wake()  # the task must look at the timers again

    async def call(self, begin: Callable[[Callable[[Any], None]], None]) -> Any:
        """Run `begin(done)` and wait until `done(result)` is called.

        Returns:
            The result. Any: as `begin` hands it over.

        Raises:
            ClientClosed: the pump is stopped.
            Exception: the result, when that is one.
        """
        ready = anyio.Event()
        results: list[Any] = []

        def done(result: Any) -> None:
            results.append(result)
            ready.set()

        self.enter()
        begin(done)
        self.leave()
        await ready.wait()
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def check(self) -> None:
        """Raise `ClientClosed` when the pump cannot do anything any more."""
        if self._forked:
            raise ClientClosed("this client was made before a fork; make a new one in the child")
        if self._broken is not None:
            raise ClientClosed(f"the client broke: {self._broken!r}") from self._broken
        if self._stopping:
            raise ClientClosed("the client is closed")

    def after_fork(self) -> None:
        """In the child: the sockets are the parent's."""
        self._forked = True
        if self.on_fork is not None:
            self.on_fork()
