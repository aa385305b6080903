"""Compare this tree's hot functions with the stored baselines: python perf/guard [--update].

Counts instructions with valgrind (tolerance 5 %) and, with `--micro`, runs the pyperf
micro-benchmarks too (tolerance 50 %: machines differ and are busy). Exit code 1 when something
costs more than the baseline and the tolerance allow. A change that is meant to cost more, or that
costs less, updates the baseline in the same commit.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import harness  # noqa: E402 - found by the line above
import instructions  # noqa: E402
import micro  # noqa: E402

BASELINE = Path(__file__).resolve().parent / "baseline.json"
TOLERANCE = 0.05
TOLERANCE_OTHER_TOOLS = 0.30
TOLERANCE_MICRO = 0.50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="store what is measured")
    parser.add_argument("--micro", action="store_true", help="time the micro-benchmarks as well")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed (Debian package valgrind): nothing was compared")
        return 0
    subprocess.run(["make", "-s", "-C", str(harness.ROOT / "perf"), "build/hot"], check=True)
    stored = json.loads(options.baseline.read_text()) if options.baseline.exists() else {}
    tools = instructions.tools()
    found = {
        name: round(instructions.count(command))
        for name, command in instructions.cases().items()
        if not options.only or options.only in name
    }
    tolerance = TOLERANCE if stored.get("tools") == tools else TOLERANCE_OTHER_TOOLS
    if stored and stored.get("tools") != tools:
        print(f"the baseline was made with {stored['tools']}: tolerance {tolerance:.0%}")
    failed = judge("instructions", found, stored.get("instructions", {}), tolerance)
    timed: dict[str, float] = stored.get("micro", {})
    if options.micro:
        timed = {name: round(value, 5) for name, value in micro.times().items()}
        failed += judge("units", timed, stored.get("micro", {}), TOLERANCE_MICRO)
    if options.update:
        kept = {**stored.get("instructions", {}), **found}
        document = {"tools": tools, "instructions": kept, "micro": timed}
        options.baseline.write_text(json.dumps(document, indent=1) + "\n")
        print(f"wrote {options.baseline}")
        return 0
    if failed:
        print(f"costs more than the baseline allows: {', '.join(failed)}")
    return 1 if failed else 0


def judge(
    unit: str, found: dict[str, float], stored: dict[str, float], tolerance: float
) -> list[str]:
    """Print each case beside its baseline; the names of those that cost too much."""
    failed = []
    for name, value in found.items():
        before = stored.get(name)
        ratio = value / before if before else 1.0
        verdict = "new" if before is None else f"{ratio - 1:+.1%}"
        if ratio > 1 + tolerance:
            failed.append(name)
            verdict += "  TOO MUCH"
        print(f"{name:34} {value:14,.5g} {unit}  {verdict}")
    return failed


sys.exit(main())
