"""A broker on a thread of this process, with an event loop of its own.

It is the broker of `fastmq serve` with three things handed in: a test mode, an event that stops it
instead of signals, and its configuration. Nothing of the process is touched: no signal handler, no
logging set-up, no environment, no working directory.
"""

import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

import trio

from fastmq.config import BrokerConfig
from fastmq.server.broker import Announcement, run_broker
from fastmq.server.context import BrokerContext
from fastmq.server.test_mode import TestMode

__all__ = ["BrokerThread"]

T = TypeVar("T")

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_CALL_TIMEOUT_S = 60.0


class BrokerThread:
    """One life of a broker.

    Args:
        config: its settings; every listener on loopback.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self.test_mode = TestMode()
        self._ready: Future[Announcement] = Future()
        self._stop: trio.Event
        self._token: trio.lowlevel.TrioToken
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fastmq-broker", daemon=True)

    @property
    def context(self) -> BrokerContext:
        """The broker's parts; to be used inside `call`."""
        assert self.test_mode.context is not None, "the broker does not run"
        return self.test_mode.context

    def start(self) -> Announcement:
        """Start it and wait until it serves.

        Raises:
            FastmqError: it cannot start.
        """
        self._thread.start()
        return self._ready.result(_START_TIMEOUT_S)

    def is_running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop it and wait for the end.

        Raises:
            TimeoutError: it does not stop.
            BaseException: what it ended with.
        """
        if self._thread.is_alive():
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(lambda: self._stop.set())
            self._thread.join(_STOP_TIMEOUT_S)
            if self._thread.is_alive():
                raise TimeoutError(f"the broker has not stopped within {_STOP_TIMEOUT_S:g} s")
        if self._error is not None:
            raise self._error

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the broker's event loop and return what it returns.

        Works from any thread but the broker's, inside another event loop, too.
        """

        async def run() -> T:
            return function()

        return self.call_async(run)

    def call_async(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run an async function in the broker's event loop and return what it returns."""
        # trio.from_thread refuses to work where a loop runs, which is where async tests are.
        done: Future[T] = Future()

        async def run() -> None:
            try:
                done.set_result(await function())
            except BaseException as exc:
                done.set_exception(exc)
                if not isinstance(exc, Exception):
                    raise

        self._token.run_sync_soon(lambda: trio.lowlevel.spawn_system_task(run))
        return done.result(_CALL_TIMEOUT_S)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as exc:  # noqa: BLE001 - handed to whoever starts or stops it
            if self._ready.done():
                self._error = exc
            else:
                self._ready.set_exception(exc)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        await run_broker(
            self._config, announce=self._announce, stop=self._stop, test_mode=self.test_mode
        )

    def _announce(self, announcement: Announcement) -> None:
        self._ready.set_result(announcement)
