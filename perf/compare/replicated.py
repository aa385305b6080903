"""Three brokers, three replicas, acks=all: fastmq's processes against three Kafkas, on all cores.

As in two_cores, the load shares the machine with the brokers, so throughput is what the machine
does in all; CPU time is the brokers' alone, supervisor and controller included. Each run starts its
brokers, because nothing else may run beside them, and warms them up by the measured work itself,
slice by slice, until it gets hardly faster: what a JVM has still to compile is not measured, and
both sides are judged by one rule.
"""

import contextlib
import shutil
import sqlite3
import tempfile
import time
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
from fastmq.server.store import METADATA_FILE

from support import apache_kafka, broker

BROKERS = 3
PARTITIONS = 12
# The warm-up's slices are as long as a measurement. Three JVMs on two cores take a minute and more.
WARM_SLICES_MIN = 6
WARM_SLICES_MAX = 45
WARM_SLICES_STILL = 4  # so many in a row that were hardly faster end it
WARM_GAIN = 1.05
WARM_UP_MAX_S = 240.0
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
            warm = _warm(session, cluster, settings)
            writes, began = _store_writes(root), time.monotonic()
            figures = kafka_loads.rdkafka(session, cluster, **settings)
            if running.name == "fastmq":
                # The topic's creation and removal among them, which do not grow with records.
                warm["store_writes"] = _store_writes(root) - writes
                warm["store_writes_in_s"] = round(time.monotonic() - began, 1)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    del figures["peak_rss_mib"]  # of one process only
    return {**figures, **warm, "brokers": BROKERS}


def _warm(session: Session, cluster: Cluster, settings: dict[str, Any]) -> dict[str, Any]:
    """Do what is measured until it gets no faster; returns how much of it that took."""
    rates: list[int] = []
    end = time.monotonic() + WARM_UP_MAX_S
    while len(rates) < WARM_SLICES_MAX and time.monotonic() < end and not _is_warm(rates):
        rates.append(int(kafka_loads.rdkafka(session, cluster, **settings)["records_per_s"] or 0))
    return {"warm_up_slices": len(rates), "warm_up_records_per_s": rates}


def _is_warm(rates: list[int]) -> bool:
    if len(rates) < max(WARM_SLICES_MIN, WARM_SLICES_STILL + 1):
        return False
    return max(rates[-WARM_SLICES_STILL:]) <= WARM_GAIN * max(rates[:-WARM_SLICES_STILL])


def _store_writes(root: Path) -> int:
    """How many transactions have changed the store of the fastmq brokers below `root`, so far.

    Their supervisor keeps the file locked, so a copy is read, its write-ahead log included.
    """
    file = next(root.rglob(METADATA_FILE), None)
    if file is None:
        return 0
    with tempfile.TemporaryDirectory() as copies:
        for part in file.parent.glob(f"{METADATA_FILE}*"):
            shutil.copy(part, copies)
        with contextlib.closing(sqlite3.connect(Path(copies) / METADATA_FILE)) as store:
            row = store.execute("SELECT value FROM counters WHERE name = 'revision'").fetchone()
    return int(row[0])


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
        "log.segment.delete.delay.ms": 100,  # of deleted topics, whatever they said themselves
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
