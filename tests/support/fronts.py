"""One test body for the blocking, the trio and the asyncio front of the client's producer.

A test is an async function that takes an opened front; `run` drives it: under anyio for the async
fronts, and without any event loop for the blocking one, whose methods block instead of awaiting.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Self

import anyio

import fastmq
import fastmq.aio
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.records import Record, read_batches

from support.raw import RawClient

FRONTS = ("blocking", "trio", "asyncio")
LIMIT_S = 60.0


class BlockingFront:
    """`fastmq.Producer` in the form of the async one."""

    def __init__(self, bootstrap: str, **options: Any) -> None:
        self.producer = fastmq.Producer(bootstrap, **options)
        self.produce = self.producer.produce

    async def __aenter__(self) -> Self:
        self.producer.__enter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.producer.__exit__(*raised)

    async def done(self, delivery: Any) -> Any:
        return delivery.result(LIMIT_S)

    async def send(self, *args: Any, **more: Any) -> Any:
        return self.producer.produce(*args, **more)

    async def flush(self) -> None:
        self.producer.flush(LIMIT_S)

    async def partitions_for(self, topic: str) -> int:
        return self.producer.partitions_for(topic)


class AsyncFront:
    """`fastmq.aio.Producer`."""

    def __init__(self, bootstrap: str, **options: Any) -> None:
        self.producer = fastmq.aio.Producer(bootstrap, **options)

    async def __aenter__(self) -> Self:
        await self.producer.__aenter__()
        self.produce = self.producer.produce
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.producer.__aexit__(*raised)

    async def done(self, delivery: Any) -> Any:
        with anyio.fail_after(LIMIT_S):
            return await delivery

    async def send(self, *args: Any, **more: Any) -> Any:
        return await self.producer.send(*args, **more)

    async def flush(self) -> None:
        with anyio.fail_after(LIMIT_S):
            await self.producer.flush()

    async def partitions_for(self, topic: str) -> int:
        return await self.producer.partitions_for(topic)


def new_producer(front: str, bootstrap: str, **options: Any) -> BlockingFront | AsyncFront:
    """A producer of that front, to be used in `async with`."""
    return (BlockingFront if front == "blocking" else AsyncFront)(bootstrap, **options)


def run(front: str, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run `main` to its end as the front wants it."""
    if front != "blocking":
        return anyio.run(main, backend=front)
    coroutine: Any = main()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the blocking front must not await anything")


def stored(bootstrap: str, topic: str, partition: int = 0) -> list[Record]:
    """Every record of a partition, read with Fetch."""
    found: list[Record] = []
    offset = 0
    with RawClient(bootstrap) as client:
        while True:
            wanted = FetchPartition(
                partition=partition, fetch_offset=offset, partition_max_bytes=8 << 20
            )
            request = FetchRequest(
                replica_id=-1,
                max_wait_ms=0,
                min_bytes=0,
                max_bytes=8 << 20,
                session_epoch=-1,
                topics=[FetchTopic(topic=topic, partitions=[wanted])],
            )
            row = client.call(request, 11).responses[0].partitions[0]
            assert row.error_code == 0, row
            batches = list(read_batches(row.records or b"", allow_partial=True))
            for batch in batches:
                assert batch.crc_ok()
                found += [record for record in batch.records() if record.offset >= offset]
                offset = batch.header.last_offset + 1
            if offset >= row.high_watermark:
                return found
