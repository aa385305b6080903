"""Apache Kafka 4.3 in KRaft combined mode, as `tests/support/apache_kafka` starts it."""

import subprocess
from pathlib import Path
from typing import Any

from compare.peers.base import (
    Peer,
    PeerMissing,
    Running,
    apt_install,
    first_line,
    pinned,
    tree_bytes,
)

from support import apache_kafka

OVERRIDES = {
    # Not fenced by itself for the time it was paused.
    "broker.session.timeout.ms": 3_600_000,
    # How often Kafka looks for files to delete; with its minute each measurement waits for it.
    "log.segment.delete.delay.ms": 500,
    "broker.heartbeat.interval.ms": 2000,
    "auto.create.topics.enable": "false",
}


class Kafka(Peer):
    """A JVM with the heap and garbage collector flags of Kafka's own start script."""

    name = "kafka"
    title = "Apache Kafka"
    speaks_kafka = True

    def prepare(self) -> None:
        if apache_kafka.java() is None:
            apt_install("default-jre-headless", self.may_install)
        why = apache_kafka.missing()
        if why and "mvn" in why:
            apt_install("maven", self.may_install)
            why = apache_kafka.missing()
        if why:
            raise PeerMissing(why)

    def version(self) -> str:
        return str(apache_kafka.VERSION)

    def settings(self) -> dict[str, Any]:
        flags = (apache_kafka.HERE / "jvm.options").read_text().splitlines()
        return {
            "overrides": OVERRIDES,
            "jvm_flags": [flag for flag in flags if not flag.startswith("#")],
            "java": first_line([str(apache_kafka.java()), "-version"]),
        }

    def start(self) -> Running:
        broker = apache_kafka.ApacheKafka(self.root, overrides=OVERRIDES, wrap=pinned(()))
        start_s = broker.start()
        return Running(self, broker.port, broker.pid, broker.stop, start_s)

    def install_bytes(self) -> int:
        """The jars and a Java runtime."""
        shown = subprocess.run(
            [str(apache_kafka.java()), "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            check=False,
        )
        homes = [
            line.partition("=")[2].strip()
            for line in shown.stderr.splitlines()
            if line.strip().startswith("java.home")
        ]
        runtime = Path(homes[0])
        # jmods and sources are for developers; a runtime has the rest.
        size = tree_bytes(runtime / "lib", runtime / "bin") - tree_bytes(
            runtime / "lib" / "src.zip"
        )
        return size + tree_bytes(apache_kafka.jars())
