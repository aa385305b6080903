"""`fastmq demo`: a broker in a child process, a producer and a consumer group, live numbers."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from threading import Event, Thread
from typing import Final

import click

from fastmq.cli.perf.histogram import Histogram
from fastmq.cli.support.options import errors_told, fail, json_option
from fastmq.cli.support.output import count_text, print_facts, print_json
from fastmq.cli.support.values import DURATION
from fastmq.errors import FastmqError

__all__ = ["demo"]

_TOPIC: Final = "demo"
_GROUP: Final = "demo-readers"
_PARTITIONS: Final = 3
_KEYS: Final = 100
_STAMP: Final = Struct(">d")
_READY_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 15.0


@click.command(
    epilog="""\b
Examples:
  fastmq demo
  fastmq demo --duration 30s --rate 20000
  fastmq demo --json

\b
The broker listens on a free port of 127.0.0.1, keeps its data in a temporary directory and is gone
afterwards. While it runs, look at it from another shell: the demo prints how.
"""
)
@click.option(
    "-d", "--duration", type=DURATION, default=10.0, metavar="DURATION", help="Default: 10s."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    default=5_000.0,
    show_default=True,
    help="Records a second.",
)
@json_option
def demo(*, duration: float, rate: float, as_json: bool) -> None:
    """Show a broker at work: start one, produce and consume, clean up."""
    # So that the broker does not outlive us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with errors_told(), _broker() as servers:
        if not as_json:
            click.echo(f"broker on {servers}; try: fastmq group describe {_GROUP} -b {servers}")
        run = _Run(servers, rate)
        run.start()
        try:
            run.watch(duration, is_silent=as_json)
        except KeyboardInterrupt:
            click.echo("stopping", err=True)
        finally:
            run.stop()
    if run.failures:
        fail("; ".join(run.failures))
    if as_json:
        print_json(run.summary())
    else:
        click.echo()
        print_facts(run.summary().items())


@contextmanager
def _broker() -> Iterator[str]:
    """A broker of its own; yields its address. It and its data are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fastmq-demo-") as directory:
        ready = Path(directory) / "ready"
        log = Path(directory) / "log"
        command = [sys.executable, "-m", "fastmq", "serve", "--dev"]
        command += ["--listen", "127.0.0.1:0", "--data-dir", str(Path(directory) / "data")]
        command += ["--ready-file", str(ready)]
        with log.open("wb") as output:
            # A session of its own: Ctrl-C is for us, who stop it in order.
            process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield _wait_ready(process, ready, log)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", ready: Path, log: Path) -> str:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            address: str = json.loads(ready.read_text())["listeners"]["PLAINTEXT"]
            return address
        if process.poll() is not None or time.monotonic() > deadline:
            end = log.read_text(errors="replace").strip().splitlines()[-5:]
            fail("the broker did not start:\n" + "\n".join(end))
        time.sleep(0.01)


class _Run:
    """A producer and a consumer, each in a thread, and what they have done.

    Counters are written by one thread each and read by the one that shows them.
    """

    def __init__(self, servers: str, rate: float) -> None:
        from fastmq.client.fronts.admin import Admin

        self.servers = servers
        self.rate = rate
        self.produced = 0
        self.consumed = 0
        self.times = Histogram()
        self.failures: list[str] = []
        self._began_s = 0.0
        self._seconds = 0.0
        self._stop_producing, self._stop_consuming = Event(), Event()
        self._threads: list[Thread] = []
        with Admin(servers) as admin:
            admin.create_topic(_TOPIC, _PARTITIONS)

    def start(self) -> None:
        """Begin."""
        self._began_s = time.monotonic()
        for work in (self._consume, self._produce):
            thread = Thread(target=self._guarded, args=(work,), name=f"demo{work.__name__}")
            thread.start()
            self._threads.append(thread)

    # Any in effect: one of the two below.
    def _guarded(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except FastmqError as error:
            self.failures.append(str(error))

    def _produce(self) -> None:
        from fastmq.client.fronts.producer import Producer

        began = time.perf_counter()
        with Producer(self.servers) as producer:
            while not self._stop_producing.is_set():
                # So many as are due, then a nap: a timer per record would be the work.
                due = int((time.perf_counter() - began) * self.rate) - self.produced
                for _ in range(min(due, 10_000)):
                    value = _STAMP.pack(time.perf_counter()) + b" a record of the demo"
                    producer.produce(_TOPIC, value, key=b"key-%d" % (self.produced % _KEYS))
                    self.produced += 1
                self._stop_producing.wait(0.002)

    def _consume(self) -> None:
        from fastmq.client.fronts.consumer import Consumer

        with Consumer(
            self.servers,
            _TOPIC,
            group_id=_GROUP,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=500,
        ) as consumer:
            while not self._stop_consuming.is_set():
                batch = consumer.poll_batch(0.2)
                now = time.perf_counter()
                for record in batch.records if batch is not None else ():
                    self.times.add(max(0.0, now - _STAMP.unpack_from(record.value)[0]))
                    self.consumed += 1

    def watch(self, duration_s: float, *, is_silent: bool) -> None:
        """Show numbers until the time is over or a thread has failed."""
        end_s = self._began_s + duration_s
        last = (self._began_s, 0, 0)
        while not self.failures and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(0.5 if sys.stdout.isatty() else 1.0, left_s))
            now = (time.monotonic(), self.produced, self.consumed)
            if not is_silent:
                _show(now, last, self.times)
            last = now

    def stop(self) -> None:
        """End the producer, let the consumer read the rest, end it."""
        self._stop_producing.set()
        if len(self._threads) == 2:
            self._threads[1].join(_STOP_TIMEOUT_S)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while self.consumed < self.produced and not self.failures:
            if time.monotonic() > deadline:
                self.failures.append(f"{self.produced - self.consumed} records did not come back")
            time.sleep(0.01)
        self._seconds = time.monotonic() - self._began_s
        self._stop_consuming.set()
        for thread in self._threads:
            thread.join(_STOP_TIMEOUT_S)

    def summary(self) -> dict[str, object]:
        """What was done."""
        latency = self.times.summary_ms()
        return {
            "produced": self.produced,
            "consumed": self.consumed,
            "seconds": round(self._seconds, 2),
            "latency_ms_p50": latency["p50"],
            "latency_ms_p99": latency["p99"],
            "latency_ms_max": latency["max"],
        }


def _show(now: tuple[float, int, int], last: tuple[float, int, int], times: Histogram) -> None:
    seconds = max(1e-9, now[0] - last[0])
    latency = times.summary_ms()
    line = (
        f"produced {count_text(now[1]):>8} ({count_text((now[1] - last[1]) / seconds)}/s)"
        f"   consumed {count_text(now[2]):>8} ({count_text((now[2] - last[2]) / seconds)}/s)"
        f"   on the way {max(0, now[1] - now[2]):>5}"
        f"   latency p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms"
    )
    if sys.stdout.isatty():
        click.echo(f"\r{line}\x1b[K", nl=False)
    else:
        click.echo(line)
    sys.stdout.flush()
