"""What a broker costs before it does anything: start-up, idle memory, installed size."""

import shutil
import struct
import time
from typing import Any

import harness

from compare.kafka_loads import topic
from compare.peers import PEERS, Running
from compare.peers.base import answers, wait_until
from compare.session import Session

import support.broker
from support import apache_kafka

IDLE_S = 1.0
METADATA_REQUEST = struct.pack(">ihhih4si", 18, 3, 0, 1, 4, b"perf", 0)


def start_up(session: Session, running: Running) -> dict[str, Any]:
    """A second instance on an empty directory: to its first answer, then its memory when idle."""
    root = session.scratch / session.new_name(f"{running.name}-start")
    peer = PEERS[running.name](root, may_install=False)
    fresh = peer.start()
    try:
        before = fresh.cpu_seconds()
        time.sleep(IDLE_S)
        return {
            "start_s": round(fresh.start_s, 3),
            "idle_rss_mib": round(fresh.rss_mib(), 1),
            "start_cpu_s": round(before, 3),
            "idle_cpu_share": round((fresh.cpu_seconds() - before) / IDLE_S, 4),
            "install_mib": round(peer.install_bytes() / (1 << 20), 1),
        }
    finally:
        fresh.stop()
        shutil.rmtree(root, ignore_errors=True)


def restart_with_partitions(
    session: Session, running: Running, *, partitions: int = 10_000
) -> dict[str, Any]:
    """A broker with many partitions is stopped cleanly and started again, to its first answer."""
    partitions = max(100, int(partitions * session.scale))
    root = session.scratch / session.new_name(f"{running.name}-many")
    kind = type(running.peer)
    wrap = ("taskset", "-c", str(harness.BROKER_CPU))
    broker: support.broker.Broker | apache_kafka.ApacheKafka
    if running.name == "fastmq":
        broker = support.broker.Broker(root, dev=False, wrap=wrap)
    else:
        broker = apache_kafka.ApacheKafka(root, wrap=wrap)
    broker.start()
    began = time.monotonic()
    try:
        place = Running(kind(root, may_install=False), broker.port, broker.pid, broker.stop, 0.0)
        with topic(session, place, partitions):
            create_s = time.monotonic() - began
            rss_mib = place.rss_mib()
            broker.stop()
            began = time.monotonic()
            broker.spawn()
            wait_until(lambda: answers(broker.port, METADATA_REQUEST, 8), 120, running.name)
            if isinstance(broker, apache_kafka.ApacheKafka):
                broker.wait_ready()
            restart_s = time.monotonic() - began
            place = Running(place.peer, broker.port, broker.pid, broker.stop, 0.0)
            after_mib = place.rss_mib()
        return {
            "partitions": partitions,
            "create_s": round(create_s, 2),
            "restart_s": round(restart_s, 3),
            "rss_mib_after_create": round(rss_mib, 1),
            "rss_mib_after_restart": round(after_mib, 1),
        }
    finally:
        if broker.is_running():
            broker.kill()
        shutil.rmtree(root, ignore_errors=True)
