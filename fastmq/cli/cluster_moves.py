"""`fastmq cluster rebalance`, `decommission` and `reassignments`: where partitions are."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastmq.cli.cluster_cordon import cordon_if_possible
from fastmq.cli.support.completing import complete_broker
from fastmq.cli.support.options import (
    Cluster,
    cluster_options,
    fail,
    json_option,
    watch_option,
    watched,
)
from fastmq.cli.support.output import bytes_text, duration_text, print_json, print_table
from fastmq.cli.support.values import BYTES

if TYPE_CHECKING:
    from fastmq.client.fronts.admin import Admin
    from fastmq.cluster.balance import Shift

__all__ = ["decommission", "reassignments", "rebalance"]

# Any: decorators of commands of any signature.
F = TypeVar("F", bound=Callable[..., Any])

# New topics may be placed on a broker while it is emptied.
_ROUNDS_MAX = 5


def _plan_options(command: F) -> F:
    # Any: as above.
    decorated: Any = command
    for decorate in (
        click.option(
            "--at-once",
            type=click.IntRange(min=1),
            default=20,
            show_default=True,
            metavar="N",
            help="Partitions that move at a time.",
        ),
        click.option(
            "--throttle",
            type=BYTES,
            metavar="BYTES",
            help="Bytes per second that each broker sends, and fetches, for it.",
        ),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only show the plan."),
    ):
        decorated = decorate(decorated)
    result: F = decorated
    return result


@click.command(
    epilog="""\b
Examples:
  fastmq cluster rebalance --dry-run
  fastmq cluster rebalance --by bytes --throttle 20MB --yes
  fastmq cluster rebalance --json

\b
Partitions keep as many replicas as they have. Replicas of one partition are parted by machine
(fastmq.host, or the address) and rack where that is possible; then brokers get equally many
replicas, the smallest partitions first, or (--by bytes) about equally many bytes, with as few
copies as can be; then preferred leaders are evened out. Cordoned brokers get nothing, and every
disk keeps a twentieth free. Interrupted, what has begun goes on: `fastmq cluster reassignments
--wait` waits for it.
"""
)
@click.option(
    "--by",
    type=click.Choice(["replicas", "bytes"]),
    default="replicas",
    show_default=True,
    help="What brokers shall have equally much of.",
)
@_plan_options
@json_option
@cluster_options
def rebalance(
    *,
    cluster: Cluster,
    by: str,
    dry_run: bool,
    yes: bool,
    throttle: int | None,
    at_once: int,
    as_json: bool,
) -> None:
    """Spread partitions and leaders evenly over all brokers; shows the plan first."""
    from fastmq.cli.support.moving import carry_out, read_layout
    from fastmq.cluster.balance import plan_balance

    with cluster.admin() as admin:
        members, found = read_layout(admin)
        try:
            shifts = plan_balance(members, found, by_bytes=by == "bytes")
        except ValueError as exc:
            fail(f"there is no such plan: {exc}")
        _show(shifts, throttle, is_shown=not as_json)
        if shifts and not dry_run:
            _confirm("Move these partitions?", yes=yes)
            carry_out(admin, shifts, throttle=throttle, at_once=at_once, is_shown=not as_json)
    _tell(shifts, throttle, is_done=not dry_run, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  fastmq cluster decommission 3 --dry-run
  fastmq cluster decommission 3 --throttle 50MB --yes

\b
The broker may be running: it serves until everything has moved, and stops when it is removed. Or
it may be gone for good: others copy its partitions from replicas that are left. It gets no new
partitions meanwhile; when the command is interrupted it stays so, until `fastmq cluster uncordon`.
"""
)
@click.argument("node_id", type=click.IntRange(min=0), metavar="ID", shell_complete=complete_broker)
@_plan_options
@json_option
@cluster_options
def decommission(
    *,
    cluster: Cluster,
    node_id: int,
    dry_run: bool,
    yes: bool,
    throttle: int | None,
    at_once: int,
    as_json: bool,
) -> None:
    """Move everything off a broker, then remove it from the cluster."""
    from fastmq.cli.support.moving import carry_out, read_layout
    from fastmq.cluster.balance import plan_balance

    done: list[Shift] = []
    is_cordoned = was_cordoned = False
    with cluster.admin() as admin:
        if node_id not in {one.node_id for one in admin.describe_cluster(fenced=True).brokers}:
            fail(f"there is no broker {node_id}")
        for _ in range(_ROUNDS_MAX):
            members, found = read_layout(admin, leaving=node_id)
            if not is_cordoned:
                was_cordoned = any(one.is_cordoned for one in members if one.id == node_id)
            try:
                shifts = plan_balance(members, found, leaving={node_id}, only_leaving=True)
            except ValueError as exc:
                if is_cordoned and not was_cordoned:
                    admin.uncordon_broker(node_id)
                fail(f"broker {node_id} cannot go: {exc}")
            if not done:
                _show(shifts, throttle, is_shown=not as_json)
                if not dry_run:
                    _confirm(f"Move these partitions, and remove broker {node_id}?", yes=yes)
            if not dry_run and not is_cordoned:
                is_cordoned = cordon_if_possible(admin, node_id)
            done += shifts
            if dry_run or not shifts:
                break
            carry_out(admin, shifts, throttle=throttle, at_once=at_once, is_shown=not as_json)
        if not dry_run:
            admin.unregister_broker(node_id)
    _tell(done, throttle, is_done=not dry_run, as_json=as_json)
    if not dry_run and not as_json:
        click.echo(f"broker {node_id} is removed")


@click.command(
    epilog="""\b
Examples:
  fastmq cluster reassignments
  fastmq cluster reassignments --watch 2s
  fastmq cluster reassignments --wait
  fastmq cluster reassignments --cancel --yes
"""
)
@click.option("--wait", is_flag=True, help="Wait until all are done, then take throttles off.")
@click.option("--cancel", is_flag=True, help="Go back to where the partitions were.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@watch_option
@json_option
@cluster_options
def reassignments(
    *,
    cluster: Cluster,
    wait: bool,
    cancel: bool,
    yes: bool,
    watch: float | None,
    as_json: bool,
) -> None:
    """Show the partitions that are on the move, and how far each new replica is."""
    from fastmq.cli.support.moving import clear_throttles, wait_for_moves

    if watch is not None and (wait or cancel):
        raise click.UsageError("--watch only looks: leave out --wait and --cancel")
    with cluster.admin() as admin:
        watched(lambda: _show_moves(admin, as_json=as_json), watch)
        moves = admin.list_reassignments() if cancel else {}
        if cancel and moves:
            _confirm(f"Cancel {len(moves)} move(s)?", yes=yes)
            admin.reassign(dict.fromkeys(moves))
            clear_throttles(admin, {name.topic for name in moves})
        elif wait:
            wait_for_moves(admin, is_shown=not as_json)


def _show_moves(admin: "Admin", *, as_json: bool) -> None:
    from fastmq.cli.support.moving import progress_rows

    rows = progress_rows(admin, admin.list_reassignments())
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING", "COPIED", "OF", "BEHIND"),
            [
                (
                    row["topic"],
                    row["partition"],
                    _ids(row["replicas"]),
                    row["adding"],
                    _ids(row["removing"]),
                    bytes_text(row["copied_bytes"]),
                    bytes_text(row["size_bytes"]),
                    row["lag"],
                )
                for row in rows
            ],
            none="no partition is on the move",
        )


def _show(shifts: "Sequence[Shift]", throttle: int | None, *, is_shown: bool) -> None:
    from fastmq.cluster.balance import expected_seconds

    if not is_shown or not shifts:
        return
    print_table(
        ("TOPIC", "PARTITION", "FROM", "TO", "COPIES"),
        [
            (
                one.topic,
                one.partition,
                _ids(one.before),
                _ids(one.after),
                bytes_text(one.copied_bytes) if one.added else None,
            )
            for one in shifts
        ],
    )
    copied = sum(one.copied_bytes for one in shifts)
    copies = sum(len(one.added) for one in shifts)
    text = f"{len(shifts)} partition(s), {copies} to copy: {bytes_text(copied)}"
    if throttle:
        text += f", about {duration_text(expected_seconds(shifts, throttle))} at that rate"
    click.echo(text, err=True)


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def _tell(shifts: "Sequence[Shift]", throttle: int | None, *, is_done: bool, as_json: bool) -> None:
    from fastmq.cluster.balance import expected_seconds

    if as_json:
        print_json(
            {
                "is_done": is_done,
                "copied_bytes": sum(one.copied_bytes for one in shifts),
                "expected_s": round(expected_seconds(shifts, throttle), 1) if throttle else None,
                "moves": [
                    {
                        "topic": one.topic,
                        "partition": one.partition,
                        "before": one.before,
                        "after": one.after,
                        "copied_bytes": one.copied_bytes,
                    }
                    for one in shifts
                ],
            }
        )
    elif not shifts:
        click.echo("nothing is to be moved")
    elif is_done:
        click.echo(f"{len(shifts)} partition(s) moved")


# Any: broker ids.
def _ids(brokers: Any) -> str:
    return ",".join(map(str, brokers))
