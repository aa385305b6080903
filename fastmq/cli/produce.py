"""`fastmq produce`: records from standard input or files."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from fastmq.cli.records.reading import (
    Input,
    InputError,
    blocks,
    json_record,
    pieces,
    text_record,
    unescape,
)
from fastmq.cli.support.completing import complete_topic
from fastmq.cli.support.options import (
    EXIT_FAILED,
    Cluster,
    cluster_options,
    errors_told,
    fail,
)
from fastmq.cli.support.output import count_text, progress
from fastmq.cli.support.values import KEY_VALUE, TIME
from fastmq.errors import KafkaError
from fastmq.limits import CLI_RECORD_BYTES_MAX

if TYPE_CHECKING:
    from fastmq.client.fronts.producer import Producer

__all__ = ["produce"]

# Failures beyond these are counted only.
_ERRORS_SHOWN_MAX = 5
# The progress tells the number of records after so many.
_SHOWN_EVERY = 512


@click.command(
    epilog="""\b
Examples:
  echo hello | fastmq produce events
  fastmq produce events < lines.txt
  printf 'alice:1\\nbob:2\\n' | fastmq produce events --key-delimiter :
  fastmq produce events --key alice --header source=cli --header trace=
  fastmq produce events --whole-files a.bin b.bin
  fastmq consume events --exit --json | fastmq produce copy --input json
  seq 1000000 | fastmq produce events --compression zstd --rate 50000
  echo alice: | fastmq produce events --key-delimiter : --null

\b
Exit codes: 0 all delivered, 1 some were not, 2 wrong command line or input, 3 no broker answers.
"""
)
@click.argument("topic", shell_complete=complete_topic)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-k", "--key", metavar="KEY", help="The key of all records.")
@click.option("-K", "--key-delimiter", metavar="TEXT", help="What stands between key and value.")
@click.option(
    "-D",
    "--delimiter",
    default="\\n",
    show_default=True,
    metavar="TEXT",
    help="Ends a record.",
)
@click.option(
    "-i",
    "--input",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: a line per record, as `fastmq consume --json` prints them.",
)
@click.option("--whole-files", is_flag=True, help="Each file is one record.")
@click.option(
    "-H",
    "--header",
    "headers",
    type=KEY_VALUE,
    multiple=True,
    metavar="NAME=VALUE",
    help="A header of all records. Repeatable.",
)
@click.option("-p", "--partition", type=click.IntRange(min=0), help="Instead of by key.")
@click.option(
    "--same-partition", is_flag=True, help="With JSON: into the partitions that it names."
)
@click.option("--timestamp", type=TIME, metavar="TIME", help="Of all records; default: now.")
@click.option("-Z", "--null", "null", is_flag=True, help="Send empty values as null.")
@click.option(
    "-z",
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    help="Compress batches.",
)
@click.option("-a", "--acks", type=click.Choice(["0", "1", "-1", "all"]), help="Default: all.")
@click.option("--linger-ms", type=click.FloatRange(min=0), help="Wait so long to fill batches.")
@click.option("--rate", type=click.FloatRange(min=0.001), help="At most so many records a second.")
@click.option("-c", "-n", "--count", type=click.IntRange(min=1), help="End after so many records.")
@click.option("-T", "--tee", is_flag=True, help="Copy the input to the output.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print where each record was written.")
@cluster_options
def produce(
    *,
    cluster: Cluster,
    topic: str,
    files: tuple[Path, ...],
    key: str | None,
    key_delimiter: str | None,
    delimiter: str,
    form: str,
    whole_files: bool,
    headers: tuple[tuple[str, str], ...],
    partition: int | None,
    same_partition: bool,
    timestamp: int | None,
    null: bool,
    compression: str | None,
    acks: str | None,
    linger_ms: float | None,
    rate: float | None,
    count: int | None,
    tee: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Send records to TOPIC: lines of standard input or of FILES, JSON, or whole files."""
    if same_partition and (form != "json" or partition is not None):
        raise click.UsageError("--same-partition goes with --input json, instead of --partition")
    if whole_files and not files:
        raise click.UsageError("--whole-files wants files")
    fixed = tuple((name, value.encode()) for name, value in headers)
    sent = _Sent()
    options: dict[str, Any] = {
        "acks": acks,
        "compression_type": compression,
        "linger_ms": linger_ms,
        "on_error": sent.on_error,
    }
    given = {name: value for name, value in options.items() if value is not None}
    is_plain = form == "text" and not (whole_files or tee or as_json or rate or count)
    try:
        with _producer(cluster, given) as producer, _shown(files, quiet=quiet) as advance:
            sent.producer = producer
            if is_plain:
                _send_lines(
                    partial(
                        producer.produce,
                        topic,
                        partition=partition,
                        headers=fixed or None,
                        timestamp_ms=timestamp,
                    ),
                    _blocks(files, _delimiter(delimiter)),
                    sent,
                    advance,
                    key=None if key is None else key.encode(),
                    between=None if key_delimiter is None else _delimiter(key_delimiter),
                    null=null,
                )
            else:
                records = _records(
                    files, form, _delimiter(delimiter), key_delimiter, whole=whole_files
                )
                for record in _paced(_first(records, count), rate):
                    if tee:
                        sys.stdout.buffer.write((record.value or b"") + b"\n")
                    value = record.value
                    producer.produce(
                        topic,
                        None if null and not value else value,
                        key.encode() if key is not None else record.key,
                        partition=record.partition if same_partition else partition,
                        headers=[*record.headers, *fixed] or None,
                        timestamp_ms=record.timestamp_ms if timestamp is None else timestamp,
                        on_delivery=_print_where if as_json else None,
                    )
                    sent.count += 1
                    advance(1, len(value or b"") + 1)
    except InputError as error:
        fail(f"{error}; {sent.delivered} records were delivered before", 2)
    except KeyboardInterrupt:
        click.echo(f"interrupted; {sent.delivered} records were delivered", err=True)
        sys.exit(130)
    sent.tell(quiet=quiet)


def _send_lines(
    append: Callable[..., object],
    lines: Iterator[tuple[list[bytes], int]],
    sent: "_Sent",
    advance: Callable[[int, int], None],
    *,
    key: bytes | None,
    between: bytes | None,
    null: bool,
) -> None:
    """Send pieces of text, with as little as can be done for each."""
    for block, size in lines:
        if between is not None:
            for piece in block:
                found, has_key, value = piece.partition(between)
                if not has_key:
                    value = piece
                own = found if has_key else None
                append(None if null and not value else value, own if key is None else key)
        elif key is not None or null:
            for piece in block:
                append(None if null and not piece else piece, key)
        else:
            for piece in block:
                append(piece)
        sent.count += len(block)
        advance(len(block), size)


class _Sent:
    """What became of the records; the producer's thread calls `on_error`."""

    def __init__(self) -> None:
        self.count = 0
        self.producer: Producer | None = None
        self.errors: list[str] = []

    @property
    def failed(self) -> int:
        """Records that were not delivered, once the producer is closed."""
        return 0 if self.producer is None else self.producer.failed_records

    @property
    def delivered(self) -> int:
        """The others."""
        return self.count - self.failed

    def on_error(self, error: KafkaError) -> None:
        """Keep the first few reasons."""
        if len(self.errors) < _ERRORS_SHOWN_MAX:
            self.errors.append(error.message or str(error))

    def tell(self, *, quiet: bool) -> None:
        for text in dict.fromkeys(self.errors):
            click.echo(f"fastmq: {text}", err=True)
        if self.failed:
            click.echo(f"{self.failed} of {self.count} records were not delivered", err=True)
            sys.exit(EXIT_FAILED)
        if not quiet:
            click.echo(f"{self.delivered} records delivered", err=True)


# Any: the producer's types.
def _print_where(error: Any, metadata: Any) -> None:
    if error is None:
        import json

        row = {
            "topic": metadata.topic,
            "partition": metadata.partition,
            "offset": metadata.offset,
        }
        click.echo(json.dumps(row))


@contextmanager
def _producer(cluster: Cluster, given: dict[str, Any]) -> "Iterator[Producer]":
    from fastmq.client.fronts.producer import Producer
    from fastmq.client.producer.options import ProducerOptions

    timeout_ms = int(cluster.timeout_s * 1000)
    options = {
        "client_id": "fastmq-cli",
        "max_block_ms": timeout_ms,
        "delivery_timeout_ms": max(timeout_ms, 1000),
        **cluster.options_for(ProducerOptions),
        **given,
    }
    with errors_told(cluster):
        cluster.check_reachable()
        with Producer(cluster.servers, **options) as producer:
            yield producer


def _delimiter(text: str) -> bytes:
    try:
        made = unescape(text).encode()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not made:
        raise click.UsageError("a delimiter must not be empty; see --whole-files")
    return made


def _records(
    files: tuple[Path, ...], form: str, delimiter: bytes, key_delimiter: str | None, *, whole: bool
) -> Iterator[Input]:
    if whole:
        for file in files:
            if file.stat().st_size > CLI_RECORD_BYTES_MAX:
                raise InputError(f"{file} has more than {CLI_RECORD_BYTES_MAX} bytes")
            yield Input(None, file.read_bytes())
        return
    between = None if key_delimiter is None else _delimiter(key_delimiter)
    number = 0
    for stream in _streams(files):
        for piece in pieces(_reader(stream), delimiter, CLI_RECORD_BYTES_MAX):
            number += 1
            if form == "text":
                yield text_record(piece, between)
            elif piece.strip():
                yield json_record(piece, number)


def _blocks(files: tuple[Path, ...], delimiter: bytes) -> Iterator[tuple[list[bytes], int]]:
    for stream in _streams(files):
        yield from blocks(_reader(stream), delimiter, CLI_RECORD_BYTES_MAX)


def _streams(files: tuple[Path, ...]) -> Iterator[BinaryIO]:
    for file in files:
        with file.open("rb") as stream:
            yield stream
    if not files:
        if sys.stdin.isatty():
            click.echo("a record per line; Ctrl-D ends", err=True)
        yield sys.stdin.buffer


# Any in effect: what reads as much as is there, so that `tail -f | fastmq produce` does not wait.
def _reader(stream: BinaryIO) -> Any:
    return getattr(stream, "read1", stream.read)


def _first(records: Iterator[Input], count: int | None) -> Iterator[Input]:
    from itertools import islice

    return records if count is None else islice(records, count)


def _paced(records: Iterator[Input], rate: float | None) -> Iterator[Input]:
    """Hand records out no faster than so many a second."""
    if rate is None:
        yield from records
        return
    began = time.monotonic()
    for number, record in enumerate(records):
        ahead_s = began + number / rate - time.monotonic()
        # A sleep is never shorter than this; small debts are paid with the next record.
        if ahead_s > 0.001:
            time.sleep(ahead_s)
        yield record


@contextmanager
def _shown(files: tuple[Path, ...], *, quiet: bool) -> Iterator[Any]:
    """Show how much of the files is done; or of what comes in, how many records."""
    total = sum(file.stat().st_size for file in files) if files else None
    is_wanted = not quiet and not sys.stdin.isatty()
    with progress(is_wanted=is_wanted) as display:
        if display is None:
            yield lambda records, size: None
            return
        task = display.add_task("producing", total=total, note="")
        count = shown = 0

        def advance(records: int, size: int) -> None:
            nonlocal count, shown
            count += records
            if count - shown >= _SHOWN_EVERY:
                shown = count
                display.update(task, note=f"{count_text(count)} records")
            display.advance(task, size)

        yield advance
