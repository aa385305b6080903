"""Python consumers side by side: a loop over single 1 kB records of a group, on one core.

The broker has core 0, the consumer core 1 (I/O threads included). Each round runs every consumer
in a process of its own and with a new group, one after the other, over the same records, which a
producer wrote in batches of up to 200 kB. Joining the group is not in the figures. Targets: fastmq
>= confluent-kafka in records/s and <= in CPU per million records, >= 10 times kafka-python, >= 4
times aiokafka.

    python perf/client_consumer.py --rounds 5 --records 500000
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import harness
import side_by_side

RECORD_BYTES = 1000
BATCH_BYTES = 200_000
FLUSH_S = 120
# The slow ones get fewer records, for about the same time.
SHARE = {"fastmq": 1.0, "fastmq_aio": 1.0, "confluent": 1.0, "aiokafka": 0.2, "kafka_python": 0.1}
CONFLUENT_AT_ONCE = 1000


class Clock:
    """Measures from the first record on."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def begin(self) -> None:
        """The first record is there."""
        self._wall, self._cpu = time.monotonic(), time.process_time()

    @contextmanager
    def ends(self) -> Iterator[None]:
        """Stop at the end, before the client closes."""
        yield
        self.wall_s = time.monotonic() - self._wall
        self.cpu_s = time.process_time() - self._cpu


def fastmq(bootstrap: str, count: int, clock: Clock) -> None:
    import fastmq as package

    options = {"group_id": uuid.uuid4().hex, "auto_offset_reset": "earliest"}
    with package.Consumer(bootstrap, harness.TOPIC, **options) as consumer:
        size, left = 0, count
        assert consumer.poll(60) is not None
        clock.begin()
        with clock.ends():
            for record in consumer:
                size += len(record.value)
                left -= 1
                if not left:
                    break


def fastmq_aio(bootstrap: str, count: int, clock: Clock) -> None:
    import fastmq.aio

    async def main() -> None:
        options = {"group_id": uuid.uuid4().hex, "auto_offset_reset": "earliest"}
        async with fastmq.aio.Consumer(bootstrap, harness.TOPIC, **options) as consumer:
            size, left = 0, count
            assert await consumer.poll(60) is not None
            clock.begin()
            with clock.ends():
                async for record in consumer:
                    size += len(record.value)
                    left -= 1
                    if not left:
                        break

    asyncio.run(main())


def confluent(bootstrap: str, count: int, clock: Clock) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([harness.TOPIC])
    assert consumer.poll(60) is not None
    size, left = 0, count
    clock.begin()
    with clock.ends():
        # Several at once is its fastest way.
        while left > 0:
            for message in consumer.consume(min(left, CONFLUENT_AT_ONCE), 1.0):
                size += len(message.value())
                left -= 1
    consumer.close()


def kafka_python(bootstrap: str, count: int, clock: Clock) -> None:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        harness.TOPIC,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
    )
    next(consumer)
    size, left = 0, count
    clock.begin()
    with clock.ends():
        for record in consumer:
            size += len(record.value)
            left -= 1
            if not left:
                break
    consumer.close()


def aiokafka(bootstrap: str, count: int, clock: Clock) -> None:
    from aiokafka import AIOKafkaConsumer

    async def main() -> None:
        consumer = AIOKafkaConsumer(
            harness.TOPIC,
            bootstrap_servers=bootstrap,
            group_id=uuid.uuid4().hex,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        await consumer.getone()
        size, left = 0, count
        clock.begin()
        with clock.ends():
            async for record in consumer:
                size += len(record.value)
                left -= 1
                if not left:
                    break
        await consumer.stop()

    asyncio.run(main())


def timed(consume: Callable[[str, int, Clock], None]) -> side_by_side.Client:
    """Measure from the first record to the last."""

    def run(bootstrap: str, count: int) -> tuple[float, float]:
        clock = Clock()
        consume(bootstrap, count, clock)
        return clock.wall_s, clock.cpu_s

    return run


CONSUMERS = {
    "fastmq": timed(fastmq),
    "fastmq_aio": timed(fastmq_aio),
    "confluent": timed(confluent),
    "aiokafka": timed(aiokafka),
    "kafka_python": timed(kafka_python),
}


def fill(bootstrap: str, count: int) -> None:
    """Write the records that all consumers read."""
    from fastmq import Producer

    value = bytes(RECORD_BYTES)
    with Producer(bootstrap, linger_ms=20, batch_size=BATCH_BYTES) as producer:
        for _ in range(count + 1):  # the first one is not in the figures
            producer.produce(harness.TOPIC, value)
        producer.flush(FLUSH_S)


side_by_side.run(__doc__, __file__, "consumer", CONSUMERS, SHARE, fill)
