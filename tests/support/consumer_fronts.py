"""A consumer of any front as one shape with coroutines, so that one suite runs on all three."""

import inspect
import time
from typing import Any, Self

import anyio
import trio
from confluent_kafka import Producer

import fastmq
import fastmq.aio

from support.broker import Broker

FRONTS = ["blocking", "trio", "asyncio"]
LIMIT_S = 20


def run_on(front: str, main: Any) -> None:
    """Run a coroutine function under the front's event loop (any for the blocking one)."""
    if front == "trio":
        trio.run(main)
    else:
        anyio.run(main, backend="asyncio")


def new_consumer(front: str, *args: Any, **options: Any) -> "_Either":
    """A consumer to be used in `async with`, whatever the front."""
    kind = fastmq.Consumer if front == "blocking" else fastmq.aio.Consumer
    return _Either(kind, args, options)


class _Either:
    """Methods of the consumer, awaitable in every front."""

    def __init__(self, kind: Any, args: Any, options: Any) -> None:
        self._make = lambda: kind(*args, **options)
        self.is_blocking = kind is fastmq.Consumer
        self.real: Any = None

    async def __aenter__(self) -> Self:
        self.real = self._make()
        if self.is_blocking:
            self.real.__enter__()
        else:
            await self.real.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.is_blocking:
            self.real.__exit__(*error)
        else:
            await self.real.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)

        async def call(*args: Any, **more: Any) -> Any:
            result = method(*args, **more)
            return await result if inspect.isawaitable(result) else result

        return call

    async def work(self, seconds: float) -> None:
        """What a program does between two polls: blocking its thread, or letting the loop run."""
        if self.is_blocking:
            time.sleep(seconds)  # noqa: ASYNC251 - that is the point
        else:
            await anyio.sleep(seconds)

    async def take(self, count: int) -> list[Any]:
        """The next `count` records, by iterating."""
        found: list[Any] = []
        with anyio.fail_after(LIMIT_S):
            if self.is_blocking:
                for record in self.real:
                    found.append(record)
                    if len(found) == count:
                        break
            else:
                async for record in self.real:
                    found.append(record)
                    if len(found) == count:
                        break
        return found


def create(broker: Broker, topic: str, partitions: int = 1, **config: Any) -> None:
    with fastmq.Admin(broker.bootstrap) as admin:
        admin.create_topic(topic, partitions, config=config)


def fill(broker: Broker, topic: str, count: int, *, partitions: int = 1, **options: Any) -> None:
    """Values 0.. in turn over the partitions."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, **options})
    for n in range(count):
        producer.produce(topic, b"%d" % n, key=b"k%d" % n, partition=n % partitions)
    assert producer.flush(20) == 0


def values(records: list[Any]) -> list[int]:
    return [int(r.value) for r in records]
