"""Decompression bombs cost their sender more than us: <= 64 MiB of memory and <= 1 s each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY_KIB_MAX = 64 * 1024
SECONDS_MAX = 1.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from /proc")
def test_forty_bombs_are_refused_cheaply():
    script = Path(__file__).with_name("bombs.py")
    run = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == 40
    faults = [
        result
        for result in results
        if result["outcome"] not in {"MESSAGE_TOO_LARGE", "CORRUPT_MESSAGE"}
        or result["seconds"] > SECONDS_MAX
        or result["grown_kib"] > MEMORY_KIB_MAX
    ]
    assert not faults
    # The measurement itself works: filling the limit must be seen.
    assert max(result["grown_kib"] for result in results) > 8 * 1024
