"""Produce and consume 1 kB records with confluent-kafka: what a real client gets and costs.

Targets (DESIGN 10): the client is the limit; broker CPU <= 0.45 s per GB produced and 0.15 s per
GB consumed (six partitions 0.30).
"""

import time
from typing import Any

import harness
from confluent_kafka import Consumer, Producer, TopicPartition

PARTITIONS = 6
RECORD_BYTES = 1000


def produce(target: harness.Target, seconds: float, partitions: int) -> dict[str, Any]:
    """Produce at full rate for a time."""
    producer = Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{target.port}",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    value = bytes(RECORD_BYTES)
    count = 0
    cpu_before, began = target.cpu_seconds(), time.monotonic()
    while time.monotonic() - began < seconds:
        for _ in range(1000):
            try:
                producer.produce(harness.TOPIC, value, partition=count % partitions)
                count += 1
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    assert producer.flush(60) == 0
    return figures("produce", target, count, cpu_before, began, partitions)


def consume(target: harness.Target, count: int, partitions: int) -> dict[str, Any]:
    """Consume that many records from the beginning."""
    consumer = Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{target.port}",
            "group.id": "perf",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 1 << 20,
        }
    )
    consumer.assign([TopicPartition(harness.TOPIC, p, 0) for p in range(partitions)])
    seen = 0
    cpu_before, began = target.cpu_seconds(), time.monotonic()
    while seen < count and time.monotonic() - began < 60:
        seen += len(consumer.consume(10_000, 1.0))
    result = figures("consume", target, seen, cpu_before, began, partitions)
    consumer.close()
    return result


def figures(
    what: str, target: harness.Target, count: int, cpu_before: float, began: float, partitions: int
) -> dict[str, Any]:
    """What was reached."""
    seconds = time.monotonic() - began
    cpu_s = target.cpu_seconds() - cpu_before
    gigabytes = count * RECORD_BYTES / 1e9
    return {
        "what": what,
        "partitions": partitions,
        "records_per_s": round(count / seconds),
        "mb_per_s": round(gigabytes * 1000 / seconds, 1),
        "cpu_s_per_gb": round(cpu_s / gigabytes, 3) if count else None,
        "records": count,
    }


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    harness.pin_to_load_cpu()
    for partitions in (1, PARTITIONS):
        with (
            harness.scratch(options) as root,
            harness.broker(options, root / "broker", partitions) as broker,
        ):
            for _ in range(options.rounds):
                made = produce(broker, options.seconds, partitions)
                harness.report("librdkafka", **made)
                harness.report("librdkafka", **consume(broker, made["records"], partitions))


main()
