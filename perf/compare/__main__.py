"""Run the same work against fastmq and the brokers that people would pick instead.

    python perf/compare                              # all workloads once around, five rounds
    python perf/compare --quick                      # one short round, to see that it works
    python perf/compare --only 'produce*' --peers fastmq,kafka --rounds 7
    python perf/compare --targets --minutes 20; python perf/compare --targets --resume
    python perf/compare --list

One broker at a time on core 0, the load on core 1; rounds go A B C A B C. The results go to
perf/results/: JSON with everything needed to repeat it, a table in Markdown, plots.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness

from compare import kafka_loads, machine, report, targets, workloads
from compare.peers import PEERS
from compare.session import Session

RESULTS = harness.ROOT / "perf" / "results"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="perf/compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="who takes part, with commas")
    parser.add_argument("--only", action="append", help="names of workloads; * and ? match")
    parser.add_argument(
        "--targets", action="store_true", help="only what the project's targets are judged by"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where a run that was cut short has ended"
    )
    parser.add_argument("--full", action="store_true", help="all combinations, an hour or more")
    parser.add_argument("--quick", action="store_true", help="one round, 1 s each, small sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="per measurement")
    parser.add_argument("--scale", type=float, default=1.0, help="of sizes that are filled in")
    parser.add_argument("--minutes", type=float, help="start no measurement after so long")
    parser.add_argument("--bytes-max", type=int, default=400_000_000, help="per measurement")
    parser.add_argument("--warm-gb", type=float, default=8, help="memory touched before, see docs")
    parser.add_argument("--no-warm-up", action="store_true", help="measure brokers as they start")
    parser.add_argument("--data-dir", type=Path, help="where the brokers' data goes")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--name", default="compare", help="of the files written there")
    parser.add_argument(
        "--merge", action="store_true", help="keep what the report there says of other workloads"
    )
    parser.add_argument("--no-install", action="store_true", help="skip peers that are not there")
    parser.add_argument("--note", default="", help="a sentence for the report")
    parser.add_argument("--list", action="store_true", help="the workloads' names")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.scale = 1, 1, 0.05
        options.bytes_max, options.warm_gb, options.no_warm_up = 50_000_000, 0, True
    return options


def chosen(options: argparse.Namespace) -> list[workloads.Workload]:
    """The workloads to run."""
    patterns = options.only or ["*"]
    everything = options.full or options.only
    judged = targets.workloads() if options.targets else None
    return [
        w
        for w in workloads.WORKLOADS
        if (everything or w.profile == workloads.SMALL)
        and any(fnmatch.fnmatch(w.name, p) for p in patterns)
        and (judged is None or w.name in judged)
    ]


# About what a measurement writes at most, with its warm-up.
_TOUCHED_BYTES = 950_000_000


class Progress:
    """What was measured so far, in a file, so that a run can be cut short and go on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._path = options.output / f"{options.name}.progress.tmp"
        self._found: list[dict[str, Any]] = []
        if options.resume and self._path.exists():
            self._found = json.loads(self._path.read_text())

    def restore(self, session: Session) -> None:
        """Take over what an earlier run has measured."""
        session.results.extend(self._found)

    def has(self, workload: workloads.Workload) -> bool:
        """Whether an earlier run has measured all of it."""
        return any(r["workload"] == workload.name for r in self._found)

    def note(self, session: Session, workload: workloads.Workload, *, is_whole: bool) -> None:
        """A workload has ended; what is not whole is measured again when the run goes on."""
        if not is_whole:
            return
        self._found += [r for r in session.results if r["workload"] == workload.name]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._found))

    def end(self) -> None:
        """Nothing is left to do."""
        self._path.unlink(missing_ok=True)


def warm_up(session: Session) -> None:
    """Work that does not count, the same for all that speak Kafka's protocol."""
    for name, running in session.running.items():
        if running.peer.speaks_kafka:
            began = time.monotonic()
            with session.awake(name):
                kafka_loads.warm(session, running)
            session.say(f"{name} warmed up in {time.monotonic() - began:.0f} s")


def run_workload(session: Session, workload: workloads.Workload, options: Any) -> bool:
    """All rounds of one workload: A B C A B C; False when time ran out before its end."""
    rounds = min(options.rounds, workload.rounds_max or options.rounds)
    failed: set[str] = set()
    for number in range(rounds):
        for name in [*(["limit"] if workload.bare else []), *workload.peers]:
            if name in failed or (name != "limit" and name not in session.running):
                continue
            if options.end and time.monotonic() > options.end:
                session.skip(f"{workload.name}: out of time in round {number + 1} of {rounds}")
                return False
            try:
                figures = measure(session, workload, name)
            except Exception as error:  # noqa: BLE001 - one failure must not cost the whole run
                failed.add(name)
                session.skip(f"{workload.name}: {name}: {error!r}"[:600])
                continue
            session.results.append(
                {"workload": workload.name, "peer": name, "round": number, **figures}
            )
            session.say(f"{workload.name} | {name} | {number + 1}/{rounds} | {brief(figures)}")
    return True


def measure(session: Session, workload: workloads.Workload, name: str) -> dict[str, Any]:
    """One measurement of one peer, in memory that the host has handed out already."""
    machine.warm_memory(_TOUCHED_BYTES)
    if name == "limit":
        return workload.measure(session, None)
    with session.awake(name) as running:
        return workload.measure(session, running)


def brief(figures: dict[str, Any]) -> str:
    """The figures that one looks at while it runs."""
    keys = ("records_per_s", "mb_per_s", "cpu_s_per_gb", "cpu_us_per_request", "p50_ms", "p99_ms")
    more = ("start_s", "restart_s", "idle_rss_mib", "peak_rss_mib", "memcpy_gb_per_s", "cpu_share")
    return " ".join(f"{k}={figures[k]}" for k in (*keys, *more) if figures.get(k) is not None)


def main() -> int:
    """Run it; 1 when a peer or workload that was asked for had to be left out."""
    options = parse()
    rows = chosen(options)
    if not rows:
        print("no workload has such a name; --list shows them", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{w.name:44} {w.title}" for w in rows))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    harness.build()
    if options.data_dir is not None:
        options.data_dir.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="fastmq-compare-", dir=options.data_dir))
    session = Session(
        scratch=scratch,
        seconds=options.seconds,
        warmup_ms=200,
        bytes_max=options.bytes_max,
        scale=options.scale,
        may_install=not options.no_install,
    )
    began = time.time()
    context = machine.context()
    context["busy_share_before"] = machine.busy_share()
    context["memory_warmed_gb"] = round(machine.warm_memory(int(options.warm_gb * 1e9)) / 1e9, 1)
    wanted = options.peers.split(",")
    os.sched_setaffinity(0, {harness.LOAD_CPU % (os.cpu_count() or 1)})
    options.end = time.monotonic() + options.minutes * 60 if options.minutes else None
    progress = Progress(options)
    progress.restore(session)
    try:
        session.start([name for name in PEERS if name in wanted])
        if not options.no_warm_up:
            warm_up(session)
        for workload in rows:
            if not progress.has(workload):
                is_whole = run_workload(session, workload, options)
                progress.note(session, workload, is_whole=is_whole)
        peers = {name: report.describe(r.peer) for name, r in session.running.items()}
    finally:
        session.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(scratch)
    context["minutes"] = round((time.time() - began) / 60, 1)
    context["note"] = options.note
    document = report.document(session, rows, options, context, peers)
    if not any("out of time" in line for line in session.skipped):
        progress.end()
    if options.merge:
        document = report.merged(document, options.output / f"{options.name}.json")
    for path in report.write(document, options.output, options.name):
        session.say(f"wrote {path}")
    return 1 if session.skipped else 0


sys.exit(main())
