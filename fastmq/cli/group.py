"""`fastmq group`: list, describe, reset-offsets, delete-offsets, remove-members, delete."""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from fastmq.cli.reset_offsets import reset_offsets
from fastmq.cli.support.completing import complete_group, complete_topic
from fastmq.cli.support.options import (
    EXIT_UNREACHABLE,
    Cluster,
    cluster_options,
    fail,
    json_option,
)
from fastmq.cli.support.output import (
    count_text,
    duration_text,
    plain,
    print_facts,
    print_json,
    print_table,
)
from fastmq.cli.support.values import DURATION, TOPIC_PARTITIONS

if TYPE_CHECKING:
    from fastmq.client.admin.results import GroupDescription, PartitionLag
    from fastmq.client.fronts.admin import Admin
    from fastmq.client.topic_partition import TopicPartition

__all__ = ["group"]

# Of the broker's page about a group.
_ESTIMATES = (
    "as_of_ms",
    "lag",
    "lag_seconds",
    "consume_rate",
    "produce_rate",
    "eta_seconds",
    "wanted_consumers",
    "lagging_partitions",
)


@click.group()
def group() -> None:
    """Consumer groups: members, lag, offsets."""


@group.command(
    "list",
    epilog="""\b
Examples:
  fastmq group list
  fastmq group list --state Stable --state Empty
  fastmq group list --json
""",
)
@click.option("--state", "states", multiple=True, help="Only these: Stable, Empty, ... Repeatable.")
@click.option("--names", is_flag=True, help="Only names, one per line.")
@json_option
@cluster_options
def list_groups(*, cluster: Cluster, states: tuple[str, ...], names: bool, as_json: bool) -> None:
    """List the groups of all brokers."""
    with cluster.admin() as admin:
        found = admin.list_groups(states=states)
    if as_json:
        print_json(found)
    elif names:
        for one in found:
            click.echo(one.group)
    else:
        print_table(
            ("GROUP", "STATE", "TYPE", "COORDINATOR"),
            [(g.group, g.state or None, g.type or None, g.coordinator) for g in found],
            none="no groups",
        )


@dataclass(frozen=True)
class _Look:
    """A group at one moment."""

    time_s: float
    group: "GroupDescription"
    lag: "list[PartitionLag]"

    @property
    def total(self) -> int:
        return sum(part.lag for part in self.lag)

    @property
    def consumed(self) -> int:
        return sum(part.committed or 0 for part in self.lag)

    @property
    def produced(self) -> int:
        return sum(part.end for part in self.lag)


@dataclass(frozen=True)
class _Rates:
    """Records per second between two looks; None before there are two."""

    consumed: float | None = None
    produced: float | None = None

    def eta_s(self, lag: int) -> float | None:
        """Seconds until the group has caught up; None when it does not."""
        if lag == 0:
            return 0.0
        if self.consumed is None or self.produced is None or self.consumed <= self.produced:
            return None
        return lag / (self.consumed - self.produced)


@group.command(
    epilog="""\b
Examples:
  fastmq group describe readers
  fastmq group describe readers --sample 5s
  fastmq group describe readers --watch 2s
  fastmq group describe readers writers --json
  fastmq group describe readers --url http://127.0.0.1:9644

\b
Rates and the time until the lag is gone come from two looks, --sample apart. Consumers commit at
intervals, every five seconds by default: a sample that is shorter sees all or nothing of it.
A broker with a metrics listener has looked all along: --url shows its estimates at once.
"""
)
@click.argument("names", nargs=-1, required=True, metavar="GROUP...", shell_complete=complete_group)
@click.option(
    "--sample",
    type=DURATION,
    default=0.0,
    metavar="DURATION",
    help="Look twice, so long apart, for rates and the time until the lag is gone.",
)
@click.option("-w", "--watch", type=DURATION, metavar="DURATION", help="Look again and again.")
@click.option(
    "--url",
    metavar="URL",
    help="A metrics listener of the group's coordinator: its rates, time to go, wanted consumers.",
)
@click.option("-m", "--members", is_flag=True, help="List the members, too.")
@json_option
@cluster_options
def describe(
    *,
    cluster: Cluster,
    names: tuple[str, ...],
    sample: float,
    watch: float | None,
    url: str | None,
    members: bool,
    as_json: bool,
) -> None:
    """Show state, members and how far a group is behind, per partition."""
    pages = {name: _page(url, name) for name in names} if url is not None else {}
    with cluster.admin() as admin:
        if watch is not None:
            if url is not None:
                raise click.UsageError("--url shows rates without --watch")
            _watch(admin, names, max(watch, 0.1), members=members, as_json=as_json)
            return
        before = [_look(admin, name) for name in names]
        after = before
        if sample and any(look.total for look in before):
            time.sleep(sample)
            after = [_look(admin, name) for name in names]
    if as_json:
        print_json(
            [
                _document(b, a) | ({"estimate": pages[b.group.group]} if pages else {})
                for b, a in zip(before, after, strict=True)
            ]
        )
    else:
        _print_looks(zip(before, after, strict=True), members=members, pages=pages)


# Any: JSON.
def _page(url: str, name: str) -> dict[str, Any] | None:
    """What the broker's estimator says of the group as a whole."""
    from fastmq.cli.autoscale_lag import PageLag

    try:
        page = PageLag(url, name).read()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        fail(f"no estimates: {error}; is fastmq.metrics.listener set?", EXIT_UNREACHABLE)
    return None if page is None else {key: page.get(key) for key in _ESTIMATES}


def _estimate_facts(page: dict[str, Any] | None) -> list[tuple[str, object]]:
    if page is None:
        return [("estimates", "none: that broker does not coordinate the group")]
    eta_s, behind_s = page["eta_seconds"], page["lag_seconds"]
    return [
        ("behind by", None if behind_s is None else duration_text(behind_s)),
        ("consumed", f"{count_text(page['consume_rate'] or 0)}/s"),
        ("produced", f"{count_text(page['produce_rate'] or 0)}/s"),
        ("caught up in", "not at this rate" if eta_s is None else duration_text(eta_s)),
        ("wanted consumers", page["wanted_consumers"]),
    ]


def _watch(
    admin: "Admin", names: tuple[str, ...], every_s: float, *, members: bool, as_json: bool
) -> None:
    """Look until interrupted: rates are those since a few looks ago."""
    from collections import deque

    history: deque[list[_Look]] = deque(maxlen=6)
    while True:
        history.append([_look(admin, name) for name in names])
        pairs = list(zip(history[0], history[-1], strict=True))
        if as_json:
            import json

            click.echo(json.dumps(plain([_document(b, a) for b, a in pairs])))
        else:
            if sys.stdout.isatty():
                click.clear()
            _print_looks(iter(pairs), members=members)
        sys.stdout.flush()
        time.sleep(every_s)


def _look(admin: "Admin", name: str) -> _Look:
    (described,) = admin.describe_groups(name)
    return _Look(time.monotonic(), described, admin.group_lag(name))


def _rates(before: _Look, after: _Look) -> _Rates:
    seconds = after.time_s - before.time_s
    if seconds <= 0:
        return _Rates()
    return _Rates(
        max(0.0, (after.consumed - before.consumed) / seconds),
        max(0.0, (after.produced - before.produced) / seconds),
    )


def _document(before: _Look, after: _Look) -> dict[str, object]:
    rates = _rates(before, after)
    return {
        **plain(after.group),
        "lag": after.total,
        "consumed_per_s": rates.consumed,
        "produced_per_s": rates.produced,
        "eta_s": rates.eta_s(after.total),
        "partitions": plain(after.lag),
    }


# Any: as `_page`.
def _print_looks(
    pairs: "Iterator[tuple[_Look, _Look]]",
    *,
    members: bool,
    pages: Mapping[str, dict[str, Any] | None] = MappingProxyType({}),
) -> None:
    for index, (before, after) in enumerate(pairs):
        if index:
            click.echo()
        rates = _rates(before, after)
        facts: list[tuple[str, object]] = [
            ("group", after.group.group),
            ("state", after.group.state),
            ("assignor", after.group.assignor or None),
            ("members", len(after.group.members)),
            ("lag", f"{after.total:,}"),
        ]
        if rates.consumed is not None and rates.produced is not None:
            facts.append(("consumed", f"{count_text(rates.consumed)}/s"))
            facts.append(("produced", f"{count_text(rates.produced)}/s"))
            eta_s = rates.eta_s(after.total)
            facts.append(
                ("caught up in", "not at this rate" if eta_s is None else duration_text(eta_s))
            )
        if pages:
            facts += _estimate_facts(pages[after.group.group])
        print_facts(facts)
        if members:
            click.echo()
            print_table(
                ("MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"),
                [
                    (m.member_id, m.instance_id, m.client_id, m.host, _ranges(m.partitions))
                    for m in after.group.members
                ],
                none="no members",
            )
        click.echo()
        print_table(
            ("TOPIC", "PARTITION", "COMMITTED", "START", "END", "LAG", "CLIENT", "HOST"),
            [
                (
                    part.topic,
                    part.partition,
                    part.committed,
                    part.start,
                    part.end,
                    part.lag,
                    part.client_id or None,
                    part.host or None,
                )
                for part in after.lag
            ],
            none="nothing is committed or assigned",
        )


def _ranges(partitions: "tuple[TopicPartition, ...]") -> str | None:
    """`events:0-3,7 orders:1`."""
    texts: dict[str, list[list[int]]] = {}
    for topic, index in partitions:
        runs = texts.setdefault(topic, [])
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return (
        " ".join(
            f"{topic}:" + ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
            for topic, runs in texts.items()
        )
        or None
    )


@group.command(
    "delete-offsets",
    epilog="""\b
Examples:
  fastmq group delete-offsets readers --topic events
  fastmq group delete-offsets readers --topic events:0,3
""",
)
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@click.option(
    "-t",
    "--topic",
    "topics",
    type=TOPIC_PARTITIONS,
    multiple=True,
    required=True,
    metavar="TOPIC[:PARTITIONS]",
    shell_complete=complete_topic,
)
@json_option
@cluster_options
def delete_offsets(
    *,
    cluster: Cluster,
    name: str,
    topics: "tuple[tuple[str, list[TopicPartition]], ...]",
    as_json: bool,
) -> None:
    """Delete committed offsets of partitions that no member reads."""
    whole = {topic for topic, several in topics if not several}
    single = {one for _, several in topics for one in several}
    with cluster.admin() as admin:
        committed = admin.committed_offsets(name)
        wanted = [one for one in committed if one in single or one.topic in whole]
        if not wanted:
            fail(f"group {name} has committed nothing there")
        admin.delete_offsets(name, wanted)
    if as_json:
        print_json({"group": name, "deleted": wanted})
    else:
        click.echo(f"group {name}: {len(wanted)} offsets deleted")


@group.command(
    "remove-members",
    epilog="""\b
Examples:
  fastmq group remove-members readers --all
  fastmq group remove-members readers worker-3

\b
Consumers that still run join again; this is for members that are gone without a word.
""",
)
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@click.argument("members", nargs=-1, metavar="[MEMBER OR INSTANCE]...")
@click.option("--all", "everybody", is_flag=True, help="All members.")
@json_option
@cluster_options
def remove_members(
    *, cluster: Cluster, name: str, members: tuple[str, ...], everybody: bool, as_json: bool
) -> None:
    """Remove members from a group."""
    if everybody == bool(members):
        raise click.UsageError("name members, or give --all")
    with cluster.admin() as admin:
        removed = admin.remove_members(name, members or None)
    if as_json:
        print_json({"group": name, "removed": removed})
    else:
        click.echo(f"group {name}: {len(removed)} members removed")


@group.command(
    epilog="""\b
Examples:
  fastmq group delete readers
  fastmq group delete a b c --yes --if-exists
"""
)
@click.argument("names", nargs=-1, required=True, metavar="GROUP...", shell_complete=complete_group)
@click.option("--if-exists", is_flag=True, help="Do not mind groups that are missing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@cluster_options
def delete(
    *, cluster: Cluster, names: tuple[str, ...], if_exists: bool, yes: bool, as_json: bool
) -> None:
    """Delete groups with their offsets; they must not have members."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {', '.join(names)} with all offsets?", abort=True, err=True)
    with cluster.admin() as admin:
        admin.delete_groups(names, if_exists=if_exists)
    if as_json:
        print_json({"deleted": names})
    else:
        for name in names:
            click.echo(f"group {name} deleted")


group.add_command(reset_offsets)
