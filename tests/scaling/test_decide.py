"""Decisions of the autoscaler: prompt upwards, slow downwards, still in between."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmq.scaling import Autoscaler, Observation, Policy

POLICY = Policy(minimum=1, maximum=8, up_after_s=5, down_after_s=60, cool_down_s=15)


class Run:
    """Decides once a second; what is decided runs at once."""

    def __init__(self, policy=POLICY, running=1):
        self.machine = Autoscaler(policy)
        self.now_s = 0.0
        self.running = running
        self.changes = []
        self.partitions = 0

    def see(
        self,
        seconds,
        wanted,
        *,
        lagging=16,
        lag=100_000,
        partitions=16,
        wanted_partitions=0,
        known=True,
    ):
        for _ in range(seconds):
            self.now_s += 1
            seen = Observation(lag, wanted, lagging, partitions, wanted_partitions)
            seen = seen if known else None
            decision = self.machine.decide(self.now_s, self.running, seen)
            if decision.consumers != self.running:
                assert decision.reason
                self.changes.append((self.now_s, decision.consumers))
                self.running = decision.consumers
            self.partitions = decision.partitions or self.partitions
        return self.running


def test_more_are_started_when_more_are_wanted_for_a_while():
    run = Run()
    assert run.see(5, wanted=2) == 1
    assert run.see(1, wanted=2) == 2
    assert run.see(300, wanted=2) == 2


def test_at_most_doubled_with_a_pause_between():
    run = Run()
    run.see(120, wanted=8)
    assert [count for _, count in run.changes] == [2, 4, 8]
    times = [when for when, _ in run.changes]
    assert all(b - a >= 15 for a, b in itertools.pairwise(times))


def test_a_short_peak_starts_nobody():
    run = Run()
    for _ in range(20):
        run.see(4, wanted=8)
        run.see(1, wanted=1)
    assert run.changes == []


def test_fewer_only_after_a_long_quiet_and_one_by_one():
    run = Run(running=4)
    assert run.see(59, wanted=1) == 4
    run.see(400, wanted=1)
    assert [count for _, count in run.changes] == [3, 2, 1]
    times = [when for when, _ in run.changes]
    assert all(b - a >= 60 for a, b in itertools.pairwise(times))


def test_a_need_that_comes_and_goes_keeps_what_runs():
    run = Run(running=4)
    for _ in range(20):
        run.see(30, wanted=1)
        run.see(3, wanted=4)
    assert run.changes == []


def test_never_more_than_lag():
    run = Run()
    assert run.see(200, wanted=8, lagging=3) == 3
    assert run.see(50, wanted=8, lagging=1) == 3  # those that run are not stopped for it


def test_minimum_and_maximum_hold():
    run = Run(running=0)
    assert run.see(1, wanted=0, lag=0) == 1
    assert run.see(500, wanted=100) == 8
    assert run.see(2000, wanted=0, lag=0) == 1
    run.running = 12
    assert run.see(1, wanted=12) == 8


def test_down_to_nobody_where_that_is_allowed():
    run = Run(Policy(minimum=0, maximum=4), running=1)
    assert run.see(100, wanted=0, lag=0, lagging=0) == 0
    assert run.see(30, wanted=1, lagging=1) == 1


def test_nothing_known_changes_nothing():
    run = Run(running=3)
    assert run.see(1000, wanted=8, known=False) == 3
    run.see(4, wanted=8)
    run.see(1, wanted=8, known=False)
    assert run.see(5, wanted=8) == 3  # what was wanted before the gap does not count


def test_little_lag_wants_no_further_consumer():
    run = Run(Policy(minimum=1, maximum=8, lag_min=1000))
    assert run.see(100, wanted=4, lag=999) == 1
    assert run.see(100, wanted=4, lag=1000) == 4


def test_partitions_are_added_only_when_told():
    # The broker wants no more consumers than there are busy partitions, but would.
    seen = {"wanted": 2, "lagging": 2, "partitions": 2, "wanted_partitions": 60}
    run = Run(Policy(minimum=1, maximum=8, add_partitions=True))
    run.see(100, **seen)
    assert (run.running, run.partitions) == (2, 8)
    assert run.see(100, **{**seen, "lagging": 8, "partitions": 8}) == 8
    run = Run()
    run.see(100, **seen)
    assert (run.running, run.partitions) == (2, 0)


@pytest.mark.parametrize(
    "values",
    [{"minimum": 3, "maximum": 2}, {"minimum": -1}, {"maximum": 0, "minimum": 0}, {"lag_min": -1}],
)
def test_nonsense_is_refused(values):
    with pytest.raises(ValueError, match="fit together|0 or more"):
        Policy(**values)


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 10**6), st.booleans()),
        max_size=400,
    )
)
def test_whatever_is_seen_changes_are_few_and_within_bounds(rows):
    run = Run(running=1)
    for wanted, lagging, lag, known in rows:
        before = run.running
        run.see(1, wanted, lagging=lagging, lag=lag, known=known)
        assert 1 <= run.running <= 8
        assert run.running <= max(before, 1, lagging)
        assert run.running >= before - 1
    times = [when for when, _ in run.changes]
    assert all(b - a >= 15 for a, b in itertools.pairwise(times))
