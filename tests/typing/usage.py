"""Programs as users write them, for type checkers: never run, see `test_types.py`."""

from collections.abc import Callable
from typing import Any, assert_type

import fastmq.errors
from fastmq import Admin, Consumer, ConsumerRecord, Producer, RecordMetadata, TopicPartition, aio


def produce() -> int:
    def delivered(error: Exception | None, metadata: RecordMetadata | None) -> None:
        print(error or metadata)

    with Producer("localhost:9092", linger_ms=5, compression_type="lz4") as producer:
        delivery = producer.produce("t", b"v", key="k", headers={"h": b"1"}, on_delivery=delivered)
        producer.flush(10)
        assert_type(producer.failed_records, int)
        return delivery.result(timeout=10).offset


def consume(work: Callable[[bytes], None]) -> None:
    def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.commit()
        print([name.partition for name in partitions])

    with Consumer("localhost:9092", ["t"], group_id="g", on_revoked=revoked) as consumer:
        assert_type(consumer.poll(1.0), ConsumerRecord | None)
        for batch in consumer.batches(timeout=5):
            consumer.commit(batch)
            for record in batch:
                assert_type(record, ConsumerRecord)
        for record in consumer:
            assert_type(record.offset, int)
            assert_type(record.headers, tuple[tuple[str, bytes | None], ...])
            work(record.value)
        assert_type(consumer.lag(), dict[TopicPartition, int])


def administer() -> dict[str, int]:
    with Admin("localhost:9092") as admin:
        admin.create_topic("t", partitions=3, config={"retention.ms": 3_600_000})
        assert_type(admin.list_topics(), list[str])
        return {str(part.partition): part.lag or 0 for part in admin.group_lag("g")}


async def asynchronously() -> None:
    async with aio.Producer("localhost:9092") as producer:
        delivery = await producer.send("t", "text")
        assert_type((await delivery).offset, int)
    async with aio.Consumer("localhost:9092", "t", group_id="g") as consumer:
        assert_type(await consumer.poll(1), ConsumerRecord | None)
        async for record in consumer:
            assert_type(record, ConsumerRecord)
            break
    async with aio.Admin("localhost:9092") as admin:
        assert_type(await admin.list_topics(), list[str])


def errors(producer: Producer) -> None:
    try:
        producer.produce("t", "v")
    except fastmq.errors.BufferFull as error:
        print(error.retriable, error.code.name, error.message)
    except fastmq.errors.LogTruncated as error:
        assert_type(error.diverged_at, int)


# Any: whatever a deserializer makes.
def values(consumer: Consumer) -> list[Any]:
    return [record.value for record in consumer]
