"""A topic as a test sees it: what is in it, and waiting until something is."""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from fastmq.protocol.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)
from fastmq.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
)
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from fastmq.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from fastmq.protocol.messages.produce import (
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceTopic,
)
from fastmq.records import NewRecord, build_batch, read_batches

if TYPE_CHECKING:
    from fastmq.testing._wire import Wire

__all__ = ["Record", "Topic", "create_topic"]

_EARLIEST, _LATEST = -2, -1
# Topics go by name: the newest versions want ids.
_PRODUCE_BY_NAME, _FETCH_BY_NAME, _DELETE_BY_NAME = 12, 12, 5
_READ_BYTES = 4 << 20
_WAIT_STEP_MS = 250
_SHOWN_MAX = 20


class Record(NamedTuple):
    """A record that was read.

    Attributes:
        timestamp: ms since 1970; -1: none.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Topic:
    """A topic of the broker, whether it exists yet or not; `str()` is its name.

    Got from `Broker.topic`, `Broker.create_topic` and the fixture `fastmq_topic`.
    """

    def __init__(self, wire: "Wire", name: str) -> None:
        self._wire = wire
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"

    def partition_count(self) -> int:
        """Return how many partitions there are; 0 when the topic does not exist."""
        request = MetadataRequest(
            topics=[MetadataRequestTopic(name=self.name)], allow_auto_topic_creation=False
        )
        found = self._wire.call(request, MetadataResponse, max_version=9).topics[0]
        if found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            return 0
        _check(found.error_code, f"describing {self.name}")
        return len(found.partitions)

    def end_offsets(self) -> dict[int, int]:
        """Return the offset after the last readable record of each partition."""
        return self._offsets(_LATEST)

    def start_offsets(self) -> dict[int, int]:
        """Return the offset of the first record of each partition."""
        return self._offsets(_EARLIEST)

    def records(self, partition: int | None = None) -> list[Record]:
        """Return everything that is in the topic now, by partition and offset.

        Args:
            partition: only this one.
        """
        starts, ends = self.start_offsets(), self.end_offsets()
        return [
            record
            for index in sorted(ends)
            if partition in (None, index)
            for record in self._read(index, starts[index], ends[index])
        ]

    def values(self) -> list[bytes | None]:
        """Return the values of `records()`."""
        return [record.value for record in self.records()]

    def wait_for_records(self, count: int, timeout: float = 10.0) -> list[Record]:
        """Wait until the topic holds so many records, and return all it holds then.

        Args:
            count: at least so many.
            timeout: seconds.

        Raises:
            AssertionError: they did not come; the message shows what did.
        """
        deadline = time.monotonic() + timeout
        while True:
            left_s = deadline - time.monotonic()
            # Offsets are cheap to ask for, and never fewer than records.
            starts, ends = self.start_offsets(), self.end_offsets()
            offsets = sum(ends.values()) - sum(starts.values())
            found = self.records() if offsets >= count or left_s <= 0 else []
            if len(found) >= count:
                return found
            if left_s <= 0:
                raise AssertionError(
                    f"{count} records expected in {self.name} within {timeout:g} s, "
                    f"{len(found)} are there{_shown(found)}"
                )
            self._wait_for_more(min(int(left_s * 1000) + 1, _WAIT_STEP_MS))

    def produce(
        self,
        value: bytes | str | None,
        key: bytes | str | None = None,
        *,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int = 0,
        timestamp_ms: int | None = None,
    ) -> int:
        """Write one record and return its offset.

        For the input of a test; a program that is tested brings its own producer.

        Raises:
            KafkaError: the broker refused it.
        """
        return self.produce_many([(key, value)], tuple(headers), partition, timestamp_ms)

    def produce_many(
        self,
        pairs: Iterable[tuple[bytes | str | None, bytes | str | None]],
        headers: tuple[tuple[str, bytes | None], ...] = (),
        partition: int = 0,
        timestamp_ms: int | None = None,
    ) -> int:
        """Write records, as (key, value), in one batch and return the offset of the first."""
        now_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        batch = build_batch(
            NewRecord(_bytes(key), _bytes(value), headers, now_ms) for key, value in pairs
        )
        if not self.partition_count():
            create_topic(self._wire, self.name, -1, {}, exist_ok=True)
        rows = [ProducePartition(index=partition, records=batch)]
        request = ProduceRequest(
            acks=-1,
            timeout_ms=30_000,
            topic_data=[ProduceTopic(name=self.name, partition_data=rows)],
        )
        answer = self._wire.call(request, ProduceResponse, max_version=_PRODUCE_BY_NAME)
        row = answer.responses[0].partition_responses[0]
        _check(row.error_code, f"producing to {self.name}-{partition}", row.error_message)
        return row.base_offset

    def delete(self) -> None:
        """Delete the topic, if it exists."""
        request = DeleteTopicsRequest(topic_names=[self.name], timeout_ms=30_000)
        answer = self._wire.call(request, DeleteTopicsResponse, max_version=_DELETE_BY_NAME)
        code = answer.responses[0].error_code
        if code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            _check(code, f"deleting {self.name}")

    # Inside.

    def _offsets(self, which: int) -> dict[int, int]:
        count = self.partition_count()
        if not count:
            return {}
        rows = [ListOffsetsPartition(partition_index=i, timestamp=which) for i in range(count)]
        request = ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=self.name, partitions=rows)]
        )
        found = self._wire.call(request, ListOffsetsResponse).topics[0].partitions
        for row in found:
            _check(row.error_code, f"asking for offsets of {self.name}-{row.partition_index}")
        return {row.partition_index: row.offset for row in found}

    def _fetch(self, positions: Mapping[int, int], wait_ms: int) -> FetchResponse:
        rows = [
            FetchPartition(partition=index, fetch_offset=at, partition_max_bytes=_READ_BYTES)
            for index, at in positions.items()
        ]
        request = FetchRequest(
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=_READ_BYTES,
            topics=[FetchTopic(topic=self.name, partitions=rows)],
        )
        return self._wire.call(request, FetchResponse, max_version=_FETCH_BY_NAME)

    def _read(self, partition: int, start: int, end: int) -> list[Record]:
        out: list[Record] = []
        position = start
        while position < end:
            row = self._fetch({partition: position}, 0).responses[0].partitions[0]
            _check(row.error_code, f"reading {self.name}-{partition}")
            begun_at = position
            for batch in read_batches(row.records or b"", allow_partial=True):
                position = batch.header.last_offset + 1
                if batch.header.is_control:
                    continue
                out += [
                    Record(self.name, partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                    for r in batch.records()
                    if begun_at <= r.offset < end
                ]
            if position == begun_at:
                break  # retention took the rest meanwhile
        return out

    def _wait_for_more(self, wait_ms: int) -> None:
        """Wait in the broker until something is appended, or so long."""
        ends = self.end_offsets()
        if ends:
            self._fetch(ends, wait_ms)
        else:
            time.sleep(min(wait_ms / 1000, 0.01))  # the topic does not exist yet


def create_topic(
    wire: "Wire", name: str, partitions: int, config: Mapping[str, object], *, exist_ok: bool
) -> Topic:
    """Create a topic.

    Raises:
        KafkaError: it cannot be created, or (unless `exist_ok`) exists.
    """
    row = CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=-1,
        configs=[
            CreatableTopicConfig(name=key, value=_config_text(value))
            for key, value in config.items()
        ],
    )
    answer = wire.call(CreateTopicsRequest(topics=[row], timeout_ms=30_000), CreateTopicsResponse)
    made = answer.topics[0]
    if not (exist_ok and made.error_code == ErrorCode.TOPIC_ALREADY_EXISTS):
        _check(made.error_code, f"creating {name}", made.error_message)
    return Topic(wire, name)


def _config_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(code: int, what: str, text: str | None = None) -> None:
    if code:
        raise KafkaError(ErrorCode(code), f"{what}: {text or ErrorCode(code).name}")


def _bytes(data: bytes | str | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _shown(found: list[Record]) -> str:
    rows = [
        f"\n  {r.partition}@{r.offset}: key={r.key!r} value={r.value!r}" for r in found[:_SHOWN_MAX]
    ]
    more = len(found) - _SHOWN_MAX
    return ":" + "".join(rows) + (f"\n  and {more} more" if more > 0 else "") if found else ""
