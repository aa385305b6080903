"""Plots of a report, where matplotlib is installed (extra `dev`)."""

from pathlib import Path
from typing import Any

PLOTS = (
    # File, title, figure, unit, beginnings of workload names
    ("cpu-produce", "Broker CPU to produce (lower is better)", "cpu_s_per_gb", "s per GB",
     ("produce",)),
    ("cpu-consume", "Broker CPU to consume (lower is better)", "cpu_s_per_gb", "s per GB",
     ("consume",)),
    ("throughput-produce", "Produce throughput (higher is better)", "mb_per_s", "MB/s",
     ("produce",)),
    ("throughput-consume", "Consume throughput (higher is better)", "mb_per_s", "MB/s",
     ("consume",)),
    ("single", "One message per request (higher is better)", "records_per_s", "records/s",
     ("single", "keyed", "fsync")),
    ("latency", "End to end, 99.9 % (lower is better)", "p999_ms", "ms", ("latency",)),
    ("librdkafka", "librdkafka: broker CPU (lower is better)", "cpu_s_per_gb", "s per GB",
     ("librdkafka",)),
)  # fmt: skip
COLOURS = {
    "fastmq": "#1b6ca8",
    "kafka": "#d1495b",
    "nats": "#66a182",
    "redis": "#edae49",
    "rabbitmq": "#8d6b94",
    "limit": "#777777",
}
BAR = 0.8
INCHES_WIDE = 9


def write(found: dict[str, Any], directory: Path, name: str) -> list[Path]:
    """One picture per entry of PLOTS that has data; their paths."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "fastmq"  # the same data gives the same file
    written = []
    for stem, title, figure, unit, beginnings in PLOTS:
        rows = [
            workload
            for workload, peers in found["summary"].items()
            if workload.startswith(beginnings) and any(figure in f for f in peers.values())
        ]
        if rows:
            path = directory / f"{name}-{stem}.svg"
            _bars(found["summary"], rows, title, figure, unit, path)
            written.append(path)
    return written


def _bars(
    summary: dict[str, Any], rows: list[str], title: str, figure: str, unit: str, path: Path
) -> None:
    from matplotlib import pyplot as plt

    peers = [p for p in COLOURS if any(p in summary[row] for row in rows)]
    height = BAR / len(peers)
    picture, axes = plt.subplots(
        figsize=(INCHES_WIDE, 1 + 0.22 * len(rows) * (1 + len(peers))), layout="constrained"
    )
    for i, peer in enumerate(peers):
        places, middles, errors = [], [], []
        for j, row in enumerate(rows):
            spread = summary[row].get(peer, {}).get(figure)
            if spread:
                middle, low, high = spread
                places.append(j + (i - (len(peers) - 1) / 2) * height)
                middles.append(middle)
                errors.append((middle - low, high - middle))
        axes.barh(
            places,
            middles,
            height,
            label=peer,
            color=COLOURS[peer],
            xerr=list(zip(*errors, strict=True)) or None,
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit}, median with lowest and highest round")
    axes.set_title(title)
    axes.legend(fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    picture.savefig(path, metadata={"Date": None})
    plt.close(picture)
