"""The pump for programs that block: one I/O thread per client.

Other threads `post` calls to it and `wait` for results; an interrupt (Ctrl-C) in a waiting thread
ends only the wait. The thread is a daemon: a program that forgets to close its client can end.
After a fork the child has no such thread, and says so.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from fastmq.client.core import ClientCore
from fastmq.client.pumps.forks import watch_forks
from fastmq.client.pumps.poller import Poller, monotonic_ms
from fastmq.errors import ClientClosed, RequestTimedOut

__all__ = ["BlockingPump", "monotonic_ms"]

_log = logging.getLogger("fastmq.client")

#: How long `close` waits for the thread, which only has to close sockets.
_JOIN_TIMEOUT_S = 10.0


class BlockingPump:
    """Runs a core in a thread of its own, from `start` on."""

    def __init__(self, core: ClientCore, *, name: str = "fastmq-client") -> None:
        self.core = core
        self._poller = Poller(core)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopping = False
        self._broken: BaseException | None = None
        self._forked = False
        #: Called in the child after a fork; machines mark themselves unusable there.
        self.on_fork: Callable[[], None] | None = None
        watch_forks(self)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def post(self, fn: Callable[[], None]) -> None:
        """Run `fn` in the I/O thread soon.

        Raises:
            ClientClosed: there is no such thread (any more).
        """
        self.check()
        self._poller.post(fn)

    @property
    def wake(self) -> Callable[[], None]:
        """Ends the I/O thread's wait; from any thread, never raises."""
        return self._poller.wake

    def call(
        self, begin: Callable[[Callable[[Any], None]], None], timeout_s: float | None = None
    ) -> Any:
        """Run `begin(done)` in the I/O thread and wait until `done(result)` is called there.

        Args:
            begin: starts something that will call `done` once, with a result or an exception.
            timeout_s: how long to wait; None for as long as it takes.

        Returns:
            The result. Any: as `begin` hands it over.

        Raises:
            RequestTimedOut: not done in time; it goes on nevertheless.
            ClientClosed: the pump is closed.
            Exception: the result, when that is one.
        """
        if self.is_own_thread():
            raise RuntimeError("a callback must not wait: it runs in the client's I/O thread")
        ready = threading.Event()
        results: list[Any] = []

        def done(result: Any) -> None:
            results.append(result)
            ready.set()

        self.post(lambda: begin(done))
        self.wait(ready, timeout_s)
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def wait(self, ready: threading.Event, timeout_s: float | None) -> None:
        """Wait for an event that the I/O thread sets, in slices, so that its end is noticed."""
        deadline_ms = None if timeout_s is None else monotonic_ms() + int(timeout_s * 1000)
        while True:
            left_s = 1.0 if deadline_ms is None else (deadline_ms - monotonic_ms()) / 1000
            if ready.wait(min(1.0, max(0.0, left_s))):
                return
            if deadline_ms is not None and monotonic_ms() >= deadline_ms:
                raise RequestTimedOut(f"not done within {timeout_s} s")
            if not self._thread.is_alive():
                # It may have been set by the thread's last step.
                if ready.is_set():
                    return
                self.check()
                raise ClientClosed("the client was closed meanwhile")

    def is_own_thread(self) -> bool:
        """Whether the caller runs in the I/O thread (as delivery callbacks do)."""
        return threading.current_thread() is self._thread

    def check(self) -> None:
        """Raise `ClientClosed` when the pump cannot do anything any more."""
        if self._forked:
            raise ClientClosed("this client was made before a fork; make a new one in the child")
        if self._broken is not None:
            raise ClientClosed(f"the client broke: {self._broken!r}") from self._broken
        if self._stopping:
            raise ClientClosed("the client is closed")

    def close(self) -> None:
        """End the thread; calls that are not done fail with `ClientClosed`. Safe to repeat."""
        self._stopping = True
        if self._forked:
            return
        self._poller.wake()
        if self._thread.is_alive() and not self.is_own_thread():
            self._thread.join(_JOIN_TIMEOUT_S)

    # ---------------------------------------------------------------------------------- private

    def _run(self) -> None:
        poller = self._poller
        try:
            poller.enter()
            poller.perform()
            while not self._stopping:
                poller.step(poller.timeout_s())
        except BaseException as error:  # noqa: BLE001 - the thread's last words
            self._broken = error
            _log.exception("the client's I/O thread broke; please report this")
        finally:
            self._end()

    def _end(self) -> None:
        """Fail what is not done, also what was posted and not begun."""
        self._stopping = True
        try:
            self.core.close()
            self._poller.run_posted()
        except Exception:  # noqa: BLE001 - a callback's; sockets are closed nevertheless
            _log.exception("while the client was closed")
        self._poller.close()

    def after_fork(self) -> None:
        """In the child: the thread is gone, the sockets are the parent's."""
        self._forked = True
        if self.on_fork is not None:
            self.on_fork()
