"""Runs seeds from the command line; ends with 1 when one of them failed."""

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fastmq.testing.sim.run import Verdict, ignore_interrupts, run_task

_TWICE_EVERY: Final = 100
_TOLD_EVERY_S: Final = 20


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fastmq.testing.sim",
        description="Simulate clusters; what a seed does, it does each time.",
    )
    parser.add_argument("--seed", type=int, help="run this seed and print its last events")
    parser.add_argument("--count", type=int, default=100, help="how many seeds (100)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--fresh", type=int, default=0, help="of these so many are drawn anew")
    parser.add_argument("--file", type=Path, help="with seeds that are run before all others")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--events", type=int, default=60, help="events printed with --seed (60)")
    return parser.parse_args(arguments)


def _read(path: Path | None) -> list[int]:
    """Return the seeds in a file: one a line, and behind it what it is there for."""
    lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def _tasks(options: argparse.Namespace) -> Iterator[tuple[int, bool]]:
    for seed in _read(options.file):
        yield seed, False
    fixed = options.count - options.fresh
    draw = random.SystemRandom()
    for number in range(options.count):
        seed = options.first + number if number < fixed else draw.randrange(1 << 20, 1 << 48)
        yield seed, number % _TWICE_EVERY == _TWICE_EVERY // 2


def _report(verdicts: Iterable[Verdict], wanted: int) -> int:
    """Print what failed and what was run, also of a run that is interrupted; 1 for a failure."""
    failed = []
    began = told = time.monotonic()
    count = acknowledged = 0
    virtual_s = cpu_s = 0.0
    faults: dict[str, int] = {}
    try:
        for verdict in verdicts:
            count += 1
            acknowledged += verdict.acknowledged
            virtual_s += verdict.virtual_s
            cpu_s += verdict.cpu_s
            for kind in verdict.options.faults:
                faults[kind] = faults.get(kind, 0) + 1
            if verdict.problems:
                failed.append(verdict.options.seed)
                print(verdict.text(), flush=True)
            if time.monotonic() > told + _TOLD_EVERY_S:
                told = time.monotonic()
                left_s = (told - began) / count * (wanted - count)
                print(
                    f"{count} of {wanted} seeds, {len(failed)} failed, {left_s / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
    except KeyboardInterrupt:
        print(f"interrupted after {count} of {wanted} seeds")
    print(
        f"{count} seeds, {len(failed)} failed; {virtual_s:.0f} virtual s in {cpu_s:.0f} s of CPU, "
        f"{acknowledged} batches acknowledged; seeds by fault: "
        + ", ".join(f"{kind} {number}" for kind, number in sorted(faults.items()))
    )
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    """Run what the command line asks for."""
    options = _parse(arguments)
    if options.seed is not None:
        verdict = run_task((options.seed, True))
        print("\n".join(verdict.tail[-options.events :] if options.events else ()))
        print(verdict.text())
        return 1 if verdict.problems else 0
    tasks = list(_tasks(options))
    if options.jobs == 1:
        return _report(map(run_task, tasks), len(tasks))
    with multiprocessing.get_context("spawn").Pool(options.jobs, ignore_interrupts) as pool:
        return _report(pool.imap_unordered(run_task, tasks), len(tasks))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what happens.
        os.environ["PYTHONHASHSEED"] = "0"
        command = [sys.executable, "-m", "fastmq.testing.sim", *sys.argv[1:]]
        os.execv(sys.executable, command)
    sys.exit(main(sys.argv[1:]))
