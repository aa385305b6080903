"""The command group: options common to all commands, and subcommands loaded when called."""

import sys
from typing import Any

import click

from fastmq import __version__
from fastmq.cli.lazy import LazyGroup

__all__ = ["main"]

# name: (module, attribute, what --help says in one line)
_COMMANDS = {
    "serve": ("fastmq.cli.serve", "serve", "Run a broker."),
    "topic": ("fastmq.cli.topic", "topic", "Create, list, describe, alter, delete topics."),
    "produce": ("fastmq.cli.produce", "produce", "Send lines, JSON or files to a topic."),
    "consume": ("fastmq.cli.consume", "consume", "Print the records of topics."),
    "group": ("fastmq.cli.group", "group", "Consumer groups: members, lag, offsets."),
    "config": ("fastmq.cli.config", "config", "Settings of topics and brokers."),
    "cluster": ("fastmq.cli.cluster", "cluster", "Brokers, health, disks."),
    "log": ("fastmq.cli.log", "log", "Look into log files and check them."),
    "perf": ("fastmq.cli.perf", "perf", "Measure producing, consuming, latency."),
    "demo": ("fastmq.cli.demo", "demo", "Show a throw-away broker at work."),
    "doctor": ("fastmq.cli.doctor", "doctor", "Check this machine: limits, disk, clock, kernel."),
    "profile": ("fastmq.cli.profile", "profile", "Remember clusters by name."),
    "completion": ("fastmq.cli.completion", "completion", "Completion for bash, zsh or fish."),
    "autoscale": (
        "fastmq.cli.autoscale",
        "autoscale",
        "Run as many consumers as the lag of their group wants.",
    ),
    "protocol": ("fastmq.cli.protocol", "protocol", "Show the APIs and message schemas."),
}

# Kafka users look for this name.
_UNLISTED = {"dump-log": ("fastmq.cli.log", "dump", "")}

_EXIT_INTERRUPTED = 130

_EPILOG = """\b
Examples:
  fastmq serve                          a broker on 127.0.0.1:9092, data in ./fastmq-data
  fastmq serve --dev                    the same for tests: no fsync, no rebalance delay
  fastmq topic create events -p 6       a topic with six partitions
  echo hello | fastmq produce events    a record per line
  fastmq consume events --exit          print all records
  fastmq topic describe events          its partitions, offsets and settings
  fastmq group describe readers         how far a consumer group is behind
  fastmq log dump fastmq-data/events-0  what is stored in a partition

\b
Which cluster: -b HOST:PORT, or FASTMQ_BOOTSTRAP_SERVERS, or a profile (`fastmq profile --help`),
or else 127.0.0.1:9092.
Exit codes: 0 done, 1 refused or not found, 2 wrong command line, 3 no broker answers,
130 interrupted. `fastmq serve` has its own.
"""


class _Main(LazyGroup):
    """Ctrl-C ends a command with the code that shells give it."""

    # Any: what the command returns.
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(_EXIT_INTERRUPTED)


@click.group(
    cls=_Main,
    table=_COMMANDS,
    unlisted=_UNLISTED,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fastmq")
def main() -> None:
    """Run, use and inspect fastmq, a message queue that speaks Kafka's protocol."""
