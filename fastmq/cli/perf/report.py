"""Showing a run: live while it goes, then as numbers and a picture, or as JSON."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

from fastmq.cli.perf.histogram import Histogram
from fastmq.cli.support.output import count_text, print_facts, print_json, progress

__all__ = ["Result", "live", "show"]

_BAR = 40


@dataclass(slots=True)
class Result:
    """What a run found.

    Attributes:
        what: "produce", "consume" or "latency".
        settings: what was asked for.
        times: of records; what is timed says `timed`.
    """

    what: str
    settings: dict[str, object]
    records: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    failed: int = 0
    times: Histogram | None = None
    timed: str = ""
    errors: list[str] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """The result for programs."""
        seconds = self.seconds or 1e-9
        return {
            "what": self.what,
            "settings": self.settings,
            "records": self.records,
            "failed": self.failed,
            "bytes": self.size_bytes,
            "seconds": round(self.seconds, 4),
            "records_per_s": round(self.records / seconds, 1),
            "mb_per_s": round(self.size_bytes / seconds / 1e6, 3),
            "client_cpu_s": round(self.cpu_s, 3),
            "latency_ms": None if self.times is None else self.times.summary_ms(),
        }


@contextmanager
def live(what: str, total: int | None) -> Iterator[Callable[[int, float], None]]:
    """Show how a run goes; call what is yielded with records and seconds so far, often."""
    with progress() as display:
        if display is None:
            yield lambda records, seconds: None
            return
        task = display.add_task(what, total=total, note="")
        shown_s = 0.0

        def update(records: int, seconds: float) -> None:
            nonlocal shown_s
            now_s = time.monotonic()
            if now_s - shown_s < 0.1:
                return
            shown_s = now_s
            rate = records / seconds if seconds > 0 else 0.0
            note = f"{count_text(records)} records, {count_text(rate)}/s"
            display.update(task, completed=records, note=note)

        yield update


def show(result: Result, *, as_json: bool) -> None:
    """Print a result; exit code 1 when records failed."""
    if as_json:
        print_json(result.document())
    else:
        _print(result)
    for text in result.errors:
        click.echo(f"fastmq: {text}", err=True)
    if result.failed or not result.records:
        sys.exit(1)


def _print(result: Result) -> None:
    seconds = result.seconds or 1e-9
    facts: list[tuple[str, object]] = [
        ("records", f"{result.records:,}"),
        ("time", f"{result.seconds:.2f} s"),
        ("rate", f"{result.records / seconds:,.0f} records/s"),
        ("throughput", f"{result.size_bytes / seconds / 1e6:,.2f} MB/s"),
        ("CPU of this client", f"{result.cpu_s:.2f} s"),
    ]
    if result.failed:
        facts.append(("failed", f"{result.failed:,}"))
    print_facts(facts)
    if result.times is None or not result.times.count:
        return
    click.echo()
    click.echo(f"{result.timed}, ms:")
    print_facts((name, f"{value:,.3f}") for name, value in result.times.summary_ms().items())
    click.echo()
    rows = result.times.bars()
    most = max(count for _, _, count in rows)
    for start_s, end_s, count in rows:
        bar = "#" * max(1 if count else 0, round(count / most * _BAR))
        click.echo(f"{start_s * 1000:10,.3f} - {end_s * 1000:10,.3f}  {bar:<{_BAR}}  {count:,}")
