"""The broker of a test: a child process, or a thread of this one."""

import itertools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from fastmq.config import load_broker_config, split_address
from fastmq.errors import FastmqError
from fastmq.testing._process import BrokerProcess, ProcessFailedError
from fastmq.testing._thread import BrokerThread
from fastmq.testing._wire import Wire
from fastmq.testing.clock import VirtualClock
from fastmq.testing.faults import FaultInjector
from fastmq.testing.groups import Group
from fastmq.testing.topics import Topic, create_topic

__all__ = ["Broker", "BrokerFailedError"]

_HOST = "127.0.0.1"
# What a test wants beyond the development profile: one partition for the offsets of all groups,
# and no long farewell.
_CONFIG = {
    "offsets.topic.num.partitions": "1",
    "fastmq.shutdown.timeout.ms": "2000",
    "fastmq.log.level": "warning",
}


class BrokerFailedError(FastmqError):
    """The broker did not start or stop as it should; the message ends with its log."""


class Broker:
    """A broker for tests, on a free port of 127.0.0.1; used as a context manager.

        with Broker() as broker:
            produce(broker.bootstrap_servers)

    Args:
        in_process: run it on a thread of this process; needed for `clock` and `faults`.
        config: settings of `docs/CONFIG.md` beyond those of `fastmq serve --dev`.
        data_dir: keep data here and leave it; None = a temporary directory that is removed.
    """

    def __init__(
        self,
        *,
        in_process: bool = False,
        config: Mapping[str, object] | None = None,
        data_dir: Path | str | None = None,
    ) -> None:
        self._in_process = in_process
        self._config = {**_CONFIG, **{key: _text(value) for key, value in (config or {}).items()}}
        self._given_dir = None if data_dir is None else Path(data_dir).absolute()
        self._root: Path | None = None
        self._port = 0
        self._metrics = ""
        self._wire: Wire | None = None
        self._thread: BrokerThread | None = None
        self._process: BrokerProcess | None = None
        self._names = itertools.count(1)

    # Life.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the broker, on the port and the data it had before, if it had.

        Raises:
            BrokerFailedError: it did not start.
            ConfigError: a setting is wrong (in-process only).
        """
        assert self._thread is None, "the broker runs already"
        assert self._process is None, "the broker runs already"
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="fastmq-test-"))
        data_dir = self._given_dir or self._root / "data"
        overrides = [f"{key}={value}" for key, value in self._config.items()]
        overrides += [f"log.dirs={data_dir}", f"listeners=PLAINTEXT://{_HOST}:{self._port}"]
        try:
            if self._in_process:
                self._start_thread(overrides)
            else:
                self._start_process(overrides)
        except BaseException:
            self.close()
            raise
        self._wire = Wire(_HOST, self._port)

    def _start_thread(self, overrides: list[str]) -> None:
        thread = BrokerThread(load_broker_config(environ={}, overrides=overrides, dev=True))
        announcement = thread.start()
        self._thread = thread
        self._learn([tuple(row) for row in announcement.listeners], announcement.metrics)

    def _start_process(self, overrides: list[str]) -> None:
        assert self._root is not None
        process = self._process = BrokerProcess(overrides, self._root, remove=True)
        try:
            found = process.start()
        except ProcessFailedError as exc:
            raise BrokerFailedError(str(exc)) from None
        self._learn([tuple(row) for row in found["listeners"]], found["metrics"])

    def _learn(self, listeners: list[tuple[str, ...]], metrics: str) -> None:
        self._port = split_address(listeners[0][1], key="listeners")[1]
        self._metrics = metrics

    def stop(self) -> None:
        """Stop the broker as SIGTERM would; data and port are kept for another `start`.

        Raises:
            BrokerFailedError: it failed before, or while it stopped.
        """
        self._disconnect()
        thread, self._thread = self._thread, None
        process, self._process = self._process, None
        if thread is not None:
            thread.stop()
        if process is not None:
            try:
                process.stop()
            except ProcessFailedError as exc:
                raise BrokerFailedError(str(exc)) from None

    def kill(self) -> None:
        """End the child process with SIGKILL; `start` comes back on the same data and port.

        Raises:
            RuntimeError: the broker is in this process.
        """
        if self._in_process:
            raise RuntimeError("a broker in this process cannot be killed; use Broker()")
        self._disconnect()
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the broker and remove its data."""
        try:
            self.stop()
        finally:
            root, self._root = self._root, None
            if root is not None:
                shutil.rmtree(root, ignore_errors=True)

    def is_running(self) -> bool:
        """Whether the broker serves."""
        if self._thread is not None:
            return self._thread.is_running()
        return self._process is not None and self._process.is_running()

    # What clients need.

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, as clients call it."""
        assert self._port, "the broker was not started"
        return f"{_HOST}:{self._port}"

    @property
    def metrics_url(self) -> str:
        """Where metrics and lag are served.

        Needs `config={"fastmq.metrics.listener": "127.0.0.1:0"}`.
        """
        if not self._metrics:
            raise RuntimeError(
                'no metrics listener: Broker(config={"fastmq.metrics.listener": "127.0.0.1:0"})'
            )
        return f"http://{self._metrics}"

    @property
    def pid(self) -> int:
        """Process id of the child."""
        if self._process is None:
            raise RuntimeError("the broker is not a child process that runs")
        return self._process.pid

    def log_text(self) -> str:
        """Return what the child process has logged."""
        return "" if self._process is None else self._process.log_text()

    # What tests need.

    def topic(self, name: str) -> Topic:
        """Return a topic by name; it need not exist yet."""
        return Topic(self._connection(), name)

    def create_topic(
        self,
        name: str | None = None,
        *,
        partitions: int = 1,
        config: Mapping[str, object] | None = None,
    ) -> Topic:
        """Create a topic.

        Args:
            name: None = one that nobody has.
            partitions: how many.
            config: its settings, such as {"cleanup.policy": "compact"}.

        Raises:
            KafkaError: it exists, or a setting is wrong.
        """
        chosen = self.unique_name("topic") if name is None else name
        return create_topic(self._connection(), chosen, partitions, config or {}, exist_ok=False)

    def group(self, group_id: str | None = None) -> Group:
        """Return a consumer group by id; None = one that nobody has."""
        return Group(
            self._connection(), self.unique_name("group") if group_id is None else group_id
        )

    def unique_name(self, prefix: str) -> str:
        """Return a name that this broker has not given before."""
        return f"{prefix}-{next(self._names)}"

    @property
    def clock(self) -> VirtualClock:
        """The broker's clock, to be moved; in-process only."""
        return VirtualClock(self._in_this_process("clock"))

    @property
    def faults(self) -> FaultInjector:
        """What can go wrong on purpose; in-process only."""
        return FaultInjector(self._in_this_process("faults"))

    def _in_this_process(self, what: str) -> BrokerThread:
        if self._thread is None:
            raise RuntimeError(
                f"Broker.{what} needs a broker that runs in this process: Broker(in_process=True)"
            )
        return self._thread

    def _connection(self) -> Wire:
        assert self._wire is not None, "the broker does not run"
        return self._wire

    def _disconnect(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
