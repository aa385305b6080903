"""Three brokers, three replicas, acks=all: fastmq's processes against three Kafkas, on all cores.

As in two_cores, the load shares the machine with the brokers, so throughput is what the machine
does in all; CPU time is the brokers' alone, supervisor and controller included. Each run starts its
brokers, because nothing else may run beside them.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness

from compare import kafka_loads
from compare.peers import PEERS, Running
from compare.peers.fastmq import OVERRIDES
from compare.peers.kafka import OVERRIDES as KAFKA_OVERRIDES
from compare.session import Session
from compare.two_cores import BROKERS as CORES
from compare.two_cores import children

from support import apache_kafka, broker

BROKERS = 3
PARTITIONS = 12
WARM_UP_FACTOR = 6  # of the measurement
_CPUS = ("taskset", "-c", f"0-{CORES - 1}")


class Cluster(Running):
    """Brokers that are one cluster; `pids` are their processes."""

    def __init__(self, name: str, root: Path, port: int, pids: list[int]) -> None:
        super().__init__(PEERS[name](root, may_install=False), port, pids[0], lambda: None, 0.0)
        self._pids = pids

    def cpu_seconds(self) -> float:
        """CPU time of all of them and of what they started."""
        pids = [pid for parent in self._pids for pid in (parent, *children(parent))]
        return sum(harness.Target(self.name, 0, pid, blind=False).cpu_seconds() for pid in pids)


def produce(session: Session, running: Running) -> dict[str, Any]:
    """Librdkafka produces 1 KB records with acks=all to partitions of three replicas."""
    root = session.scratch / session.new_name(f"{running.name}-three")
    start = _fastmqs if running.name == "fastmq" else _kafkas
    settings = {
        "what": "produce",
        "record_bytes": 1000,
        "partitions": PARTITIONS,
        "replicas": BROKERS,
        "cpu": None,
    }
    try:
        with start(root) as cluster:
            # Three JVMs on two cores take long until they have compiled what they need.
            warm_s = WARM_UP_FACTOR * session.seconds
            kafka_loads.rdkafka(session, cluster, **settings, seconds=warm_s)
            figures = kafka_loads.rdkafka(session, cluster, **settings)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    del figures["peak_rss_mib"]  # of one process only
    return {**figures, "brokers": BROKERS}


@contextlib.contextmanager
def _fastmqs(root: Path) -> Iterator[Cluster]:
    several = broker.Broker(
        root, dev=False, overrides=OVERRIDES, args=["--brokers", str(BROKERS)], wrap=_CPUS
    )
    with several:
        yield Cluster("fastmq", root, several.port, [several.pid])


@contextlib.contextmanager
def _kafkas(root: Path) -> Iterator[Cluster]:
    """The first one is the controller, too."""
    replicated = {
        **KAFKA_OVERRIDES,
        "offsets.topic.replication.factor": BROKERS,
        "transaction.state.log.replication.factor": BROKERS,
    }
    with contextlib.ExitStack() as stack:
        first = apache_kafka.ApacheKafka(root / "1", overrides=replicated, wrap=_CPUS)
        kafkas = [stack.enter_context(first)]
        for node_id in range(2, BROKERS + 1):
            more = apache_kafka.ApacheKafka(
                root / str(node_id), joins=first, node_id=node_id, overrides=replicated, wrap=_CPUS
            )
            kafkas.append(stack.enter_context(more))
        yield Cluster("kafka", root, first.port, [kafka.pid for kafka in kafkas])
