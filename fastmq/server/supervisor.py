"""Several brokers on one machine: a process each, and the metadata store of all of them.

The supervisor starts ordinary brokers with consecutive ids and ports and a data directory each,
keeps their metadata in one SQLite file, and serves it to them on a Unix socket. A broker whose
process dies is started again; one that says that it cannot run (exit codes 2 to 4), or dies again
and again before it serves, ends them all. The brokers stop by themselves when the supervisor has
gone, because the socket tells them at once.

With the metadata in etcd (`fastmq.metastore`), it only starts and watches over the processes.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from fastmq.config import BrokerConfig
from fastmq.config.listeners import Listener
from fastmq.config.types import ConfigSource
from fastmq.errors import ConfigError, FastmqError
from fastmq.metastore import SQLiteMetastore, ensure_cluster_id
from fastmq.metastore.socket_server import StoreServer
from fastmq.server.store import CLUSTER_DIRECTORY, METADATA_FILE, stands_alone

__all__ = ["BrokersAnnouncement", "ChildFailedError", "run_brokers"]

logger = logging.getLogger(__name__)

# Exit codes that another attempt would not change: configuration, port, directory.
_FINAL_CODES: Final = frozenset({2, 3, 4})
# A broker that was removed from the cluster; the others go on.
_REMOVED_CODE: Final = 5
# A broker that dies so often before it serves will not come to life by trying.
_DEATHS_MAX: Final = 5
_RESTART_PAUSE_S: Final = 0.2
# The ready files of children appear once; there is nobody to wake us then.
_READY_LOOK_S: Final = 0.01
# Where the kernel tells of each death.
_PATIENT_SESSION_MS: Final = 9_000
# Beyond what the brokers allow themselves for stopping.
_STOP_EXTRA_S: Final = 15.0


class ChildFailedError(FastmqError):
    """A broker cannot run.

    Attributes:
        code: its exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


class BrokersAnnouncement:
    """What the operator is told when all brokers serve: their ready files, in order."""

    def __init__(self, brokers: list[dict[str, Any]]) -> None:
        self.brokers = brokers

    def listeners(self) -> dict[str, str]:
        """Return, for each listener, the addresses of all brokers with commas between."""
        names = self.brokers[0]["listeners"]
        return {name: ",".join(b["listeners"][name] for b in self.brokers) for name in names}


async def run_brokers(
    config: BrokerConfig,
    count: int,
    *,
    arguments: Sequence[str],
    ready_file: Path | None = None,
    announce: Callable[[BrokersAnnouncement], None] = lambda _: None,
) -> None:
    """Run brokers until SIGTERM or SIGINT.

    Args:
        config: what they have in common; ids, ports and directories count from here.
        count: how many.
        arguments: of `fastmq serve`, for each of them; more is put behind.
        ready_file: written when all serve, removed at the stop.
        announce: called at the same moment.

    Raises:
        ChildFailedError: one of them cannot run.
        ConfigError: the configuration cannot work for several.
        MetastoreError: the metadata store cannot be used.
    """
    _check(config)
    with tempfile.TemporaryDirectory(prefix="fastmq-") as scratch:
        try:
            async with _store(config, Path(scratch)) as overrides:
                brokers = _Brokers(config, count, [*arguments, *overrides], Path(scratch))
                await brokers.live(ready_file, announce)
        except* FastmqError as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[FastmqError]) -> FastmqError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _check(config: BrokerConfig) -> None:
    for directory in config.log_dirs:
        if Path(directory, "meta.properties").exists():
            raise ConfigError(
                f"{directory} holds the data of a single broker; several brokers need another "
                "--data-dir"
            )


@asynccontextmanager
async def _store(config: BrokerConfig, scratch: Path) -> AsyncIterator[list[str]]:
    """Serve the metadata store; yields what the brokers have to be told."""
    if not stands_alone(config):
        yield []
        return
    place = Path(config.get_str("metadata.log.dir") or config.log_dirs[0]) / CLUSTER_DIRECTORY
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot make {place}: {exc.strerror}") from exc
    durable = config.get_str("fastmq.flush") != "never"
    store = SQLiteMetastore(place / METADATA_FILE, durable=durable)
    await store.open()
    try:
        await ensure_cluster_id(store, os.urandom)
        socket = scratch / "store.sock"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run, name="metadata store")
            await nursery.start(StoreServer(store, socket).run)
            yield [
                "--override",
                "fastmq.metastore=socket",
                "--override",
                f"fastmq.metastore.socket={socket}",
                *_session(config),
            ]
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


def _session(config: BrokerConfig) -> list[str]:
    """Return a session as long as Kafka's: it is only for those that hang, deaths are told."""
    (entry,) = config.describe(["broker.session.timeout.ms"])
    if entry.source is not ConfigSource.DEFAULT:
        return []
    return ["--override", f"broker.session.timeout.ms={_PATIENT_SESSION_MS}"]


class _Child:
    """One broker process, again and again."""

    def __init__(self, node_id: int, command: list[str], ready_file: Path) -> None:
        self.node_id = node_id
        self.command = command
        self.ready_file = ready_file
        self.process: trio.Process | None = None

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def run(self, is_stopping: Callable[[], bool]) -> None:
        """Keep the process running; return when it has ended and is to stop.

        Raises:
            ChildFailedError: it cannot run.
        """
        deaths = 0
        while True:
            _remove_ready(self.ready_file)
            self.process = await trio.lowlevel.open_process(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            code = await self.process.wait()
            if is_stopping():
                return
            if code == _REMOVED_CODE:
                logger.warning("broker %d was removed: it is not started again", self.node_id)
                return
            deaths = 1 if _is_there(self.ready_file) else deaths + 1
            if code in _FINAL_CODES or deaths >= _DEATHS_MAX:
                raise ChildFailedError(f"broker {self.node_id} ended with {code}", max(code, 1))
            logger.warning("broker %d ended with %d: starting it again", self.node_id, code)
            await trio.sleep(_RESTART_PAUSE_S)


class _Brokers:
    """The processes of all brokers."""

    def __init__(
        self, config: BrokerConfig, count: int, arguments: list[str], scratch: Path
    ) -> None:
        self._stop = trio.Event()
        self._stop_timeout_s = config.get_int("fastmq.shutdown.timeout.ms") / 1000 + _STOP_EXTRA_S
        self._children = []
        for number in range(count):
            ready_file = scratch / f"ready-{number}"
            command = [sys.executable, "-m", "fastmq", "serve", *arguments]
            command += ["--ready-file", str(ready_file)]
            for override in _overrides(config, number):
                command += ["--override", override]
            self._children.append(_Child(config.node_id + number, command, ready_file))

    async def live(
        self, ready_file: Path | None, announce: Callable[[BrokersAnnouncement], None]
    ) -> None:
        """Run the brokers until told to stop."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._watch_signals)
                async with trio.open_nursery() as running:
                    for child in self._children:
                        running.start_soon(child.run, self._stop.is_set)
                    running.start_soon(self._announce, ready_file, announce)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._end()
            _remove_ready(ready_file)

    async def _watch_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The first signal stops the brokers; a second one cuts their waiting short."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                logger.info("%s: stopping all brokers", signal.Signals(number).name)
                self._stop.set()
                for child in self._children:
                    child.signal(signal.SIGTERM)

    async def _announce(
        self, ready_file: Path | None, announce: Callable[[BrokersAnnouncement], None]
    ) -> None:
        while not all(child.ready_file.exists() for child in self._children):
            if self._stop.is_set():
                return
            await trio.sleep(_READY_LOOK_S)
        found = [json.loads(child.ready_file.read_text()) for child in self._children]
        for child, ready in zip(self._children, found, strict=True):
            # Started again, it is where clients know it: also if the port was a free one.
            bound = (f"{name}://{address}" for name, address in ready["listeners"].items())
            child.command += ["--override", f"listeners={','.join(bound)}"]
        announcement = BrokersAnnouncement(found)
        if ready_file is not None:
            _write_ready(ready_file, announcement)
        announce(announcement)

    async def _end(self) -> None:
        """See that no process is left."""
        for child in self._children:
            child.signal(signal.SIGTERM)
        with trio.move_on_after(self._stop_timeout_s):
            for child in self._children:
                if child.process is not None:
                    await child.process.wait()
        for child in self._children:
            child.signal(signal.SIGKILL)
            if child.process is not None:
                await child.process.wait()


def _overrides(config: BrokerConfig, number: int) -> list[str]:
    """Return what sets one broker apart from the others."""
    node_id = config.node_id + number
    directories = [f"{directory}/broker_{node_id}" for directory in config.log_dirs]
    overrides = [
        f"node.id={node_id}",
        f"log.dirs={','.join(directories)}",
        f"listeners={','.join(_bound(one, number) for one in config.listeners)}",
    ]
    if config.get_list("advertised.listeners"):
        told = (_told(one, number) for one in config.listeners)
        overrides.append(f"advertised.listeners={','.join(told)}")
    racks = config.get_str("broker.rack").split(",")
    if len(racks) > 1:
        overrides.append(f"broker.rack={racks[number % len(racks)].strip()}")
    host, colon, port = config.get_str("fastmq.metrics.listener").rpartition(":")
    if colon:
        overrides.append(f"fastmq.metrics.listener={host}:{_moved(int(port), number)}")
    return overrides


def _bound(listener: Listener, number: int) -> str:
    return _address(listener.name, listener.host, _moved(listener.port, number))


def _told(listener: Listener, number: int) -> str:
    host = listener.advertised_host or listener.host
    return _address(listener.name, host, _moved(listener.advertised_port, number))


def _address(name: str, host: str, port: int) -> str:
    return f"{name}://[{host}]:{port}" if ":" in host else f"{name}://{host}:{port}"


def _moved(port: int, number: int) -> int:
    """Return the port of one broker; 0, a free one, stays so."""
    if port and port + number > 65_535:
        raise ConfigError(f"there is no port {port + number}: listen on a lower one")
    return port + number if port else 0


def _is_there(path: Path) -> bool:
    return path.exists()


def _remove_ready(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def _write_ready(path: Path, announcement: BrokersAnnouncement) -> None:
    """Write the ready file in one step, so that nobody reads half of it."""
    first = announcement.brokers[0]
    ready = {
        "pid": os.getpid(),
        "node_id": first["node_id"],
        "cluster_id": first["cluster_id"],
        "listeners": announcement.listeners(),
        "metrics": first["metrics"],
        "data_dirs": [path for broker in announcement.brokers for path in broker["data_dirs"]],
        "brokers": announcement.brokers,
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(ready) + "\n", encoding="utf-8")
    temporary.replace(path)
