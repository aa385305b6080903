"""R17: whatever happens to members, a partition has one owner per generation, a member of an old
generation cannot commit, and a committed offset never goes back by itself.

Members are processes of librdkafka with every assignor it has, some of them static; they join,
leave, are killed, are paused for longer than their session, and the broker is killed under them.
The judge is the log of `__consumer_offsets`: every assignment and every accepted commit is in it,
in order. In the end (R21) the group has to come to rest and read everything. The seed is printed;
FASTMQ_SEED repeats a run as far as real processes can, FASTMQ_GROUP_EVENTS makes it longer.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from fastmq.coordinator.group.records import (
    GroupKey,
    OffsetKey,
    decode_group_value,
    decode_key,
    decode_offset_value,
)
from fastmq.coordinator.partitioning import partition_for
from fastmq.errors import ProtocolError
from fastmq.protocol.consumer_protocol import ConsumerProtocolAssignment, decode_consumer

from support import group_worker
from support.broker import Broker

pytestmark = pytest.mark.reliability

TOPIC = "work"
GROUP = "workers"
PARTITIONS = 8
MEMBERS_MAX = 8
EVENTS_QUICK = 6
# Three assignors, and about two thirds of the events make a rebalance.
EVENTS_FULL = int(os.environ.get("FASTMQ_GROUP_EVENTS", "35"))
REST_S = 30.0
OFFSETS_TOPIC = "__consumer_offsets"


class Crew:
    """The members, as processes."""

    def __init__(self, broker: Broker, assignor: str, rng: random.Random) -> None:
        self.broker = broker
        self.assignor = assignor
        self.rng = rng
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.paused: dict[str, float] = {}
        self.events: list[str] = []

    def join(self) -> None:
        """Start a member, under a name that is free."""
        free = [f"w{n}" for n in range(MEMBERS_MAX) if f"w{n}" not in self.processes]
        if not free:
            return
        name = self.rng.choice(free)
        command = [sys.executable, group_worker.__file__, self.broker.bootstrap, GROUP, TOPIC]
        command.append(self.assignor)
        if int(name[1:]) % 2:
            command.append(name)  # every second is static
        self.processes[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.events.append(f"join {name}")

    def _take(self) -> tuple[str, subprocess.Popen[bytes]] | None:
        running = [name for name in self.processes if name not in self.paused]
        if not running:
            return None
        name = self.rng.choice(running)
        return name, self.processes[name]

    def end(self, signum: signal.Signals) -> None:
        """Let a member leave (SIGTERM) or kill it."""
        taken = self._take()
        if taken is not None:
            taken[1].send_signal(signum)
            taken[1].wait(15)
            del self.processes[taken[0]]
            self.events.append(f"{signum.name} {taken[0]}")

    def pause(self) -> None:
        """Stop a member for longer than its session."""
        taken = self._take()
        if taken is not None:
            taken[1].send_signal(signal.SIGSTOP)
            self.paused[taken[0]] = time.monotonic() + 1.7 * group_worker.SESSION_MS / 1000
            self.events.append(f"pause {taken[0]}")

    def tend(self, *, everybody: bool = False) -> None:
        """Wake those whose pause is over, and bury those that a fatal error ended."""
        for name, until in list(self.paused.items()):
            if everybody or time.monotonic() >= until:
                self.processes[name].send_signal(signal.SIGCONT)
                del self.paused[name]
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                # Only a fenced static member may give up.
                assert process.returncode == 3, (name, process.returncode, self.events)
                del self.processes[name]

    def stop(self) -> None:
        """End all."""
        self.tend(everybody=True)
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextmanager
def steady_producer(bootstrap: str) -> Iterator[Callable[[], int]]:
    """Produce small records all the time; gives a function that ends it and tells how many."""
    ended = threading.Event()
    acknowledged = 0

    def count(error: object, message: object) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    def produce() -> None:
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        number = 0
        while not ended.is_set():
            producer.produce(TOPIC, str(number), partition=number % PARTITIONS, on_delivery=count)
            producer.poll(0.002)
            number += 1
        assert producer.flush(20) == 0

    thread = threading.Thread(target=produce)
    thread.start()

    def finish() -> int:
        ended.set()
        thread.join()
        return acknowledged

    try:
        yield finish
    finally:
        finish()


def read_log(bootstrap: str) -> Iterator[tuple[bytes, bytes | None]]:
    """Read the group's partition of the offsets topic from its beginning."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "judge",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(OFFSETS_TOPIC, partition_for(GROUP, 50), 0)])
    try:
        while True:
            message = consumer.poll(10)
            assert message is not None, "the offsets topic cannot be read"
            if message.error() is not None:
                return
            key, value = message.key(), message.value()
            assert isinstance(key, bytes)
            yield key, value if isinstance(value, bytes) else None
    finally:
        consumer.close()


def partitions_of(assignment: bytes) -> list[int]:
    """The partitions that an assignment names; none when the leader left the member out."""
    try:
        decoded = decode_consumer(ConsumerProtocolAssignment, assignment)
    except ProtocolError:
        assert assignment == b""
        return []
    return [p for topic in decoded.assigned_partitions for p in topic.partitions]


def judge(bootstrap: str) -> tuple[int, int, dict[int, int]]:
    """Check the log; returns how many generations and commits it has, and the last offsets."""
    generations: dict[int, dict[int, str]] = {}
    last_generation = 0
    commits = 0
    offsets: dict[int, int] = {}
    for key, value in read_log(bootstrap):
        what = decode_key(key)
        if isinstance(what, GroupKey) and what.group_id == GROUP and value is not None:
            row = decode_group_value(value)
            assert row is not None
            assert row.generation >= last_generation, "a generation came back"
            last_generation = row.generation
            owners = generations.setdefault(row.generation, {})
            for member in row.members:
                # A static member keeps what it owns under a new member id.
                who = member.group_instance_id or member.member_id
                for partition in partitions_of(member.assignment):
                    owner = owners.setdefault(partition, who)
                    assert owner == who, f"{partition} has two owners in {row.generation}"
        elif isinstance(what, OffsetKey) and what.group_id == GROUP:
            assert value is not None, "an offset in use was removed"
            offset = decode_offset_value(value)
            assert offset is not None
            before = offsets.get(what.partition, 0)
            assert offset.offset >= before, f"{what.partition}: {before} -> {offset.offset}"
            offsets[what.partition] = offset.offset
            commits += 1
    return len(generations), commits, offsets


def run(broker: Broker, assignor: str, events: int, seed: int) -> None:
    """Let things happen, then demand rest, then judge."""
    rng = random.Random(seed)
    crew = Crew(broker, assignor, rng)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(10)
    try:
        with steady_producer(broker.bootstrap) as finish:
            for _ in range(3):
                crew.join()
            for number in range(events):
                time.sleep(rng.uniform(0.2, 0.9))
                crew.tend()
                if number % 10 == 4:
                    broker.kill()
                    broker.start()
                    crew.events.append("broker")
                    continue
                choice = rng.random()
                if choice < 0.4 or len(crew.processes) < 2:
                    crew.join()
                elif choice < 0.6:
                    crew.end(signal.SIGTERM)
                elif choice < 0.8:
                    crew.end(signal.SIGKILL)
                else:
                    crew.pause()
            crew.tend(everybody=True)
            produced = finish()
        crew.join()
        rest(broker, crew, produced)
    finally:
        crew.stop()
    generations, commits, offsets = judge(broker.bootstrap)
    print(
        f"{assignor} seed {seed}: {generations} generations, {commits} commits, {produced} records"
    )
    assert generations >= events // 4
    assert sum(offsets.values()) == produced


def rest(broker: Broker, crew: Crew, produced: int) -> None:
    """Wait until the group is Stable with every living member, and has committed everything."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP})
    marks = [TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
    deadline = time.monotonic() + REST_S
    seen: object = None
    while time.monotonic() < deadline:
        crew.tend()
        group = admin.describe_consumer_groups([GROUP])[GROUP].result(10)
        owned = sorted(
            p.partition
            for m in group.members
            if m.assignment
            for p in m.assignment.topic_partitions
        )
        committed = sum(max(p.offset, 0) for p in reader.committed(marks, timeout=10))
        seen = (group.state, len(group.members), len(crew.processes), owned, committed, produced)
        settled = owned == list(range(PARTITIONS)) and len(group.members) == len(crew.processes)
        if settled and committed == produced:
            reader.close()
            return
        time.sleep(0.2)
    raise AssertionError(f"no rest: {seen}, {crew.events}")


def prepare(make_broker: Callable[..., Broker]) -> Broker:
    return make_broker(
        overrides={"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 100}
    )


@pytest.mark.parametrize("assignor", ["range", "roundrobin", "cooperative-sticky"])
def test_groups_keep_their_promises(make_broker: Callable[..., Broker], assignor: str) -> None:
    seed = int(os.environ.get("FASTMQ_SEED", time.time_ns() % 100_000))
    print(f"seed {seed}")
    run(prepare(make_broker), assignor, EVENTS_QUICK, seed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("assignor", ["range", "roundrobin", "cooperative-sticky"])
def test_groups_keep_their_promises_for_long(
    make_broker: Callable[..., Broker], assignor: str
) -> None:
    seed = int(os.environ.get("FASTMQ_SEED", time.time_ns() % 100_000))
    print(f"seed {seed}")
    run(prepare(make_broker), assignor, EVENTS_FULL, seed)
