"""`fastmq serve`: run a broker, or several, until SIGTERM or SIGINT."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastmq.errors import ConfigError, FastmqError

if TYPE_CHECKING:
    from fastmq.config import BrokerConfig
    from fastmq.server.broker import Announcement
    from fastmq.server.supervisor import BrokersAnnouncement

__all__ = ["serve"]

# Exit codes beside 0 and click's 2 for a wrong command line.
_EXIT_FAILED = 1
_EXIT_CONFIG = 2
_EXIT_PORT_TAKEN = 3
_EXIT_DIR_LOCKED = 4
_EXIT_REMOVED = 5

_EPILOG = """\b
Examples:
  fastmq serve
  fastmq serve --data-dir /var/lib/fastmq --listen 0.0.0.0:9092 --advertise mq.example.org:9092
  fastmq serve --dev --listen 127.0.0.1:0 --ready-file /tmp/ready
  fastmq serve --brokers 3 --listen 127.0.0.1:9092
  fastmq serve --config server.properties --override num.partitions=12

\b
Later wins: defaults, --dev, the file, FASTMQ_* environment variables, --data-dir and its
like, --override. SIGTERM or SIGINT stop the broker; it exits with 0.
Exit codes: 1 failed, 2 wrong command line or configuration, 3 port taken, 4 data directory in use,
5 the broker was removed from its cluster.
"""


@click.command(epilog=_EPILOG)
@click.option("--data-dir", metavar="DIR", help="Where logs and metadata are kept.")
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect; port 0: a free one.")
@click.option("--advertise", metavar="HOST:PORT", help="The address that clients are told.")
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="server.properties or a TOML file.",
)
@click.option("--override", metavar="KEY=VALUE", multiple=True, help="Set one configuration key.")
@click.option(
    "--ready-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Written, as JSON, when the broker serves; removed when it stops.",
)
@click.option(
    "--brokers",
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    help="Run N brokers, a process each, with ports and node ids counting up.",
)
@click.option("--dev", is_flag=True, help="For tests: no fsync, no rebalance delay.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of log lines.")
def serve(
    *,
    data_dir: str | None,
    listen: str | None,
    advertise: str | None,
    config_file: Path | None,
    override: tuple[str, ...],
    ready_file: Path | None,
    brokers: int,
    dev: bool,
    log_format: str | None,
) -> None:
    """Run a broker, or several on this machine.

    Data and metadata are kept in ./fastmq-data and clients connect to 127.0.0.1:9092 unless told
    otherwise.
    """
    gc.disable()  # until it serves: what a start makes stays, looking through it finds nothing
    try:
        options = _as_overrides(data_dir, listen, advertise, log_format)
        config = _load(config_file, [*options, *override], dev=dev)
        from fastmq.server import logging as server_logging

        server_logging.configure(
            config.get_str("fastmq.log.format"), level=config.get_str("fastmq.log.level")
        )
    except ConfigError as exc:
        _stop(str(exc), _EXIT_CONFIG)
    if brokers > 1:
        arguments = ["--dev"] if dev else []
        if config_file is not None:
            arguments += ["--config", str(config_file)]
        for text in [*options, *override]:
            arguments += ["--override", text]
        sys.exit(_run_several(config, brokers, arguments, ready_file))
    sys.exit(_run(config, ready_file))


def _run(config: "BrokerConfig", ready_file: Path | None) -> int:
    import trio

    from fastmq.log import DirectoryInUseError
    from fastmq.server.broker import run_broker
    from fastmq.server.listeners import AddressInUseError
    from fastmq.server.membership import RemovedError

    try:
        trio.run(lambda: run_broker(config, ready_file=ready_file, announce=_announce))
    except AddressInUseError as exc:
        _stop(str(exc), _EXIT_PORT_TAKEN)
    except DirectoryInUseError as exc:
        _stop(str(exc), _EXIT_DIR_LOCKED)
    except ConfigError as exc:
        _stop(str(exc), _EXIT_CONFIG)
    except RemovedError as exc:
        _stop(str(exc), _EXIT_REMOVED)
    except FastmqError as exc:
        # What a client would be told is less than what the operator needs to know.
        cause = exc.__cause__
        _stop(str(cause if isinstance(cause, FastmqError) else exc), _EXIT_FAILED)
    return 0


def _run_several(
    config: "BrokerConfig", count: int, arguments: list[str], ready_file: Path | None
) -> int:
    import trio

    from fastmq.server.supervisor import ChildFailedError, run_brokers

    try:
        trio.run(
            lambda: run_brokers(
                config,
                count,
                arguments=arguments,
                ready_file=ready_file,
                announce=_announce_several,
            )
        )
    except ChildFailedError as exc:
        _stop(f"{exc}; its own lines above say why", exc.code)
    except ConfigError as exc:
        _stop(str(exc), _EXIT_CONFIG)
    except FastmqError as exc:
        _stop(str(exc), _EXIT_FAILED)
    return 0


def _load(config_file: Path | None, overrides: list[str], *, dev: bool) -> "BrokerConfig":
    from fastmq.config import ConfigFile, load_broker_config

    file = None
    if config_file is not None:
        try:
            file = ConfigFile(str(config_file), config_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read {config_file}: {exc}") from exc
    return load_broker_config(file=file, environ=os.environ, overrides=overrides, dev=dev)


def _as_overrides(
    data_dir: str | None, listen: str | None, advertise: str | None, log_format: str | None
) -> list[str]:
    from fastmq.config.listeners import listener_from_address

    overrides = []
    if data_dir is not None:
        overrides.append(f"log.dirs={data_dir}")
    if listen is not None:
        overrides.append(f"listeners={listener_from_address(listen)}")
    if advertise is not None:
        overrides.append(f"advertised.listeners={listener_from_address(advertise)}")
    if log_format is not None:
        overrides.append(f"fastmq.log.format={log_format}")
    return overrides


def _collect_garbage_again() -> None:
    """The start is over: what it made is set aside, so that later collections pass it over."""
    gc.freeze()
    gc.enable()


def _announce_several(announcement: "BrokersAnnouncement") -> None:
    for name, addresses in announcement.listeners().items():
        click.echo(f"listening on {addresses} ({name})")
    for broker in announcement.brokers:
        click.echo(f"broker {broker['node_id']}: data in {', '.join(broker['data_dirs'])}")
    _suggest(announcement.brokers[0]["listeners"].popitem()[1])
    _collect_garbage_again()


def _announce(announcement: "Announcement") -> None:
    for name, address in announcement.listeners:
        click.echo(f"listening on {address} ({name})")
    click.echo(f"data in {', '.join(announcement.data_dirs)}")
    if announcement.metrics:
        click.echo(f"metrics on http://{announcement.metrics}/metrics")
    _suggest(announcement.listeners[0][1])
    _collect_garbage_again()


def _suggest(address: str) -> None:
    click.echo(
        f"try: echo hello | fastmq produce greetings -b {address}"
        f" && fastmq consume greetings -e -b {address}"
    )
    sys.stdout.flush()


def _stop(message: str, code: int) -> None:
    click.echo(f"fastmq serve: {message}", err=True)
    sys.exit(code)
