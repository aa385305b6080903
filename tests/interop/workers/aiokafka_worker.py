"""aiokafka."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError
from jobs import Output, Stop, records, run

IN_FLIGHT = 5000


def produce(job: dict[str, Any]) -> None:
    asyncio.run(produce_all(job))


async def produce_all(job: dict[str, Any]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=job["bootstrap"],
        acks=job["acks"] if job["acks"] == "all" else int(job["acks"]),
        enable_idempotence=job["idempotent"],
        compression_type=None if job["codec"] == "none" else job["codec"],
        linger_ms=5,
    )
    await producer.start()
    waiting = []
    for key, value in records(job):
        waiting.append(await producer.send(job["topic"], value=value, key=key))
        if len(waiting) >= IN_FLIGHT:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
    await producer.stop()


class Listener(ConsumerRebalanceListener):
    def __init__(self, output: Output) -> None:
        self.output = output

    def on_partitions_revoked(self, revoked: object) -> None:
        """Everything was committed after the last poll."""

    def on_partitions_assigned(self, assigned: object) -> None:
        self.output.assigned()


def consume(job: dict[str, Any], stop: Stop, output: Output) -> None:
    asyncio.run(consume_all(job, stop, output))


async def consume_all(job: dict[str, Any], stop: Stop, output: Output) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=job["bootstrap"],
        group_id=job["group"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10_000,
    )
    consumer.subscribe([job["topic"]], listener=Listener(output))
    await consumer.start()
    while not stop.asked:
        polled = await consumer.getmany(timeout_ms=200, max_records=1000)
        for partition, messages in polled.items():
            for message in messages:
                output.record(partition.partition, message.offset, message.value)
        output.flush()
        if polled:
            try:
                await consumer.commit()
            except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError):
                output.assigned()
    await consumer.stop()


run(produce, consume)
