"""Consume in 1 MiB fetches against pread + send, and six partitions against one.

Targets (DESIGN 10): CPU per GB <= 0.70 of pread + send; six partitions <= 2 of one.
"""

import functools

import harness

PARTITIONS = 6
CONNECTIONS = 2
FETCH_BYTES = 1 << 20
FILL_BYTES = 600_000_000


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    harness.build()
    fetch = functools.partial(
        harness.load,
        api="fetch",
        connections=CONNECTIONS,
        inflight=1,
        fetch_bytes=FETCH_BYTES,
        seconds=options.seconds,
    )
    with (
        harness.scratch(options) as root,
        harness.limit("pread", root, bytes=FETCH_BYTES, wrap=256 << 20) as bare,
        harness.broker(options, root / "broker", PARTITIONS) as broker,
    ):
        # 16 kB batches, as a busy producer with small records makes them
        harness.load(
            broker,
            connections=PARTITIONS,
            partitions=PARTITIONS,
            inflight=4,
            records=16,
            record_bytes=1000,
            seconds=60,
            bytes_max=FILL_BYTES,
        )
        rows = harness.interleaved(
            "consume",
            options.rounds,
            [
                functools.partial(fetch, bare),
                functools.partial(fetch, broker),
                functools.partial(fetch, broker, partitions=PARTITIONS, per_request=PARTITIONS),
            ],
        )
    harness.compare("consume 1 MiB", rows[1], rows[0], ("mb_per_s", "cpu_s_per_gb"))
    harness.compare("consume six partitions", rows[2], rows[1], ("mb_per_s", "cpu_s_per_gb"))


main()
