"""Consumer groups of kafka-python, unmodified.

Each member polls in a thread of its own, and patiently: the client loses an assignment that arrives
just when the time of a poll is over.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import OffsetAndMetadata

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


class Member:
    """A consumer of the group and its events."""

    def __init__(self, broker: Broker, **settings: Any) -> None:
        self.events = Events()
        self.consumer = KafkaConsumer(
            bootstrap_servers=broker.bootstrap,
            group_id="readers",
            session_timeout_ms=settings.pop("session_timeout_ms", 3_000),
            heartbeat_interval_ms=100,
            enable_auto_commit=False,
            **settings,
        )
        self.consumer.subscribe([TOPIC], listener=self.events)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._ended.is_set():
            self.consumer.poll(timeout_ms=500)

    def pause(self) -> None:
        """End the polling, so that the test may use the consumer."""
        self._ended.set()
        self._thread.join()

    def owned(self) -> set[int]:
        """Partitions it has now."""
        return {p.partition for p in self.consumer.assignment()}

    def close(self) -> None:
        """Leave (if dynamic) and end."""
        self.pause()
        self.consumer.close(timeout_ms=2_000)


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


@pytest.fixture
def join(broker: Broker) -> Iterator[Callable[..., Member]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Member:
            member = Member(broker, **settings)
            stack.callback(member.close)
            return member

        yield make


def until(condition: Callable[[], bool], *members: Member) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, [(m.owned(), m.events.seen) for m in members]
        time.sleep(0.01)


def shared(*members: Member) -> Callable[[], bool]:
    """Whether every partition has one owner and the parts are even."""

    def check() -> bool:
        parts = [m.owned() for m in members]
        even = all(len(part) == PARTITIONS // len(parts) for part in parts)
        return even and set().union(*parts) == set(range(PARTITIONS))

    return check


def test_members_share_the_partitions_and_take_over_from_one_that_leaves(
    join: Callable[..., Member],
) -> None:
    one = join()
    until(shared(one), one)
    two = join()
    until(shared(one, two), one, two)
    two.close()
    until(shared(one), one)


def test_a_static_member_restarts_without_a_rebalance(join: Callable[..., Member]) -> None:
    how = {"session_timeout_ms": 10_000}
    one = join(group_instance_id="i1", **how)
    two = join(group_instance_id="i2", **how)
    until(shared(one, two), one, two)
    # The listener is told a little later.
    until(lambda: one.events.seen[-1] == ("assigned", frozenset(one.owned())), one, two)
    before, events = two.owned(), len(one.events.seen)
    two.close()
    again = join(group_instance_id="i2", **how)
    until(lambda: bool(again.owned()), one, again)
    assert again.owned() == before
    assert len(one.events.seen) == events, "the other member saw a rebalance"


def test_cooperative_members_keep_what_they_need_not_give_up(join: Callable[..., Member]) -> None:
    how = {"partition_assignment_strategy": [CooperativeStickyAssignor]}
    one = join(**how)
    until(shared(one), one)
    two = join(**how)
    until(shared(one, two), one, two)
    revoked = [parts for kind, parts in one.events.seen if kind == "revoked" and parts]
    assert revoked == [frozenset(two.owned())]


def test_commits_survive_a_kill(broker: Broker, join: Callable[..., Member]) -> None:
    one = join()
    until(shared(one), one)
    one.pause()
    mark = TopicPartition(TOPIC, 1)
    one.consumer.commit({mark: OffsetAndMetadata(42, "note", -1)})
    # It would leave sockets behind, from its tries to connect again.
    one.close()
    broker.kill()
    broker.start()
    other = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id="readers")
    try:
        found = other.committed(mark, metadata=True)
        assert (found.offset, found.metadata) == (42, "note")
        assert other.committed(TopicPartition(TOPIC, 2)) is None
        other.assign([mark])
        other.commit({mark: OffsetAndMetadata(43, "", -1)})
        assert other.committed(mark) == 43
    finally:
        other.close()
