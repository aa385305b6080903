"""Produce in large batches against a bare receive + CRC + append loop.

Targets (DESIGN 10): throughput >= 0.75 of the bare loop's, CPU per GB <= 1.35 of it.
"""

import functools

import harness

# (records, bytes of each): batches of 64 KiB and of 1 MB
BATCHES = ((64, 1000), (1000, 1000))
CONNECTIONS = 4
IN_FLIGHT = 4
BYTES_MAX = 2_000_000_000
# The bare loop appends to fresh pages, too: writing the same gibibyte again costs a tenth of it on
# a virtual machine, whose host hands out memory at first touch.
NEVER_WRAP = 1 << 40


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    harness.build()
    for records, record_bytes in BATCHES:
        measure = functools.partial(
            harness.load,
            connections=CONNECTIONS,
            inflight=IN_FLIGHT,
            records=records,
            record_bytes=record_bytes,
            partitions=CONNECTIONS,
            seconds=options.seconds,
            bytes_max=BYTES_MAX,
        )
        with (
            harness.scratch(options) as root,
            harness.limit("append", root, wrap=NEVER_WRAP) as bare,
            harness.broker(options, root / "broker", CONNECTIONS) as broker,
        ):
            name = f"produce {records * record_bytes // 1000} kB batches"
            rows = harness.interleaved(
                name,
                options.rounds,
                [functools.partial(measure, bare), functools.partial(measure, broker)],
            )
        harness.compare(name, rows[1], rows[0], ("mb_per_s", "cpu_s_per_gb"))


main()
