"""One look at the lag of 2,000 groups with ten partitions each, the most that is looked at."""

import pyperf

from fastmq.scaling import GroupSample, LagEstimator, OffsetSample

GROUPS, PARTITIONS = 2_000, 10


class Looks:
    """Makes looks that differ as those of a busy broker do."""

    def __init__(self) -> None:
        self.estimator = LagEstimator()
        self.number = 0

    def look(self) -> None:
        self.number += 1
        end = self.number * 1000
        samples = [
            GroupSample(
                f"group-{group}",
                "Stable",
                3,
                [OffsetSample("topic", p, end - 500, 0, end) for p in range(PARTITIONS)],
            )
            for group in range(GROUPS)
        ]
        self.estimator.observe(self.number * 5000, samples)


def main() -> None:
    runner = pyperf.Runner()
    runner.bench_func("look at 20,000 committed offsets", Looks().look)


if __name__ == "__main__":
    main()
