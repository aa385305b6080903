"""Loads for the brokers that speak Kafka's protocol: raw generators and librdkafka."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from compare.peers import Running
from compare.session import Session, generator, measured

ADMIN_TIMEOUT_S = 120
DELETE_TIMEOUT_S = 30
HERE = Path(__file__).resolve().parent
# What makes an acknowledgement wait for the disk.
DURABLE = {"fastmq": {"fastmq.flush": "ack"}, "kafka": {"flush.messages": "1"}}
FETCH_BYTES = 1 << 20
CREATE_MAX = 4000  # partitions per request: Kafka refuses more than 10,000 records at once


def admin(running: Running) -> AdminClient:
    """A client for topics."""
    return AdminClient({"bootstrap.servers": f"127.0.0.1:{running.port}", "log_level": 0})


@contextlib.contextmanager
def topic(
    session: Session,
    running: Running,
    partitions: int,
    *,
    durable: bool = False,
    replicas: int = 1,
) -> Iterator[str]:
    """A topic that exists while it is measured; its files go at once, not after a minute."""
    name = session.new_name("perf")
    config = {"file.delete.delay.ms": "100", "retention.ms": "-1"}
    if durable:
        config |= DURABLE[running.name]
    client = admin(running)
    first = min(partitions, CREATE_MAX)
    new = NewTopic(name, first, replicas, config=config)
    client.create_topics([new], operation_timeout=ADMIN_TIMEOUT_S)[name].result(ADMIN_TIMEOUT_S)
    for count in range(first + CREATE_MAX, partitions + CREATE_MAX, CREATE_MAX):
        more = NewPartitions(name, min(count, partitions))
        done = client.create_partitions([more], operation_timeout=ADMIN_TIMEOUT_S)
        done[name].result(ADMIN_TIMEOUT_S)
    wait_for_leaders(client, name, partitions)
    try:
        yield name
    finally:
        deleted = client.delete_topics([name], operation_timeout=ADMIN_TIMEOUT_S)
        deleted[name].result(ADMIN_TIMEOUT_S)
        wait_for_no_files(running, name)


def wait_for_no_files(running: Running, name: str) -> None:
    """Wait until a topic's files are gone: their pages are what the next one writes to.

    A broker that is paused before it has removed them would charge whoever comes next for memory
    that the host has to hand out anew, and for the removal. It ends after a while: this is about
    fairness only.
    """
    deadline = time.monotonic() + DELETE_TIMEOUT_S
    while time.monotonic() < deadline:
        if not any(running.peer.root.glob(f"**/{name}-*")):
            return
        time.sleep(0.05)


def wait_for_leaders(client: AdminClient, name: str, partitions: int) -> None:
    """Wait until each partition's leader answers for it: Kafka's metadata is ahead of its logs.

    Raises:
        TimeoutError: one does not.
    """
    left = {TopicPartition(name, p) for p in range(partitions)}
    deadline = time.monotonic() + ADMIN_TIMEOUT_S
    while time.monotonic() < deadline:
        asked = client.list_offsets(dict.fromkeys(left, OffsetSpec.latest()), request_timeout=30)
        for place, future in asked.items():
            with contextlib.suppress(KafkaException):
                future.result(30)
                left.discard(place)
        if not left:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{name}: no leaders for {len(left)} of {partitions} partitions")


def records_of(batch_bytes: int, record_bytes: int) -> int:
    """How many records make a batch of about that size (61 bytes of head, about 9 a record)."""
    return max(1, (batch_bytes - 61) // (record_bytes + 9))


# --------------------------------------------------------------------------------------- produce


def warm(session: Session, running: Running) -> None:
    """The shapes of the workloads, unmeasured, so that a JVM has compiled what it needs."""
    for batch_bytes in (65536, 4096, 1):
        produce(session, running, record_bytes=1000, batch_bytes=batch_bytes)
        produce(session, running, record_bytes=100, batch_bytes=batch_bytes, connections=64)
    for partitions in (1, 6):
        consume(session, running, record_bytes=1000, batch_bytes=16384, partitions=partitions)
    rdkafka(session, running, what="produce", record_bytes=1000)


def produce(
    session: Session,
    running: Running,
    *,
    record_bytes: int,
    batch_bytes: int,
    partitions: int = 6,
    connections: int = 4,
    inflight: int = 5,
    acks: int = -1,
    key_bytes: int = 0,
    durable: bool = False,
) -> dict[str, Any]:
    """Batches of one size as fast as they are acknowledged; connections take partitions in turn."""
    with topic(session, running, partitions, durable=durable) as name:
        return generator(
            "load",
            running,
            record_bytes,
            topic=name,
            partitions=partitions,
            cycle=1,
            connections=connections,
            inflight=inflight,
            acks=acks,
            records=records_of(batch_bytes, record_bytes),
            key_bytes=key_bytes,
            # A partition's first batch opens files and writes a checkpoint.
            warmup_requests=2 * partitions,
            seconds=session.seconds,
            warmup=session.warmup_ms,
            bytes_max=session.bytes_max,
        )


def many_partitions(session: Session, running: Running, *, partitions: int) -> dict[str, Any]:
    """Batches of 4 KiB to all partitions in turn, as fast as they are acknowledged."""
    partitions = scaled(session, partitions)
    figures = produce(session, running, record_bytes=1000, batch_bytes=4096, partitions=partitions)
    return {**figures, "partitions": partitions}


def mixed(session: Session, running: Running, *, partitions: int) -> dict[str, Any]:
    """20 MB/s in batches of 4 KiB to all partitions in turn, all of them read by long polls."""
    partitions = scaled(session, partitions)
    with topic(session, running, partitions) as name:
        records = records_of(4096, 1000)
        touched = ["--topic", name, "--partitions", str(partitions), "--cycle", "1"]
        touched += ["--port", str(running.port), "--seconds", "0", "--warmup", "0"]
        touched += ["--records", str(records), "--warmup-requests", str(partitions)]
        subprocess.run([str(harness.BUILD / "load"), *touched], check=True, capture_output=True)
        figures = generator(
            "latency",
            running,
            1000,
            topic=name,
            partitions=partitions,
            rate=20_000,
            records=records,
            consumers=max(1, partitions // 100),
            seconds=session.seconds,
            warmup=session.warmup_ms + 500,
        )
        return {**figures, "partitions": partitions}


def scaled(session: Session, partitions: int) -> int:
    """As many partitions as the session's scale wants, six at least."""
    return max(6, int(partitions * session.scale))


# --------------------------------------------------------------------------------------- consume


def fill(
    session: Session,
    running: Running,
    name: str,
    *,
    partitions: int,
    record_bytes: int,
    batch_bytes: int,
    total_bytes: int,
) -> int:
    """Write about that much into a topic; returns the number of records."""
    filled = generator(
        "load",
        running,
        record_bytes,
        topic=name,
        partitions=partitions,
        cycle=1,
        connections=4,
        inflight=4,
        records=records_of(batch_bytes, record_bytes),
        seconds=60,
        warmup=0,
        bytes_max=int(total_bytes * session.scale),
    )
    return int(filled["records"])


def consume(
    session: Session,
    running: Running,
    *,
    record_bytes: int,
    batch_bytes: int,
    partitions: int = 1,
    connections: int = 2,
    cold: bool = False,
    total_bytes: int = 400_000_000,
) -> dict[str, Any]:
    """Fetches of 1 MiB over what was written before: from the page cache, or from the disk."""
    with topic(session, running, partitions) as name:
        filled = fill(
            session,
            running,
            name,
            partitions=partitions,
            record_bytes=record_bytes,
            batch_bytes=batch_bytes,
            total_bytes=total_bytes,
        )
        if cold:
            drop_cache(running)
        return generator(
            "load",
            running,
            record_bytes,
            topic=name,
            api="fetch",
            partitions=partitions,
            per_request=min(partitions, 100),
            connections=1 if cold else connections,
            fetch_bytes=FETCH_BYTES,
            seconds=session.seconds * (5 if cold else 1),
            warmup=0 if cold else session.warmup_ms,
            # Once through: the second time it would come from the cache.
            bytes_max=filled * record_bytes if cold else 0,
        )


def drop_cache(running: Running) -> None:
    """Write the broker's files to the disk and take them out of the page cache."""
    for file in running.peer.root.rglob("*.log"):
        with file.open("rb") as log:
            os.fsync(log.fileno())
            os.posix_fadvise(log.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def backlog(session: Session, running: Running) -> dict[str, Any]:
    """A consumer reads what has piled up while producers go on at 20 MB/s.

    `mb_per_s` is the consumer's; the latencies are the producers' acknowledgements.
    """
    partitions = 6
    with topic(session, running, partitions) as name:
        fill(
            session,
            running,
            name,
            partitions=partitions,
            record_bytes=1000,
            batch_bytes=16384,
            total_bytes=600_000_000,
        )
        paced = [str(harness.BUILD / "latency"), "--port", str(running.port), "--topic", name]
        paced += ["--partitions", str(partitions), "--consumers", "0", "--rate", "20000"]
        paced += ["--records", "10", "--cpu", str(harness.LOAD_CPU)]
        paced += ["--seconds", str(session.seconds), "--warmup", str(session.warmup_ms)]
        with subprocess.Popen(paced, stdout=subprocess.PIPE, text=True) as producing:
            figures = generator(
                "load",
                running,
                1000,
                topic=name,
                api="fetch",
                partitions=partitions,
                per_request=partitions,
                connections=2,
                fetch_bytes=FETCH_BYTES,
                seconds=session.seconds,
                warmup=session.warmup_ms,
            )
            said = producing.communicate(timeout=60)[0].splitlines()
        acks = json.loads(said[-1])
        for key in ("p50_ms", "p99_ms", "p999_ms"):
            figures[key] = acks[f"ack_{key}"]
        return figures


# --------------------------------------------------------------------------------------- latency


def latency(
    session: Session,
    running: Running,
    *,
    produce_of: str,
    consume_of: str,
    record_bytes: int,
    batch_bytes: int,
    fraction: float = 0.5,
) -> dict[str, Any]:
    """End to end at the same rate for all: half of what the slowest can produce and consume.

    A broker on one core that produces P records/s or consumes C records/s can do both at
    1 / (1/P + 1/C); P and C are the medians of the two workloads named.
    """
    limits = []
    for name in session.running:
        produced = session.median(produce_of, name, "records_per_s")
        consumed = session.median(consume_of, name, "records_per_s")
        if produced and consumed:
            limits.append(1 / (1 / produced + 1 / consumed))
    if not limits:
        raise RuntimeError(f"the rate comes from {produce_of} and {consume_of}: run these, too")
    partitions = 6
    with topic(session, running, partitions) as name:
        return generator(
            "latency",
            running,
            record_bytes,
            topic=name,
            partitions=partitions,
            rate=max(100, int(min(limits) * fraction)),
            records=records_of(batch_bytes, record_bytes),
            producers=4,
            consumers=2,
            seconds=session.seconds,
            warmup=session.warmup_ms,
        )


# ------------------------------------------------------------------------------------ librdkafka


def rdkafka(
    session: Session,
    running: Running,
    *,
    what: str,
    partitions: int = 6,
    replicas: int = 1,
    **settings: Any,
) -> dict[str, Any]:
    """confluent-kafka in a process of its own; see rdkafka_client.py."""
    with topic(session, running, partitions, replicas=replicas) as name:
        request = {
            "what": what,
            "bootstrap": f"127.0.0.1:{running.port}",
            "topic": name,
            "partitions": partitions,
            "seconds": session.seconds,
            "warmup_s": session.warmup_ms / 1000,
            "cpu": harness.LOAD_CPU,
            **settings,
        }
        command = [sys.executable, str(HERE / "rdkafka_client.py"), json.dumps(request)]
        return measured(command, running, int(request["record_bytes"]))


def group(session: Session, running: Running, *, consumers: int = 100) -> dict[str, Any]:
    """A group of many consumers: from the first subscribe until all records were seen."""
    consumers = max(4, int(consumers * session.scale))
    return rdkafka(
        session,
        running,
        what="group",
        partitions=consumers,
        consumers=consumers,
        record_bytes=100,
    )
