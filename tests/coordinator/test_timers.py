"""Goal: a timer fires once, at the deadline set last, and stale entries do not pile up."""

import random

from fastmq.coordinator.timers import Timers


def _drain(timers: Timers[str], now_ms: int) -> list[str]:
    fired = []
    while (key := timers.pop_due(now_ms)) is not None:
        fired.append(key)
    return fired


def test_due_keys_come_in_order_of_their_deadlines() -> None:
    timers: Timers[str] = Timers()
    for key, when in (("c", 30), ("a", 10), ("b", 20)):
        timers.set(key, when)
    assert timers.next_deadline() == 10
    assert _drain(timers, 20) == ["a", "b"]
    assert timers.next_deadline() == 30


def test_a_timer_can_be_moved_both_ways_and_cancelled() -> None:
    timers: Timers[str] = Timers()
    timers.set("later", 10)
    timers.set("later", 50)
    timers.set("sooner", 90)
    timers.set("sooner", 5)
    timers.set("gone", 7)
    timers.cancel("gone")
    timers.cancel("never was")
    assert _drain(timers, 49) == ["sooner"]
    assert timers.next_deadline() == 50
    assert _drain(timers, 50) == ["later"]
    assert timers.next_deadline() is None


def test_a_cancelled_key_that_is_set_again_fires_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 10)
    timers.cancel("a")
    timers.set("a", 10)
    assert _drain(timers, 10) == ["a"]
    assert _drain(timers, 1000) == []


def test_random_operations_agree_with_a_dictionary() -> None:
    rng = random.Random(7)
    timers: Timers[int] = Timers()
    model: dict[int, int] = {}
    now = 0
    for _ in range(20_000):
        key = rng.randrange(40)
        choice = rng.random()
        if choice < 0.6:
            when = now + rng.randrange(50)
            timers.set(key, when)
            model[key] = when
        elif choice < 0.8:
            timers.cancel(key)
            model.pop(key, None)
        else:
            now += rng.randrange(10)
            due = sorted(k for k, when in model.items() if when <= now)
            fired = []
            while (fired_key := timers.pop_due(now)) is not None:
                fired.append(fired_key)
            assert sorted(fired) == due
            for k in due:
                del model[k]
        assert timers.next_deadline() == (min(model.values()) if model else None)
        assert len(timers) == len(model)


def test_stale_entries_are_bounded() -> None:
    timers: Timers[int] = Timers()
    for turn in range(10_000):
        timers.set(turn % 8, 1_000_000 - turn)
    assert len(timers._heap) <= 2 * 64
