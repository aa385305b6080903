"""Consumer groups of aiokafka, unmodified. (It has no cooperative assignor.)"""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.broker import Broker

pytestmark = [
    pytest.mark.interop,
    # The client leaves sockets to the garbage collector, which `collected` runs in time.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TOPIC = "events"
PARTITIONS = 4
OVERRIDES = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 100}
PATIENCE_S = 15.0


class Events(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """Notes what the client is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, frozenset[int]]] = []

    def on_partitions_revoked(self, revoked: Any) -> None:
        self.seen.append(("revoked", frozenset(p.partition for p in revoked)))

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.seen.append(("assigned", frozenset(p.partition for p in assigned)))


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    broker = make_broker(overrides=OVERRIDES)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(10)
    return broker


async def start(broker: Broker, **settings: Any) -> tuple[AIOKafkaConsumer, Events]:
    """A consumer that has joined the group."""
    events = Events()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        group_id="readers",
        session_timeout_ms=settings.pop("session_timeout_ms", 3_000),
        heartbeat_interval_ms=100,
        enable_auto_commit=False,
        **settings,
    )
    consumer.subscribe([TOPIC], listener=events)
    await consumer.start()
    return consumer, events


def owned(consumer: AIOKafkaConsumer) -> set[int]:
    """Partitions it has now."""
    return {p.partition for p in consumer.assignment()}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0.02)


def shared(*consumers: AIOKafkaConsumer) -> Callable[[], bool]:
    """Whether every partition has one owner and the parts are even."""

    def check() -> bool:
        parts = [owned(c) for c in consumers]
        even = all(len(part) == PARTITIONS // len(parts) for part in parts)
        return even and set().union(*parts) == set(range(PARTITIONS))

    return check


def test_members_share_the_partitions_and_take_over_from_one_that_leaves(broker: Broker) -> None:
    async def scene() -> None:
        one, _ = await start(broker)
        await until(shared(one))
        two, _ = await start(broker)
        await until(shared(one, two))
        await two.stop()
        await until(shared(one))
        await one.stop()

    asyncio.run(scene())


def test_a_static_member_restarts_without_a_rebalance(broker: Broker) -> None:
    async def scene() -> None:
        one, events = await start(broker, group_instance_id="i1", session_timeout_ms=10_000)
        two, _ = await start(broker, group_instance_id="i2", session_timeout_ms=10_000)
        await until(shared(one, two))
        # The listener is told a little later.
        await until(lambda: events.seen[-1] == ("assigned", frozenset(owned(one))))
        before, count = owned(two), len(events.seen)
        await two.stop()
        again, _ = await start(broker, group_instance_id="i2", session_timeout_ms=10_000)
        await until(lambda: bool(owned(again)))
        assert owned(again) == before
        assert len(events.seen) == count, "the other member saw a rebalance"
        await again.stop()
        await one.stop()

    asyncio.run(scene())


def test_commits_survive_a_kill(broker: Broker) -> None:
    mark = TopicPartition(TOPIC, 1)

    async def scene() -> None:
        one, _ = await start(broker)
        await until(shared(one))
        await one.commit({mark: (42, "note")})
        broker.kill()
        broker.start()
        other = AIOKafkaConsumer(
            bootstrap_servers=broker.bootstrap, group_id="readers", enable_auto_commit=False
        )
        await other.start()
        other.assign([mark])
        assert await other.committed(mark) == 42
        assert await other.committed(TopicPartition(TOPIC, 2)) is None
        await other.stop()
        await until(shared(one))
        await one.commit({mark: 43})
        assert await one.committed(mark) == 43
        await one.stop()

    asyncio.run(scene())
