"""Both brokers on two cores: as many fastmq processes against one Kafka, load beside them.

The load has no core of its own here, so throughput is what the machine does in all; the CPU time is
the brokers' alone. Each run starts its broker, because nothing else may run on the two cores.
"""

import shutil
from pathlib import Path
from typing import Any

import harness

from compare import kafka_loads
from compare.peers import PEERS, Running
from compare.peers.fastmq import OVERRIDES
from compare.peers.kafka import OVERRIDES as KAFKA_OVERRIDES
from compare.session import Session

from support import apache_kafka, broker

BROKERS = 2
PARTITIONS = 12


class Several(Running):
    """A broker of several processes."""

    def cpu_seconds(self) -> float:
        """CPU time of the supervisor and all below it."""
        pids = [self.pid, *children(self.pid)]
        return sum(harness.Target(self.name, 0, pid, blind=False).cpu_seconds() for pid in pids)


def produce(session: Session, running: Running) -> dict[str, Any]:
    """Librdkafka produces 1 KB records to twelve partitions."""
    root = session.scratch / session.new_name(f"{running.name}-two")
    cores = f"0-{BROKERS - 1}"
    several: broker.Broker | apache_kafka.ApacheKafka
    if running.name == "fastmq":
        several = broker.Broker(
            root,
            dev=False,
            overrides=OVERRIDES,
            args=["--brokers", str(BROKERS)],
            wrap=("taskset", "-c", cores),
        )
    else:
        several = apache_kafka.ApacheKafka(
            root, overrides=KAFKA_OVERRIDES, wrap=("taskset", "-c", cores)
        )
    several.start()
    try:
        peer = PEERS[running.name](root, may_install=False)
        place = Several(peer, several.port, several.pid, several.stop, 0.0)
        settings = {"record_bytes": 1000, "partitions": PARTITIONS, "cpu": None}
        # Twice: the first time a JVM compiles.
        kafka_loads.rdkafka(session, place, what="produce", **settings)
        figures = kafka_loads.rdkafka(session, place, what="produce", **settings)
        del figures["peak_rss_mib"]  # of one process only
        return {**figures, "processes": 1 + len(children(several.pid))}
    finally:
        several.stop()
        shutil.rmtree(root, ignore_errors=True)


def children(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for word in (task / "children").read_text().split():
            found += [int(word), *children(int(word))]
    return found
