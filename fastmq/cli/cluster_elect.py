"""`fastmq cluster elect`: preferred leaders, and leaders where nobody in sync is left."""

import sys

import click

from fastmq.cli.support.completing import complete_topic
from fastmq.cli.support.options import EXIT_FAILED, Cluster, cluster_options, json_option
from fastmq.cli.support.output import print_json, print_table

__all__ = ["elect"]


@click.command(
    epilog="""\b
Examples:
  fastmq cluster elect
  fastmq cluster elect -t events --json
  fastmq cluster elect -t events -p 3 --unclean

\b
Without --unclean the first replica of each partition leads again, where it is in sync. With it, a
partition that has no leader, because no replica that lives was in sync, is led by the first that
lives: what only the others have is lost. Bring those back first, if that is possible. Exit code 1
when a partition could not be given another leader that it needs.
"""
)
@click.option(
    "-t",
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC",
    help="Only of these topics. Repeatable.",
    shell_complete=complete_topic,
)
@click.option(
    "-p",
    "--partition",
    "indexes",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Only these partitions of the topic. Repeatable.",
)
@click.option("--unclean", is_flag=True, help="Let replicas lead that miss records.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@cluster_options
def elect(
    *,
    cluster: Cluster,
    topics: tuple[str, ...],
    indexes: tuple[int, ...],
    unclean: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Elect preferred leaders; or, where nobody can lead without loss, any."""
    if indexes and len(topics) != 1:
        raise click.UsageError("--partition needs one --topic")
    if unclean and not topics:
        raise click.UsageError("--unclean loses records: name each --topic that it is meant for")
    with cluster.admin() as admin:
        named = [
            (topic.name, part.partition)
            for topic in (admin.describe_topics(topics) if topics else ())
            for part in topic.partitions
            if not indexes or part.partition in indexes
        ]
        if unclean and not yes and sys.stdin.isatty():
            click.confirm("What only replicas that are away have is lost. Elect?", abort=True)
        found = admin.elect_leaders(named if topics else None, unclean=unclean)
    rows = [
        {
            "topic": name.topic,
            "partition": name.partition,
            "error": None if error is None else error.code.name,
        }
        for name, error in sorted(found.items())
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("TOPIC", "PARTITION", "RESULT"),
            [(row["topic"], row["partition"], row["error"] or "elected") for row in rows],
            none="no partition needs another leader",
        )
    if any(row["error"] for row in rows):
        sys.exit(EXIT_FAILED)
