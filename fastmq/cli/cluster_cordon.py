"""`fastmq cluster cordon` and `uncordon`: brokers that get no new partitions."""

from typing import TYPE_CHECKING

import click

from fastmq.cli.support.completing import complete_broker
from fastmq.cli.support.options import Cluster, cluster_options, fail, json_option
from fastmq.cli.support.output import print_json
from fastmq.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from fastmq.client.fronts.admin import Admin

__all__ = ["cordon", "cordon_if_possible", "uncordon"]


@click.command(
    epilog="""\b
Examples:
  fastmq cluster cordon 3
  fastmq cluster cordon 3 --directory /data2

\b
What the broker has, stays and is served. `fastmq cluster rebalance` moves nothing there. It stays
so across restarts, until `fastmq cluster uncordon`. A broker that does not serve can be cordoned as
a whole: it gets nothing when it comes back.
"""
)
@click.argument(
    "node_ids", type=int, nargs=-1, required=True, metavar="ID...", shell_complete=complete_broker
)
@click.option(
    "-d",
    "--directory",
    "directories",
    multiple=True,
    metavar="PATH",
    help="Only this log directory. Repeatable.",
)
@json_option
@cluster_options
def cordon(
    *, cluster: Cluster, node_ids: tuple[int, ...], directories: tuple[str, ...], as_json: bool
) -> None:
    """Give brokers, or some of their directories, no new partitions."""
    with cluster.admin() as admin:
        _check(admin, node_ids)
        for node_id in node_ids:
            admin.cordon_broker(node_id, directories or "*")
    if as_json:
        print_json({"cordoned": node_ids, "directories": directories or None})
        return
    what = f"{', '.join(directories)} of broker" if directories else "broker"
    for node_id in node_ids:
        click.echo(f"{what} {node_id} gets no new partitions")


@click.command(
    epilog="""\b
Examples:
  fastmq cluster uncordon 3
"""
)
@click.argument(
    "node_ids", type=int, nargs=-1, required=True, metavar="ID...", shell_complete=complete_broker
)
@json_option
@cluster_options
def uncordon(*, cluster: Cluster, node_ids: tuple[int, ...], as_json: bool) -> None:
    """Give brokers new partitions again."""
    with cluster.admin() as admin:
        _check(admin, node_ids)
        for node_id in node_ids:
            admin.uncordon_broker(node_id)
    if as_json:
        print_json({"uncordoned": node_ids})
        return
    for node_id in node_ids:
        click.echo(f"broker {node_id} gets new partitions again")


def _check(admin: "Admin", node_ids: tuple[int, ...]) -> None:
    known = {one.node_id for one in admin.describe_cluster(fenced=True).brokers}
    for node_id in node_ids:
        if node_id not in known:
            fail(f"there is no broker {node_id}; the cluster has {', '.join(map(str, known))}")


def cordon_if_possible(admin: "Admin", node_id: int) -> bool:
    """Cordon a broker that is to be emptied; False where the cluster is too old to know that."""
    try:
        admin.cordon_broker(node_id)
    except KafkaError as exc:
        if exc.code in (ErrorCode.INVALID_CONFIG, ErrorCode.INVALID_REQUEST):
            return False
        raise
    return True
