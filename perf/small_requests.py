"""Small produce requests over many connections, against bare loops and trio's echo.

`bare echo` receives and sends, `bare append` computes a CRC and writes between the two: the system
calls that a request costs at least.

Targets (DESIGN 10), at 256 connections: requests/s >= 0.60 of the bare echo and >= 2 of trio's,
CPU per request <= 1.6 of the bare echo's.
"""

import functools
import sys

import harness

SHAPES = ((256, 1), (16, 16))
RECORD_BYTES = 100


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    harness.build()
    trio_echo = [sys.executable, str(harness.ROOT / "perf" / "limits" / "trio_echo.py")]
    for connections, inflight in SHAPES:
        measure = functools.partial(
            harness.load,
            connections=connections,
            inflight=inflight,
            record_bytes=RECORD_BYTES,
            seconds=options.seconds,
        )
        with (
            harness.scratch(options) as root,
            harness.limit("echo", root) as bare,
            harness.limit("append", root, wrap=1 << 40) as append,
            harness.yardstick(trio_echo, "trio wait_readable echo") as slow,
            harness.broker(options, root / "broker") as broker,
        ):
            name = f"small requests {connections} x {inflight}"
            rows = harness.interleaved(
                name,
                options.rounds,
                [functools.partial(measure, target) for target in (bare, append, slow, broker)],
            )
        figures = ("requests_per_s", "cpu_us_per_request")
        harness.compare(f"{name} to bare echo", rows[3], rows[0], figures)
        harness.compare(f"{name} to bare append", rows[3], rows[1], figures)
        harness.compare(f"{name} to trio echo", rows[3], rows[2], figures)


main()
