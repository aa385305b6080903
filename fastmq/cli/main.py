"""The command group: options common to all commands, and subcommands loaded when called."""

from importlib import import_module
from typing import cast

import click

from fastmq import __version__

__all__ = ["main"]

# name: (module, attribute, what --help says in one line)
_COMMANDS = {
    "serve": ("fastmq.cli.serve", "serve", "Run a broker."),
    "autoscale": (
        "fastmq.cli.autoscale",
        "autoscale",
        "Run as many consumers as the lag of their group wants.",
    ),
    "dump-log": ("fastmq.cli.dump_log", "dump_log", "Print what is in log files."),
    "protocol": ("fastmq.cli.protocol", "protocol", "Show the APIs and message schemas."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        return cast("click.Command", getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in _COMMANDS.items()])


_EPILOG = """\b
Examples:
  fastmq serve                           a broker on 127.0.0.1:9092, data in ./fastmq-data
  fastmq serve --dev                     the same for tests: no fsync, no rebalance delay
  fastmq dump-log fastmq-data/events-0   what is stored in a partition
  fastmq protocol show Fetch 12          the fields of a message

\b
Completion of commands and options in your shell (bash, zsh or fish):
  eval "$(_FASTMQ_COMPLETE=bash_source fastmq)"
"""


@click.group(
    cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="fastmq")
def main() -> None:
    """Run and inspect fastmq, a message queue that speaks Kafka's protocol."""
