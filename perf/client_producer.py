"""Python producers side by side: a loop that calls produce() with 1 kB records, on one core.

The broker has core 0, the producer core 1 (I/O threads included). Each round runs every producer
in a process of its own, one after the other. All wait for acks=all at the end; those that can are
idempotent. Targets: fastmq >= confluent-kafka in records/s and <= in CPU per million records, >= 10
times kafka-python, >= 4 times aiokafka.

    python perf/client_producer.py --rounds 5 --records 500000
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

RECORD_BYTES = 1000
BATCH_BYTES = 1_000_000
LINGER_MS = 5
# The slow ones get fewer records, for about the same time.
SHARE = {"fastmq": 1.0, "fastmq_aio": 1.0, "confluent": 1.0, "aiokafka": 0.15, "kafka_python": 0.05}
FLUSH_S = 120


def fastmq(bootstrap: str, count: int) -> None:
    import fastmq as package

    value = bytes(RECORD_BYTES)
    with package.Producer(bootstrap, linger_ms=LINGER_MS, batch_size=BATCH_BYTES) as producer:
        produce = producer.produce
        for _ in range(count):
            produce(harness.TOPIC, value)


def fastmq_aio(bootstrap: str, count: int) -> None:
    import fastmq.aio
    from fastmq.errors import BufferFull

    async def main() -> None:
        value = bytes(RECORD_BYTES)
        options = {"linger_ms": LINGER_MS, "batch_size": BATCH_BYTES}
        async with fastmq.aio.Producer(bootstrap, **options) as producer:
            produce = producer.produce
            for _ in range(count):
                try:
                    produce(harness.TOPIC, value)
                except BufferFull:
                    await producer.send(harness.TOPIC, value)

    asyncio.run(main())


def confluent(bootstrap: str, count: int) -> None:
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 500_000,
        }
    )
    value = bytes(RECORD_BYTES)
    produce = producer.produce
    for n in range(count):
        try:
            produce(harness.TOPIC, value)
        except BufferError:
            producer.poll(0.01)
            produce(harness.TOPIC, value)
        if n % 1000 == 0:
            producer.poll(0)
    assert producer.flush(FLUSH_S) == 0


def kafka_python(bootstrap: str, count: int) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=LINGER_MS, batch_size=BATCH_BYTES, acks="all"
    )
    value = bytes(RECORD_BYTES)
    for _ in range(count):
        producer.send(harness.TOPIC, value)
    producer.flush(FLUSH_S)
    producer.close()


def aiokafka(bootstrap: str, count: int) -> None:
    from aiokafka import AIOKafkaProducer

    async def main() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            enable_idempotence=True,
        )
        await producer.start()
        value = bytes(RECORD_BYTES)
        for _ in range(count):
            await producer.send(harness.TOPIC, value)
        await producer.stop()

    asyncio.run(main())


PRODUCERS: dict[str, Callable[[str, int], None]] = {
    "fastmq": fastmq,
    "fastmq_aio": fastmq_aio,
    "confluent": confluent,
    "aiokafka": aiokafka,
    "kafka_python": kafka_python,
}


def work(name: str, bootstrap: str, count: int) -> None:
    """Run one producer in this process; warmed by a few records."""
    produce = PRODUCERS[name]
    produce(bootstrap, 1000)
    cpu, began = time.process_time(), time.monotonic()
    produce(bootstrap, count)
    wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"records_per_s": count / wall_s, "cpu_s_per_million": cpu_s / count * 1e6}))


def measure(name: str, bootstrap: str, count: int) -> dict[str, Any]:
    """Run one producer in a process of its own, on its core."""
    command = ["taskset", "-c", str(harness.LOAD_CPU), sys.executable, __file__]
    command += ["--worker", name, "--bootstrap", bootstrap, "--records", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=PRODUCERS, default=list(PRODUCERS))
    parser.add_argument("--worker", choices=PRODUCERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.bootstrap, options.records)
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    with harness.scratch(options) as root, harness.broker(options, root, options.partitions) as at:
        bootstrap = f"127.0.0.1:{at.port}"
        for _ in range(options.rounds):
            for name in options.only:
                count = max(1000, int(options.records * SHARE[name]))
                found[name].append(measure(name, bootstrap, count))
    for name, rounds in found.items():
        line = {"script": Path(__file__).name, "producer": name}
        line["partitions"] = options.partitions
        for key in ("records_per_s", "cpu_s_per_million"):
            line[key] = round(statistics.median(row[key] for row in rounds), 3)
        print(json.dumps(line), flush=True)


main()
