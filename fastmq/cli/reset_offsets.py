"""`fastmq group reset-offsets`: a dry run unless --execute is given."""

import csv
import json
from pathlib import Path
from typing import TypedDict

import click

from fastmq.cli.support.completing import complete_group, complete_topic
from fastmq.cli.support.options import Cluster, cluster_options, json_option
from fastmq.cli.support.output import plain, print_json, print_table
from fastmq.cli.support.values import DURATION, TIME, TOPIC_PARTITIONS
from fastmq.client.fronts.positions import Position
from fastmq.client.topic_partition import TopicPartition

__all__ = ["reset_offsets"]


@click.command(
    "reset-offsets",
    epilog="""\b
Examples:
  fastmq group reset-offsets readers --to-earliest
  fastmq group reset-offsets readers --topic events --to-latest --execute
  fastmq group reset-offsets readers --topic events:0,2 --to-offset 1000 --execute
  fastmq group reset-offsets readers --to-datetime 2024-05-01T12:00 --execute
  fastmq group reset-offsets readers --by-duration 15m --execute
  fastmq group reset-offsets readers --shift-by -100 --execute
  fastmq group reset-offsets readers --to-current --json > saved.json
  fastmq group reset-offsets readers --from-file saved.json --execute

\b
Without --execute nothing is changed. The group must have no members: stop its consumers first.
Without --topic all partitions that the group has committed are meant. Offsets that a partition
does not have become its first or its end. A file is what --json prints, or lines of
topic,partition,offset.
""",
)
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@click.option(
    "-t",
    "--topic",
    "topics",
    type=TOPIC_PARTITIONS,
    multiple=True,
    metavar="TOPIC[:PARTITIONS]",
    help="Repeatable.",
    shell_complete=complete_topic,
)
@click.option("--all-topics", is_flag=True, help="All that the group has committed (default).")
@click.option("--to-earliest", is_flag=True, help="To the first record.")
@click.option("--to-latest", is_flag=True, help="To the end.")
@click.option("--to-current", is_flag=True, help="To where it is; with --json, to save it.")
@click.option("--to-offset", type=click.IntRange(min=0), help="To this offset.")
@click.option("--to-datetime", type=TIME, metavar="TIME", help="To the first record since then.")
@click.option("--by-duration", type=DURATION, metavar="DURATION", help="To so long ago.")
@click.option("--shift-by", type=int, metavar="N", help="By so many records; negative: back.")
@click.option("--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--execute", is_flag=True, help="Do it; without this only the plan is shown.")
@click.option("--dry-run", is_flag=True, help="Only show the plan; the default.")
@json_option
@cluster_options
def reset_offsets(
    *,
    cluster: Cluster,
    name: str,
    topics: tuple[tuple[str, list[TopicPartition]], ...],
    all_topics: bool,
    to_earliest: bool,
    to_latest: bool,
    to_current: bool,
    to_offset: int | None,
    to_datetime: int | None,
    by_duration: float | None,
    shift_by: int | None,
    from_file: Path | None,
    execute: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move the committed offsets of a group, or show how they would be moved."""
    given = [
        to_earliest,
        to_latest,
        to_current,
        to_offset is not None,
        to_datetime is not None,
        by_duration is not None,
        shift_by is not None,
        from_file is not None,
    ]
    if sum(given) != 1:
        raise click.UsageError("say where to, once: --to-earliest, --to-latest, --shift-by, ...")
    if execute and dry_run:
        raise click.UsageError("--execute and --dry-run exclude each other")
    if all_topics and topics:
        raise click.UsageError("--all-topics and --topic exclude each other")
    to: Position = "earliest" if to_earliest else "latest" if to_latest else "committed"
    if to_datetime is not None:
        to = to_datetime
    elif by_duration is not None:
        import time

        to = max(0, int((time.time() - by_duration) * 1000))
    explicit = None if from_file is None else _read_file(from_file)
    with cluster.admin() as admin:
        moves = admin.reset_offsets(
            name,
            [topic for topic, several in topics if not several],
            partitions=[one for _, several in topics for one in several],
            to=to,
            offset=to_offset,
            shift=shift_by or 0,
            explicit=explicit,
            execute=execute,
        )
    if as_json:
        print_json({"group": name, "executed": execute, "offsets": plain(moves)})
        return
    print_table(
        ("TOPIC", "PARTITION", "BEFORE", "AFTER"),
        [(m.topic, m.partition, m.before, m.after) for m in moves],
    )
    if not execute:
        click.echo("a dry run: nothing was changed; --execute does it", err=True)


class _Row(TypedDict):
    topic: str
    partition: int
    after: int


def _read_file(path: Path) -> dict[TopicPartition, int]:
    """Read what --json printed, or lines of topic,partition,offset."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("{"):
            rows: list[_Row] = json.loads(text)["offsets"]
            return {TopicPartition(row["topic"], row["partition"]): row["after"] for row in rows}
        lines = [line for line in csv.reader(text.splitlines()) if line]
        return {TopicPartition(t, int(p)): int(offset) for t, p, offset in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.UsageError(
            f"{path} is neither the JSON of this command nor topic,partition,offset: {error}"
        ) from None
