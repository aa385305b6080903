"""`fastmq cluster brokers` and `fastmq cluster partitions`: who has what, and what is missing."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from fastmq.cli.support.completing import complete_topic
from fastmq.cli.support.options import (
    Cluster,
    cluster_options,
    json_option,
    watch_option,
    watched,
)
from fastmq.cli.support.output import bytes_text, print_json, print_table
from fastmq.client.topic_partition import TopicPartition

if TYPE_CHECKING:
    from fastmq.client.admin.results import ConfigValue, PartitionDescription
    from fastmq.client.fronts.admin import Admin

__all__ = ["brokers", "partitions"]

_MIN_INSYNC = "min.insync.replicas"
_STATES = ("offline", "under-replicated", "under-min-isr", "at-min-isr", "not-preferred", "moving")


@click.command(
    epilog="""\b
Examples:
  fastmq cluster brokers
  fastmq cluster brokers --watch 2s
  fastmq cluster brokers --json
"""
)
@watch_option
@json_option
@cluster_options
def brokers(*, cluster: Cluster, watch: float | None, as_json: bool) -> None:
    """Show brokers, those that do not serve too, with what they lead and keep."""
    with cluster.admin() as admin:
        watched(lambda: _show_brokers(admin, as_json=as_json), watch)


def _show_brokers(admin: "Admin", *, as_json: bool) -> None:
    found = admin.describe_cluster(fenced=True)
    topics = admin.describe_topics()
    sizes: dict[int, int] = {}
    open_brokers = set()
    for directory in admin.describe_log_dirs():
        if not directory.is_cordoned:
            open_brokers.add(directory.node_id)
        held = sum(replica.size for replica in directory.replicas)
        sizes[directory.node_id] = sizes.get(directory.node_id, 0) + held
    states = [part for topic in topics for part in topic.partitions]
    rows = [
        {
            "node_id": one.node_id,
            "host": one.host,
            "port": one.port,
            "rack": one.rack,
            "serves": not one.is_fenced,
            "is_cordoned": one.node_id in sizes and one.node_id not in open_brokers,
            "is_controller": one.node_id == found.controller_id,
            "leaders": sum(part.leader == one.node_id for part in states),
            "replicas": sum(one.node_id in part.replicas for part in states),
            "size_bytes": sizes.get(one.node_id),
        }
        for one in found.brokers
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("BROKER", "ADDRESS", "RACK", "STATE", "CONTROLLER", "LEADERS", "REPLICAS", "LOGS"),
        [
            (
                str(row["node_id"]),
                f"{row['host']}:{row['port']}" if row["host"] else None,
                row["rack"],
                _state_of(row),
                row["is_controller"],
                row["leaders"],
                row["replicas"],
                bytes_text(row["size_bytes"]) if isinstance(row["size_bytes"], int) else None,
            )
            for row in rows
        ],
    )


def _state_of(row: Mapping[str, object]) -> str:
    if not row["serves"]:
        return "away"
    return "cordoned" if row["is_cordoned"] else "serves"


@click.command(
    epilog="""\b
Examples:
  fastmq cluster partitions
  fastmq cluster partitions --under-replicated --watch 2s
  fastmq cluster partitions --offline --under-min-isr --json

\b
offline: nobody leads it. under-replicated: fewer in sync than replicas. under-min-isr: fewer in
sync than min.insync.replicas, so acks=all is refused; at-min-isr: one less, and it would be.
not-preferred: another than the first replica leads. With several of them: any that holds.
"""
)
@click.option("--offline", is_flag=True, help="Only those without a leader.")
@click.option("--under-replicated", is_flag=True, help="Only those with replicas out of sync.")
@click.option("--under-min-isr", is_flag=True, help="Only those that refuse acks=all.")
@click.option("--at-min-isr", is_flag=True, help="Only those that can spare no replica.")
@click.option("--not-preferred", is_flag=True, help="Only those led by another than the first.")
@click.option("--moving", is_flag=True, help="Only those that are being reassigned.")
@click.option(
    "-t",
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC",
    help="Only these topics. Repeatable.",
    shell_complete=complete_topic,
)
@watch_option
@json_option
@cluster_options
def partitions(
    *,
    cluster: Cluster,
    topics: tuple[str, ...],
    watch: float | None,
    as_json: bool,
    **wanted: bool,
) -> None:
    """Show partitions with leader, replicas, in-sync replicas and state."""
    chosen = {state for state in _STATES if wanted[state.replace("-", "_")]}
    with cluster.admin() as admin:
        watched(lambda: _show_partitions(admin, topics, chosen, as_json=as_json), watch)


def _show_partitions(
    admin: "Admin", topics: tuple[str, ...], chosen: set[str], *, as_json: bool
) -> None:
    found = admin.describe_topics(topics or None)
    moving = admin.list_reassignments()
    settings = admin.topic_configs([topic.name for topic in found], [_MIN_INSYNC])
    rows = []
    for topic in found:
        least = _min_insync(settings.get(topic.name, {}))
        for part in topic.partitions:
            move = moving.get(TopicPartition(topic.name, part.partition))
            states = _states(part, () if move is None else move.adding, least)
            if move is not None:
                states.append("moving")
            if not chosen or chosen & set(states):
                rows.append((topic.name, part, states))
    if as_json:
        print_json(
            [
                {
                    "topic": name,
                    "partition": part.partition,
                    "leader": part.leader,
                    "replicas": part.replicas,
                    "isr": part.isr,
                    "states": states,
                }
                for name, part, states in rows
            ]
        )
        return
    print_table(
        ("TOPIC", "PARTITION", "LEADER", "REPLICAS", "ISR", "STATE"),
        [
            (
                name,
                part.partition,
                part.leader if part.leader >= 0 else None,
                ",".join(map(str, part.replicas)),
                ",".join(map(str, part.isr)),
                ", ".join(states) or "ok",
            )
            for name, part, states in rows
        ],
        none="no partition is in such a state" if chosen else "there are no partitions",
    )


def _min_insync(config: "Mapping[str, ConfigValue]") -> int:
    value = config.get(_MIN_INSYNC)
    return int(value.value) if value is not None and value.value else 1


def _states(part: "PartitionDescription", adding: Sequence[int], min_insync: int) -> list[str]:
    # Who is being added is missing nowhere yet.
    replicas = [replica for replica in part.replicas if replica not in adding]
    least = min(min_insync, len(replicas))
    holds = {
        "offline": part.leader < 0,
        "under-replicated": not set(replicas) <= set(part.isr),
        "under-min-isr": len(part.isr) < least,
        "at-min-isr": len(part.isr) == least < len(replicas),
        "not-preferred": part.leader >= 0 and part.leader != part.replicas[0],
    }
    return [state for state, is_so in holds.items() if is_so]
