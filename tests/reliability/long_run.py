"""The fault tests of clusters with larger figures, round after round; goes on where it stopped.

Each round has a seed of its own, which is printed and repeats it. What became of a round is a line
of JSON in `build/rel-<suite>.jsonl`; rounds that are there already are not run again, so a run may
be ended at any time and called again. The exit code is 1 when a round failed.

    python tests/reliability/long_run.py faults --rounds 15 --seed 1
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# For each suite its file and the figures of one round; a round takes two to ten minutes.
SUITES = {
    "faults": (
        "test_cluster_faults.py",
        {"KILLS": 10, "PAUSES": 20, "CUTS": 26, "ROUNDS": 2, "SPELLS": 40},
    ),
    "disks": ("test_cluster_disks.py", {"POWER_CUTS": 6, "LAST_REPLICAS": 4, "SPELLS": 12}),
    "store": (
        "test_cluster_store.py",
        {"STORE_ROUNDS": 2, "STORE_OUTAGE_S": 60, "JUMP_ROUNDS": 20},
    ),
}


def run_round(suite: str, seed: int) -> dict[str, object]:
    """One round in a pytest of its own."""
    file, figures = SUITES[suite]
    env = {**os.environ, "REL_SEED": str(seed)}
    env |= {f"REL_{name}": os.environ.get(f"REL_{name}", str(n)) for name, n in figures.items()}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-m",
        "slow",
        f"tests/reliability/{file}",
    ]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 0:
        settings = " ".join(f"{key}={value}" for key, value in env.items() if key[:4] == "REL_")
        print(done.stdout[-8000:], f"\nrepeat it: {settings} {' '.join(command)}", flush=True)
    return {
        "seed": seed,
        "passed": done.returncode == 0,
        "seconds": round(time.monotonic() - began),
        "said": [line.strip() for line in lines if "seed" in line or "kill:" in line],
    }


def main() -> int:
    """Run what is missing of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    args = parser.parse_args()
    path = ROOT / "build" / f"rel-{args.suite}.jsonl"
    path.parent.mkdir(exist_ok=True)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    seeds = {row["seed"] for row in known}
    for seed in range(args.seed, args.seed + args.rounds):
        if seed in seeds:
            continue
        row = run_round(args.suite, seed)
        known.append(row)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"seed {seed}: {'passed' if row['passed'] else 'FAILED'} in {row['seconds']} s")
        print("\n".join(f"    {line}" for line in row["said"]), flush=True)
    failed = [row["seed"] for row in known if not row["passed"]]
    print(f"{len(known)} rounds, failed: {failed or 'none'} ({path})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
