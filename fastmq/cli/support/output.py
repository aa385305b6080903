"""Printing: tables and facts for people, JSON for programs, progress on stderr.

Results go to stdout, all else to stderr. On a terminal tables are drawn by rich; elsewhere they are
aligned columns that `grep` and `awk` like, which never wrap. Progress is drawn on a terminal only.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = [
    "bytes_text",
    "count_text",
    "duration_text",
    "plain",
    "print_facts",
    "print_json",
    "print_table",
    "progress",
    "time_text",
]


# Any: values of any type, which JSON or text are made of.
def plain(value: Any) -> Any:
    """Return what JSON can hold: dataclasses as objects, enums by name in lower case."""
    if isinstance(value, Enum):
        return value.name.lower()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return value


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, none: str = "") -> None:
    """Print rows under headings; numbers stand to the right.

    Args:
        columns: the headings.
        rows: cells; None is shown as a dash.
        none: what to say, on stderr, when there are no rows.
    """
    table = [list(row) for row in rows]
    if not table and none:
        click.echo(none, err=True)
        return
    numeric = [
        all(isinstance(row[i], int | float | None) for row in table) and bool(table)
        for i in range(len(columns))
    ]
    cells = [[_cell(one) for one in row] for row in table]
    if sys.stdout.isatty():
        _print_rich(columns, cells, numeric)
        return
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _print_rich(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one per line."""
    shown = [(name, _cell(value)) for name, value in facts]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}".rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    text = str(value)
    # Names and values come from others, who are not to write to this terminal.
    return text if text.isprintable() else repr(text)[1:-1]


def count_text(count: float) -> str:
    """Return "950", "12.3 k", "4.6 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size * 10 or (unit != "k" and abs(count) >= size):
            return f"{count / size:.1f} {unit}"
    return f"{count:,.0f}"


def bytes_text(size: float) -> str:
    """Return "512 B", "1.5 KiB", "20.0 GiB"."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def duration_text(seconds: float) -> str:
    """Return "0.3s", "42s", "3m20s", "2h05m", "4d3h"."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h}h"
    if hours:
        return f"{hours}h{m:02}m"
    return f"{minutes}m{s:02}s" if minutes else f"{s}s"


def time_text(time_ms: int) -> str:
    """Return a local time with its zone; a dash for none."""
    from datetime import UTC, datetime

    if time_ms < 0:
        return "-"
    try:
        when = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone()
    except (OverflowError, OSError, ValueError):
        return str(time_ms)
    return when.isoformat(timespec="milliseconds")


@contextmanager
def progress(*, is_wanted: bool = True) -> "Iterator[Progress | None]":
    """A progress display on stderr, None where nobody would see it."""
    if not is_wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as shown:
        yield shown
