"""Instructions per operation of the hot functions, counted by valgrind's callgrind.

They do not depend on how busy the machine is, so a change of a few per cent shows. They depend on
the compiler and on Python's version: a baseline of other ones is compared with a wide tolerance.
"""

import re
import subprocess
import sys
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
# Enough for start-up noise to vanish beside the difference, few enough for valgrind.
COUNTS = {"hot": (200, 600), "python": (100, 300)}
TIMEOUT_S = 120
_COLLECTED = re.compile(r"Collected : (\d+)")


def cases() -> dict[str, list[str]]:
    """The command of each case, without the count."""
    found: dict[str, list[str]] = {}
    hot = [str(harness.BUILD / "hot")]
    python = [sys.executable, str(HERE / "hot_python.py")]
    for command in (hot, python):
        listed = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True)
        for name in listed.stdout.splitlines():
            found[name] = [*command, name]
    return found


def count(command: list[str]) -> float:
    """Instructions per operation: the slope between two counts.

    Raises:
        RuntimeError: the program failed under valgrind.
    """
    low, high = COUNTS["hot" if command[0].endswith("hot") else "python"]
    return (_collected(command, high) - _collected(command, low)) / (high - low)


def _collected(command: list[str], times: int) -> int:
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        [*valgrind, *command, str(times)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "HOME": "/tmp"},
    )
    found = _COLLECTED.search(done.stderr)
    if done.returncode != 0 or not found:
        raise RuntimeError(f"{command}: {done.stderr[-500:]}")
    return int(found[1])


def tools() -> dict[str, str]:
    """What the counts depend on."""
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    return {"cc": compiler.stdout.partition("\n")[0], "python": sys.version.split()[0]}
