"""The report in Markdown: one table of targets, one table per workload kind."""

from typing import Any

from compare import targets

# Figure, head of its column, digits behind the point.
COLUMNS = (
    ("records_per_s", "records/s", 0),
    ("mb_per_s", "MB/s", 1),
    ("p50_ms", "p50 ms", 3),
    ("p99_ms", "p99 ms", 3),
    ("p999_ms", "p99.9 ms", 3),
    ("cpu_s_per_gb", "CPU s/GB", 3),
    ("cpu_s_per_million", "CPU s/M records", 3),
    ("cpu_share", "CPU share", 2),
    ("peak_rss_mib", "peak MiB", 0),
)
SIZES = (
    ("start_s", "start s", 3),
    ("idle_rss_mib", "idle MiB", 1),
    ("idle_cpu_share", "idle CPU", 4),
    ("install_mib", "installed MiB", 0),
    ("partitions", "partitions", 0),
    ("create_s", "create s", 2),
    ("restart_s", "restart s", 2),
    ("rss_mib_after_restart", "MiB after restart", 0),
    ("memcpy_gb_per_s", "memcpy GB/s", 1),
    ("crc32c_gb_per_s", "CRC-32C GB/s", 1),
    ("requests_per_s", "requests/s", 0),
    ("cpu_us_per_request", "CPU us/request", 2),
)
LOOSE = 0.25  # half a spread beyond this share of the median is marked


def markdown(found: dict[str, Any]) -> str:
    """The whole document."""
    parts = [_head(found), _targets(found["summary"])]
    for group, names in _groups(found["workloads"], found["summary"]).items():
        parts.append(f"\n## {group.capitalize()}\n")
        parts.append(_table(found, names))
    if found["skipped"]:
        parts.append("\n## Left out\n")
        parts += [f"* {text}" for text in found["skipped"]]
    return "\n".join(parts) + "\n"


def _head(found: dict[str, Any]) -> str:
    context, command = found["context"], found["command"]
    lines = [
        "# fastmq beside other brokers",
        "",
        f"Measured {found['when']}, commit {context['commit'][:12]}, on {context['cores']} cores "
        f"({context['cpu']}{', virtual' if context['hypervisor'] else ''}), "
        f"{context['memory_mib']} MiB, Linux {context['kernel']}, {context['system']}.",
        f"{command['rounds']} rounds of {command['seconds']} s, interleaved; "
        f"others used {context['busy_share_before']:.0%} of the machine just before, "
        f"load average {context['load_average_before'][0]:.1f}.",
    ]
    for run in found.get("earlier", []):
        lines.append(
            f"Other rows come from a run of the same command at {run['when']}, commit "
            f"{run['context']['commit'][:12]}, {run['command']['rounds']} rounds of "
            f"{run['command']['seconds']} s."
        )
    if context["note"]:
        lines.append(context["note"])
    lines += [
        "",
        "Medians; `~` marks a spread (highest to lowest) of more than half the median. CPU is the "
        "broker process's, all threads. docs/PERFORMANCE.md tells how it is measured.",
        "",
        "| broker | version | settings |",
        "|---|---|---|",
    ]
    for peer in found["peers"].values():
        settings = ", ".join(f"{k}: {_plain(v)}" for k, v in peer["settings"].items())
        lines.append(f"| {peer['title']} | {peer['version']} | {settings} |")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, list):
        return " ".join(str(v) for v in value)
    return str(value)


def _targets(summary: targets.Summary) -> str:
    rows = targets.check(summary)
    if not rows:
        return ""
    lines = [
        "",
        "## Targets",
        "",
        "Ratios of medians of this run.",
        "",
        "| what | ratio | target | holds |",
        "|---|---|---|---|",
    ]
    for row in rows:
        sign = ">=" if row["at_least"] else "<="
        holds = "yes" if row["holds"] else "**no**"
        lines.append(f"| {row['target']} | {row['ratio']} | {sign} {row['bound']} | {holds} |")
    return "\n".join(lines)


def _groups(workloads: dict[str, Any], summary: targets.Summary) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in workloads:
        if name in summary:
            groups.setdefault(name.split()[0], []).append(name)
    return groups


def _table(found: dict[str, Any], names: list[str]) -> str:
    summary = found["summary"]
    shown = [
        column
        for column in (*COLUMNS, *SIZES)
        if any(column[0] in figures for n in names for figures in summary[n].values())
    ]
    lines = [
        "| workload | broker | " + " | ".join(head for _, head, _ in shown) + " |",
        "|---|---|" + "---:|" * len(shown),
    ]
    for name in names:
        for peer, figures in summary[name].items():
            cells = [_cell(figures.get(key), digits) for key, _, digits in shown]
            title = found["workloads"][name]["title"]
            lines.append(f"| {title} | {peer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(spread: Any, digits: int) -> str:
    if not isinstance(spread, list):
        return ""
    middle, low, high = spread
    loose = "~" if middle and (high - low) / middle > 2 * LOOSE else ""
    return f"{loose}{middle:,.{digits}f}"
