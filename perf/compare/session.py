"""One run of the comparison: its options, its brokers, and how a measurement is taken."""

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness

from compare.peers import PEERS, Peer, PeerMissing, Running

GB = 1e9


@dataclass
class Session:
    """What the workloads share.

    Attributes:
        scratch: where the brokers' data goes.
        seconds: per measurement.
        warmup_ms: before each measurement, not counted.
        bytes_max: a measurement ends earlier when so many bytes have passed; keeps data in memory.
        scale: fraction of the usual sizes (data that is filled in, partitions, consumers).
    """

    scratch: Path
    seconds: int
    warmup_ms: int
    bytes_max: int
    scale: float
    may_install: bool = True
    running: dict[str, Running] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def say(self, text: str) -> None:
        """Tell the person who waits."""
        print(text, file=sys.stderr, flush=True)

    def skip(self, text: str) -> None:
        """Something is left out: say so, now and in the report."""
        self.skipped.append(text)
        self.say(f"skipped: {text}")

    def new_name(self, stem: str) -> str:
        """A topic name that was not used yet."""
        return f"{stem}-{next(self._names)}"

    def peer(self, name: str) -> Peer:
        """The broker, found or installed.

        Raises:
            PeerMissing: this machine cannot have it.
        """
        peer = PEERS[name](self.scratch / name, may_install=self.may_install)
        peer.prepare()
        return peer

    def start(self, names: list[str]) -> None:
        """Start the brokers one after the other; each is paused when it serves."""
        for name in names:
            try:
                peer = self.peer(name)
                running = peer.start()
            except (PeerMissing, TimeoutError) as error:
                self.skip(f"{PEERS[name].title}: {error}")
                continue
            self.say(f"{peer.title} {peer.version()} answers after {running.start_s:.2f} s")
            running.pause()
            self.running[name] = running

    def stop(self) -> None:
        """End everything that was started."""
        for running in self.running.values():
            with contextlib.suppress(Exception):
                running.stop()
        self.running.clear()

    @contextlib.contextmanager
    def awake(self, name: str) -> Iterator[Running]:
        """One broker goes on while all others stay paused."""
        running = self.running[name]
        running.resume()
        try:
            yield running
        finally:
            if running.name in self.running:
                self.running[running.name].pause()

    def median(self, workload: str, peer: str, key: str) -> float | None:
        """Median of what was measured so far."""
        found = [r[key] for r in self.results if r["workload"] == workload and r["peer"] == peer]
        numbers = sorted(float(value) for value in found if value is not None)
        return numbers[len(numbers) // 2] if numbers else None


class Meter:
    """A broker's CPU time and peak memory between two moments."""

    def __init__(self, running: Running) -> None:
        self.running = running
        running.reset_peak()
        self.before = running.cpu_seconds()

    def restart(self) -> None:
        """The warm-up is over."""
        self.before = self.running.cpu_seconds()

    def figures(self, records: int, record_bytes: int, seconds: float) -> dict[str, Any]:
        """What every result has."""
        cpu_s = self.running.cpu_seconds() - self.before
        payload = records * record_bytes
        return {
            "records": records,
            "seconds": round(seconds, 3),
            "records_per_s": round(records / seconds) if seconds else None,
            "mb_per_s": round(payload / seconds / 1e6, 2) if seconds else None,
            "cpu_s": round(cpu_s, 4),
            "cpu_s_per_gb": round(cpu_s / payload * GB, 4) if payload else None,
            "cpu_s_per_million": round(cpu_s / records * 1e6, 4) if records else None,
            "cpu_share": round(cpu_s / seconds, 3) if seconds else None,
            "peak_rss_mib": round(self.running.peak_rss_mib(), 1),
        }


def generator(
    program: str, running: Running, record_bytes: int, **settings: object
) -> dict[str, Any]:
    """Run one of the C generators on the load's core; its figures and the broker's.

    Raises:
        RuntimeError: it failed; the text is what it said.
    """
    command = [str(harness.BUILD / program), "--port", str(running.port)]
    command += ["--cpu", str(harness.LOAD_CPU), "--record-bytes", str(record_bytes)]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return measured(command, running, record_bytes)


def measured(command: list[str], running: Running, record_bytes: int) -> dict[str, Any]:
    """Run a load that prints "counting" after its warm-up and a line of JSON at its end."""
    meter = Meter(running)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        started = process.stdout.readline()
        meter.restart()
        line = process.stdout.readline()
        if not started or not line:
            said = process.stderr.read()
            raise RuntimeError(f"{command[0]} against {running.name}: {said.strip()[-500:]}")
        raw = json.loads(line)
        figures = meter.figures(raw["records"], record_bytes, raw["seconds"])
        process.stderr.read()
    for key in (
        "p50_ms",
        "p99_ms",
        "p999_ms",
        "max_ms",
        "requests",
        "requests_per_s",
        "load_cpu_s",
    ):
        if key in raw:
            figures[key] = raw[key]
    for key in ("ack_p50_ms", "ack_p99_ms", "ack_p999_ms", "rate", "batches_due", "batches_seen"):
        if key in raw:
            figures[key] = raw[key]
    if raw.get("requests"):
        figures["cpu_us_per_request"] = round(figures["cpu_s"] / raw["requests"] * 1e6, 3)
    return figures


def python_load(
    running: Running, record_bytes: int, load: Callable[[Callable[[], None]], dict[str, Any]]
) -> dict[str, Any]:
    """Run a load in this process, on the load's core; it calls back after its warm-up."""
    meter = Meter(running)
    began = time.process_time()
    raw = load(meter.restart)
    figures = meter.figures(raw["records"], record_bytes, raw["seconds"])
    figures["load_cpu_s"] = round(time.process_time() - began, 3)
    return figures
