"""The log workload of Jepsen's Kafka tests: clients that send and poll, and note what they see.

Senders are idempotent producers (acks=all); pollers read with `assign`, from the start, or with
`subscribe` as members of a group. Now and then one of them is given up and replaced. `stop` ends
them, reads every partition from its start to its end, and returns the history, which
`support.history.check` judges. All clients are librdkafka's.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from itertools import count, pairwise
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.history import INFO, OK, Operation, Poll, Send, check

JOIN_S = 30.0
READ_TIMEOUT_S = 60.0
SENT_TIMEOUT_MS = 120_000
_PAUSE_S = 0.02
_POLL_ROWS_MAX = 500

_CLIENT = {
    "log_level": 0,
    "retry.backoff.ms": 20,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "socket.timeout.ms": 3_000,
    "socket.connection.setup.timeout.ms": 2_000,
    "topic.metadata.refresh.interval.ms": 2_000,
}


class LogWorkload:
    """Clients of one topic, each in a thread.

    Args:
        bootstrap: of the cluster.
        topic: created by `create`.
        partitions: how many it has.
        seed: of what the clients do.
        senders, assigned, grouped: how many clients of each kind.
        rate: records per second of each sender.
        replaced_s: how long a client lives, on average.
        idempotent: whether senders are; without, a record may be there twice.
        request_timeout_ms: after which senders ask again.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str = "log",
        partitions: int = 4,
        *,
        seed: int = 1,
        senders: int = 2,
        assigned: int = 1,
        grouped: int = 2,
        rate: int = 300,
        replaced_s: float = 10.0,
        idempotent: bool = True,
        request_timeout_ms: int = 3_000,
    ) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions
        self._seed = seed
        self._rate = rate
        self._replaced_s = replaced_s
        self._idempotent = idempotent
        self._request_timeout_ms = request_timeout_ms
        self._clients: list[tuple[Callable[[random.Random], None], str]] = [
            *((self._send, f"sender {n}") for n in range(senders)),
            *((self._poll_assigned, f"reader {n}") for n in range(assigned)),
            *((self._poll_subscribed, f"member {n}") for n in range(grouped)),
        ]
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._processes = count(1)
        self._lock = threading.Lock()
        self.history: list[Operation] = []
        self.open: dict[bytes, tuple[int, int, float]] = {}
        self.problems: list[str] = []
        self.acknowledged = 0
        self.unanswered: list[str] = []
        self.polled_at: dict[str, float] = {}

    # ------------------------------------------------------------------------------------ its life

    def create(self, replicas: int = 3, **config: str) -> None:
        """Create the topic."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **_CLIENT})
        topic = NewTopic(
            self.topic, self.partitions, replicas, config={"min.insync.replicas": "2", **config}
        )
        admin.create_topics([topic])[self.topic].result(30)

    def start(self) -> None:
        """Let the clients begin."""
        for number, (work, name) in enumerate(self._clients):
            rng = random.Random(f"{self._seed} {number}")
            thread = threading.Thread(
                target=self._run, args=(work, rng, name), name=name, daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self) -> list[Operation]:
        """End the clients, read the log to its end, and return the history."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(JOIN_S)
            assert not thread.is_alive(), f"{thread.name} is stuck"
        assert not self.problems, self.problems[:3]
        for value, (process, partition, began) in self.open.items():
            self.history.append(Send(process, partition, value, began, began, INFO))
        self.open.clear()
        self._read_all()
        return self.history

    def judged(self) -> list[Operation]:
        """All is well again: demand progress, end, and find nothing wrong with the history."""
        self.wait_progress()
        history = self.stop()
        found = check(history)
        assert not found, {name: (len(rows), rows[:3]) for name, rows in found.items()}
        assert not self.unanswered, self.unanswered[:3]
        return history

    def _run(self, work: Callable[[random.Random], None], rng: random.Random, name: str) -> None:
        try:
            while not self._stopping.is_set():
                work(rng)
        except BaseException as error:  # noqa: BLE001 - told by stop()
            self.problems.append(f"{name}: {error!r}")

    def _life_ends(self, rng: random.Random) -> float:
        return time.monotonic() + self._replaced_s * rng.uniform(0.5, 1.5)

    # ------------------------------------------------------------------------------------- senders

    def _send(self, rng: random.Random) -> None:
        process = next(self._processes)
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": self._idempotent,
                "linger.ms": 5,
                "request.timeout.ms": self._request_timeout_ms,
                "delivery.timeout.ms": SENT_TIMEOUT_MS,
                **_CLIENT,
                "socket.timeout.ms": self._request_timeout_ms,
            }
        )
        ends = self._life_ends(rng)
        began = time.monotonic()
        sent = 0
        while not self._stopping.is_set() and time.monotonic() < ends:
            while sent < (time.monotonic() - began) * self._rate:
                value = b"%d-%d" % (process, sent)
                self._send_one(producer, process, rng.randrange(self.partitions), value)
                sent += 1
            producer.poll(_PAUSE_S)
        # Mostly it ends in order; now and then with what it has on its way, which may arrive.
        if rng.random() < 0.5 or self._stopping.is_set():
            producer.flush(JOIN_S / 2)
        producer.purge()
        producer.flush(5)

    def _send_one(self, producer: Producer, process: int, partition: int, value: bytes) -> None:
        self.open[value] = (process, partition, time.monotonic())
        try:
            producer.produce(self.topic, value, partition=partition, on_delivery=self._on_delivery)
        except BufferError:
            del self.open[value]  # never sent
            producer.poll(0.1)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        now = time.monotonic()
        value = bytes(message.value() or b"")
        with self._lock:
            process, partition, began = self.open.pop(value)
            if error is None:
                self.acknowledged += 1
                offset = message.offset()
                self.history.append(Send(process, partition, value, began, now, OK, offset))
                return
            # A refusal after a time-out or a purge says nothing of what became of the record.
            self.history.append(Send(process, partition, value, began, now, INFO))
            if error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
                self.unanswered.append(str(error))

    # ------------------------------------------------------------------------------------- pollers

    def _poll_assigned(self, rng: random.Random) -> None:
        process = next(self._processes)
        settings = {"auto.offset.reset": "error", "enable.auto.commit": False}
        consumer = self._consumer(f"assigned-{process}", **settings)
        consumer.assign([TopicPartition(self.topic, p, 0) for p in range(self.partitions)])
        ends = self._life_ends(rng)
        while not self._stopping.is_set() and time.monotonic() < ends:
            self._take(consumer, process, lambda: 0)
        consumer.close()

    def _poll_subscribed(self, rng: random.Random) -> None:
        process = next(self._processes)
        settings = {"session.timeout.ms": 6_000, "auto.commit.interval.ms": 500}
        consumer = self._consumer("members", **settings, **{"auto.offset.reset": "earliest"})
        assignments = [0]

        def on_change(_consumer: Consumer, _partitions: list[TopicPartition]) -> None:
            assignments[0] += 1

        consumer.subscribe(
            [self.topic], on_assign=on_change, on_revoke=on_change, on_lost=on_change
        )
        ends = self._life_ends(rng)
        while not self._stopping.is_set() and time.monotonic() < ends:
            self._take(consumer, process, lambda: assignments[0])
        consumer.close()

    def _consumer(self, group: str, **settings: Any) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 20,
                **_CLIENT,
                **settings,
            }
        )

    def _take(
        self, consumer: Consumer, process: int, assignment: Callable[[], int], final: bool = False
    ) -> list[tuple[Any, int, Any]]:
        """One poll: what has come, as long as the assignment stays the same."""
        began = time.monotonic()
        rows: list[tuple[Any, int, Any]] = []
        at = assignment()
        message = consumer.poll(0.2)
        while message is not None:
            error = message.error()
            if error is None:
                if assignment() != at:
                    self._note(process, rows, began, at, final)
                    rows, at, began = [], assignment(), time.monotonic()
                rows.append((message.partition(), message.offset(), message.value()))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                self.problems.append(f"process {process}: {error}")
                break
            if len(rows) >= _POLL_ROWS_MAX:
                break
            message = consumer.poll(0)
        self._note(process, rows, began, at, final)
        return rows

    def _note(self, process: int, rows: list[Any], began: float, at: int, final: bool) -> None:
        if rows:
            now = time.monotonic()
            with self._lock:
                self.polled_at[threading.current_thread().name] = now
                self.history.append(
                    Poll(process, tuple(rows), began, now, assignment=at, is_final=final)
                )

    def _read_all(self) -> None:
        """Read every partition from its start to its end."""
        process = next(self._processes)
        settings = {"auto.offset.reset": "error", "enable.auto.commit": False}
        consumer = self._consumer(f"final-{process}", **settings)
        try:
            ends = {}
            for partition in range(self.partitions):
                place = TopicPartition(self.topic, partition)
                _, ends[partition] = consumer.get_watermark_offsets(place, timeout=20)
            consumer.assign([TopicPartition(self.topic, p, 0) for p in ends])
            at = dict.fromkeys(ends, 0)
            deadline = time.monotonic() + READ_TIMEOUT_S
            while any(at[p] < ends[p] for p in ends):
                assert time.monotonic() < deadline, f"cannot read to the end: {at} of {ends}"
                for partition, offset, _ in self._take(consumer, process, lambda: 0, final=True):
                    at[partition] = offset + 1
        finally:
            consumer.close()
        assert not self.problems, self.problems[:3]

    # -------------------------------------------------------------------------------------- asking

    def wait_progress(
        self, timeout_s: float = 20.0, partitions: Iterable[int] | None = None
    ) -> float:
        """Wait until every partition has acknowledged, and every poller read, what is new (R21).

        Args:
            timeout_s: afterwards it is stuck.
            partitions: only these must acknowledge.

        Returns:
            Seconds that took.
        """
        wanted = set(range(self.partitions) if partitions is None else partitions)
        began = time.monotonic()
        pollers = {name for _, name in self._clients if not name.startswith("sender")}
        while True:
            with self._lock:
                recent = self.history[-20_000:]
                moving = {
                    op.partition
                    for op in recent
                    if isinstance(op, Send) and op.outcome == OK and op.began > began
                }
                # A group's second member may have no partition that moves.
                readers = {name for name in pollers if self.polled_at.get(name, 0) > began}
            members = {name for name in pollers if name.startswith("member")}
            rest = pollers - members - readers
            if wanted <= moving and not rest and (not members or members & readers):
                return time.monotonic() - began
            assert not self.problems, self.problems[:3]
            assert time.monotonic() - began < timeout_s, (
                f"stuck {timeout_s} s after all is well: partitions {sorted(moving)} of"
                f" {sorted(wanted)} acknowledge, {sorted(readers)} of {sorted(pollers)} read"
            )
            time.sleep(0.05)


def longest_waits(history: Iterable[Operation], moments: Iterable[float]) -> list[float]:
    """For each moment, the longest time that a partition was without acknowledgements around it.

    That is the longest pause between two acknowledgements of one partition of which the second
    comes after the moment, and the first at most 10 s after it.
    """
    times: dict[Any, list[float]] = {}
    for op in history:
        if isinstance(op, Send) and op.outcome == OK:
            times.setdefault(op.partition, []).append(op.ended)
    for column in times.values():
        column.sort()
    return [
        max(
            (
                second - max(first, moment)
                for column in times.values()
                for first, second in pairwise(column)
                if second > moment and first < moment + 10.0
            ),
            default=0.0,
        )
        for moment in moments
    ]
