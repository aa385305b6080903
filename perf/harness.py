"""What the perf scripts share: a broker on one core, load on the other, CPU time from /proc.

Every script starts its own `fastmq serve` (or takes `--bootstrap` and `--pid` of one that runs),
pins it to core 0 and the load to core 1, and prints one JSON line per measurement. Everything is
bounded in time, stays on the loopback interface, and is ended and removed at the end.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The test suite's broker helper, and this tree where the package is not installed.
sys.path += [str(ROOT / "tests"), str(ROOT)]

from support.broker import Broker  # noqa: E402 - found by the line above

BROKER_CPU = 0
LOAD_CPU = 1
BUILD = ROOT / "perf" / "build"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOPIC = "perf"
_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Target:
    """Something that serves: a broker or a yardstick."""

    name: str
    port: int
    pid: int
    blind: bool  # it does not speak Kafka: answers are not read

    def cpu_seconds(self) -> float:
        """CPU time of all its threads."""
        with contextlib.suppress(FileNotFoundError):
            total = 0
            # schedstat counts in ns, where /proc/PID/stat counts in ticks of 10 ms.
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
            return total / _NS_PER_S
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="per measurement")
    parser.add_argument("--rounds", type=int, default=1, help="each measurement is repeated")
    parser.add_argument("--bootstrap", help="HOST:PORT of a running broker (default: start one)")
    parser.add_argument("--pid", type=int, help="its process, for its CPU time")
    parser.add_argument("--data-dir", type=Path, help="where the broker's data goes")
    parser.add_argument("--flush", choices=["ack", "interval", "never"], default="never")
    return parser


def build() -> None:
    """Compile the C programs, and the package's bytecode as pip does where it installs it."""
    subprocess.run(["make", "-s", "-C", str(ROOT / "perf"), "all"], check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "fastmq")], check=True)


@contextlib.contextmanager
def scratch(options: argparse.Namespace) -> Iterator[Path]:
    """A directory that is removed at the end."""
    base = options.data_dir
    if base is not None:
        base.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="fastmq-perf-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def broker(
    options: argparse.Namespace, root: Path, partitions: int = 1, tree: Path = ROOT
) -> Iterator[Target]:
    """A broker, of this tree or of another that is built, with the topic that the load talks to."""
    if options.bootstrap:
        host, _, port = options.bootstrap.rpartition(":")
        assert host in {"127.0.0.1", "localhost"}, "loopback only"
        target = Target("broker", int(port), options.pid or os.getpid(), blind=False)
        create_topic(options.bootstrap, partitions)
        yield target
        return
    overrides = {"fastmq.flush": options.flush, "fastmq.free.space.floor.bytes": 0}
    with Broker(
        root,
        dev=False,
        overrides=overrides,
        wrap=("taskset", "-c", str(BROKER_CPU)),
        env={"PYTHONPATH": str(tree)},
    ) as process:
        create_topic(process.bootstrap, partitions)
        yield Target(f"broker of {tree.name}", process.port, process.pid, blind=False)


def create_topic(bootstrap: str, partitions: int) -> None:
    """The topic `perf`, unless it is there."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    if TOPIC not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(TOPIC, partitions, 1)])[TOPIC].result(10)


@contextlib.contextmanager
def yardstick(command: Sequence[str], name: str) -> Iterator[Target]:
    """A program that prints its port and serves until it is ended."""
    process = subprocess.Popen(
        ["taskset", "-c", str(BROKER_CPU), *command], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Target(name, int(process.stdout.readline()), process.pid, blind=True)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def limit(mode: str, root: Path, **more: object) -> contextlib.AbstractContextManager[Target]:
    """One of the bare loops of limits/limit_server.c."""
    command = [str(BUILD / "limit_server"), "--mode", mode, "--file", str(root / "limit.dat")]
    # What the broker does on loopback addresses: fastmq/server/listeners.py says why.
    if "bbr" in Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text():
        more.setdefault("congestion", "reno")
    for name, value in more.items():
        command += [f"--{name}", str(value)]
    return yardstick(command, f"bare {mode}")


def load(target: Target, **settings: object) -> dict[str, Any]:
    """Run perf/build/load against a target; its result, with the target's CPU time."""
    command = [str(BUILD / "load"), "--port", str(target.port), "--topic", TOPIC]
    command += ["--cpu", str(LOAD_CPU), "--blind", str(int(target.blind))]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = process.stdout.readline()
        before = target.cpu_seconds()
        line = process.stdout.readline()
        cpu_s = target.cpu_seconds() - before
    if process.returncode != 0 or not started or not line:
        sys.exit(f"the load generator failed against {target.name}")
    result: dict[str, Any] = json.loads(line)
    result["target"] = target.name
    result["cpu_s"] = round(cpu_s, 3)
    if result["bytes"]:
        result["cpu_s_per_gb"] = round(cpu_s / result["bytes"] * 1e9, 4)
    if result["requests"]:
        result["cpu_us_per_request"] = round(cpu_s / result["requests"] * 1e6, 3)
    return result


def interleaved(
    name: str, rounds: int, measurements: Sequence[Callable[[], dict[str, Any]]]
) -> list[list[dict[str, Any]]]:
    """Run the measurements in turn, several rounds; print and return what each gave.

    The machine's mood changes over minutes: what is compared is measured within the same one.
    """
    results: list[list[dict[str, Any]]] = [[] for _ in measurements]
    for _ in range(rounds):
        for i, measure in enumerate(measurements):
            results[i].append(measure())
            report(name, **results[i][-1])
    return results


def median(results: Sequence[dict[str, Any]], key: str) -> float:
    """The median of one figure."""
    ordered = sorted(float(r[key]) for r in results)
    return ordered[len(ordered) // 2]


def compare(
    name: str,
    ours: Sequence[dict[str, Any]],
    theirs: Sequence[dict[str, Any]],
    keys: Sequence[str],
) -> None:
    """Print our medians as multiples of the yardstick's."""
    pairs = {key: (median(ours, key), median(theirs, key)) for key in keys}
    ratios = {key: round(a / b, 3) if b else None for key, (a, b) in pairs.items()}
    report(name, ratio_to=theirs[0]["target"], **ratios)


def report(name: str, **values: Any) -> None:
    """Print one JSON line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    print(json.dumps({"bench": name, **values, "commit": commit}), flush=True)


def pin_to_load_cpu() -> None:
    """This process and its threads run beside the broker, not on its core."""
    os.sched_setaffinity(0, {LOAD_CPU % (os.cpu_count() or 1)})
