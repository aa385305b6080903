"""Runs that have found something, small enough for every day; what a seed does changes in time."""

import pytest

from fastmq.testing.sim import options_of, run_seed


@pytest.mark.parametrize(
    ("seed", "faults", "brokers"),
    [
        # Entered anew after a pause, a broker led on what others led by then, and took records.
        pytest.param(9, ("pause",), 3, id="new session, old roles"),
        # A leader that was replaced while it stood still told readers to begin elsewhere.
        pytest.param(12, ("pause", "store-cut", "kill"), 3, id="out of range at an old leader"),
    ],
)
def test_a_run_that_broke_a_promise_keeps_it(seed, faults, brokers):
    options = options_of(seed)._replace(
        faults=faults,
        mode="safety",
        brokers=brokers,
        partitions=2,
        producers=1,
        members=0,
        flush="replicated",
        every_s=2.0,
        faulty_s=25.0,
    )
    assert run_seed(seed, options).problems == ()
