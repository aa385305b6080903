"""`fastmq topic`: create, list, describe, alter, delete, add-partitions, offsets, trim."""

import fnmatch
import sys
from typing import TYPE_CHECKING

import click

from fastmq.cli.support.completing import complete_topic, complete_topic_key
from fastmq.cli.support.options import Cluster, cluster_options, fail, json_option
from fastmq.cli.support.output import (
    bytes_text,
    print_facts,
    print_json,
    print_table,
    time_text,
)
from fastmq.cli.support.values import KEY_VALUE, TIME, TOPIC_PARTITIONS
from fastmq.client.topic_partition import TopicPartition

if TYPE_CHECKING:
    from fastmq.client.admin.results import TopicDescription
    from fastmq.client.fronts.admin import Admin

__all__ = ["topic"]


@click.group()
def topic() -> None:
    """Create, list, describe, alter and delete topics."""


@topic.command(
    epilog="""\b
Examples:
  fastmq topic create events
  fastmq topic create events --partitions 6 --config retention.ms=3600000
  fastmq topic create a b c --if-not-exists
  fastmq topic create pinned --replica-assignment 1:2,2:3
"""
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-p", "--partitions", type=click.IntRange(min=1), help="As the broker, if not given.")
@click.option("-r", "--replication-factor", "--replicas", type=click.IntRange(min=1))
@click.option(
    "-c",
    "--config",
    type=KEY_VALUE,
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the topic. Repeatable.",
    shell_complete=complete_topic_key,
)
@click.option(
    "--replica-assignment",
    metavar="1:2,2:3",
    help="Brokers of each partition, the preferred leader first.",
)
@click.option("--if-not-exists", is_flag=True, help="Leave topics that exist as they are.")
@click.option("--dry-run", is_flag=True, help="Only say whether they could be made.")
@json_option
@cluster_options
def create(
    *,
    cluster: Cluster,
    names: tuple[str, ...],
    partitions: int | None,
    replication_factor: int | None,
    config: tuple[tuple[str, str], ...],
    replica_assignment: str | None,
    if_not_exists: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Create topics."""
    from fastmq.client.admin.results import NewTopic

    by_hand = _assignment(replica_assignment)
    if by_hand is not None and (partitions, replication_factor) != (None, None):
        raise click.UsageError("--replica-assignment says how many partitions and replicas")
    wanted = [
        NewTopic(name, partitions, replication_factor, dict(config), by_hand) for name in names
    ]
    with cluster.admin() as admin:
        created = admin.create_topics(wanted, if_not_exists=if_not_exists, validate_only=dry_run)
    if as_json:
        print_json(created)
        return
    for one in created:
        done = "exists already" if one.existed else "could be created" if dry_run else "created"
        size = f" ({one.partitions} partitions)" if one.partitions > 0 and not one.existed else ""
        click.echo(f"topic {one.name} {done}{size}")


def _assignment(text: str | None) -> list[list[int]] | None:
    if text is None:
        return None
    try:
        return [[int(broker) for broker in part.split(":")] for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--replica-assignment {text}: wants broker ids, 1:2,2:3") from None


@topic.command(
    "list",
    epilog="""\b
Examples:
  fastmq topic list
  fastmq topic list 'orders.*' --names
  fastmq topic list --internal --json
""",
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("-i", "--internal", is_flag=True, help="The brokers' own topics, too.")
@click.option("--names", is_flag=True, help="Only names, one per line.")
@json_option
@cluster_options
def list_topics(
    *, cluster: Cluster, patterns: tuple[str, ...], internal: bool, names: bool, as_json: bool
) -> None:
    """List topics; a PATTERN has * and ? as in a shell."""
    with cluster.admin() as admin:
        found = admin.describe_topics(internal=internal)
    if patterns:
        found = [t for t in found if any(fnmatch.fnmatchcase(t.name, one) for one in patterns)]
    rows = [
        {
            "name": t.name,
            "partitions": len(t.partitions),
            "replication_factor": t.replication_factor,
            "internal": t.is_internal,
        }
        for t in found
    ]
    if as_json:
        print_json(rows)
    elif names:
        for t in found:
            click.echo(t.name)
    else:
        print_table(
            ("NAME", "PARTITIONS", "REPLICAS"),
            [(t.name, len(t.partitions), t.replication_factor) for t in found],
            none="no topics; `fastmq topic create NAME` makes one",
        )


@topic.command(
    epilog="""\b
Examples:
  fastmq topic describe events
  fastmq topic describe events orders --json
  fastmq topic describe events --all-configs
"""
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_topic)
@click.option("-a", "--all-configs", is_flag=True, help="Settings that nobody has set, too.")
@json_option
@cluster_options
def describe(*, cluster: Cluster, names: tuple[str, ...], all_configs: bool, as_json: bool) -> None:
    """Show partitions with leaders, replicas, offsets and sizes, and settings."""
    with cluster.admin() as admin:
        described = [
            _description(admin, one, all_configs=all_configs)
            for one in admin.describe_topics(names)
        ]
    if as_json:
        print_json(described)
        return
    for index, one in enumerate(described):
        if index:
            click.echo()
        _print_description(one)


# Any in effect: what JSON is made of.
def _description(
    admin: "Admin", one: "TopicDescription", *, all_configs: bool
) -> dict[str, object]:
    names = [TopicPartition(one.name, p.partition) for p in one.partitions if p.leader >= 0]
    starts = admin.list_offsets(dict.fromkeys(names, "earliest"))
    ends = admin.list_offsets(dict.fromkeys(names, "latest"))
    config = admin.topic_config(one.name)
    sizes: dict[int, int] = {}
    for directory in admin.describe_log_dirs():
        for replica in directory.replicas:
            if replica.topic == one.name:
                sizes[replica.partition] = max(replica.size, sizes.get(replica.partition, 0))
    partitions = []
    for part in one.partitions:
        name = TopicPartition(one.name, part.partition)
        partitions.append(
            {
                "partition": part.partition,
                "leader": part.leader,
                "leader_epoch": part.leader_epoch,
                "replicas": part.replicas,
                "isr": part.isr,
                "start_offset": starts[name].offset if name in starts else None,
                "end_offset": ends[name].offset if name in ends else None,
                "size_bytes": sizes.get(part.partition),
            }
        )
    return {
        "name": one.name,
        "topic_id": one.topic_id,
        "internal": one.is_internal,
        "replication_factor": one.replication_factor,
        "partitions": partitions,
        "config": {
            value.name: value.value
            for value in config.values()
            if all_configs or value.source.name == "TOPIC"
        },
    }


def _print_description(one: dict[str, object]) -> None:
    partitions: list[dict[str, object]] = one["partitions"]  # type: ignore[assignment]
    config: dict[str, str] = one["config"]  # type: ignore[assignment]
    sizes = [p["size_bytes"] for p in partitions if isinstance(p["size_bytes"], int)]
    facts = [
        ("name", one["name"]),
        ("id", one["topic_id"]),
        ("partitions", len(partitions)),
        ("replicas", one["replication_factor"]),
        ("size", bytes_text(sum(sizes))),
    ]
    facts += [(f"config {name}", value) for name, value in config.items()]
    print_facts(facts)
    click.echo()
    print_table(
        ("PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END", "RECORDS", "SIZE"),
        [
            (
                p["partition"],
                p["leader"],
                p["leader_epoch"],
                ",".join(map(str, p["replicas"])),  # type: ignore[call-overload]
                ",".join(map(str, p["isr"])),  # type: ignore[call-overload]
                p["start_offset"],
                p["end_offset"],
                _difference(p["end_offset"], p["start_offset"]),
                bytes_text(p["size_bytes"]) if isinstance(p["size_bytes"], int) else None,
            )
            for p in partitions
        ],
    )


def _difference(end: object, start: object) -> int | None:
    return end - start if isinstance(end, int) and isinstance(start, int) else None


@topic.command(
    epilog="""\b
Examples:
  fastmq topic alter events --set retention.ms=3600000
  fastmq topic alter events --append cleanup.policy=compact --delete retention.ms
  fastmq topic alter events --set max.message.bytes=2000000 --dry-run
"""
)
@click.argument("name", shell_complete=complete_topic)
@click.option(
    "-s",
    "--set",
    "set_",
    type=KEY_VALUE,
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_topic_key,
    help="A new value. Repeatable, as the others.",
)
@click.option(
    "-d",
    "--delete",
    multiple=True,
    metavar="KEY",
    shell_complete=complete_topic_key,
    help="Back to the broker's default.",
)
@click.option("--append", type=KEY_VALUE, multiple=True, metavar="KEY=VALUE", help="Add to a list.")
@click.option(
    "--subtract", type=KEY_VALUE, multiple=True, metavar="KEY=VALUE", help="Take from a list."
)
@click.option("--dry-run", is_flag=True, help="Only say whether it could be done.")
@json_option
@cluster_options
def alter(
    *,
    cluster: Cluster,
    name: str,
    set_: tuple[tuple[str, str], ...],
    delete: tuple[str, ...],
    append: tuple[tuple[str, str], ...],
    subtract: tuple[tuple[str, str], ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Change settings of a topic: all of the changes or none."""
    if not (set_ or delete or append or subtract):
        raise click.UsageError("nothing to change: give --set, --delete, --append or --subtract")
    with cluster.admin() as admin:
        admin.alter_topic_config(
            name,
            dict(set_),
            delete=delete,
            append=dict(append),
            subtract=dict(subtract),
            validate_only=dry_run,
        )
    if as_json:
        print_json({"topic": name, "altered": not dry_run})
    else:
        click.echo(f"topic {name} {'could be altered' if dry_run else 'altered'}")


@topic.command(
    epilog="""\b
Examples:
  fastmq topic delete events
  fastmq topic delete --regex 'test-.*' --yes
"""
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_topic)
@click.option("-r", "--regex", is_flag=True, help="NAMEs are regular expressions for whole names.")
@click.option("--if-exists", is_flag=True, help="Do not mind topics that are missing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@cluster_options
def delete(
    *,
    cluster: Cluster,
    names: tuple[str, ...],
    regex: bool,
    if_exists: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete topics with all their records. Asks first when somebody is there to answer."""
    with cluster.admin() as admin:
        wanted = _matching(admin, names) if regex else list(names)
        if not wanted:
            fail("no topic matches")
        if not yes and sys.stdin.isatty():
            click.confirm(f"Delete {', '.join(wanted)} with all records?", abort=True, err=True)
        admin.delete_topics(wanted, if_exists=if_exists)
    if as_json:
        print_json({"deleted": wanted})
    else:
        for name in wanted:
            click.echo(f"topic {name} deleted")


def _matching(admin: "Admin", patterns: tuple[str, ...]) -> list[str]:
    import re

    try:
        compiled = [re.compile(one) for one in patterns]
    except re.error as error:
        raise click.UsageError(f"not a regular expression: {error}") from None
    return [name for name in admin.list_topics() if any(one.fullmatch(name) for one in compiled)]


@topic.command(
    "add-partitions",
    epilog="""\b
Examples:
  fastmq topic add-partitions events --total 12
  fastmq topic add-partitions events --add 2

\b
Keys go to other partitions afterwards: the order per key holds only among records that were
produced before, and among those produced after.
""",
)
@click.argument("name", shell_complete=complete_topic)
@click.option("-n", "--total", type=click.IntRange(min=1), help="Partitions that it shall have.")
@click.option("--add", type=click.IntRange(min=1), help="Partitions more than now.")
@click.option("--dry-run", is_flag=True, help="Only say whether it could be done.")
@json_option
@cluster_options
def add_partitions(
    *, cluster: Cluster, name: str, total: int | None, add: int | None, dry_run: bool, as_json: bool
) -> None:
    """Give a topic more partitions."""
    if (total is None) == (add is None):
        raise click.UsageError("give either --total or --add")
    with cluster.admin() as admin:
        (before,) = admin.describe_topics(name)
        wanted = total if total is not None else len(before.partitions) + (add or 0)
        admin.add_partitions(name, wanted, validate_only=dry_run)
    if as_json:
        print_json({"topic": name, "before": len(before.partitions), "partitions": wanted})
    else:
        could = "could have" if dry_run else "has"
        click.echo(f"topic {name} {could} {wanted} partitions (before: {len(before.partitions)})")


@topic.command(
    epilog="""\b
Examples:
  fastmq topic offsets events
  fastmq topic offsets events:0 --at -15m
  fastmq topic offsets events orders --at 2024-05-01T12:00 --json
"""
)
@click.argument(
    "names",
    nargs=-1,
    required=True,
    type=TOPIC_PARTITIONS,
    metavar="TOPIC[:PARTITIONS]...",
    shell_complete=complete_topic,
)
@click.option("--at", type=TIME, metavar="TIME", help="The first record not older than this.")
@json_option
@cluster_options
def offsets(
    *,
    cluster: Cluster,
    names: tuple[tuple[str, list[TopicPartition]], ...],
    at: int | None,
    as_json: bool,
) -> None:
    """Show first and end offsets, or the offsets at a time (-1: no record is that young)."""
    rows: list[dict[str, object]] = []
    with cluster.admin() as admin:
        wanted = [one for _, several in names for one in several]
        whole = [name for name, several in names if not several]
        for described in admin.describe_topics(whole) if whole else ():
            wanted += [TopicPartition(described.name, p.partition) for p in described.partitions]
        if at is None:
            starts = admin.list_offsets(dict.fromkeys(wanted, "earliest"))
            ends = admin.list_offsets(dict.fromkeys(wanted, "latest"))
            rows = [
                {**one._asdict(), "start": starts[one].offset, "end": ends[one].offset}
                for one in wanted
            ]
        else:
            found = admin.list_offsets(dict.fromkeys(wanted, at))
            rows = [
                {**one._asdict(), "offset": found[one].offset, "timestamp": found[one].timestamp}
                for one in wanted
            ]
    if as_json:
        print_json(rows)
    elif at is None:
        print_table(("TOPIC", "PARTITION", "START", "END"), [list(row.values()) for row in rows])
    else:
        print_table(
            ("TOPIC", "PARTITION", "OFFSET", "TIME"),
            [
                (r["topic"], r["partition"], r["offset"], time_text(int(str(r["timestamp"]))))
                for r in rows
            ],
        )


@topic.command(
    epilog="""\b
Examples:
  fastmq topic trim events --before -7d
  fastmq topic trim events:0 --offset 1000
  fastmq topic trim events --all
"""
)
@click.argument(
    "name", type=TOPIC_PARTITIONS, metavar="TOPIC[:PARTITIONS]", shell_complete=complete_topic
)
@click.option("--offset", type=click.IntRange(min=0), help="The first offset to keep.")
@click.option("--before", type=TIME, metavar="TIME", help="Delete what is older than this.")
@click.option("--all", "everything", is_flag=True, help="Delete all records.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@cluster_options
def trim(
    *,
    cluster: Cluster,
    name: tuple[str, list[TopicPartition]],
    offset: int | None,
    before: int | None,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the oldest records of a topic."""
    if (offset is not None) + (before is not None) + everything != 1:
        raise click.UsageError("give one of --offset, --before and --all")
    with cluster.admin() as admin:
        wanted = name[1] or [
            TopicPartition(name[0], part.partition)
            for described in admin.describe_topics(name[0])
            for part in described.partitions
        ]
        if before is not None:
            found = admin.list_offsets(dict.fromkeys(wanted, before))
            marks = {one: found[one].offset for one in wanted}  # -1: all are older
        else:
            marks = dict.fromkeys(wanted, -1 if offset is None else offset)
        if not yes and sys.stdin.isatty():
            shown = ", ".join(f"{one} {m if m >= 0 else 'all'}" for one, m in marks.items())
            click.confirm(f"Delete the records below: {shown}?", abort=True, err=True)
        left = admin.delete_records(marks)
    rows = [(one.topic, one.partition, low) for one, low in left.items()]
    if as_json:
        print_json([dict(zip(("topic", "partition", "start"), row, strict=True)) for row in rows])
    else:
        print_table(("TOPIC", "PARTITION", "START"), rows)
