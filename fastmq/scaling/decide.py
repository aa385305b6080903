"""How many consumers should run: decisions that do not flap.

`Autoscaler.decide` takes what was observed and returns the number to run. Up quickly, down slowly:

* more wanted than run, for `up_after_s`: up to what is wanted, at most doubled, at most one for
  each partition that lags;
* fewer wanted than run, for all of `down_after_s`: one less, if nothing more was wanted meanwhile;
* anything within `cool_down_s` after a change: nothing, a rebalance has to settle first;
* nothing known (the broker does not answer): nothing;
* fewer run than `minimum`, more than `maximum`: put right at once.

A group whose consumers do not lag keeps them while their partitions are busy; `lagging` bounds only
how many are added. `partitions` says how many partitions would be wanted where consumers are short
of them.

Pure: time is handed in.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Autoscaler", "Decision", "Observation", "Policy"]

_WANTED_KEPT_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator sets.

    Attributes:
        minimum: consumers that always run, >= 0.
        maximum: never more, >= 1.
        up_after_s: for how long more must be wanted before one is started.
        down_after_s: for how long fewer must be wanted before one is stopped.
        cool_down_s: nothing is changed for so long after a change.
        lag_min: lag below this wants no further consumer.
        add_partitions: raise the number of partitions where it keeps the group from growing.
    """

    minimum: int = 1
    maximum: int = 8
    up_after_s: float = 5.0
    down_after_s: float = 60.0
    cool_down_s: float = 15.0
    lag_min: int = 0
    add_partitions: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise ValueError(f"--min {self.minimum} and --max {self.maximum} do not fit together")
        if min(self.up_after_s, self.down_after_s, self.cool_down_s, self.lag_min) < 0:
            raise ValueError("times and lags are 0 or more")


class Observation(NamedTuple):
    """What is known of the group.

    Attributes:
        lag: records.
        wanted: consumers, as the broker works out.
        lagging: partitions with lag.
        partitions: of the topics that lag, in all.
        wanted_partitions: consumers that would be wanted if each had a partition.
    """

    lag: int
    wanted: int
    lagging: int
    partitions: int
    wanted_partitions: int = 0


class Decision(NamedTuple):
    """What should be.

    Attributes:
        consumers: how many should run.
        reason: for people; empty when nothing changes.
        partitions: how many partitions the lagging topics should have in all; 0 = as they are.
    """

    consumers: int
    reason: str = ""
    partitions: int = 0


class Autoscaler:
    """The memory between decisions."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._more_since_s: float | None = None
        self._fewer_since_s: float | None = None
        self._changed_s: float | None = None
        # (time, wanted) within `down_after_s`.
        self._wanted: deque[tuple[float, int]] = deque(maxlen=_WANTED_KEPT_MAX)

    def decide(self, now_s: float, running: int, seen: Observation | None) -> Decision:
        """Return how many consumers should run.

        Args:
            now_s: monotonic.
            running: consumers that run, those that are stopping left out.
            seen: what was observed now, None when nothing is known.
        """
        policy = self._policy
        if running < policy.minimum:
            return self._change(now_s, Decision(policy.minimum, "fewer than the minimum run"))
        if running > policy.maximum:
            return self._change(now_s, Decision(policy.maximum, "more than the maximum run"))
        if seen is None:
            self._more_since_s = self._fewer_since_s = None
            return Decision(running)
        wanted = self._bounded(seen)
        self._remember(now_s, wanted)
        if wanted > running:
            self._fewer_since_s = None
            return self._maybe_up(now_s, running, wanted, seen)
        self._more_since_s = None
        if wanted < running:
            return self._maybe_down(now_s, running)
        self._fewer_since_s = None
        return Decision(running)

    def _bounded(self, seen: Observation) -> int:
        wanted = seen.wanted
        if self._policy.add_partitions:
            wanted = max(wanted, seen.wanted_partitions)
        if 0 < seen.lag < self._policy.lag_min:
            wanted = min(wanted, 1)
        return max(self._policy.minimum, min(wanted, self._policy.maximum))

    def _remember(self, now_s: float, wanted: int) -> None:
        self._wanted.append((now_s, wanted))
        while self._wanted[0][0] < now_s - self._policy.down_after_s:
            self._wanted.popleft()

    def _maybe_up(self, now_s: float, running: int, wanted: int, seen: Observation) -> Decision:
        if self._more_since_s is None:
            self._more_since_s = now_s
        if now_s - self._more_since_s < self._policy.up_after_s or self._is_cooling(now_s):
            return Decision(running)
        # A consumer without a partition of its own does nothing.
        target = min(wanted, max(2 * running, 1), max(seen.lagging, running))
        short = 0
        if self._policy.add_partitions and 0 < seen.partitions < wanted:
            short = wanted
        if target <= running and not short:
            return Decision(running)
        return self._change(
            now_s,
            Decision(
                max(target, running),
                f"{seen.lag} records behind in {seen.lagging} partitions, {wanted} wanted",
                short,
            ),
        )

    def _maybe_down(self, now_s: float, running: int) -> Decision:
        if self._fewer_since_s is None:
            self._fewer_since_s = now_s
        if now_s - self._fewer_since_s < self._policy.down_after_s or self._is_cooling(now_s):
            return Decision(running)
        most = max(wanted for _, wanted in self._wanted)
        if most >= running:
            return Decision(running)
        seconds = self._policy.down_after_s
        return self._change(
            now_s, Decision(running - 1, f"no more than {most} wanted for {seconds:g} s")
        )

    def _is_cooling(self, now_s: float) -> bool:
        changed_s = self._changed_s
        return changed_s is not None and now_s - changed_s < self._policy.cool_down_s

    def _change(self, now_s: float, decision: Decision) -> Decision:
        self._changed_s = now_s
        self._more_since_s = self._fewer_since_s = None
        return decision
