"""Consumer groups of librdkafka, unmodified: what the coordinator promises, seen by a client."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from support.broker import Broker

pytestmark = pytest.mark.interop

TOPIC = "events"
PARTITIONS = 4
OVERRIDES = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 100}
PATIENCE_S = 15.0


class Member:
    """A consumer that notes what it is told about partitions."""

    def __init__(self, broker: Broker, **settings: Any) -> None:
        self.owned: set[int] = set()
        self.events: list[tuple[str, frozenset[int]]] = []
        self.failures: list[KafkaError] = []
        conf = {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "readers",
            "session.timeout.ms": 2_000,
            "heartbeat.interval.ms": 100,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **{key.replace("_", "."): value for key, value in settings.items()},
        }
        self.cooperative = conf.get("partition.assignment.strategy") == "cooperative-sticky"
        self.consumer = Consumer(conf)
        self.consumer.subscribe([TOPIC], on_assign=self._assigned, on_revoke=self._revoked)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        got = {p.partition for p in partitions}
        self.events.append(("assigned", frozenset(got)))
        self.owned |= got
        if self.cooperative:
            consumer.incremental_assign(partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        lost = {p.partition for p in partitions}
        self.events.append(("revoked", frozenset(lost)))
        self.owned -= lost
        if self.cooperative:
            consumer.incremental_unassign(partitions)

    def poll(self) -> Any:
        """One poll; errors are noted."""
        try:
            message = self.consumer.poll(0.02)
        except KafkaException as exc:
            self.failures.append(exc.args[0])
            return None
        if message is not None and message.error():
            self.failures.append(message.error())
            return None
        return message

    def close(self) -> None:
        """Close; a dynamic member leaves the group with that."""
        self.consumer.close()


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


def poll_until(condition: Callable[[], bool], *members: Member) -> None:
    """Poll all members in turn until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, [(m.owned, m.events, m.failures) for m in members]
        for member in members:
            member.poll()


def shared(*members: Member) -> Callable[[], bool]:
    """Whether every partition has one owner and the parts are even."""

    def check() -> bool:
        parts = [m.owned for m in members]
        even = all(len(part) == PARTITIONS // len(parts) for part in parts)
        return even and set().union(*parts) == set(range(PARTITIONS))

    return check


def test_members_share_the_partitions_and_take_over_from_one_that_leaves(
    join: Callable[..., Member],
) -> None:
    one = join()
    poll_until(shared(one), one)
    two = join()
    poll_until(shared(one, two), one, two)
    two.consumer.unsubscribe()
    poll_until(shared(one), one, two)


def test_the_partitions_of_a_killed_member_are_taken_over_after_its_session(
    broker: Broker, join: Callable[..., Member]
) -> None:
    code = f"""
from confluent_kafka import Consumer
c = Consumer({{"bootstrap.servers": {broker.bootstrap!r}, "group.id": "readers",
    "session.timeout.ms": 1000, "heartbeat.interval.ms": 100}})
c.subscribe([{TOPIC!r}], on_assign=lambda c, p: print(len(p), flush=True))
while True:
    c.poll(0.1)
"""
    victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"4\n"
        one = join()
        poll_until(lambda: len(one.owned) == 2, one)
    finally:
        victim.kill()
        victim.communicate()
    began = time.monotonic()
    poll_until(shared(one), one)
    assert time.monotonic() - began < 6.0


def test_a_static_member_restarts_without_a_rebalance(join: Callable[..., Member]) -> None:
    how = {"session_timeout_ms": 10_000}
    one = join(group_instance_id="i1", **how)
    two = join(group_instance_id="i2", **how)
    poll_until(shared(one, two), one, two)
    before, events = set(two.owned), len(one.events)

    two.close()
    again = join(group_instance_id="i2", **how)
    poll_until(lambda: bool(again.owned), one, again)

    assert again.owned == before
    deadline = time.monotonic() + 1.0
    poll_until(lambda: time.monotonic() > deadline, one, again)
    assert len(one.events) == events, "the other member saw a rebalance"
    assert not one.failures


def test_a_second_process_with_the_same_name_fences_the_first(join: Callable[..., Member]) -> None:
    first = join(group_instance_id="twin", session_timeout_ms=10_000)
    poll_until(shared(first), first)
    second = join(group_instance_id="twin", session_timeout_ms=10_000)

    def fenced() -> bool:
        codes = {error.code() for error in first.failures}
        return bool(codes & {KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL})

    poll_until(fenced, first, second)
    poll_until(shared(second), second)


def test_cooperative_members_keep_what_they_need_not_give_up(join: Callable[..., Member]) -> None:
    how = {"partition_assignment_strategy": "cooperative-sticky"}
    one = join(**how)
    poll_until(shared(one), one)
    two = join(**how)
    poll_until(shared(one, two), one, two)
    revoked = [parts for kind, parts in one.events if kind == "revoked"]
    assert len(revoked) == 1
    assert len(revoked[0]) == 2
    assert revoked[0] == two.owned


def test_commits_survive_a_kill(broker: Broker, join: Callable[..., Member]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(40):
        producer.produce(TOPIC, str(n), partition=n % PARTITIONS)
    assert producer.flush(10) == 0
    one = join()
    seen: list[Any] = []

    def read() -> bool:
        message = one.poll()
        if message is not None:
            seen.append(message)
        return len(seen) == 40

    poll_until(read)
    one.consumer.commit(asynchronous=False)
    marks = [TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
    assert [p.offset for p in one.consumer.committed(marks, timeout=10)] == [10] * PARTITIONS

    broker.kill()
    broker.start()

    other = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "readers"})
    assert [p.offset for p in other.committed(marks, timeout=10)] == [10] * PARTITIONS
    other.close()
    # The member goes on where it was, in its group.
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(TOPIC, "last", partition=0)
    assert producer.flush(10) == 0
    poll_until(lambda: (m := one.poll()) is not None and m.value() == b"last")
    one.consumer.commit(asynchronous=False)
    assert one.consumer.committed(marks[:1], timeout=10)[0].offset == 11


def test_administration_of_groups(broker: Broker, join: Callable[..., Member]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    one = join(client_id="admin-test")
    poll_until(shared(one), one)
    one.consumer.commit(offsets=[TopicPartition(TOPIC, 0, 5)], asynchronous=False)

    listed = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(10)
    assert [group.group_id for group in listed.valid] == ["readers"]
    group = admin.describe_consumer_groups(["readers"])["readers"].result(10)
    assert group.state == ConsumerGroupState.STABLE
    assert group.partition_assignor == "range"
    (member,) = group.members
    assert member.client_id == "admin-test"
    assert len(member.assignment.topic_partitions) == PARTITIONS

    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups(["readers"])["readers"].result(10)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    one.consumer.unsubscribe()
    poll_until(lambda: _state(admin) == ConsumerGroupState.EMPTY, one)

    moved = ConsumerGroupTopicPartitions("readers", [TopicPartition(TOPIC, 0, 3)])
    admin.alter_consumer_group_offsets([moved])["readers"].result(10)
    asked = ConsumerGroupTopicPartitions("readers")
    found = admin.list_consumer_group_offsets([asked])["readers"].result(10)
    offsets = {p.partition: p.offset for p in found.topic_partitions or []}
    assert offsets == {0: 3}
    admin.delete_consumer_groups(["readers"])["readers"].result(10)
    assert admin.list_consumer_groups().result(10).valid == []


def _state(admin: AdminClient) -> Any:
    return admin.describe_consumer_groups(["readers"])["readers"].result(10).state


def test_a_deleted_topic_takes_its_offsets_along(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "readers"})
    mark = TopicPartition(TOPIC, 1, 42)
    consumer.commit(offsets=[mark], asynchronous=False)
    assert consumer.committed([mark], timeout=10)[0].offset == 42
    admin.delete_topics([TOPIC])[TOPIC].result(10)
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(10)
    assert consumer.committed([mark], timeout=10)[0].offset == OFFSET_INVALID
    consumer.close()
