"""The follower's bucket: what it lets through in the long run, and who is listed."""

import random

import pytest

from fastmq.replica import Throttle, is_listed


@pytest.mark.parametrize("seed", range(20))
def test_no_more_than_the_rate_gets_through_but_for_one_answer(seed):
    rng = random.Random(seed)
    rate, answer = rng.randint(1, 1_000_000), rng.randint(1, 1_000_000)
    throttle, now_s, taken = Throttle(), 100.0, 0
    throttle.set_rate(rate, now_s)
    for _ in range(50):
        now_s += throttle.wait_s(now_s)
        assert throttle.wait_s(now_s) < 1e-6
        size = rng.randint(1, answer)
        throttle.take(size, now_s)
        taken += size
        assert taken <= rate * (now_s - 100.0 + 1) + answer + 1
        now_s += rng.choice((0, rng.random()))
    assert taken >= rate * (now_s - 102.0) * 0.2 or throttle.wait_s(now_s) == 0


def test_without_a_rate_nobody_waits():
    throttle = Throttle()
    throttle.take(1 << 38, 1.0)
    assert throttle.wait_s(1.0) == 0


def test_another_rate_forgives_the_debt():
    throttle = Throttle()
    throttle.set_rate(10, 1.0)
    throttle.take(1000, 1.0)
    assert throttle.wait_s(1.0) == pytest.approx(99)
    throttle.set_rate(11, 1.0)
    assert throttle.wait_s(1.0) == 0


def test_replicas_are_listed_by_partition_and_broker_or_all():
    assert is_listed(("*",), 3, 1)
    assert is_listed(("0:1", "3:1"), 3, 1)
    assert not is_listed(("3:2", "1:3"), 3, 1)
    assert not is_listed((), 0, 0)
