"""Options that every command about a cluster has, and the clients that they stand for.

Later wins: 127.0.0.1:9092, the current profile, --profile or FASTMQ_PROFILE,
FASTMQ_BOOTSTRAP_SERVERS, -b; and for other options the profile, then -X.
"""

import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from fastmq.cli.support.completing import complete_profile
from fastmq.cli.support.profiles import load_profiles
from fastmq.errors import (
    ConfigError,
    ConnectionFailed,
    FastmqError,
    KafkaError,
    RequestTimedOut,
    SomeFailed,
)

if TYPE_CHECKING:
    from fastmq.client.fronts.admin import Admin
    from fastmq.client.options import ClientOptions

__all__ = [
    "EXIT_FAILED",
    "EXIT_UNREACHABLE",
    "Cluster",
    "cluster_options",
    "errors_told",
    "fail",
    "json_option",
    "resolve_cluster",
    "watch_option",
    "watched",
]

# Beside 0 and click's 2 for a wrong command line.
EXIT_FAILED = 1
EXIT_UNREACHABLE = 3

DEFAULT_SERVERS = "127.0.0.1:9092"
_DEFAULT_TIMEOUT_S = 15.0
_PROBE_TIMEOUT_S = 3.0
_WATCH_LEAST_S = 0.1

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and how clients of it are made."""

    servers: str
    timeout_s: float = _DEFAULT_TIMEOUT_S
    # Any: options of clients, checked when one is made.
    profile: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def admin(self) -> "Iterator[Admin]":
        """An administration client; errors end the command with a message and an exit code."""
        from fastmq.client.fronts.admin import Admin
        from fastmq.client.options import ClientOptions

        with errors_told(self):
            self.check_reachable()
            options = {
                "client_id": "fastmq-cli",
                "default_api_timeout_ms": int(self.timeout_s * 1000),
                **self.options_for(ClientOptions),
            }
            with Admin(self.servers, **options) as admin:
                yield admin

    def check_reachable(self) -> None:
        """Fail at once when nobody listens, instead of when the time is over.

        Raises:
            ConnectionFailed: no address takes connections.
            ConfigError: an address cannot be understood.
        """
        from fastmq.client.options import ClientOptions, read_options

        reasons = []
        for host, port in read_options(ClientOptions, self.servers, {}).bootstrap_servers:
            try:
                socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S).close()
                return
            except OSError as error:
                reasons.append(f"{host}:{port}: {error.strerror or error}")
        raise ConnectionFailed("; ".join(reasons))

    # Any: as above.
    def options_for(self, kind: "type[ClientOptions]") -> dict[str, Any]:
        """Options of a kind of client: of the profile those that it has, of -X all."""
        from fastmq.client.options import option_table

        table = option_table(kind)
        known = {name: value for name, value in self.profile.items() if name in table}
        return {
            name: _typed(value, table[name].metadata.get("kinds", ())) if name in table else value
            for name, value in {**known, **self.properties}.items()
        }


# Any: a value of one of the kinds.
def _typed(value: Any, kinds: tuple[type, ...]) -> Any:
    """Read a text as what an option takes; what cannot be read is left for the client to refuse."""
    if not isinstance(value, str) or str in kinds:
        return value
    if bool in kinds and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if type(None) in kinds and value.lower() in ("none", "null"):
        return None
    for kind in (int, float):
        if kind in kinds:
            with suppress(ValueError):
                return kind(value)
    return value


@contextmanager
def errors_told(cluster: "Cluster | None" = None) -> Iterator[None]:
    """Turn errors of clients into a message and an exit code."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except SomeFailed as error:
        for one in error.errors.values():
            click.echo(f"fastmq: {one.message}", err=True)
        sys.exit(EXIT_FAILED)
    except (ConnectionFailed, RequestTimedOut) as error:
        where = f" at {cluster.servers}" if cluster is not None else ""
        fail(
            f"no broker answers{where}: {error}\n"
            "Is it running? `fastmq serve` starts one here; -b HOST:PORT names another.",
            EXIT_UNREACHABLE,
        )
    except KafkaError as error:
        fail(error.message or str(error), EXIT_FAILED)
    except FastmqError as error:
        fail(str(error), EXIT_FAILED)


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """End the command."""
    click.echo(f"fastmq: {message}", err=True)
    sys.exit(code)


def resolve_cluster(
    servers: str | None,
    profile: str | None,
    properties: tuple[tuple[str, str], ...] = (),
    timeout_s: float = _DEFAULT_TIMEOUT_S,
) -> Cluster:
    """Bring options, environment and profile together."""
    options: dict[str, Any] = {}
    given: dict[str, Any] = {}
    if profile is not None or servers is None:
        profiles = load_profiles()
        name = profile or profiles.current
        if name is not None:
            options = dict(profiles.get(name))
    known = str(options.pop("bootstrap_servers", DEFAULT_SERVERS))
    for key, value in properties:
        plain = key.replace(".", "_")
        if plain == "bootstrap_servers":
            known = value
        else:
            given[plain] = value
    return Cluster(servers or known, timeout_s, options, given)


def cluster_options(command: F) -> F:
    """Add the options that say which cluster; the command gets `cluster`."""
    from functools import update_wrapper

    # Any: whatever the command takes besides.
    def run(
        *args: Any,
        bootstrap_servers: str | None,
        profile: str | None,
        properties: tuple[tuple[str, str], ...],
        timeout: float,
        **kwargs: Any,
    ) -> Any:
        cluster = resolve_cluster(bootstrap_servers, profile, properties, timeout)
        return command(*args, cluster=cluster, **kwargs)

    from fastmq.cli.support.values import KEY_VALUE

    decorated: Any = update_wrapper(run, command)
    for decorate in (
        click.option(
            "--timeout",
            type=click.FloatRange(min=0.001),
            default=_DEFAULT_TIMEOUT_S,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for the cluster.",
        ),
        click.option(
            "-X",
            "--property",
            "properties",
            type=KEY_VALUE,
            multiple=True,
            metavar="KEY=VALUE",
            help="An option of the client, by Kafka's name. Repeatable.",
        ),
        click.option(
            "--profile",
            envvar="FASTMQ_PROFILE",
            metavar="NAME",
            help="The cluster of this name; see `fastmq profile`.",
            shell_complete=complete_profile,
        ),
        click.option(
            "-b",
            "--bootstrap-servers",
            "--brokers",
            envvar="FASTMQ_BOOTSTRAP_SERVERS",
            metavar="HOST:PORT,...",
            help="Where the cluster is.",
        ),
    ):
        decorated = decorate(decorated)
    result: F = decorated
    return result


def watch_option(command: F) -> F:
    """Add --watch; the command calls `watched` with it."""
    from fastmq.cli.support.values import DURATION

    return click.option(
        "-w", "--watch", type=DURATION, metavar="DURATION", help="Look again and again."
    )(command)


def watched(look: Callable[[], None], every_s: float | None) -> None:
    """Call a function that prints what it sees: once, or (--watch) until interrupted."""
    while True:
        if every_s is not None and sys.stdout.isatty():
            click.clear()
        look()
        if every_s is None:
            return
        sys.stdout.flush()
        time.sleep(max(every_s, _WATCH_LEAST_S))


def json_option(command: F) -> F:
    """Add --json; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
