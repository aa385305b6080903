"""`fastmq dump-log`: print what is in the files of a log."""

import json
import sys
from pathlib import Path

import click

from fastmq.log.dump import Entry, KeyValueDecoder, dump_file, entry_text, is_damage, log_files
from fastmq.log.dump_offsets import explain_offsets_record

__all__ = ["dump_log"]

_OFFSETS_TOPIC = "__consumer_offsets-"


@click.command(
    epilog="""\b
Examples:
  fastmq dump-log fastmq-data/events-0
  fastmq dump-log --print-data fastmq-data/events-0/00000000000000000000.log
  fastmq dump-log --print-data --json fastmq-data/__consumer_offsets-3

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
def dump_log(paths: tuple[Path, ...], *, print_data: bool, as_json: bool) -> None:
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
