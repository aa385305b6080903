"""kafka-python."""

from typing import Any

from jobs import Output, Stop, records, run
from kafka import KafkaConsumer, KafkaProducer
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import CommitFailedError, RebalanceInProgressError


def produce(job: dict[str, Any]) -> None:
    producer = KafkaProducer(
        bootstrap_servers=job["bootstrap"],
        acks=job["acks"] if job["acks"] == "all" else int(job["acks"]),
        enable_idempotence=job["idempotent"],
        compression_type=None if job["codec"] == "none" else job["codec"],
        linger_ms=5,
    )
    futures = [producer.send(job["topic"], key=key, value=value) for key, value in records(job)]
    producer.flush(60)
    for future in futures:
        future.get(timeout=60)
    producer.close()


class Listener(ConsumerRebalanceListener):
    def __init__(self, output: Output) -> None:
        self.output = output

    def on_partitions_revoked(self, revoked: object) -> None:
        """Everything was committed after the last poll."""

    def on_partitions_assigned(self, assigned: object) -> None:
        self.output.assigned()


def consume(job: dict[str, Any], stop: Stop, output: Output) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=job["bootstrap"],
        group_id=job["group"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10_000,
    )
    consumer.subscribe([job["topic"]], listener=Listener(output))
    while not stop.asked:
        polled = consumer.poll(timeout_ms=200, max_records=1000)
        for partition, messages in polled.items():
            for message in messages:
                output.record(partition.partition, message.offset, message.value)
        output.flush()
        if polled:
            try:
                consumer.commit()
            except (CommitFailedError, RebalanceInProgressError):
                output.assigned()
    consumer.close()


run(produce, consume)
