"""`fastmq protocol`: the APIs and the fields of their messages, from the tables the codec uses."""

import click

from fastmq.cli.support.options import json_option
from fastmq.cli.support.output import print_json
from fastmq.protocol import _show

__all__ = ["protocol"]


@click.group(
    epilog="""\b
Examples:
  fastmq protocol list
  fastmq protocol show Metadata
  fastmq protocol show Fetch 12
"""
)
def protocol() -> None:
    """Show the APIs that this broker speaks, and their messages."""


@protocol.command("list")
@json_option
def list_apis(*, as_json: bool) -> None:
    """List all APIs with their versions."""
    if as_json:
        print_json(_show.api_rows())
    else:
        click.echo(_show.list_apis())


@protocol.command()
@click.argument("api")
@click.argument("version", type=int, required=False)
@json_option
def show(*, api: str, version: int | None, as_json: bool) -> None:
    """Show request and response of an API, by name or key, in one version (the newest)."""
    try:
        if as_json:
            print_json(_show.message_rows(api, version))
        else:
            click.echo(_show.show(api, version))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
