"""`fastmq autoscale`: run as many consumers as the lag of their group wants."""

import json
import signal
import sys
import time
from types import FrameType
from typing import Any

import click

from fastmq.cli.autoscale_lag import ClientLag, LagSource, PageLag, Sighting
from fastmq.cli.autoscale_workers import Workers
from fastmq.errors import FastmqError
from fastmq.scaling import Autoscaler, Decision, Policy

__all__ = ["autoscale"]

# Between two looks at the workers; a signal ends the wait.
_TICK_S = 0.2

_EPILOG = """\b
Examples:
  fastmq autoscale --group mailer --min 1 --max 8 -- python worker.py
  fastmq autoscale --group mailer --max 4 --bootstrap mq:9092 --add-partitions -- python worker.py
  fastmq autoscale --group mailer --url http://127.0.0.1:9644 -- python worker.py

\b
The lag is asked of the brokers as any client does. With --url it is read from the broker that
coordinates the group and has worked it out:
  fastmq serve --override fastmq.metrics.listener=127.0.0.1:9644
Each worker is one consumer of the group. It gets SIGTERM when it is to end and finds its number,
from 0, in FASTMQ_WORKER. One that ends by itself is started again. SIGTERM or SIGINT ends all of
them and the command; a second one kills them.
Exit codes: 0 stopped, 1 a worker had to be killed, 2 wrong command line.
"""


@click.command(epilog=_EPILOG, context_settings={"ignore_unknown_options": True})
@click.option("--group", required=True, metavar="GROUP", help="The consumer group.")
@click.option("--min", "minimum", default=1, show_default=True, help="Consumers that always run.")
@click.option("--max", "maximum", default=8, show_default=True, help="Never more than these.")
@click.option(
    "-b",
    "--bootstrap",
    default="127.0.0.1:9092",
    show_default=True,
    metavar="HOST:PORT,...",
    help="The brokers.",
)
@click.option(
    "--url",
    envvar="FASTMQ_METRICS_URL",
    metavar="URL",
    help="Read the lag from this metrics listener instead.",
)
@click.option(
    "--target",
    default=60.0,
    show_default=True,
    help="Seconds in which the lag should be gone (without --url).",
)
@click.option("--interval", default=5.0, show_default=True, help="Seconds between two looks.")
@click.option(
    "--up-after", default=5.0, show_default=True, help="Seconds that more must be wanted."
)
@click.option(
    "--down-after", default=60.0, show_default=True, help="Seconds that fewer must be wanted."
)
@click.option(
    "--cool-down", default=15.0, show_default=True, help="Seconds without change after one."
)
@click.option("--lag-min", default=0, show_default=True, help="Less lag starts no consumer.")
@click.option(
    "--stop-timeout", default=30.0, show_default=True, help="Seconds from SIGTERM to SIGKILL."
)
@click.option(
    "--add-partitions",
    is_flag=True,
    help="Add partitions to topics that have fewer than consumers are wanted, up to --max.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per change.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def autoscale(
    *,
    group: str,
    minimum: int,
    maximum: int,
    bootstrap: str,
    url: str | None,
    target: float,
    interval: float,
    up_after: float,
    down_after: float,
    cool_down: float,
    lag_min: int,
    stop_timeout: float,
    add_partitions: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Start and stop consumers by the lag of their group.

    COMMAND is run once for each consumer. More run soon after the lag asks for them, fewer after a
    long quiet, and never more than there are partitions with lag.
    """
    try:
        policy = Policy(minimum, maximum, up_after, down_after, cool_down, lag_min, add_partitions)
        source: LagSource = PageLag(url, group) if url else ClientLag(bootstrap, group, target)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    if min(interval, target) <= 0 or stop_timeout < 0:
        raise click.UsageError("--interval, --target and --stop-timeout are positive")
    teller = _Teller(group, as_json=as_json)
    workers = Workers(list(command), teller.worker_ended)
    scaling = _Scaling(Autoscaler(policy), source, workers, teller, bootstrap)
    sys.exit(scaling.run(interval, stop_timeout))


class _Teller:
    """What people or programs are told."""

    def __init__(self, group: str, *, as_json: bool) -> None:
        self._group = group
        self._as_json = as_json

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Print one line; Any: JSON values."""
        if self._as_json:
            row = {"time": round(time.time(), 3), "group": self._group, "event": event, **facts}
            click.echo(json.dumps(row))
        else:
            click.echo(f"{self._group}: {text}")
        sys.stdout.flush()

    def worker_ended(self, number: int, pid: int, code: int, again_s: float) -> None:
        """Tell that a worker ended by itself."""
        self.tell(
            "worker ended",
            f"worker {number} (pid {pid}) ended with {code}, starts again in {again_s:g} s",
            worker=number,
            pid=pid,
            code=code,
        )


class _Scaling:
    """The loop of the command."""

    def __init__(
        self,
        machine: Autoscaler,
        source: LagSource,
        workers: Workers,
        teller: _Teller,
        bootstrap: str,
    ) -> None:
        self._machine = machine
        self._source = source
        self._workers = workers
        self._teller = teller
        self._bootstrap = bootstrap
        self._signals = 0
        self._is_known = True

    def run(self, interval_s: float, stop_timeout_s: float) -> int:
        """Scale until a signal comes; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._workers.stop_timeout_s = stop_timeout_s
        next_look_s = time.monotonic()
        try:
            while not self._signals:
                now_s = time.monotonic()
                if now_s >= next_look_s:
                    self._look(now_s)
                    next_look_s = now_s + interval_s
                self._workers.tend(time.monotonic())
                self._workers.wait(_TICK_S)
        finally:
            self._teller.tell("stopping", "stopping", workers=self._workers.target)
            killed = self._workers.stop_all(lambda: self._signals > 1)
        return 1 if killed else 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _look(self, now_s: float) -> None:
        sighting = self._sighting()
        before = self._workers.target
        decision = self._machine.decide(
            now_s, before, None if sighting is None else sighting.observation
        )
        if decision.partitions and sighting is not None:
            self._add_partitions(decision, sighting)
        if decision.consumers != before:
            self._workers.set_target(decision.consumers, now_s)
            self._teller.tell(
                "scaled",
                f"{before} -> {decision.consumers} consumers: {decision.reason}",
                before=before,
                consumers=decision.consumers,
                reason=decision.reason,
            )

    def _sighting(self) -> Sighting | None:
        try:
            found = self._source.look()
        except OSError as exc:
            if self._is_known:
                self._is_known = False
                self._teller.tell(
                    "lag unknown",
                    f"the lag is not known, {self._workers.target} consumers stay: {exc}",
                    error=str(exc),
                )
            return None
        if not self._is_known:
            self._is_known = True
            self._teller.tell("lag known", "the lag is known again")
        return found

    def _add_partitions(self, decision: Decision, sighting: Sighting) -> None:
        from fastmq.client.fronts.admin import Admin

        wanted = -(-decision.partitions // len(sighting.lagging_topics))
        try:
            with Admin(self._bootstrap) as admin:
                for topic, count in sighting.lagging_topics.items():
                    if count < wanted:
                        admin.add_partitions(topic, wanted)
                        self._teller.tell(
                            "partitions added",
                            f"{topic}: {count} -> {wanted} partitions",
                            topic=topic,
                            before=count,
                            partitions=wanted,
                        )
        except (FastmqError, OSError) as exc:
            self._teller.tell(
                "partitions not added", f"cannot add partitions: {exc}", error=str(exc)
            )
