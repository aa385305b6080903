"""Small produce requests over many connections, against a bare epoll echo and trio's.

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
            harness.yardstick(trio_echo, "trio wait_readable echo") as slow,
            harness.broker(options, root / "broker") as broker,
        ):
            name = f"small requests {connections} x {inflight}"
            rows = harness.interleaved(
                name,
                options.rounds,
                [functools.partial(measure, target) for target in (bare, slow, broker)],
            )
        figures = ("requests_per_s", "cpu_us_per_request")
        harness.compare(f"{name} to bare echo", rows[2], rows[0], figures)
        harness.compare(f"{name} to trio echo", rows[2], rows[1], figures)


main()
