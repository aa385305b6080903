"""The physical limits, measured beside the brokers in every round: what cannot be avoided at all.

They enter the results as a peer of their own, called `limit`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness

from compare.session import Session

BATCH_BYTES = {"64k": 65536, "1m": 1_000_000}
FETCH_BYTES = 1 << 20
SEND_BUFFER_BYTES = 102_400  # socket.send.buffer.bytes, the default of fastmq and Kafka


def memory(session: Session) -> dict[str, Any]:
    """Memcpy and CRC-32C over data that comes from memory, GB per second of CPU time."""
    return _run("memory", "--cpu", str(harness.BROKER_CPU), "--bytes", "65536")


def fdatasync(session: Session) -> dict[str, Any]:
    """Pwrite of 1 kB and fdatasync in turn."""
    file = session.scratch / "fsync.dat"
    try:
        found = _run("fsync", "--file", str(file), "--seconds", str(session.seconds))
    finally:
        file.unlink(missing_ok=True)
    return {**found, "records_per_s": round(found["syncs"] / session.seconds)}


def append(session: Session, *, batch_bytes: int) -> dict[str, Any]:
    """Receive, CRC-32C, pwrite to fresh pages, answer: no broker can do less for a batch."""
    return _served(session, "append", batch_bytes)


def echo(session: Session) -> dict[str, Any]:
    """Receive 100 bytes, answer: 256 connections, one request in flight on each."""
    return _served(session, "echo", 200, connections=256, inflight=1)


def sendfile(session: Session, *, batch_bytes: int) -> dict[str, Any]:
    """Answer requests of 1 MiB with sendfile from the page cache, with the brokers' send buffer.

    The file is written as a log is, in batches that end somewhere in a page: the kernel keeps such
    a file in smaller pieces than one that was written in whole megabytes.
    """
    file = session.scratch / "limit.dat"
    try:
        with harness.limit(
            "sendfile",
            session.scratch,
            bytes=FETCH_BYTES,
            wrap=256 << 20,
            sndbuf=SEND_BUFFER_BYTES,
            chunk=batch_bytes - 1,
        ) as bare:
            result = harness.load(
                bare,
                api="fetch",
                connections=2,
                inflight=1,
                fetch_bytes=FETCH_BYTES,
                seconds=session.seconds,
            )
    finally:
        file.unlink(missing_ok=True)
    return _figures(result)


def sink(session: Session, *, record_bytes: int) -> dict[str, Any]:
    """Librdkafka into a broker that only acknowledges: what the client can do."""
    command = [sys.executable, str(harness.ROOT / "perf" / "limits" / "sink.py")]
    with harness.yardstick(command, "sink") as bare:
        request = {
            "what": "produce",
            "bootstrap": f"127.0.0.1:{bare.port}",
            "topic": "perf",
            "partitions": 6,
            "seconds": session.seconds,
            "warmup_s": session.warmup_ms / 1000,
            "cpu": harness.LOAD_CPU,
            "record_bytes": record_bytes,
        }
        client = Path(__file__).resolve().parent / "rdkafka_client.py"
        done = subprocess.run(
            [sys.executable, str(client), json.dumps(request)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    rate = found["records"] / found["seconds"]
    return {
        "records_per_s": round(rate),
        "mb_per_s": round(rate * record_bytes / 1e6, 2),
        "load_cpu_s": found["load_cpu_s"],
    }


def _served(
    session: Session, mode: str, batch_bytes: int, connections: int = 4, inflight: int = 5
) -> dict[str, Any]:
    file = session.scratch / "limit.dat"
    records = max(1, batch_bytes // 1009)
    try:
        with harness.limit(mode, session.scratch, wrap=1 << 40) as bare:
            result = harness.load(
                bare,
                connections=connections,
                inflight=inflight,
                records=records,
                record_bytes=min(1000, batch_bytes - 100),
                seconds=session.seconds,
                warmup=session.warmup_ms,
                bytes_max=session.bytes_max,
            )
    finally:
        file.unlink(missing_ok=True)
    return _figures(result)


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    """The harness's result in the words of this comparison."""
    kept = ("requests", "requests_per_s", "records_per_s", "mb_per_s", "cpu_s", "cpu_s_per_gb")
    more = ("cpu_us_per_request", "p50_ms", "p99_ms", "load_cpu_s", "seconds")
    return {key: result[key] for key in (*kept, *more) if key in result}


def _run(program: str, *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [str(harness.BUILD / program), *args], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
