"""What is on the metrics page. Imported by the first scrape: the client library costs start-up."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate, islice
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from fastmq import __version__
from fastmq._native.core import Partition, PartitionError
from fastmq.cluster.names import CONSUMER_OFFSETS
from fastmq.limits import METRICS_GROUP_OFFSETS_MAX
from fastmq.protocol.api import APIS
from fastmq.scaling import GroupLag
from fastmq.server.context import BrokerContext
from fastmq.server.coordinators import ShardState
from fastmq.server.dispatch import Dispatcher
from fastmq.server.repairs import RepairCounts

__all__ = ["BrokerCollector", "Snapshot", "render", "take_snapshot"]

# Engine counters under the names of Kafka's BrokerTopicMetrics.
_KAFKA_TOTALS = {
    "record_bytes_in": (
        "kafka_server_brokertopicmetrics_bytesin",
        "Bytes received from producers.",
    ),
    "record_bytes_out": ("kafka_server_brokertopicmetrics_bytesout", "Bytes sent to consumers."),
    "records_in": ("kafka_server_brokertopicmetrics_messagesin", "Records produced."),
    "produce_requests": (
        "kafka_server_brokertopicmetrics_totalproducerequests",
        "Produce requests.",
    ),
    "fetch_requests": ("kafka_server_brokertopicmetrics_totalfetchrequests", "Fetch requests."),
    "produce_errors": (
        "kafka_server_brokertopicmetrics_failedproducerequests",
        "Partitions of Produce requests that were refused.",
    ),
}


# Name, documentation, value: None makes no sample.
_LAG_GAUGES: tuple[tuple[str, str, Callable[[GroupLag], float | None]], ...] = (
    ("fastmq_group_lag_sum", "Records that a group is behind.", lambda g: g.lag),
    (
        "fastmq_group_lag_seconds",
        "Age of the next record of the partition that is furthest behind.",
        lambda g: g.lag_seconds,
    ),
    ("fastmq_group_consume_rate", "Records per second committed.", lambda g: g.consume_rate),
    ("fastmq_group_produce_rate", "Records per second produced.", lambda g: g.produce_rate),
    (
        "fastmq_group_eta_seconds",
        "Time until the lag is 0; absent while it does not shrink.",
        lambda g: g.eta_seconds,
    ),
    (
        "fastmq_group_wanted_consumers",
        "Consumers that would catch up within fastmq.lag.target.ms.",
        lambda g: g.wanted_consumers,
    ),
    ("fastmq_group_lagging_partitions", "Partitions with lag.", lambda g: g.lagging_partitions),
)


class Snapshot(NamedTuple):
    """What belongs to the event loop's thread, at one moment.

    Attributes:
        handles: all partitions.
        states: number of groups by state.
        members: of all groups.
        offsets: (group, topic, partition, committed offset).
        lags: estimates, by group.
    """

    handles: list[Partition]
    states: dict[str, int]
    members: int
    offsets: list[tuple[str, str, int, int]]
    lags: Mapping[str, GroupLag]


def take_snapshot(context: BrokerContext, lags: Mapping[str, GroupLag]) -> Snapshot:
    """Read topics and shards; in the thread that changes them."""
    states: Counter[str] = Counter()
    members = 0
    offsets: list[tuple[str, str, int, int]] = []
    for runner in context.groups.runners():
        if runner.state is ShardState.ACTIVE:
            states.update(runner.shard.group_counts())
            members += runner.shard.member_count()
            room = METRICS_GROUP_OFFSETS_MAX - len(offsets)
            offsets += islice(runner.shard.committed_offsets(), room)
    return Snapshot(context.topics.handles(), dict(states), members, offsets, lags)


def render(context: BrokerContext, dispatcher: Dispatcher, snapshot: Snapshot) -> tuple[str, bytes]:
    """Return the content type and the page."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BrokerCollector(context, dispatcher, snapshot))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class BrokerCollector:
    """Reads the broker at each scrape."""

    def __init__(self, context: BrokerContext, dispatcher: Dispatcher, snapshot: Snapshot) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Return nothing: names are not checked for duplicates at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._engine()
        yield from self._latencies()
        yield from self._requests()
        yield from self._broker()
        yield from self._logs()
        yield from self._groups()
        yield from self._lags()

    def _engine(self) -> Iterator[Metric]:
        gauges = (
            "connections",
            "parked_fetches",
            "fetch_sessions",
            "pending_acks",
            "buffered_bytes",
            "open_files",
        )
        for name, value in self._context.engine.metrics().items():
            if name in _KAFKA_TOTALS:
                kafka_name, doc = _KAFKA_TOTALS[name]
                yield CounterMetricFamily(kafka_name, doc, value=value)
            elif name in gauges:
                yield GaugeMetricFamily(f"fastmq_engine_{name}", f"Engine: {name}.", value=value)
            else:
                yield CounterMetricFamily(f"fastmq_engine_{name}", f"Engine: {name}.", value=value)

    def _latencies(self) -> Iterator[Metric]:
        """Yield what the engine measured of Produce and Fetch, from arrival to answer."""
        # Any: the values are a list of limits, two of counts, and two sums.
        measured: dict[str, Any] = self._context.engine.latencies()
        limits = [str(limit / 1e6) for limit in measured["limits_us"]] + ["+Inf"]
        family = HistogramMetricFamily(
            "fastmq_engine_request_seconds",
            "Time from the arrival of a request to its answer, waiting included.",
            labels=["request"],
        )
        for name in ("produce", "fetch"):
            buckets = list(zip(limits, accumulate(measured[name]), strict=True))
            family.add_metric([name.title()], buckets, measured[f"{name}_sum_ns"] / 1e9)
        yield family

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "kafka_network_requestmetrics_requests",
            "Requests answered by Python handlers.",
            labels=["request"],
        )
        errors = CounterMetricFamily(
            "kafka_network_requestmetrics_errors", "Those that failed.", labels=["request"]
        )
        seconds = CounterMetricFamily(
            "fastmq_request_seconds",
            "Time from a frame to its answer, waiting included, by API.",
            labels=["request"],
        )
        longest = GaugeMetricFamily(
            "fastmq_request_max_seconds", "The longest such time so far.", labels=["request"]
        )
        for key, metrics in self._dispatcher.metrics.items():
            labels = [APIS[key].name]
            requests.add_metric(labels, metrics.count)
            errors.add_metric(labels, metrics.errors)
            seconds.add_metric(labels, metrics.total_ns / 1e9)
            longest.add_metric(labels, metrics.max_ns / 1e9)
        yield from (requests, errors, seconds, longest)

    def _broker(self) -> Iterator[Metric]:
        context = self._context
        info = GaugeMetricFamily(
            "fastmq_info", "Version and identity.", labels=["version", "node_id", "cluster_id"]
        )
        info.add_metric([__version__, str(context.node_id), context.cluster_id], 1)
        yield info
        yield CounterMetricFamily(
            "fastmq_connections_refused",
            "Connections closed at once because of a limit.",
            value=context.connections.refused_total,
        )
        yield GaugeMetricFamily(
            "kafka_server_replicamanager_partitioncount",
            "Partitions on this broker.",
            value=len(self._snapshot.handles),
        )
        offline = sum(not one.is_online for one in context.storage.directories)
        yield GaugeMetricFamily(
            "kafka_log_logmanager_offlinelogdirectorycount",
            "Data directories that have failed.",
            value=offline,
        )

        if context.repairs is not None:
            yield from self._repairs(context.repairs.counts)

    def _repairs(self, counts: RepairCounts) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "fastmq_repaired_batches",
            "Damaged batches replaced by those of another replica.",
            value=counts.repaired_batches,
        )
        yield CounterMetricFamily(
            "fastmq_repaired_bytes", "Their bytes.", value=counts.repaired_bytes
        )
        yield CounterMetricFamily(
            "fastmq_repairs_failed",
            "Tries to repair a partition that left damage.",
            value=counts.failed_repairs,
        )
        yield GaugeMetricFamily(
            "fastmq_damaged_partitions",
            "Replicas here with damage that is known.",
            value=counts.damaged_partitions,
        )

    def _logs(self) -> Iterator[Metric]:
        names = ["topic", "partition"]
        size = GaugeMetricFamily("kafka_log_log_size", "Bytes in the log.", labels=names)
        start = GaugeMetricFamily("kafka_log_log_logstartoffset", "First offset.", labels=names)
        end = GaugeMetricFamily("kafka_log_log_logendoffset", "Next offset.", labels=names)
        segments = GaugeMetricFamily("kafka_log_log_numlogsegments", "Segments.", labels=names)
        for handle in self._open_handles():
            try:
                values = (
                    handle.size_bytes(),
                    handle.log_start(),
                    handle.log_end(),
                    handle.segment_count(),
                )
            except PartitionError:
                continue
            labels = [handle.topic, str(handle.index)]
            for family, value in zip((size, start, end, segments), values, strict=True):
                family.add_metric(labels, value)
        yield from (size, start, end, segments)

    def _open_handles(self) -> list[Partition]:
        """Leave logs closed that nobody has used since the start."""
        return [handle for handle in self._snapshot.handles if handle.is_open()]

    def _groups(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "kafka_coordinator_group_groups", "Groups by state.", labels=["state"]
        )
        offsets = GaugeMetricFamily(
            "fastmq_group_offset", "Committed offset.", labels=["group", "topic", "partition"]
        )
        lag = GaugeMetricFamily(
            "fastmq_group_lag",
            "Records between the committed offset and the end.",
            labels=["group", "topic", "partition"],
        )
        seen = self._snapshot
        for state, count in sorted(seen.states.items()):
            states.add_metric([state], count)
        for group, topic_name, partition, offset in seen.offsets:
            labels = [group, topic_name, str(partition)]
            offsets.add_metric(labels, offset)
            topic = self._context.topics.get(topic_name)
            handle = None if topic is None else topic.handle(partition)
            if handle is not None and topic_name != CONSUMER_OFFSETS:
                try:
                    lag.add_metric(labels, max(handle.high_watermark() - offset, 0))
                except PartitionError:
                    continue
        yield from (states, offsets, lag)
        yield GaugeMetricFamily(
            "fastmq_group_members", "Members of all groups.", value=seen.members
        )

    def _lags(self) -> Iterator[Metric]:
        """Yield the estimates of `server.lag`, one series for each group."""
        for name, doc, value in _LAG_GAUGES:
            family = GaugeMetricFamily(name, doc, labels=["group"])
            for group_id, lag in self._snapshot.lags.items():
                number = value(lag)
                if number is not None:
                    family.add_metric([group_id], number)
            yield family
