"""Groups of commands that are imported when they are called, not to be listed."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group made from a table.

    Args:
        table: name to (module, attribute, what --help says in one line).
        unlisted: the same for other names that work, too.
    """

    # Any: click's own arguments.
    def __init__(
        self,
        *args: Any,
        table: Mapping[str, tuple[str, str, str]] | None = None,
        unlisted: Mapping[str, tuple[str, str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = dict(table or {})
        self.unlisted = dict(unlisted or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        found = self.table.get(cmd_name) or self.unlisted.get(cmd_name)
        if found is None:
            return None
        module, attribute, _ = found
        return cast("click.Command", getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; say which one may be meant when there is none of that name."""
        name = args[0] if args else ""
        known = name in self.table or name in self.unlisted
        if name and not known and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.table, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)
