"""The broker process of `fastmq.testing.Broker`: `python -m fastmq.testing._child SETTINGS`.

It writes one line of JSON to standard output when it serves, and lives until SIGTERM, SIGINT, or
the end of its standard input, whichever comes first. The last is how it ends with its parent: the
kernel closes the pipe however the parent went. Whoever is left removes the data.
"""

import json
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any

import trio

from fastmq.config import load_broker_config
from fastmq.server import logging as server_logging
from fastmq.server.broker import run_broker

if TYPE_CHECKING:
    from fastmq.server.broker import Announcement

__all__ = ["main"]


def main() -> None:
    """Run a broker as the settings say: `overrides` and `remove`, a directory or null."""
    # Any: made by `_process` of the same version.
    settings: dict[str, Any] = json.loads(sys.argv[1])
    config = load_broker_config(environ={}, overrides=settings["overrides"], dev=True)
    server_logging.configure(
        config.get_str("fastmq.log.format"), level=config.get_str("fastmq.log.level")
    )
    orphaned = False

    async def watch_parent(stop: trio.Event) -> None:
        nonlocal orphaned
        stdin = trio.lowlevel.FdStream(os.dup(0))
        while await stdin.receive_some(4096):
            pass
        orphaned = True
        stop.set()

    async def watch_signals(
        stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                stop.set()

    async def live() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop)
            nursery.start_soon(watch_parent, stop)
            await run_broker(config, announce=_announce, stop=stop)
            nursery.cancel_scope.cancel()

    try:
        trio.run(live)
    finally:
        if orphaned and settings["remove"]:
            shutil.rmtree(settings["remove"], ignore_errors=True)


def _announce(announcement: "Announcement") -> None:
    line = json.dumps({"listeners": announcement.listeners, "metrics": announcement.metrics})
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    main()
