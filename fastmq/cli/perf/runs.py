"""The work: producing, consuming, and timing records from one end to the other."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from fastmq.cli.perf.histogram import Histogram
from fastmq.cli.perf.report import Result
from fastmq.cli.support.options import Cluster
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import FastmqError, KafkaError

if TYPE_CHECKING:
    from fastmq.client.fronts.producer import Producer

__all__ = ["Load", "run_consume", "run_latency", "run_produce", "throwaway_topic"]

Update = Callable[[int, float], None]

# A reading of the clock costs as much as handing a record over: some records stand for all.
_TIMED_EVERY: Final = 16
_LOOK_EVERY: Final = 256
_STAMP: Final = Struct(">d")
_ERRORS_MAX: Final = 5
_IDLE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent.

    Attributes:
        records: how many; None: until `seconds` are over.
        rate: per second at most; None: as fast as can be.
    """

    records: int | None
    seconds: float | None
    size: int
    rate: float | None = None
    keys: int = 0


@contextmanager
def throwaway_topic(cluster: Cluster, name: str | None, partitions: int) -> Iterator[str]:
    """The topic named, or a new one that is deleted at the end."""
    if name is not None:
        with cluster.admin() as admin:
            admin.create_topic(name, partitions, if_not_exists=True)
        yield name
        return
    made = f"fastmq-perf-{os.urandom(4).hex()}"
    with cluster.admin() as admin:
        admin.create_topic(made, partitions)
    try:
        yield made
    finally:
        with cluster.admin() as admin:
            admin.delete_topics(made, if_exists=True)


class _Outcome:
    """What became of the records; the producer's thread writes."""

    def __init__(self) -> None:
        self.times = Histogram()
        self.failed = 0
        self.errors: dict[str, None] = {}

    # Any: what an option of the producer takes.
    def timed(self) -> Any:
        began = time.perf_counter()

        def done(error: Exception | None, _metadata: object) -> None:
            if error is None:
                self.times.add(time.perf_counter() - began)

        return done

    def on_error(self, error: KafkaError) -> None:
        self.failed += 1
        if len(self.errors) < _ERRORS_MAX:
            self.errors[error.message or str(error)] = None


def run_produce(
    make: "Callable[..., Producer]", topic: str, load: Load, result: Result, update: Update
) -> None:
    """Send records as the load says and wait until all are delivered."""
    outcome = _Outcome()
    value = os.urandom(load.size)
    keys: list[bytes | None] = [b"%d" % n for n in range(load.keys)] or [None]
    cpu_s = time.process_time()
    with make(on_error=outcome.on_error) as producer:
        producer.partitions_for(topic)  # not part of the time
        began = time.perf_counter()
        produce = producer.produce
        count = 0
        for count in _paced(load, began):
            timed = outcome.timed() if count % _TIMED_EVERY == 0 else None
            produce(topic, value, keys[count % len(keys)], on_delivery=timed)
            if count % _LOOK_EVERY == 0:
                update(count, time.perf_counter() - began)
        producer.flush()
        result.seconds = time.perf_counter() - began
    result.cpu_s = time.process_time() - cpu_s
    result.records = count
    result.size_bytes = count * load.size
    result.failed = outcome.failed
    result.errors = list(outcome.errors)
    result.times = outcome.times
    result.timed = f"from produce() to the acknowledgement, every {_TIMED_EVERY}th record"


def _paced(load: Load, began: float) -> Iterator[int]:
    """Yield 1, 2, ... as fast as the load allows, until it is over."""
    count = 0
    end_s = None if load.seconds is None else began + load.seconds
    while load.records is None or count < load.records:
        if end_s is not None and count % 16 == 0 and time.perf_counter() >= end_s:
            return
        if load.rate is not None:
            ahead_s = began + count / load.rate - time.perf_counter()
            if ahead_s > 0:
                time.sleep(ahead_s)
        count += 1
        yield count


# Any: a consumer, which its options make.
def run_consume(
    make: Callable[..., Any],
    offsets: dict[TopicPartition, int],
    load: Load,
    result: Result,
    update: Update,
) -> None:
    """Read from offsets on until the load is over, or nothing comes any more."""
    cpu_s = time.process_time()
    count = size = 0
    with make() as consumer:
        consumer.assign(list(offsets))
        for name, offset in offsets.items():
            consumer.seek(*name, offset)
        began = last = time.perf_counter()
        while load.records is None or count < load.records:
            batch = consumer.poll_batch(0.5)
            now = time.perf_counter()
            if batch is not None:
                last = now
                count += len(batch.records)
                for record in batch.records:
                    size += len(record.value or b"")
                update(count, now - began)
            elif now - last > _IDLE_S:
                result.errors.append(f"nothing came for {_IDLE_S:.0f} s; are there enough records?")
                break
            if load.seconds is not None and now - began >= load.seconds:
                break
        result.seconds = last - began
    result.cpu_s = time.process_time() - cpu_s
    result.records, result.size_bytes = count, size


def run_latency(
    make_producer: "Callable[..., Producer]",
    make_consumer: Callable[..., Any],
    topic: str,
    load: Load,
    result: Result,
    update: Update,
) -> None:
    """Send records with the time in them and read them in another thread."""
    times = Histogram()
    stop, ready = Event(), Event()
    failures: list[str] = []

    def read() -> None:
        try:
            with make_consumer() as consumer:
                consumer.assign([(topic, 0)])
                consumer.seek_to_end((topic, 0))
                consumer.poll_batch(0.2)
                ready.set()
                _time_records(consumer, times, stop)
        except FastmqError as error:
            failures.append(str(error))
        finally:
            ready.set()

    cpu_s = time.process_time()
    reader = Thread(target=read, name="fastmq-perf-reader")
    reader.start()
    count = 0
    padding = bytes(max(0, load.size - _STAMP.size))
    outcome = _Outcome()
    try:
        ready.wait(_IDLE_S)
        with make_producer(linger_ms=0, on_error=outcome.on_error) as producer:
            producer.partitions_for(topic)
            began = time.perf_counter()
            for count in _paced(load, began):
                value = _STAMP.pack(time.perf_counter()) + padding
                producer.produce(topic, value, partition=0)
                update(count, time.perf_counter() - began)
            producer.flush()
            result.seconds = time.perf_counter() - began
        deadline = time.monotonic() + _IDLE_S
        while times.count < count - outcome.failed and not failures:
            if time.monotonic() > deadline:
                failures.append(f"{count - times.count} records did not come back")
                break
            stop.wait(0.01)
    finally:
        stop.set()
        reader.join(_IDLE_S)
    result.cpu_s = time.process_time() - cpu_s
    result.records, result.size_bytes = times.count, times.count * (len(padding) + _STAMP.size)
    result.failed = outcome.failed + (count - outcome.failed - times.count)
    result.errors = [*outcome.errors, *failures]
    result.times, result.timed = times, "from produce() to the consumer"


# Any: a consumer.
def _time_records(consumer: Any, times: Histogram, stop: Event) -> None:
    while not stop.is_set():
        batch = consumer.poll_batch(0.2)
        now = time.perf_counter()
        for record in batch.records if batch is not None else ():
            if record.value is not None and len(record.value) >= _STAMP.size:
                times.add(max(0.0, now - _STAMP.unpack_from(record.value)[0]))
