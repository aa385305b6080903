"""The comparison harness works: fastmq alone, tiny sizes. What it measures is not judged here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "perf" / "compare"

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("make") is None or shutil.which("taskset") is None,
    reason="the load generators need cc and make, pinning needs taskset",
)


def compare(output, *args, timeout_s):
    command = [sys.executable, str(SCRIPT), "--quick", "--no-install", "--output", str(output)]
    done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return json.loads((output / "compare.json").read_text())


def test_a_quick_comparison_writes_a_report(tmp_path):
    names = ["produce 1000B x6 batch 64 KiB acks=all", "consume 1000B x6 hot"]
    only = [word for name in names for word in ("--only", name)]
    found = compare(tmp_path, "--peers", "fastmq", *only, timeout_s=60)
    assert found["skipped"] == []
    assert set(found["summary"]) == set(names)
    for workload, peer in ((names[0], "fastmq"), (names[1], "fastmq"), (names[0], "limit")):
        figures = found["summary"][workload][peer]
        assert figures["rounds"] == 1
        assert figures["mb_per_s"][0] > 0
        assert figures["cpu_s_per_gb"][0] > 0
    assert found["peers"]["fastmq"]["settings"]["overrides"]["fastmq.flush"] == "never"
    table = (tmp_path / "compare.md").read_text()
    assert "throughput to receive-and-append" in table
    assert "| consume 1 KB, 6 partitions | fastmq |" in table


def test_a_run_goes_on_where_it_was_cut_short(tmp_path):
    names = ["limit memory", "start-up"]
    only = [word for name in names for word in ("--only", name)]
    done = {"workload": names[0], "peer": "limit", "round": 0, "memcpy_gb_per_s": 1.5}
    (tmp_path / "compare.progress.tmp").write_text(json.dumps([done]))
    found = compare(tmp_path, "--peers", "fastmq", *only, "--resume", timeout_s=60)
    assert found["summary"][names[0]]["limit"]["memcpy_gb_per_s"][0] == 1.5
    assert found["summary"][names[1]]["fastmq"]["start_s"][0] > 0
    assert not (tmp_path / "compare.progress.tmp").exists()


def test_unknown_workloads_measure_nothing_and_say_so(tmp_path):
    command = [sys.executable, str(SCRIPT), "--list", "--only", "no such workload"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no workload" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_workload_runs_against_fastmq(tmp_path):
    found = compare(tmp_path, "--peers", "fastmq", timeout_s=280)
    assert found["skipped"] == []
    assert {r["peer"] for r in found["results"]} == {"fastmq", "limit"}
    assert len(found["summary"]) == len(found["workloads"])
