"""Records pass while consumers are killed, the broker is killed, and connections are cut.

A million records (small ones, keyed) go from an idempotent `fastmq.Producer` to a group of
`fastmq.Consumer` processes that commit what they have written down. Judged afterwards from outside:
each record is in the log once, in the order of its key; each was worked on at least once; and no
worker saw the records of a key go back without having lost its partition in between.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

import fastmq

from support.broker import Broker
from support.proxy import CuttingProxy

RECORDS = 1_000_000
KEYS = 997
PARTITIONS = 12
WORKERS = 3
LIMIT_S = 240

_WORKER = """
import sys
import fastmq
from fastmq.errors import KafkaError

bootstrap, path, stop = sys.argv[1:]
out = open(path, "a", buffering=1 << 20)
import os
with fastmq.Consumer(
    bootstrap, "events", group_id="workers", auto_offset_reset="earliest",
    enable_auto_commit=False, session_timeout_ms=3000, heartbeat_interval_ms=300,
    partition_assignment_strategy="cooperative-sticky",
    on_revoked=lambda _c, names: out.write("".join(f"R {n.partition}\\n" for n in names)),
    on_assigned=lambda _c, names: out.write("".join(f"A {n.partition}\\n" for n in names)),
) as consumer:
    while not os.path.exists(stop):
        batch = consumer.poll_batch(0.5)
        if batch is None:
            continue
        out.write("".join(f"{r.partition} {int(r.value)}\\n" for r in batch))
        out.flush()
        try:
            consumer.commit(batch)
        except KafkaError as error:
            out.write(f"# {error.code.name}\\n")
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_million_records_pass_whatever_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 16)))
    rng = random.Random(seed)
    with CuttingProxy() as proxy:
        overrides = {
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}",
            "group.min.session.timeout.ms": 1000,
        }
        bootstrap = f"127.0.0.1:{proxy.port}"
        with Broker(tmp_path / "broker", overrides=overrides) as broker:
            proxy.target = ("127.0.0.1", broker.port)
            with fastmq.Admin(bootstrap) as admin:
                admin.create_topic("events", PARTITIONS)
            stop = tmp_path / "stop"
            workers = [_Worker(tmp_path, n, bootstrap, stop) for n in range(WORKERS)]
            try:
                kills, cuts = _run(rng, broker, proxy, workers)
            finally:
                stop.touch()
                for worker in workers:
                    worker.end()
            seen, steps_back = _judge_workers(workers)
            stored = _read_log(bootstrap)
    assert len(stored) == RECORDS
    assert len(seen) == RECORDS
    assert steps_back == 0
    total = sum(worker.lines for worker in workers)
    print(
        f"\nclient chaos, seed {seed}: {RECORDS:,} records, {kills} kills, {cuts} cuts: "
        f"0 lost, 0 twice in the log, order per key kept; {total - RECORDS:,} worked on again"
    )


class _Worker:
    """A consumer process that is started again whenever it was killed."""

    def __init__(self, root: Path, number: int, bootstrap: str, stop: Path) -> None:
        self.path = root / f"worker-{number}"
        self.path.touch()
        self._command = [sys.executable, "-c", _WORKER, bootstrap, str(self.path), str(stop)]
        self.lines = 0
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(self._command)
        return self.process

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        with self.path.open("a") as out:
            out.write("\nKILLED\n")

    def end(self) -> None:
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def progress(self) -> int:
        return self.path.stat().st_size


def _run(
    rng: random.Random, broker: Broker, proxy: CuttingProxy, workers: list[_Worker]
) -> tuple[int, int]:
    """Produce everything, with trouble now and then; wait until all was worked on."""
    kills = cuts = 0
    bootstrap = f"127.0.0.1:{proxy.port}"
    with fastmq.Producer(
        bootstrap, linger_ms=5, buffer_memory=64 << 20, delivery_timeout_ms=120_000
    ) as producer:
        failures: list[Exception] = []

        def told(error: Exception | None, _metadata: object) -> None:
            if error is not None:
                failures.append(error)

        trouble = sorted(rng.sample(range(50_000, RECORDS - 50_000), 12))
        for n in range(RECORDS):
            key = n % KEYS
            producer.produce(
                "events", b"%d" % n, b"%d" % key, partition=key % PARTITIONS, on_delivery=told
            )
            if trouble and n == trouble[0]:
                trouble.pop(0)
                match rng.choice(["broker", "worker", "cut", "cut"]):
                    case "broker":
                        broker.kill()
                        broker.start()
                        kills += 1
                    case "worker":
                        worker = rng.choice(workers)
                        worker.kill()
                        worker.start()
                        kills += 1
                    case _:
                        proxy.cut_all()
                        cuts += 1
        producer.flush(120)
        assert not failures
    deadline = time.monotonic() + LIMIT_S
    while True:
        with fastmq.Admin(bootstrap) as admin:
            parts = admin.group_lag("workers")
        lag = sum(part.lag or 0 for part in parts)
        known = len(parts)
        if known == PARTITIONS and lag == 0:
            return kills, cuts
        assert time.monotonic() < deadline, f"{lag} records were not worked on in time"
        time.sleep(0.2)


def _judge_workers(workers: list[_Worker]) -> tuple[set[int], int]:
    """What was worked on; and how often a partition went back while a worker kept it."""
    seen: set[int] = set()
    back = 0
    for worker in workers:
        last: dict[int, dict[int, int]] = defaultdict(dict)
        for line in worker.path.read_text().splitlines():
            first, _, rest = line.partition(" ")
            if not line or first == "#":
                continue
            if first in ("R", "A"):
                last.pop(int(rest), None)
            elif first == "KILLED":
                last.clear()
            elif rest:
                partition, n = int(first), int(rest)
                worker.lines += 1
                seen.add(n)
                back += last[partition].get(n % KEYS, -1) >= n
                last[partition][n % KEYS] = n
    return seen, back


def _read_log(bootstrap: str) -> set[int]:
    """Everything in the topic, once and in the order of each key."""
    found: set[int] = set()
    last: dict[int, int] = {}
    with fastmq.Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([("events", index) for index in range(PARTITIONS)])
        while len(found) < RECORDS:
            batch = consumer.poll_batch(20)
            assert batch is not None, f"only {len(found)} records are in the log"
            for record in batch:
                n = int(record.value)
                assert n not in found, f"record {n} is there twice"
                assert last.get(n % KEYS, -1) < n, f"key {n % KEYS} is out of order"
                found.add(n)
                last[n % KEYS] = n
        assert consumer.poll(0.5) is None
    return found
