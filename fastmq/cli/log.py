"""`fastmq log`: print what is in the files of a log, and check them. Needs no broker."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import click

from fastmq.cli.support.options import EXIT_FAILED, fail, json_option
from fastmq.cli.support.output import bytes_text, print_json, print_table, progress
from fastmq.log.dump import Entry, KeyValueDecoder, dump_file, entry_text, is_damage, log_files
from fastmq.log.dump_offsets import explain_offsets_record
from fastmq.log.verify import PartitionReport, partition_directories, verify_partition

__all__ = ["log"]

_OFFSETS_TOPIC = "__consumer_offsets-"


@click.group()
def log() -> None:
    """Look into log files and check them. A running broker may be writing to them meanwhile."""


@log.command(
    epilog="""\b
Examples:
  fastmq log dump fastmq-data/events-0
  fastmq log dump --print-data fastmq-data/events-0/00000000000000000000.log
  fastmq log dump --print-data --json fastmq-data/__consumer_offsets-3

\b
Records of __consumer_offsets are decoded. Exit code 1: something is damaged.
"""
)
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH...",
)
@click.option("--print-data", is_flag=True, help="Print the records of each batch, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def dump(paths: tuple[Path, ...], *, print_data: bool, as_json: bool) -> None:
    """Print batches, indexes, snapshots and checkpoints. A PATH is a file or a partition."""
    sound = True
    for path in paths:
        for file in log_files(path):
            sound &= _dump(file, print_data=print_data, as_json=as_json)
    if not sound:
        sys.exit(1)


def _dump(file: Path, *, print_data: bool, as_json: bool) -> bool:
    """Print one file; return whether all of it makes sense."""
    if not as_json:
        click.echo(f"Dumping {file}")
    sound = True
    try:
        for entry in dump_file(file, records=print_data, decoder=_decoder_of(file)):
            sound &= not is_damage(entry)
            click.echo(_line(file, entry, as_json=as_json))
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from None
    return sound


def _line(file: Path, entry: Entry, *, as_json: bool) -> str:
    if as_json:
        # ASCII only: what clients call themselves must not steer a terminal.
        return json.dumps({"file": str(file), **entry})
    return entry_text(entry)


def _decoder_of(file: Path) -> KeyValueDecoder | None:
    is_offsets = file.absolute().parent.name.startswith(_OFFSETS_TOPIC)
    return explain_offsets_record if is_offsets else None


@log.command(
    epilog="""\b
Examples:
  fastmq log verify fastmq-data
  fastmq log verify fastmq-data/events-0 --records
  fastmq log verify /var/lib/fastmq --json

\b
Exit code 1: something is damaged. Half a batch at the end of the newest segment is not: the broker
cuts it off at its next start.
"""
)
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIRECTORY...",
)
@click.option("--records", is_flag=True, help="Read every record, too; inflates batches.")
@json_option
def verify(paths: tuple[Path, ...], *, records: bool, as_json: bool) -> None:
    """Check every batch, and indexes against segments. A DIRECTORY is a partition or holds some."""
    try:
        directories = [one for path in paths for one in partition_directories(path)]
        if not directories:
            fail("there are no partitions")
        reports = _verify(directories, records=records)
    except OSError as exc:
        raise click.ClickException(str(exc)) from None
    if as_json:
        print_json(reports)
    else:
        _print_reports(reports)
    if not all(report.is_sound for report in reports):
        sys.exit(EXIT_FAILED)


def _verify(directories: list[Path], *, records: bool) -> list[PartitionReport]:
    total = 0
    for file in (file for one in directories for file in one.glob("*.log")):
        with suppress(FileNotFoundError):  # deleted meanwhile
            total += file.stat().st_size
    reports = []
    with progress() as shown:
        task = None if shown is None else shown.add_task("checking", total=total, note="")
        for directory in directories:
            if shown is None or task is None:
                reports.append(verify_partition(directory, records=records))
                continue
            shown.update(task, note=directory.name)
            reports.append(
                verify_partition(
                    directory,
                    records=records,
                    on_progress=lambda size: shown.advance(task, size),
                )
            )
    return reports


def _print_reports(reports: list[PartitionReport]) -> None:
    print_table(
        ("PARTITION", "SEGMENTS", "BATCHES", "RECORDS", "START", "END", "SIZE", "STATE"),
        [
            (
                Path(one.path).name,
                one.segments,
                one.batches,
                one.records,
                one.start_offset,
                one.end_offset,
                bytes_text(one.size_bytes),
                "sound" if one.is_sound else "damaged",
            )
            for one in reports
        ],
    )
    for one in reports:
        for finding in one.findings:
            kind = "note" if finding.is_note else "damage"
            click.echo(
                f"{kind}: {Path(one.path) / finding.file} at {finding.position}: {finding.message}"
            )
