"""The regression guard tells a change from none; the stored figures are judged by hand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "perf" / "guard"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("cc", "make", "valgrind")),
        reason="counting instructions needs cc, make and valgrind",
    ),
]
CASE = "crc32c 64 KiB"


def guard(baseline, *args):
    command = [sys.executable, str(SCRIPT), "--only", CASE, "--baseline", str(baseline), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def test_the_same_tree_passes_and_a_dearer_one_fails(tmp_path):
    baseline = tmp_path / "baseline.json"
    made = guard(baseline, "--update")
    assert made.returncode == 0, made.stderr
    assert guard(baseline).returncode == 0

    stored = json.loads(baseline.read_text())
    assert stored["instructions"][CASE] > 1000
    stored["instructions"][CASE] *= 0.9
    baseline.write_text(json.dumps(stored))
    failed = guard(baseline)
    assert failed.returncode == 1
    assert f"costs more than the baseline allows: {CASE}" in failed.stdout


def test_every_hot_function_has_a_stored_baseline():
    stored = json.loads((SCRIPT / "baseline.json").read_text())
    command = ["make", "-s", "-C", str(SCRIPT.parent), "build/hot"]
    subprocess.run(command, check=True, timeout=200)
    hot = [str(SCRIPT.parent / "build" / "hot")]
    for program in (hot, [sys.executable, str(SCRIPT / "hot_python.py")]):
        listed = subprocess.run([*program, "--list"], capture_output=True, text=True, check=True)
        for name in listed.stdout.splitlines():
            assert stored["instructions"][name] > 0
