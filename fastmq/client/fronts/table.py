"""`fastmq.read_topic`: a topic as an Arrow table, for Polars, pandas, DuckDB. Needs pyarrow."""

import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from fastmq._native.consumer import ConsumerRecord
from fastmq.client.fronts.consumer import Consumer
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ConfigError, RequestTimedOut

__all__ = ["read_topic"]

# Records become columns in portions, so that they exist as Python objects for a short time only.
_PORTION_RECORDS = 50_000
_PORTION_BYTES = 64 << 20
_POLL_S = 0.2


# Any: pyarrow is an optional extra; the result is a `pyarrow.Table`.
def read_topic(
    bootstrap_servers: str | list[str],
    topic: str,
    *,
    partitions: Iterable[int] | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    max_records: int | None = None,
    text: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> Any:
    """Read what a topic has now into a `pyarrow.Table`; nothing is committed.

    The columns are `partition` (int32), `offset` (int64), `timestamp` (milliseconds, UTC), `key`
    and `value` (binary, or string with `text=True`) and `headers` (a list of `key`, `value`).
    Within a partition the rows are in order. All of them are in memory at once: `since_ms`,
    `until_ms` and `max_records` bound that.

    Example::

        import polars

        table = fastmq.read_topic("localhost:9092", "events", text=True)
        frame = polars.from_arrow(table)

    Args:
        bootstrap_servers: "host:port,host:port" or a list of "host:port" of some brokers.
        topic: to be read.
        partitions: numbers; None: all.
        since_ms: begin at the first record that is not older, in ms since 1970; None: the first.
        until_ms: end before the first record that is not older; None: where the topic ends now.
        max_records: return no more than so many.
        text: decode keys and values as UTF-8.
        timeout: seconds for all of it; None: as long as it takes.
        **options: a consumer's, such as `isolation_level`, `client_id`.

    Raises:
        ConfigError: pyarrow is not installed, or an option cannot work.
        KafkaError: there is no such topic.
        RequestTimedOut: not read in time.
        UnicodeDecodeError: `text=True` and a key or a value is not UTF-8.
    """
    if "group_id" in options or "auto_offset_reset" in options:
        raise ConfigError("read_topic reads without a group; since_ms says where it begins")
    try:
        arrow = import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "read_topic needs pyarrow (the extra `arrow`): pip install pyarrow"
        ) from error
    deadline = None if timeout is None else time.monotonic() + timeout
    portions = _Portions(arrow, text=text, limit=max_records)
    if text:
        options = {"key_deserializer": bytes.decode, "value_deserializer": bytes.decode, **options}
    with Consumer(bootstrap_servers, auto_offset_reset="earliest", **options) as consumer:
        names = _chosen(consumer.partitions_of(topic), partitions)
        ends = _ends(consumer, names, until_ms)
        begins = _begins(consumer, names, since_ms)
        # Where there is nothing between the two, there is nothing to wait for.
        ends = {name: end for name, end in ends.items() if begins[name] < end}
        consumer.assign(ends)
        for name in ends:
            consumer.seek(*name, begins[name])
        reached: set[TopicPartition] = set()
        while not portions.is_full and not consumer._has_reached(ends):
            batch = consumer.poll_batch(_POLL_S)
            if batch is not None:
                portions.add(r for r in batch.records if r.offset < ends[batch.name])
                if batch.next_offset >= ends[batch.name] and batch.name not in reached:
                    reached.add(batch.name)
                    consumer.pause(batch.name)
            if deadline is not None and time.monotonic() > deadline:
                raise RequestTimedOut(f"{topic} was not read within {timeout} s")
    return portions.table()


def _chosen(known: list[TopicPartition], partitions: Iterable[int] | None) -> list[TopicPartition]:
    if partitions is None:
        return known
    wanted = set(partitions)
    chosen = [name for name in known if name.partition in wanted]
    if len(chosen) < len(wanted):
        missing = sorted(wanted - {name.partition for name in chosen})
        raise ConfigError(f"the topic {known[0].topic} has no partitions {missing}")
    return chosen


def _ends(
    consumer: Consumer, names: list[TopicPartition], until_ms: int | None
) -> Mapping[TopicPartition, int]:
    ends = consumer.end_offsets(*names)
    if until_ms is not None:
        found = consumer.offsets_for_times(dict.fromkeys(names, until_ms))
        for name, row in found.items():
            if row.offset >= 0:
                ends[name] = min(row.offset, ends[name])
    return ends


def _begins(
    consumer: Consumer, names: list[TopicPartition], since_ms: int | None
) -> Mapping[TopicPartition, int]:
    if since_ms is None:
        return consumer.beginning_offsets(*names)
    found = consumer.offsets_for_times(dict.fromkeys(names, since_ms))
    # -1: no record is that late.
    return {name: row.offset if row.offset >= 0 else 1 << 62 for name, row in found.items()}


class _Portions:
    """The columns of what was read so far.

    Args:
        arrow: the module.
        text: keys and values are strings.
        limit: of records.
    """

    # Any: pyarrow has no types for mypy.
    def __init__(self, arrow: Any, *, text: bool, limit: int | None) -> None:
        self._arrow = arrow
        self._limit = limit
        self._records: list[ConsumerRecord] = []
        self._done: list[Any] = []
        self._count = 0
        self._bytes = 0
        data = arrow.string() if text else arrow.binary()
        header = arrow.struct([("key", arrow.string()), ("value", arrow.binary())])
        self._schema = arrow.schema(
            [
                ("partition", arrow.int32()),
                ("offset", arrow.int64()),
                ("timestamp", arrow.timestamp("ms", "UTC")),
                ("key", data),
                ("value", data),
                ("headers", arrow.list_(header)),
            ]
        )

    @property
    def is_full(self) -> bool:
        """Whether no more records are wanted."""
        return self._limit is not None and self._count >= self._limit

    def add(self, records: Iterable[ConsumerRecord]) -> None:
        """Take records, as far as they are wanted."""
        for record in records:
            if self.is_full:
                return
            self._records.append(record)
            self._count += 1
            self._bytes += len(record.key or "") + len(record.value or "")
        if len(self._records) >= _PORTION_RECORDS or self._bytes >= _PORTION_BYTES:
            self._convert()

    def _convert(self) -> None:
        records, self._records, self._bytes = self._records, [], 0
        columns = [
            [r.partition for r in records],
            [r.offset for r in records],
            [r.timestamp_ms if r.timestamp_ms >= 0 else None for r in records],
            [r.key for r in records],
            [r.value for r in records],
            # A header's name is bytes; what is not UTF-8 in it is replaced.
            [[{"key": _clean(k), "value": v} for k, v in r.headers] for r in records],
        ]
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._done.append(self._arrow.record_batch(arrays, schema=self._schema))

    def table(self) -> Any:
        """Return all of them."""
        if self._records:
            self._convert()
        return self._arrow.Table.from_batches(self._done, schema=self._schema)


def _clean(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
