"""`fastmq protocol`: the APIs and the fields of their messages, from the tables the codec uses."""

import click

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
def list_apis() -> None:
    """List all APIs with their versions."""
    click.echo(_show.list_apis())


@protocol.command()
@click.argument("api")
@click.argument("version", type=int, required=False)
def show(api: str, version: int | None) -> None:
    """Show request and response of an API, by name or key, in one version (the newest)."""
    try:
        click.echo(_show.show(api, version))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
