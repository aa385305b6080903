"""What a seed means: the cluster, the load and the faults of a run."""

import random
from typing import NamedTuple

__all__ = ["FAULTS", "NEW_FAULTS", "Options", "options_of"]

FAULTS = (
    "kill",
    "power",
    "stop",
    "partition",
    "break",
    "slow-network",
    "slow-disk",
    "full-disk",
    "bad-disk",
    "clock",
    "store-down",
    "store-cut",
    "store-lossy",
    "store-compact",
)
# Drawn apart, so that those above stay what they are when there is a new one.
NEW_FAULTS = ("pause", "late", "move")


class Options(NamedTuple):
    """One run.

    Attributes:
        flush: `fastmq.flush` of the brokers.
        mode: "safety": faults to the end, then everything is healed; "liveness": a part of the
            cluster stays broken and the rest must go on.
        faults: kinds that happen.
        every_s: time between two faults, on average.
        faulty_s: virtual time with faults.
        seconds: virtual time in all, at most.
    """

    seed: int
    brokers: int
    partitions: int
    producers: int
    members: int
    flush: str
    mode: str
    faults: tuple[str, ...]
    every_s: float
    faulty_s: float
    segment_ms: int

    def text(self) -> str:
        """For people."""
        return (
            f"{self.mode}, {self.brokers} brokers, {self.partitions} partitions, "
            f"{self.producers} producers, {self.members} group members, flush={self.flush}, "
            f"segments of {self.segment_ms} ms, faults every {self.every_s:.1f} s for "
            f"{self.faulty_s:.0f} s: {' '.join(self.faults) or 'none'}"
        )


def options_of(seed: int) -> Options:
    """Return the run that a seed stands for."""
    rng = random.Random(seed)
    kinds = tuple(kind for kind in FAULTS if rng.random() < 0.5)
    later = random.Random(seed ^ 0xFA17)
    kinds += tuple(kind for kind in NEW_FAULTS if later.random() < 0.4)
    spare = 0.5 if "move" in kinds else 0.85
    return Options(
        seed=seed,
        brokers=3 if rng.random() < spare else 4,
        partitions=rng.choice((1, 2, 3)),
        producers=rng.choice((1, 2)),
        members=rng.choice((0, 2, 3)),
        flush=rng.choice(("ack", "replicated")),
        mode="liveness" if rng.random() < 0.3 else "safety",
        faults=kinds,
        every_s=rng.uniform(1.5, 6.0),
        faulty_s=rng.uniform(25.0, 40.0),
        segment_ms=rng.choice((500, 5_000, 604_800_000)),
    )
