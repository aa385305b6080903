"""An fsync before every answer: one producer, and sixteen, against bare pwrite + fdatasync.

Targets (DESIGN 10): one producer's p50 <= 2 of a bare fdatasync; 16 producers of 1 kB records
>= 300,000 records/s with p99 < 20 ms.
"""

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import harness

PRODUCERS = 16


def bare(root: Path, seconds: int) -> dict[str, Any]:
    """The yardstick: one append after the other."""
    command = [str(harness.BUILD / "fsync"), "--file", str(root / "fsync.dat")]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"target": "bare fdatasync", **json.loads(done.stdout)}


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    options.flush = "ack"
    harness.build()
    with (
        harness.scratch(options) as root,
        harness.broker(options, root / "broker", PRODUCERS) as broker,
    ):
        one = functools.partial(
            harness.load,
            broker,
            connections=1,
            record_bytes=1000,
            seconds=options.seconds,
        )
        rows = harness.interleaved(
            "durable, one producer",
            options.rounds,
            [functools.partial(bare, root, options.seconds), one],
        )
        harness.compare("durable, one producer", rows[1], rows[0], ("p50_ms",))
        harness.interleaved(
            "durable, 16 producers of 16 kB batches",
            options.rounds,
            [
                functools.partial(
                    harness.load,
                    broker,
                    connections=PRODUCERS,
                    partitions=PRODUCERS,
                    records=16,
                    inflight=5,
                    record_bytes=1000,
                    seconds=options.seconds,
                )
            ],
        )


main()
