"""`fastmq config`: get, set, unset settings of topics and brokers; explain what they mean."""

from typing import TYPE_CHECKING

import click

from fastmq.cli.support.completing import complete_topic
from fastmq.cli.support.options import Cluster, cluster_options, fail, json_option
from fastmq.cli.support.output import print_facts, print_json, print_table
from fastmq.cli.support.values import KEY_VALUE

if TYPE_CHECKING:
    from fastmq.client.admin.results import ConfigValue
    from fastmq.client.fronts.admin import Admin

__all__ = ["config"]

_KINDS = click.Choice(["topic", "broker", "brokers"])
_NAMES = """\b
KIND NAME is `topic events`, `broker 1`, or `brokers -` for what is set for all brokers.
"""


@click.group()
def config() -> None:
    """Settings of topics and brokers."""


@config.command(
    epilog=f"""\b
Examples:
  fastmq config get topic events
  fastmq config get topic events retention.ms cleanup.policy --json
  fastmq config get broker 1 --all
  fastmq config get brokers -

{_NAMES}"""
)
@click.argument("kind", type=_KINDS)
@click.argument("name", shell_complete=complete_topic)
@click.argument("keys", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Settings nobody has set, too.")
@click.option("--doc", is_flag=True, help="What they mean, too.")
@json_option
@cluster_options
def get(
    *,
    cluster: Cluster,
    kind: str,
    name: str,
    keys: tuple[str, ...],
    everything: bool,
    doc: bool,
    as_json: bool,
) -> None:
    """Show settings: those that somebody has set, or the KEYS asked for."""
    with cluster.admin() as admin:
        found = _read(admin, kind, name, keys, doc=doc)
    missing = [key for key in keys if key not in found]
    if missing:
        fail(f"there is no setting {', '.join(missing)}")
    shown = [one for one in found.values() if everything or keys or not one.is_default]
    if as_json:
        print_json(shown)
    elif doc:
        for one in shown:
            click.echo(f"{click.style(one.name, bold=True)} = {one.value}")
            click.echo(f"    {one.documentation or 'no documentation'}")
    else:
        print_table(
            ("KEY", "VALUE", "FROM", "READ-ONLY"),
            [
                (
                    one.name,
                    "(secret)" if one.is_sensitive else one.value,
                    one.source.name.lower().replace("_", " "),
                    one.is_read_only,
                )
                for one in shown
            ],
            none="nothing is set; --all shows the defaults",
        )


def _read(
    admin: "Admin", kind: str, name: str, keys: tuple[str, ...], *, doc: bool
) -> "dict[str, ConfigValue]":
    wanted = keys or None
    if kind == "topic":
        return admin.topic_config(name, wanted, documentation=doc)
    return admin.broker_config(_node(kind, name), wanted, documentation=doc)


def _node(kind: str, name: str) -> int | None:
    if kind == "brokers":
        return None
    if not name.isascii() or not name.isdigit():
        raise click.UsageError(f"{name!r} is no broker id; `fastmq cluster info` lists them")
    return int(name)


@config.command(
    "set",
    epilog=f"""\b
Examples:
  fastmq config set topic events retention.ms=3600000 segment.bytes=104857600
  fastmq config set brokers - log.retention.ms=86400000
  fastmq config set topic events cleanup.policy=compact --append

{_NAMES}""",
)
@click.argument("kind", type=_KINDS)
@click.argument("name", shell_complete=complete_topic)
@click.argument("values", nargs=-1, required=True, type=KEY_VALUE, metavar="KEY=VALUE...")
@click.option("--append", "how", flag_value="append", help="Add the values to lists.")
@click.option("--subtract", "how", flag_value="subtract", help="Take the values from lists.")
@click.option("--dry-run", is_flag=True, help="Only say whether it could be done.")
@json_option
@cluster_options
def set_(
    *,
    cluster: Cluster,
    kind: str,
    name: str,
    values: tuple[tuple[str, str], ...],
    how: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Change settings while the broker runs: all of them or none."""
    changes = {how or "set": dict(values)}
    _alter(cluster, kind, name, changes, (), dry_run=dry_run, as_json=as_json)


@config.command(
    epilog=f"""\b
Examples:
  fastmq config unset topic events retention.ms
  fastmq config unset brokers - log.retention.ms

{_NAMES}"""
)
@click.argument("kind", type=_KINDS)
@click.argument("name", shell_complete=complete_topic)
@click.argument("keys", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say whether it could be done.")
@json_option
@cluster_options
def unset(
    *,
    cluster: Cluster,
    kind: str,
    name: str,
    keys: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring settings back to the value of the file, or the default."""
    _alter(cluster, kind, name, {}, keys, dry_run=dry_run, as_json=as_json)


def _alter(
    cluster: Cluster,
    kind: str,
    name: str,
    changes: dict[str, dict[str, str]],
    delete: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    arguments = {
        "set": changes.get("set"),
        "append": changes.get("append"),
        "subtract": changes.get("subtract"),
    }
    with cluster.admin() as admin:
        if kind == "topic":
            admin.alter_topic_config(name, delete=delete, validate_only=dry_run, **arguments)
        else:
            node = _node(kind, name)
            admin.alter_broker_config(node, delete=delete, validate_only=dry_run, **arguments)
    if as_json:
        print_json({"kind": kind, "name": name, "altered": not dry_run})
    else:
        label = "all brokers" if kind == "brokers" else f"{kind} {name}"
        click.echo(f"{label} {'could be altered' if dry_run else 'altered'}")


@config.command(
    epilog="""\b
Examples:
  fastmq config explain retention.ms
  fastmq config explain fastmq.flush --json
"""
)
@click.argument("key")
@json_option
def explain(*, key: str, as_json: bool) -> None:
    """Tell what a setting of fastmq means. Needs no broker."""
    from fastmq.config.load import unknown_key_message
    from fastmq.config.types import value_text
    from fastmq.config.values import BROKER_TABLE, TOPIC_TABLE

    found = [
        (scope, table[key])
        for scope, table in (("topic", TOPIC_TABLE), ("broker", BROKER_TABLE))
        if key in table
    ]
    if not found:
        fail(unknown_key_message(key, [*TOPIC_TABLE, *BROKER_TABLE]))
    rows = [
        {"key": key, "scope": scope, "default": value_text(one.default), "documentation": one.doc}
        for scope, one in found
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_facts(row.items())
