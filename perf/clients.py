"""Python clients against fastmq: records/s and the client's own CPU per million records.

    python perf/clients.py --seconds 3 --rounds 3

Each client runs in a process of its own on the load's core, with its defaults but linger 5 ms,
acks=all and, where it has one, idempotence off; the broker does not sync. Interleaved rounds,
medians of the lines with the same client are to be compared.
"""

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

PARTITIONS = 6
RECORD_BYTES = (1000, 100)
CLIENTS = ("confluent-kafka", "kafka-python", "aiokafka", "fastmq", "fastmq.aio")
STALL_S = 60
LINGER_MS = 5
FILL_RECORDS = 100_000


def produce_confluent(bootstrap: str, topic: str, value: bytes, seconds: float) -> int:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": LINGER_MS})
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            try:
                producer.produce(topic, value, partition=count % PARTITIONS)
                count += 1
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    assert producer.flush(STALL_S) == 0
    return count


def produce_kafka_python(bootstrap: str, topic: str, value: bytes, seconds: float) -> int:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=LINGER_MS, acks="all", enable_idempotence=False
    )
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            producer.send(topic, value, partition=count % PARTITIONS)
            count += 1
    producer.flush(STALL_S)
    producer.close()
    return count


def produce_aiokafka(bootstrap: str, topic: str, value: bytes, seconds: float) -> int:
    from aiokafka import AIOKafkaProducer

    async def run() -> int:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=LINGER_MS, acks="all")
        await producer.start()
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(200):
                await producer.send(topic, value, partition=count % PARTITIONS)
                count += 1
        await producer.stop()
        return count

    return asyncio.run(run())


def produce_fastmq(bootstrap: str, topic: str, value: bytes, seconds: float) -> int:
    from fastmq import Producer

    count = 0
    with Producer(bootstrap, linger_ms=LINGER_MS, enable_idempotence=False) as producer:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(200):
                producer.produce(topic, value, partition=count % PARTITIONS)
                count += 1
        producer.flush(STALL_S)
    return count


def produce_fastmq_aio(bootstrap: str, topic: str, value: bytes, seconds: float) -> int:
    import trio

    from fastmq.aio import Producer

    async def run() -> int:
        count = 0
        async with Producer(bootstrap, linger_ms=LINGER_MS, enable_idempotence=False) as producer:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for _ in range(200):
                    await producer.send(topic, value, partition=count % PARTITIONS)
                    count += 1
            await producer.flush()
        return count

    return trio.run(run)


def consume_confluent(bootstrap: str, topic: str, count: int) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "enable.auto.commit": 0})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    seen, end = 0, time.monotonic() + STALL_S
    while seen < count and time.monotonic() < end:
        seen += len(consumer.consume(1000, 0.5))
    consumer.close()
    return seen


def consume_kafka_python(bootstrap: str, topic: str, count: int) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    places = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer.assign(places)
    consumer.seek_to_beginning()
    seen, end = 0, time.monotonic() + STALL_S
    while seen < count and time.monotonic() < end:
        seen += sum(len(b) for b in consumer.poll(500, max_records=1000).values())
    consumer.close()
    return seen


def consume_aiokafka(bootstrap: str, topic: str, count: int) -> int:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def run() -> int:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        seen, end = 0, time.monotonic() + STALL_S
        while seen < count and time.monotonic() < end:
            found = await consumer.getmany(timeout_ms=500, max_records=1000)
            seen += sum(len(b) for b in found.values())
        await consumer.stop()
        return seen

    return asyncio.run(run())


def consume_fastmq(bootstrap: str, topic: str, count: int) -> int:
    from fastmq import Consumer

    seen, end = 0, time.monotonic() + STALL_S
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    with Consumer(bootstrap, **options) as consumer:
        consumer.assign([(topic, p) for p in range(PARTITIONS)])
        while seen < count and time.monotonic() < end:
            seen += len(consumer.poll_batch(0.5) or ())
    return seen


PRODUCE: dict[str, Callable[[str, str, bytes, float], int]] = {
    "confluent-kafka": produce_confluent,
    "kafka-python": produce_kafka_python,
    "aiokafka": produce_aiokafka,
    "fastmq": produce_fastmq,
    "fastmq.aio": produce_fastmq_aio,
}
CONSUME: dict[str, Callable[[str, str, int], int]] = {
    "confluent-kafka": consume_confluent,
    "kafka-python": consume_kafka_python,
    "aiokafka": consume_aiokafka,
    "fastmq": consume_fastmq,
}


def work(request: dict[str, Any]) -> None:
    """In the client's process: do it, print the figures."""
    harness.pin_to_load_cpu()
    bootstrap, topic, size = request["bootstrap"], request["topic"], request["record_bytes"]
    if request["what"] == "produce":
        run = PRODUCE[request["client"]]
        run(bootstrap, topic, bytes(size), 0.2)  # imports, connections, metadata
        began, cpu = time.monotonic(), time.process_time()
        count = run(bootstrap, topic, bytes(size), request["seconds"])
    else:
        read = CONSUME[request["client"]]
        read(bootstrap, topic, 1000)
        began, cpu = time.monotonic(), time.process_time()
        count = read(bootstrap, topic, request["records"])
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    figures = {
        "records": count,
        "records_per_s": round(count / seconds),
        "client_cpu_s_per_million": round(used / count * 1e6, 3) if count else None,
        "records_per_cpu_s": round(count / used) if used else None,
    }
    print(json.dumps(figures), flush=True)


def measure(target: harness.Target, what: str, client: str, **request: Any) -> dict[str, Any]:
    """One client in its process; its figures and the broker's CPU."""
    request |= {"what": what, "client": client, "bootstrap": f"127.0.0.1:{target.port}"}
    command = [sys.executable, __file__, "--work", json.dumps(request)]
    before = target.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * STALL_S, check=False)
    if done.returncode != 0:
        return {
            "client": client,
            "what": what,
            "record_bytes": request["record_bytes"],
            "failed": done.stderr.strip()[-300:],
        }
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    cpu_s = round(target.cpu_seconds() - before, 3)
    size = request["record_bytes"]
    return {"client": client, "what": what, "record_bytes": size, **found, "broker_cpu_s": cpu_s}


def table(rows: list[dict[str, Any]]) -> str:
    """Medians in Markdown."""
    lines = [
        "# Python clients against fastmq",
        "",
        "Medians; perf/clients.py tells how they are measured.",
        "",
        "| client | what | bytes | records/s | client CPU s/million | broker CPU s/million |",
        "|---|---|---:|---:|---:|---:|",
    ]
    kinds = dict.fromkeys((r["what"], r["record_bytes"], r["client"]) for r in rows)
    for kind in sorted(kinds, key=lambda k: (k[0] == "consume", -k[1])):
        same = [r for r in rows if (r["what"], r["record_bytes"], r["client"]) == kind]
        rate = statistics.median(r["records_per_s"] for r in same)
        own = statistics.median(r["client_cpu_s_per_million"] for r in same)
        broker = statistics.median(r["broker_cpu_s"] / r["records"] * 1e6 for r in same)
        what, size, client = kind
        lines.append(f"| {client} | {what} | {size} | {rate:,.0f} | {own:.2f} | {broker:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(json.loads(sys.argv[2]))
        return
    parser = harness.arguments(__doc__)
    parser.add_argument("--output", type=Path, help="write the medians there, as Markdown")
    options = parser.parse_args()
    rows = []
    with (
        harness.scratch(options) as root,
        harness.broker(options, root / "broker", PARTITIONS) as broker,
    ):
        for _ in range(options.rounds):
            for size in RECORD_BYTES:
                common = {"topic": harness.TOPIC, "record_bytes": size}
                for client in CLIENTS:
                    rows.append(
                        measure(broker, "produce", client, seconds=options.seconds, **common)
                    )
                    harness.report("clients", **rows[-1])
                for client in CONSUME:
                    rows.append(measure(broker, "consume", client, records=FILL_RECORDS, **common))
                    harness.report("clients", **rows[-1])
    if options.output:
        options.output.write_text(table([row for row in rows if row.get("records")]))


main()
