"""The command `fastmq doctor`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from fastmq.cli.doctor.findings import Finding, Level
from fastmq.cli.doctor.machine import check_kernel, check_limits, check_memory, check_python
from fastmq.cli.doctor.network import check_address, check_clock
from fastmq.cli.doctor.storage import check_storage
from fastmq.cli.support.options import json_option
from fastmq.cli.support.output import print_json
from fastmq.errors import ConfigError

__all__ = ["doctor"]

_MARKS = {
    Level.OK: ("ok", "green"),
    Level.HINT: ("hint", "cyan"),
    Level.WARNING: ("warning", "yellow"),
    Level.PROBLEM: ("problem", "red"),
}


@click.command(
    epilog="""\b
Examples:
  fastmq doctor
  fastmq doctor --data-dir /var/lib/fastmq --listen 0.0.0.0:9092
  fastmq doctor --strict --json

\b
Hints make a good thing better; warnings cost something under load or after a crash; with a problem
a broker does not start or does not work. Nothing is changed.
Exit codes: 0 no problem, 1 a problem (with --strict: or a warning).
"""
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("fastmq-data"),
    show_default=True,
    help="Where the broker's data are, or shall be.",
)
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    default=("127.0.0.1:9092",),
    show_default=True,
    metavar="HOST:PORT",
    help="Where the broker listens, or shall listen. Repeatable.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings, too.")
@json_option
def doctor(*, data_dir: Path, addresses: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check this machine: ports, limits, disk, clock, kernel; with what to do about it."""
    findings = []
    for finding in _checks(data_dir, addresses):
        findings.append(finding)
        if not as_json:
            _print(finding)
    worst = max(finding.level for finding in findings)
    if as_json:
        print_json(findings)
    else:
        click.echo(_summary(findings))
    if worst >= (Level.WARNING if strict else Level.PROBLEM):
        sys.exit(1)


def _checks(data_dir: Path, addresses: Iterable[str]) -> Iterator[Finding]:
    from fastmq.client.options import ClientOptions, read_options

    yield from check_python()
    yield from check_limits()
    yield from check_memory()
    yield from check_kernel()
    yield from check_storage(data_dir)
    for text in addresses:
        try:
            ((host, port),) = read_options(ClientOptions, [text], {}).bootstrap_servers
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
        yield from check_address(host, port)
    yield from check_clock()


def _print(finding: Finding) -> None:
    word, colour = _MARKS[finding.level]
    click.echo(f"{click.style(word.ljust(8), fg=colour)} {finding.check}: {finding.found}")
    if finding.advice:
        click.echo(f"         {finding.advice}")


def _summary(findings: list[Finding]) -> str:
    counts = {level: sum(one.level == level for one in findings) for level in Level}
    parts = [
        f"{counts[level]} {_MARKS[level][0]}{'s' if counts[level] != 1 else ''}"
        for level in (Level.PROBLEM, Level.WARNING, Level.HINT)
        if counts[level]
    ]
    return ", ".join(parts) if parts else "nothing to complain about"
