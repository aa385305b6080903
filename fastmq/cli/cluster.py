"""`fastmq cluster`: brokers, health, disks; beside it, where partitions are."""

import sys
from typing import TYPE_CHECKING

import click

from fastmq.cli.cluster_cordon import cordon, uncordon
from fastmq.cli.cluster_elect import elect
from fastmq.cli.cluster_moves import decommission, reassignments, rebalance
from fastmq.cli.cluster_state import brokers, partitions
from fastmq.cli.support.options import EXIT_FAILED, Cluster, cluster_options, json_option
from fastmq.cli.support.output import bytes_text, print_facts, print_json, print_table

if TYPE_CHECKING:
    from fastmq.client.admin.results import TopicDescription

__all__ = ["cluster"]


@click.group()
def cluster() -> None:
    """The brokers of a cluster: who they are, whether all is well, what is on their disks."""


@cluster.command(
    epilog="""\b
Examples:
  fastmq cluster info
  fastmq cluster info -b mq.example.org:9092 --json
"""
)
@json_option
@cluster_options
def info(*, cluster: Cluster, as_json: bool) -> None:
    """Show the id of the cluster and its brokers."""
    with cluster.admin() as admin:
        found = admin.describe_cluster()
        topics = admin.describe_topics(internal=False)
    partitions = sum(len(topic.partitions) for topic in topics)
    if as_json:
        print_json(
            {
                "cluster_id": found.cluster_id,
                "controller_id": found.controller_id,
                "brokers": found.brokers,
                "topics": len(topics),
                "partitions": partitions,
            }
        )
        return
    print_facts(
        [
            ("cluster id", found.cluster_id),
            ("topics", len(topics)),
            ("partitions", partitions),
        ]
    )
    click.echo()
    print_table(
        ("BROKER", "ADDRESS", "RACK", "CONTROLLER"),
        [
            (
                str(one.node_id),
                f"{one.host}:{one.port}",
                one.rack,
                one.node_id == found.controller_id,
            )
            for one in found.brokers
        ],
    )


@cluster.command(
    epilog="""\b
Examples:
  fastmq cluster health
  fastmq cluster health --json || echo "look after it"

\b
Exit code 1 when a partition has no leader, or a log directory is offline; 0 with partitions that
are short of replicas in sync, which are told.
"""
)
@click.option("--strict", is_flag=True, help="Exit code 1 for partitions short of replicas, too.")
@json_option
@cluster_options
def health(*, cluster: Cluster, strict: bool, as_json: bool) -> None:
    """Tell whether every partition has a leader and all of its replicas."""
    with cluster.admin() as admin:
        found = admin.describe_cluster()
        topics = admin.describe_topics()
        directories = admin.describe_log_dirs()
    leaderless = _partitions(topics, lambda part: part.leader < 0)
    short = _partitions(topics, lambda part: part.leader >= 0 and part.is_under_replicated)
    offline = [f"{one.node_id}:{one.path}" for one in directories if one.error]
    is_healthy = not (leaderless or offline or found.controller_id < 0 or (strict and short))
    if as_json:
        print_json(
            {
                "is_healthy": is_healthy,
                "brokers": [one.node_id for one in found.brokers],
                "controller_id": found.controller_id,
                "leaderless_partitions": leaderless,
                "under_replicated_partitions": short,
                "offline_log_dirs": offline,
            }
        )
    else:
        print_facts(
            [
                ("healthy", is_healthy),
                ("brokers", ", ".join(str(one.node_id) for one in found.brokers)),
                ("controller", found.controller_id if found.controller_id >= 0 else "none"),
                ("without a leader", ", ".join(leaderless) or "none"),
                ("short of replicas", ", ".join(short) or "none"),
                ("offline directories", ", ".join(offline) or "none"),
            ]
        )
    if not is_healthy:
        sys.exit(EXIT_FAILED)


# Any in effect: a test of one partition.
def _partitions(topics: "list[TopicDescription]", is_meant: object) -> list[str]:
    assert callable(is_meant)
    return [
        f"{topic.name}[{part.partition}]"
        for topic in topics
        for part in topic.partitions
        if is_meant(part)
    ]


@cluster.command(
    epilog="""\b
Examples:
  fastmq cluster disks
  fastmq cluster disks --topic events --partitions
"""
)
@click.option("-t", "--topic", "topics", multiple=True, help="Count only these topics.")
@click.option("-p", "--partitions", is_flag=True, help="The size of each partition.")
@json_option
@cluster_options
def disks(*, cluster: Cluster, topics: tuple[str, ...], partitions: bool, as_json: bool) -> None:
    """Show log directories with their free space and what topics take."""
    with cluster.admin() as admin:
        found = admin.describe_log_dirs()
    if as_json:
        print_json(found)
        return
    rows = []
    for one in found:
        replicas = [r for r in one.replicas if not topics or r.topic in topics]
        rows.append(
            (
                str(one.node_id),
                one.path,
                one.error or ("cordoned" if one.is_cordoned else "online"),
                len(replicas),
                bytes_text(sum(r.size for r in replicas)),
                bytes_text(one.usable_bytes) if one.usable_bytes >= 0 else None,
                bytes_text(one.total_bytes) if one.total_bytes >= 0 else None,
            )
        )
    print_table(("BROKER", "DIRECTORY", "STATE", "PARTITIONS", "LOGS", "FREE", "DISK"), rows)
    if partitions:
        click.echo()
        print_table(
            ("BROKER", "TOPIC", "PARTITION", "SIZE", "BEHIND"),
            [
                (str(one.node_id), r.topic, r.partition, bytes_text(r.size), r.offset_lag)
                for one in found
                for r in one.replicas
                if not topics or r.topic in topics
            ],
        )


for _command in (
    brokers,
    partitions,
    reassignments,
    rebalance,
    decommission,
    cordon,
    uncordon,
    elect,
):
    cluster.add_command(_command)
