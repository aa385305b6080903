"""Apache Kafka itself, as a peer in comparisons and as a second opinion in tests.

`ApacheKafka` runs one broker of version 4.3 in KRaft combined mode on free ports of 127.0.0.1:

    with ApacheKafka(tmp_path) as kafka:
        AdminClient({"bootstrap.servers": kafka.bootstrap})

Its jars come from Maven Central by their POMs (`pom.xml`) and are kept in the user's cache
directory; the JVM's flags, those of Kafka's start script, stand in `jvm.options`. `missing()` says
why it cannot run on a machine, `tool()` runs one of Kafka's command line tools by its class.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.process import BrokerDied, ServerProcess

HERE = Path(__file__).resolve().parent
VERSION = ET.parse(HERE / "pom.xml").getroot().findtext("{*}version")
JAVA_VERSION_MIN = 17
DOWNLOAD_TIMEOUT_S = 400.0
TOOL_TIMEOUT_S = 60.0

CLUSTER_ID = "ZmFzdG1xLWNvbXBhcmUtMQ"  # any 16 bytes in base64
NODE_ID = 1
_ATTEMPTS = 3  # somebody else may take a free port before Kafka binds it
_METADATA_0 = struct.pack(">hhih4si", 3, 0, 1, 4, b"wait", 0)


def java() -> str | None:
    """The JVM to use: JAVA_HOME's, else the one on the path, if it is new enough."""
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home, "bin", "java")) if home else shutil.which("java")
    return command if command and java_version(command) >= JAVA_VERSION_MIN else None


def java_version(command: str) -> int:
    """Major version of a JVM, 0 when it does not run."""
    with contextlib.suppress(OSError, ValueError, IndexError, subprocess.SubprocessError):
        said = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=30)
        return int(said.stderr.split('"')[1].split(".")[0].split("-")[0])
    return 0


def cache_dir() -> Path:
    """Where the jars of this version are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "fastmq", f"apache-kafka-{VERSION}")


def missing() -> str | None:
    """Why Kafka cannot run here, in words for a skip; None when it can."""
    if java() is None:
        return f"no JVM of version {JAVA_VERSION_MIN} or later (apt: default-jre-headless)"
    if not _complete(cache_dir()) and shutil.which("mvn") is None:
        return "no mvn to fetch Kafka's jars with (apt: maven)"
    try:
        jars()
    except BrokerDied as error:
        return str(error)
    return None


def jars() -> Path:
    """The directory with Kafka's jars, fetched from Maven Central if they are not there yet.

    Raises:
        BrokerDied: Maven could not bring them.
    """
    place = cache_dir()
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "apache-kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _complete(place):
            _fetch(place)
    return place


def _complete(place: Path) -> bool:
    """The directory is renamed into place when it has everything that this POM asks for."""
    stored = place / "pom.xml"
    return stored.exists() and stored.read_bytes() == (HERE / "pom.xml").read_bytes()


def _fetch(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        shutil.copy(HERE / "pom.xml", scratch)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(
                [*command, f"-DoutputDirectory={scratch}"],
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokerDied(f"mvn did not bring Kafka's jars: {error}") from None
        if done.returncode != 0:
            raise BrokerDied(f"mvn did not bring Kafka's jars:\n{done.stdout[-2000:]}")
        Path(scratch).chmod(0o755)
        shutil.copytree(scratch, place, dirs_exist_ok=True)


def tool(
    main_class: str, *args: str, timeout_s: float = TOOL_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run one of Kafka's tools by its class, such as `kafka.tools.DumpLogSegments`."""
    command = [str(java()), "-Xmx256M", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*"]
    return subprocess.run(
        [*command, main_class, *args],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class ApacheKafka(ServerProcess):
    """One Kafka broker, its own controller, and its data directory.

    Args:
        root: a directory of its own: holds `data`, the configuration and the log.
        overrides: broker configuration beside what is needed to run at all.
        jvm: flags after those of `jvm.options`, which they override.
        wrap: a command put before java, such as ("taskset", "-c", "0").
        joins: the cluster of another one, which has started and is its controller.
        node_id: in a cluster each has its own.
    """

    # Two JVMs start one after the other, on a machine that may be busy.
    ready_timeout_s = 90.0
    stop_timeout_s = 30.0
    poll_s = 0.02
    exit_codes = frozenset({0, 128 + signal.SIGTERM})  # a JVM answers SIGTERM with 143

    def __init__(
        self,
        root: Path,
        *,
        overrides: Mapping[str, object] | None = None,
        jvm: Sequence[str] = (),
        wrap: Sequence[str] = (),
        joins: "ApacheKafka | None" = None,
        node_id: int = NODE_ID,
    ) -> None:
        super().__init__(root, "kafka.log")
        self.joins = joins
        self.node_id = node_id
        self.data_dir = root / "data"
        self.config_path = root / "server.properties"
        self.overrides = dict(overrides or {})
        self.jvm = list(jvm)
        self.wrap = list(wrap)
        self.controller_port = 0

    def config(self) -> dict[str, object]:
        """The broker's configuration."""
        controller = self.joins or self
        listeners = f"PLAINTEXT://127.0.0.1:{self.port}"
        if self.joins is None:
            listeners += f",CONTROLLER://127.0.0.1:{self.controller_port}"
        return {
            "process.roles": "broker" if self.joins else "broker,controller",
            "node.id": self.node_id,
            "controller.quorum.voters": f"{controller.node_id}@127.0.0.1:"
            f"{controller.controller_port}",
            "listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data_dir,
            # A single broker can have no more, and groups need not wait for late joiners.
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            **self.overrides,
        }

    def command(self) -> list[str]:
        """The whole command line."""
        return [
            *self.wrap,
            str(java()),
            f"@{HERE / 'jvm.options'}",
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
            *self.jvm,
            "-cp",
            f"{jars()}/*",
            "kafka.Kafka",
            str(self.config_path),
        ]

    def format(self) -> None:
        """Write the configuration, and prepare an empty data directory with Kafka's own tool.

        Raises:
            BrokerDied: the tool refused.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lines = [f"{key}={value}\n" for key, value in self.config().items()]
        self.config_path.write_text("".join(lines))
        if not (self.data_dir / "meta.properties").exists():
            args = ["format", "-t", CLUSTER_ID, "-c", str(self.config_path)]
            done = tool("kafka.tools.StorageTool", *args)
            if done.returncode != 0:
                raise BrokerDied(f"StorageTool: {done.stdout}{done.stderr}")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting until it serves."""
        assert self.process is None, "already started"
        if not self.port:
            self.port, self.controller_port = _free_ports(2)
        self.format()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def start(self, timeout_s: float | None = None) -> float:
        """Start it and wait until it serves.

        Returns:
            Seconds from the start of the process (its directory formatted) to the first Metadata
            answer that names a broker.

        Raises:
            BrokerDied: it ended, or was not ready in time.
        """
        for attempt in range(_ATTEMPTS):
            self.spawn()
            began = time.monotonic()
            try:
                self.wait_ready(timeout_s)
                return time.monotonic() - began
            except BrokerDied as error:
                taken = "Address already in use" in str(error)
                if not taken or attempt == _ATTEMPTS - 1 or self._has_data():
                    raise
                self.port = 0
        raise AssertionError("unreachable")

    def _serves(self) -> bool:
        """Whether a Metadata answer names a broker: until then Kafka fences itself."""
        return metadata_names_a_broker(self.port)

    def _has_data(self) -> bool:
        return any(self.data_dir.glob("*-*/*.log"))


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
        return ports


def metadata_names_a_broker(port: int) -> bool:
    """Whether somebody answers Metadata there with at least one broker."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(struct.pack(">i", len(_METADATA_0)) + _METADATA_0)
            head = sock.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    # length, correlation id, number of brokers
    return len(head) == 12 and struct.unpack(">iii", head)[2] > 0
