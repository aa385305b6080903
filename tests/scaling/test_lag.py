"""Estimates of lag, from looks that a broker could have had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmq.scaling import GroupSample, LagEstimator, OffsetSample
from fastmq.scaling.history import EndHistory, Rate


class Broker:
    """Looks every five seconds at one group that reads partitions of one topic."""

    def __init__(self, partitions=1, members=1, target_s=60.0):
        self.estimator = LagEstimator(target_s)
        self.now_ms = 1_000_000
        self.members = members
        self.ends = [0.0] * partitions
        self.committed = [0.0] * partitions

    def run(self, seconds, produce=0.0, consume=0.0):
        """Let records come and go at rates of all partitions together; return the last look."""
        seen = None
        for _ in range(max(seconds // 5, 1)):
            self.now_ms += 5000
            for index in range(len(self.ends)):
                self.ends[index] += produce * 5 / len(self.ends)
                self.committed[index] = min(
                    self.committed[index] + consume * 5 / len(self.ends), self.ends[index]
                )
            seen = self.look()
        return seen

    def look(self, start=0):
        rows = [
            OffsetSample("t", index, int(self.committed[index]), start, int(end))
            for index, end in enumerate(self.ends)
        ]
        samples = [GroupSample("g", "Stable", self.members, rows)]
        return self.estimator.observe(self.now_ms, samples)["g"]


def test_a_group_that_keeps_up_has_no_lag():
    seen = Broker(partitions=4).run(600, produce=100, consume=1000)
    assert (seen.lag, seen.lag_seconds, seen.eta_seconds, seen.lagging_partitions) == (0, 0, 0, 0)
    assert seen.produce_rate == pytest.approx(100, rel=0.01)
    assert seen.consume_rate == pytest.approx(100, rel=0.01)
    assert seen.busy_partitions == 4


def test_lag_in_seconds_is_the_age_of_the_next_record():
    broker = Broker()
    broker.run(300, produce=100, consume=100)
    seen = broker.run(60, produce=100, consume=0)
    assert seen.lag == 6000
    assert seen.lag_seconds == pytest.approx(60, abs=5)
    seen = broker.run(40, produce=0, consume=0)
    assert seen.lag == 6000
    assert seen.lag_seconds == pytest.approx(100, abs=5)


def test_the_time_to_zero_is_the_lag_by_its_shrinking():
    broker = Broker()
    broker.run(5, produce=20_000)
    seen = broker.run(300, produce=100, consume=300)
    assert seen.eta_seconds == pytest.approx(seen.lag / 200, rel=0.05)


def test_a_lag_that_grows_has_no_end():
    seen = Broker().run(300, produce=200, consume=100)
    assert seen.eta_seconds is None


def test_what_is_older_than_the_history_is_asked_for_once():
    broker = Broker()
    broker.ends[0] = 1000
    broker.look()
    estimator = broker.estimator
    assert estimator.wanted_times == [("g", "t", 0, 0)]
    estimator.note_time("g", "t", 0, 0, broker.now_ms - 3_600_000)
    seen = broker.run(5)
    assert seen.lag_seconds == pytest.approx(3605)
    assert estimator.wanted_times == []
    broker.run(5, consume=2)
    assert estimator.wanted_times == [("g", "t", 0, 10)]


def test_what_retention_deleted_is_no_lag():
    broker = Broker()
    broker.ends[0] = 1000
    assert broker.look(start=900).lag == 100


def test_what_was_never_committed_counts_whole_and_is_no_consumption():
    broker = Broker(partitions=2)
    broker.ends, broker.committed = [100, 100], [50, -1]
    broker.look()
    seen = broker.run(5)
    assert seen.lag == 150
    broker.committed[1] = 90
    seen = broker.run(5)
    assert (seen.lag, seen.consume_rate) == (60, 0)


def test_an_offset_that_is_set_back_is_no_consumption():
    broker = Broker()
    broker.run(100, produce=100, consume=100)
    broker.committed[0] = 0
    seen = broker.run(5, produce=100, consume=0)
    assert seen.consume_rate > 0
    assert seen.lag == broker.ends[0]


def test_a_topic_that_was_made_anew_begins_anew():
    broker = Broker()
    broker.run(100, produce=100, consume=50)
    broker.ends[0], broker.committed[0] = 10, 0
    seen = broker.run(5)
    assert seen.lag == 10
    assert seen.produce_rate >= 0


def test_groups_and_partitions_that_are_gone_are_forgotten():
    broker = Broker(partitions=8)
    broker.run(100, produce=100, consume=50)
    assert broker.estimator.observe(broker.now_ms + 5000, []) == {}
    assert not broker.estimator._groups
    assert not broker.estimator._logs


# Wanted consumers.


def test_nothing_to_do_wants_nobody():
    broker = Broker(partitions=4, members=3)
    broker.run(10, produce=1, consume=1)
    assert broker.run(600).wanted_consumers == 0


def test_a_group_without_members_and_with_lag_wants_one():
    broker = Broker(partitions=4, members=0)
    assert broker.run(30, produce=100).wanted_consumers == 1


def test_a_saturated_member_shows_how_many_are_wanted():
    broker = Broker(partitions=16, members=1)
    # One does 100 per second; 500 come.
    seen = broker.run(600, produce=500, consume=100)
    assert seen.wanted_consumers == 16  # and the lag of ten minutes is to go in one
    broker.ends = list(broker.committed)
    broker.run(300, produce=80, consume=100)
    seen = broker.run(5, produce=450, consume=100)
    assert 2 <= seen.wanted_consumers <= 6


def test_never_more_than_the_busy_partitions():
    broker = Broker(partitions=2, members=2)
    seen = broker.run(600, produce=500, consume=100)
    assert seen.wanted_consumers == 2
    assert seen.wanted_partitions > 2


def test_a_group_that_does_not_get_there_wants_one_more():
    broker = Broker(partitions=8, members=2)
    seen = broker.run(60, produce=500, consume=0)
    assert seen.wanted_consumers == 3


def test_idle_members_are_given_up_one_by_one():
    broker = Broker(partitions=8, members=5)
    assert broker.run(300, produce=100, consume=1000).wanted_consumers == 4


@given(
    st.lists(
        st.tuples(
            st.integers(1, 100_000),
            st.integers(0, 4),
            st.lists(
                st.tuples(
                    st.integers(0, 3),
                    st.integers(-1, 10**12),
                    st.integers(0, 10**12),
                    st.integers(0, 10**12),
                ),
                max_size=4,
                unique_by=lambda row: row[0],
            ),
        ),
        max_size=60,
    )
)
def test_numbers_stay_sane_whatever_is_seen(looks):
    estimator, now_ms = LagEstimator(), 0
    for after_ms, members, rows in looks:
        now_ms += after_ms
        offsets = [OffsetSample("t", *row) for row in rows]
        seen = estimator.observe(now_ms, [GroupSample("g", "Stable", members, offsets)])["g"]
        assert seen.lag >= 0
        assert seen.lag_seconds >= 0
        assert seen.consume_rate >= 0
        assert seen.produce_rate >= 0
        assert seen.eta_seconds is None or seen.eta_seconds >= 0
        assert 0 <= seen.wanted_consumers <= len(rows)
        assert len(estimator.wanted_times) <= len(rows)


# History and rates.


@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 1000)), min_size=2, max_size=300))
def test_the_history_brackets_every_offset_it_knows(steps):
    history, now_ms, end = EndHistory(), 0, 0
    times = {}
    for after_ms, grown in steps:
        before_ms = now_ms
        now_ms += after_ms
        times.update(dict.fromkeys(range(end, end + grown), (before_ms, now_ms)))
        end += grown
        history.add(now_ms, end)
    assert len(history) <= 48
    for offset in list(times)[-200:]:
        found = history.time_of(offset)
        assert found is None or 0 <= found <= now_ms
    if len(steps) <= 40:
        for offset, (earliest, latest) in times.items():
            found = history.time_of(offset)
            assert found is None or earliest <= found <= latest
    assert history.time_of(end) is None


def test_a_history_that_is_full_still_knows_the_beginning():
    history = EndHistory()
    for number in range(2000):
        history.add(number * 5000, number * 10)
    assert history.time_of(15) == pytest.approx(7500, rel=0.5)
    assert history.time_of(19_985) == pytest.approx(1998.5 * 5000, rel=0.01)


def test_a_rate_follows_within_a_minute_and_a_half():
    rate = Rate(30.0)
    assert rate.per_s is None
    for _ in range(100):
        rate.add(50, 5)
    assert rate.per_s == pytest.approx(10)
    for _ in range(18):
        rate.add(0, 5)
    assert rate.per_s < 0.6
