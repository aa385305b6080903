"""confluent-kafka (librdkafka)."""

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from jobs import Output, Stop, records, run


def produce(job: dict[str, Any]) -> None:
    failed: list[str] = []

    def on_delivery(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failed.append(str(error))

    producer = Producer(
        {
            "bootstrap.servers": job["bootstrap"],
            "acks": job["acks"],
            "enable.idempotence": job["idempotent"],
            "compression.type": job["codec"],
            "linger.ms": 5,
        }
    )
    for key, value in records(job):
        while True:
            try:
                producer.produce(job["topic"], value, key, on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(60)
    assert not left, f"{left} records without an answer"
    assert not failed, failed[:3]


def consume(job: dict[str, Any], stop: Stop, output: Output) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": job["bootstrap"],
            "group.id": job["group"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 10_000,
            "partition.assignment.strategy": job.get("assignor", "range"),
        }
    )

    def on_assign(_consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        output.assigned()

    consumer.subscribe([job["topic"]], on_assign=on_assign)
    while not stop.asked:
        messages = consumer.consume(1000, 0.2)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            output.record(message.partition(), message.offset(), message.value())
        output.flush()
        if messages:
            commit(consumer, output)
    consumer.close()


def commit(consumer: Consumer, output: Output) -> None:
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        code = error.args[0].code()
        lost = {
            KafkaError._NO_OFFSET,  # all of it has been committed or taken away
            KafkaError.ILLEGAL_GENERATION,
            KafkaError.REBALANCE_IN_PROGRESS,
            KafkaError.UNKNOWN_MEMBER_ID,
        }
        if code not in lost:
            raise
        output.assigned()


run(produce, consume)
