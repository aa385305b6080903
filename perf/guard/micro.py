"""Times of the pyperf micro-benchmarks, in units of a loop of plain Python on the same machine.

The unit takes out most of a machine's speed, so a stored baseline says something elsewhere, too.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("codec.py", "records.py")
TIMEOUT_S = 240
UNIT_NAME = "unit: a loop of plain Python"


def times() -> dict[str, float]:
    """Median of each benchmark in units.

    Raises:
        subprocess.CalledProcessError: a script failed.
    """
    import pyperf

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for script in (Path(__file__).resolve(), *_micro()):
            output = Path(scratch) / f"{script.stem}.json"
            command = [sys.executable, str(script), "--fast", "--quiet", "-o", str(output)]
            subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
            for bench in pyperf.BenchmarkSuite.load(str(output)).get_benchmarks():
                # The lowest: whoever else runs on the machine only makes it slower.
                found[bench.get_name()] = min(bench.get_values())
    unit = found.pop(UNIT_NAME)
    return {name: value / unit for name, value in found.items()}


def _micro() -> list[Path]:
    return [ROOT / "perf" / "micro" / script for script in SCRIPTS]


def _unit() -> float:
    return statistics.fsum(i * 0.5 for i in range(1000))


if __name__ == "__main__":
    import pyperf

    pyperf.Runner().bench_func(UNIT_NAME, _unit)
