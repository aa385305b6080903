"""Completion of names in the shell: topics, groups, profiles, settings.

The shell waits for it, so that nobody who is not there within a second is waited for, and errors
complete nothing instead of writing over the line that is being typed.
"""

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

__all__ = [
    "complete_broker",
    "complete_broker_key",
    "complete_group",
    "complete_profile",
    "complete_topic",
    "complete_topic_key",
]

_TIMEOUT_S = 1.0

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_topic(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of topics."""
    names = _ask(ctx, lambda admin: admin.list_topics(internal=incomplete.startswith("_")))
    return _matching(names, incomplete)


def complete_group(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of groups."""
    names = _ask(ctx, lambda admin: [listing.group for listing in admin.list_groups()])
    return _matching(names, incomplete)


def complete_broker(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of brokers, those that do not serve too."""
    ids = _ask(
        ctx, lambda admin: [str(b.node_id) for b in admin.describe_cluster(fenced=True).brokers]
    )
    return _matching(ids, incomplete)


def complete_profile(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of profiles."""
    from fastmq.cli.support.profiles import load_profiles

    try:
        return _matching(sorted(load_profiles().by_name), incomplete)
    except click.ClickException:
        return []


def complete_topic_key(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Settings of topics."""
    from fastmq.config.values import TOPIC_TABLE

    return _matching(sorted(TOPIC_TABLE), incomplete)


def complete_broker_key(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Settings of brokers."""
    from fastmq.config.values import BROKER_TABLE

    return _matching(sorted(BROKER_TABLE), incomplete)


def _matching(names: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _ask(ctx: click.Context, question: "Callable[..., list[str]]") -> list[str]:
    from fastmq.cli.support.options import resolve_cluster
    from fastmq.client.fronts.admin import Admin
    from fastmq.errors import FastmqError

    try:
        cluster = resolve_cluster(
            ctx.params.get("bootstrap_servers"),
            ctx.params.get("profile"),
            ctx.params.get("properties") or (),
            _TIMEOUT_S,
        )
        cluster.check_reachable()
        with Admin(cluster.servers, default_api_timeout_ms=int(_TIMEOUT_S * 1000)) as admin:
            return question(admin)
    except (FastmqError, click.ClickException, OSError, ValueError):
        return []
