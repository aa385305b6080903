"""Python producers side by side: a loop that calls produce() with 1 kB records, on one core.

The broker has core 0, the producer core 1 (I/O threads included). Each round runs every producer
in a process of its own, one after the other. All wait for acks=all at the end; those that can are
idempotent. Targets: fastmq >= confluent-kafka in records/s and <= in CPU per million records, >= 10
times kafka-python, >= 4 times aiokafka.

    python perf/client_producer.py --rounds 5 --records 500000
"""

import asyncio
import time
from collections.abc import Callable

import harness
import side_by_side

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


def timed(produce: Callable[[str, int], None]) -> side_by_side.Client:
    """Measure all of it, to the last acknowledgement."""

    def run(bootstrap: str, count: int) -> tuple[float, float]:
        cpu, began = time.process_time(), time.monotonic()
        produce(bootstrap, count)
        return time.monotonic() - began, time.process_time() - cpu

    return run


PRODUCERS = {
    "fastmq": timed(fastmq),
    "fastmq_aio": timed(fastmq_aio),
    "confluent": timed(confluent),
    "aiokafka": timed(aiokafka),
    "kafka_python": timed(kafka_python),
}

side_by_side.run(__doc__, __file__, "producer", PRODUCERS, SHARE)
