"""`fastmq consume`: records to standard output."""

import sys
from typing import Any

import click

from fastmq.cli.records.formatting import Print, compile_format, json_printer, transform
from fastmq.cli.records.places import Place, parse_range
from fastmq.cli.records.reading import unescape
from fastmq.cli.records.running import Limits, Reading, Wanted, make_plan
from fastmq.cli.support.completing import complete_group, complete_topic
from fastmq.cli.support.options import Cluster, cluster_options, errors_told
from fastmq.cli.support.output import progress
from fastmq.cli.support.values import DURATION, TOPIC_PARTITIONS
from fastmq.client.topic_partition import TopicPartition

__all__ = ["consume"]

_SHOWS = ["raw", "hex", "base64", "repr"]


@click.command(
    epilog="""\b
Examples:
  fastmq consume events                         everything, then what comes (Ctrl-C ends)
  fastmq consume events --exit                  everything, then end
  fastmq consume events -o end                  only what comes from now on
  fastmq consume events -o -10 -e               the last ten records of each partition
  fastmq consume events:0 -o 1000 -c 1          one record
  fastmq consume events -o @-15m                since a quarter of an hour ago
  fastmq consume events -o @2024-05-01..@2024-05-02
  fastmq consume events --group readers         share partitions and keep offsets
  fastmq consume events -e -f '%p %o %k %s\\n'
  fastmq consume events -e --json | jq .value
  fastmq consume --regex 'orders-.*' -e --meta

\b
Letters of --format: %s value, %k key, %t topic, %p partition, %o offset, %T timestamp in ms,
%d as date, %h headers, %S and %K sizes, %R size in four bytes, %e leader epoch, %% a percent sign.
Exit codes: 0 done, 1 failed, 2 wrong command line, 3 no broker answers, 4 --idle-timeout was over,
130 interrupted.
"""
)
@click.argument(
    "topics",
    nargs=-1,
    required=True,
    type=TOPIC_PARTITIONS,
    metavar="TOPIC[:PARTITIONS]...",
    shell_complete=complete_topic,
)
@click.option(
    "-o",
    "--offset",
    "where",
    metavar="PLACE[..PLACE]",
    help="Where to begin, and end: beginning, end, stored, 1000, -10, @TIME. Default: beginning,"
    " with --group: stored.",
)
@click.option("--from-beginning", is_flag=True, help="The same as -o beginning.")
@click.option("-p", "--partition", "indexes", type=click.IntRange(min=0), multiple=True)
@click.option("-e", "--exit", "until_end", is_flag=True, help="End where the topic ends now.")
@click.option("-F", "--follow", is_flag=True, help="Go on with what comes; the default.")
@click.option("-c", "-n", "--count", type=click.IntRange(min=1), help="End after so many records.")
@click.option(
    "-g",
    "--group",
    metavar="GROUP",
    help="As a member of this group; commits offsets.",
    shell_complete=complete_group,
)
@click.option("--instance", metavar="NAME", help="As this static member of the group.")
@click.option("--no-commit", is_flag=True, help="With --group: do not commit offsets.")
@click.option("-r", "--regex", is_flag=True, help="TOPICs are regular expressions.")
@click.option("-f", "--format", "form", metavar="FORMAT", help="How to print; see below.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print a line of JSON per record.")
@click.option("--meta", is_flag=True, help="The same without values.")
@click.option("-K", "--key-delimiter", metavar="TEXT", help="Print the key and this first.")
@click.option(
    "-D", "--delimiter", default="\\n", show_default=True, metavar="TEXT", help="After each record."
)
@click.option("-Z", "--null", "null", default="", metavar="TEXT", help="What null is printed as.")
@click.option("--show-key", type=click.Choice(_SHOWS), default="raw", show_default=True)
@click.option("--show-value", type=click.Choice(_SHOWS), default="raw", show_default=True)
@click.option(
    "--isolation",
    type=click.Choice(["read_uncommitted", "read_committed"]),
    help="Leave records of open and aborted transactions out, or not (default).",
)
@click.option(
    "--idle-timeout", type=DURATION, metavar="DURATION", help="End (with 4) after so long without."
)
@click.option("-u", "--unbuffered", is_flag=True, help="Write each record at once.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing at the end.")
@cluster_options
def consume(
    *,
    cluster: Cluster,
    topics: tuple[tuple[str, list[TopicPartition]], ...],
    where: str | None,
    from_beginning: bool,
    indexes: tuple[int, ...],
    until_end: bool,
    follow: bool,
    count: int | None,
    group: str | None,
    instance: str | None,
    no_commit: bool,
    regex: bool,
    form: str | None,
    as_json: bool,
    meta: bool,
    key_delimiter: str | None,
    delimiter: str,
    null: str,
    show_key: str,
    show_value: str,
    isolation: str | None,
    idle_timeout: float | None,
    unbuffered: bool,
    quiet: bool,
) -> None:
    """Print the records of topics."""
    if until_end and follow:
        raise click.UsageError("--exit and --follow exclude each other")
    if sum((form is not None, as_json, meta)) > 1:
        raise click.UsageError("give one of --format, --json and --meta")
    if from_beginning and where is not None:
        raise click.UsageError("--from-beginning is -o beginning; give one of them")
    if no_commit and group is None:
        raise click.UsageError("--no-commit goes with --group")
    show = (
        _with_end(json_printer(has_value=not meta), b"\n")
        if as_json or meta
        else _text_printer(form, key_delimiter, delimiter, null, show_key, show_value)
    )
    begin, end = _range("beginning" if from_beginning else where, group)
    if until_end and end is None:
        end = Place("latest")
    wanted = Wanted(topics, indexes, is_regex=regex)
    options: dict[str, Any] = {"group_id": group, "group_instance_id": instance}
    if isolation is not None:
        options["isolation_level"] = isolation
    limits = Limits(count, idle_timeout, is_prompt=unbuffered)
    # Any: a binary stream, whatever the platform and the tests put there.
    output: Any = sys.stdout.buffer
    with errors_told(cluster):
        cluster.check_reachable()
        plan = make_plan(cluster, wanted, begin, end, group)
        with progress(is_wanted=not (quiet or sys.stdout.isatty()) and end is not None) as display:
            reading = Reading(plan, show, output, limits, display)
            try:
                code = reading.run(
                    cluster, options, is_committing=group is not None and not no_commit
                )
            finally:
                if not quiet and not sys.stdout.isatty():
                    click.echo(f"{reading.count} records", err=True)
    if code:
        sys.exit(code)


def _range(where: str | None, group: str | None) -> tuple[Place, Place | None]:
    if where is None:
        return Place("earliest" if group is None else "stored"), None
    try:
        return parse_range(where)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _with_end(show: Print, end: bytes) -> Print:
    return lambda record: show(record) + end


def _text_printer(
    form: str | None,
    key_delimiter: str | None,
    delimiter: str,
    null: str,
    show_key: str,
    show_value: str,
) -> Print:
    try:
        key, value = transform(show_key, null.encode()), transform(show_value, null.encode())
        if form is not None:
            return compile_format(form, key, value)
        end = unescape(delimiter).encode()
        if key_delimiter is None:
            return lambda record: value(record.value) + end
        between = unescape(key_delimiter).encode()
        return lambda record: key(record.key) + between + value(record.value) + end
    except ValueError as error:
        raise click.UsageError(str(error)) from None
