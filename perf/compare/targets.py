"""The project's targets as ratios between medians of one run, and whether they hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Summary = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of two medians, and the bound it is to keep."""

    text: str
    ours: tuple[str, str, str]  # workload, peer, figure
    theirs: tuple[str, str, str]
    bound: float
    at_least: bool = False  # the ratio is to be at least the bound, not at most

    def ratio(self, summary: Summary) -> float | None:
        """The ratio, None when one of the two was not measured."""
        ours, theirs = (median(summary, *place) for place in (self.ours, self.theirs))
        return ours / theirs if ours is not None and theirs else None

    def holds(self, ratio: float) -> bool:
        """Whether the target is reached."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


def median(summary: Summary, workload: str, peer: str, figure: str) -> float | None:
    """A median of the run, if it was measured."""
    spread = summary.get(workload, {}).get(peer, {}).get(figure)
    return float(spread[0]) if isinstance(spread, list) else None


def _against_kafka(
    workload: str, figure: str, bound: float, text: str, *, at_least: bool = False
) -> Target:
    return Target(text, (workload, "fastmq", figure), (workload, "kafka", figure), bound, at_least)


def _cpu_targets() -> list[Target]:
    rows = []
    for name, bound in (
        ("produce 1000B x1 batch 4 KiB acks=all", 1 / 3),
        ("produce 1000B x6 batch 4 KiB acks=all", 1 / 3),
        ("produce 1000B x100 batch 4 KiB acks=all", 1 / 3),
        ("produce 100B x6 batch 4 KiB acks=all", 1 / 3),
        ("consume 1000B x6 batch 4 KiB", 1 / 3),
        ("produce 1000B x1 batch 64 KiB acks=all", 1 / 2),
        ("produce 1000B x6 batch 64 KiB acks=all", 1 / 2),
        ("produce 1000B x100 batch 64 KiB acks=all", 1 / 2),
        ("produce 1000B x6 batch 1 MB acks=all", 1 / 2),
        ("consume 1000B x6 batch 64 KiB", 1 / 2),
    ):
        rows.append(_against_kafka(name, "cpu_s_per_gb", bound, f"CPU per GB, {name}"))
    for name in ("64 KiB", "1 MB"):
        workload = f"produce 1000B x6 batch {name} acks=all"
        rows.append(
            Target(
                f"(or) CPU per GB to the bare loop, produce batches of {name}",
                (workload, "fastmq", "cpu_s_per_gb"),
                (workload, "limit", "cpu_s_per_gb"),
                1.25,
            )
        )
    rows.append(
        Target(
            "(or) CPU per GB to the bare sendfile loop, consume 64 KiB batches",
            ("consume 1000B x6 batch 64 KiB", "fastmq", "cpu_s_per_gb"),
            ("consume 1000B x6 batch 64 KiB", "limit", "cpu_s_per_gb"),
            1.25,
        )
    )
    return rows


def _bare_targets() -> list[Target]:
    return [
        Target(
            f"throughput to receive-and-append, batches of {text}",
            (f"produce 1000B x6 batch {text} acks=all", "fastmq", "mb_per_s"),
            (f"produce 1000B x6 batch {text} acks=all", "limit", "mb_per_s"),
            0.75,
            at_least=True,
        )
        for text in ("64 KiB", "1 MB")
    ] + [
        Target(
            "throughput to the sendfile loop, one partition",
            ("consume 1000B x1 hot", "fastmq", "mb_per_s"),
            ("consume 1000B x1 hot", "limit", "mb_per_s"),
            0.8,
            at_least=True,
        ),
        Target(
            "throughput to the sendfile loop, 6 partitions, batches of 64 KiB",
            ("consume 1000B x6 batch 64 KiB", "fastmq", "mb_per_s"),
            ("consume 1000B x6 batch 64 KiB", "limit", "mb_per_s"),
            0.8,
            at_least=True,
        ),
    ]


def _client_targets() -> list[Target]:
    return [
        Target(
            f"librdkafka's records/s to a sink that only acknowledges, {size} B",
            (f"librdkafka produce {size}B x6 none", "fastmq", "records_per_s"),
            (f"librdkafka produce {size}B x6 none", "limit", "records_per_s"),
            0.9,
            at_least=True,
        )
        for size in (1000, 100)
    ]


def _latency_targets() -> list[Target]:
    return [
        _against_kafka(f"latency half load {text}", figure, 1.0, f"{figure} at half load, {text}")
        for text in ("16 KiB", "one record")
        for figure in ("p99_ms", "p999_ms")
    ]


def _single_targets() -> list[Target]:
    single = "single 1000B windowed"
    ours = (single, "fastmq", "cpu_us_per_request")
    return [
        _against_kafka("keyed 100B c256", "requests_per_s", 5, "small requests/s, 256 connections",
                       at_least=True),
        Target("small requests/s to the bare echo, 256 connections",
               ("keyed 100B c256", "fastmq", "requests_per_s"),
               ("keyed 100B c256", "limit", "requests_per_s"), 0.6, at_least=True),
        Target("CPU per small request to the bare echo",
               ("keyed 100B c256", "fastmq", "cpu_us_per_request"),
               ("keyed 100B c256", "limit", "cpu_us_per_request"), 1.6),
        Target("CPU per 1 KB message to NATS JetStream", ours,
               (single, "nats", "cpu_us_per_request"), 0.75),
        Target("CPU per 1 KB message to Redis Streams", ours,
               (single, "redis", "cpu_us_per_request"), 1.0),
        Target("fsync per acknowledgement, 16 producers, to NATS sync_interval: always",
               ("fsync per ack 1000B c16", "fastmq", "records_per_s"),
               ("fsync per ack 1000B c16", "nats", "records_per_s"), 5, at_least=True),
        _against_kafka("fsync per ack 1000B c16", "records_per_s", 1,
                       "fsync per acknowledgement, 16 producers, to Kafka flush.messages=1",
                       at_least=True),
    ]  # fmt: skip


def _size_targets() -> list[Target]:
    return [
        _against_kafka("start-up", "start_s", 0.1, "start to the first answer"),
        _against_kafka("start-up", "idle_rss_mib", 0.2, "idle memory"),
        Target("CPU per batch, 10,000 partitions to 6",
               ("partitions 10000", "fastmq", "cpu_us_per_request"),
               ("partitions 6", "fastmq", "cpu_us_per_request"), 1.3),
    ]  # fmt: skip


def _replicated_targets() -> list[Target]:
    return [
        _against_kafka("replicated x3", "cpu_s_per_gb", 0.5, "CPU per GB, three replicas, acks=all")
    ]


def _throughput_targets(summary: Summary) -> list[Target]:
    """Never less than Kafka, wherever both were measured."""
    rows = []
    for workload, peers in summary.items():
        if "fastmq" in peers and "kafka" in peers and "records_per_s" in peers["fastmq"]:
            if workload.startswith(("latency", "group")):
                continue  # the rate is given; a group is a matter of time
            rows.append(
                _against_kafka(
                    workload, "records_per_s", 1, f"records/s, {workload}", at_least=True
                )
            )
    return rows


def workloads() -> set[str]:
    """What has to be measured to judge the targets, with what their rates are taken from."""
    makers = (
        _cpu_targets,
        _bare_targets,
        _client_targets,
        _latency_targets,
        _single_targets,
        _size_targets,
        _replicated_targets,
    )
    found = {place[0] for make in makers for t in make() for place in (t.ours, t.theirs)}
    # The latency rows take their rates from two of these; a backlog has no target but throughput.
    return found | {"consume 1000B x6 hot", "keyed 100B c16", "backlog"}


def check(summary: Summary) -> list[dict[str, Any]]:
    """Every target that was measured: its text, ratio, bound and whether it holds."""
    makers: list[Callable[[], list[Target]]] = [
        _cpu_targets,
        _bare_targets,
        _client_targets,
        _latency_targets,
        _single_targets,
        _size_targets,
        _replicated_targets,
        lambda: _throughput_targets(summary),
    ]
    found = []
    for target in [t for make in makers for t in make()]:
        ratio = target.ratio(summary)
        if ratio is not None:
            found.append(
                {
                    "target": target.text,
                    "ratio": round(ratio, 3),
                    "bound": round(target.bound, 3),
                    "at_least": target.at_least,
                    "holds": target.holds(ratio),
                }
            )
    return found
