"""Consume in shapes that make many slices: beside other trees and the bare sendfile loop.

`--other DIR ...` names further trees (what is compared with: `git worktree add`, and build it). The
same topic is written to each broker in turn, and all of them are read in turns, so that what the
page cache is made of is alike.
"""

import contextlib
import functools
from pathlib import Path

import harness

FETCH_BYTES = 1 << 20
FILL_BYTES = 300_000_000
SEND_BUFFER_BYTES = 102_400
CONNECTIONS = 2
# name: partitions, records of a batch, partitions of a fetch
SHAPES = {
    "1x64k": (1, 64, 1),
    "6x64k": (6, 64, 6),
    "6x4k": (6, 4, 6),
    "100x16k": (100, 16, 100),
}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--other", type=Path, nargs="*", default=[], help="further trees, built")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument(
        "--congestion",
        nargs="+",
        default=["reno"],
        help="of the bare loops; the first is compared with",
    )
    options = parser.parse_args()
    harness.build()
    trees = [*options.other, harness.ROOT]
    for shape in options.shapes:
        partitions, records, per_request = SHAPES[shape]
        with harness.scratch(options) as root, contextlib.ExitStack() as stack:
            loops = []
            for algorithm in options.congestion:
                bare = harness.limit(
                    "sendfile",
                    root,
                    bytes=FETCH_BYTES,
                    wrap=256 << 20,
                    sndbuf=SEND_BUFFER_BYTES,
                    chunk=records * 1016 - 1,
                    congestion=algorithm,
                )
                loops.append(stack.enter_context(bare))
            read = functools.partial(
                harness.load,
                api="fetch",
                connections=CONNECTIONS,
                inflight=1,
                fetch_bytes=FETCH_BYTES,
                seconds=options.seconds,
            )
            measurements = [functools.partial(read, bare) for bare in loops]
            for tree in trees:
                broker = stack.enter_context(
                    harness.broker(options, root / tree.name, partitions, tree)
                )
                harness.load(
                    broker,
                    connections=4,
                    partitions=partitions,
                    cycle=1,
                    inflight=4,
                    records=records,
                    record_bytes=1000,
                    seconds=60,
                    bytes_max=FILL_BYTES,
                )
                measurements.append(
                    functools.partial(read, broker, partitions=partitions, per_request=per_request)
                )
            rows = harness.interleaved(f"consume {shape}", options.rounds, measurements)
            for tree, row in zip(trees, rows[len(loops) :], strict=True):
                harness.compare(
                    f"consume {shape} {tree.name}", row, rows[0], ("mb_per_s", "cpu_s_per_gb")
                )


main()
