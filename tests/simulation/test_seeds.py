"""Whole clusters on a virtual clock: the same seed goes the same way, and promises are kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmq.testing.sim import options_of, run_seed

SEEDS = Path(__file__).with_name("seeds.txt")


def simulate(*arguments: str, timeout_s: float) -> str:
    """Run the command line; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "fastmq.testing.sim", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_seed_goes_the_same_way_twice():
    options = options_of(1)._replace(faulty_s=12.0, every_s=2.0, partitions=1)
    first, second = run_seed(1, options), run_seed(1, options)
    assert first.problems == second.problems == ()
    assert first.digest == second.digest
    assert first.acknowledged > 20
    assert first.counts["fault"] > 3
    assert run_seed(2, options).digest != first.digest


@pytest.mark.slow
def test_a_hundred_seeds_keep_every_promise():
    told = simulate("--file", str(SEEDS), "--count", "100", "--fresh", "50", timeout_s=600)
    print(told)
