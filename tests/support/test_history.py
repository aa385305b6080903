"""The checker finds each anomaly in the smallest history that has it, and nothing in a good one."""

import random
import time

import pytest

from support.history import FAIL, INFO, Commit, Committed, Generation, Poll, Send, check


def sent(value, offset, *, at=None, process=1, partition="p", **other):
    at = offset if at is None else at
    return Send(process, partition, value, at, at + 0.5, offset=offset, **other)


def polled(*records, at=100.0, process=9, **other):
    rows = tuple(("p", offset, value) for offset, value in records)
    return Poll(process, rows, at, at + 0.5, **other)


GOOD = [
    sent("a", 0),
    sent("b", 1),
    sent("c", 2),
    polled((0, "a"), (1, "b")),
    polled((2, "c"), at=101),
]

CASES = {
    "good": (GOOD, set()),
    "an answer that never came, and the value is there": (
        [sent("a", 0)._replace(outcome=INFO, offset=None), polled((0, "a"))],
        set(),
    ),
    "an answer that never came, and the value is not there": (
        [sent("a", None, at=0)._replace(outcome=INFO), sent("b", 0), polled((0, "b"))],
        set(),
    ),
    "nobody sent it": ([sent("a", 0), polled((0, "a"), (1, "x"))], {"phantom"}),
    "two values at an offset": (
        [sent("a", 0), sent("b", 0, process=2), polled((0, "a")), polled((0, "b"), process=8)],
        {"inconsistent-offsets"},
    ),
    "acknowledged at another offset than read": (
        [sent("a", 5), polled((0, "a"))],
        {"duplicate"},
    ),
    "failed for good, and read": (
        [sent("a", None, at=0)._replace(outcome=FAIL), polled((0, "a"))],
        {"aborted-read"},
    ),
    "lost before another": ([sent("a", 0), sent("b", 1), polled((1, "b"))], {"lost-write"}),
    "lost at the end": ([*GOOD, sent("d", 3)], {"unseen"}),
    "read by one, and gone at the end": (
        [sent("a", 0), sent("b", 1), polled((1, "b"), process=8), polled((0, "a"), is_final=True)],
        {"vanished"},
    ),
    "twice": ([*GOOD, polled((3, "a"), at=102)], {"duplicate"}),
    "sent in one order, stored in another": (
        [sent("a", 1, at=0), sent("b", 0, at=1), polled((0, "b"), (1, "a"))],
        {"nonmonotonic-send"},
    ),
    "one poll goes back": (
        [*GOOD, polled((1, "b"), (0, "a"), process=8)],
        {"int-nonmonotonic-poll"},
    ),
    "one poll leaves out": ([*GOOD, polled((0, "a"), (2, "c"), process=8)], {"int-poll-skip"}),
    "a later poll goes back": ([*GOOD, polled((0, "a"), at=102)], {"nonmonotonic-poll"}),
    "a later poll of another assignment may go back": (
        [*GOOD, polled((0, "a"), at=102, assignment=1)],
        set(),
    ),
    "a later poll leaves out": (
        [*GOOD, polled((0, "a"), process=8), polled((2, "c"), process=8, at=101)],
        {"poll-skip"},
    ),
    "read before it was sent": ([sent("a", 0, at=200), polled((0, "a"))], {"future-read"}),
    "reads its own transaction": (
        [sent("a", 0, txn="t"), polled((0, "a"), txn="t")],
        {"precommitted-read"},
    ),
    "an old generation commits": (
        [Generation("g", 2, 5.0), Commit("g", "p", 3, 1, 6.0, 6.1)],
        {"stale-commit"},
    ),
    "an old generation is refused": (
        [Generation("g", 2, 5.0), Commit("g", "p", 3, 1, 6.0, 6.1, FAIL)],
        set(),
    ),
    "it may commit until the next is known": (
        [Generation("g", 2, 6.05), Commit("g", "p", 3, 1, 6.0, 6.1)],
        set(),
    ),
    "a commit is forgotten": (
        [Commit("g", "p", 3, -1, 1.0, 1.1), Committed("g", "p", -1, 2.0, 2.1)],
        {"lost-commit"},
    ),
    "the last commit counts": (
        [
            Commit("g", "p", 3, -1, 1.0, 1.1),
            Commit("g", "p", 7, -1, 2.0, 2.1),
            Committed("g", "p", 3, 3.0, 3.1),
        ],
        {"lost-commit"},
    ),
    "of two at once either may stay": (
        [
            Commit("g", "p", 3, -1, 1.0, 2.5),
            Commit("g", "p", 7, -1, 2.0, 2.1),
            Committed("g", "p", 3, 3.0, 3.1),
        ],
        set(),
    ),
    "two transactions read each other": (
        [
            sent("a", 0, txn=1),
            sent("b", 0, txn=2, partition="q", process=2),
            polled((0, "a"), txn=2),
            Poll(8, (("q", 0, "b"),), 100, 101, txn=1),
        ],
        {"G1c"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_anomalies(name):
    history, expected = CASES[name]
    assert set(check(history)) == expected


def test_write_cycles_are_told_when_asked_for():
    history = [
        sent("a", 0, txn=1),
        sent("b", 1, txn=2, process=2),
        sent("c", 0, txn=2, process=2, partition="q"),
        sent("d", 1, txn=1, partition="q"),
        polled((0, "a"), (1, "b")),
        Poll(8, (("q", 0, "c"), ("q", 1, "d")), 100, 101),
    ]
    assert check(history) == {}
    assert set(check(history, want_g0=True)) == {"G0"}


def long_history(count, rng):
    """Sends of several processes to several partitions, and a consumer each."""
    ends = [0] * 12
    history = []
    for number in range(count):
        partition = rng.randrange(12)
        at = float(number)
        history.append(Send(partition % 4, partition, number, at, at + 0.5, offset=ends[partition]))
        ends[partition] += 1
    rows = [[] for _ in ends]
    for op in history:
        rows[op.partition].append((op.partition, op.offset, op.value))
    polls = [
        Poll(100 + p, tuple(rows[p][i : i + 500]), count + i, count + i + 1)
        for p in range(12)
        for i in range(0, len(rows[p]), 500)
    ]
    return history + polls


def test_one_fault_in_a_long_history_is_found():
    rng = random.Random(5)
    history = long_history(20_000, rng)
    assert check(history) == {}
    for _ in range(10):
        at = rng.randrange(20_000, len(history))
        poll = history[at]
        gone = rng.randrange(len(poll.records) - 1)
        records = poll.records[:gone] + poll.records[gone + 1 :]
        broken = [*history[:at], poll._replace(records=records), *history[at + 1 :]]
        assert set(check(broken)) & {"lost-write", "int-poll-skip", "poll-skip"}


@pytest.mark.slow
def test_a_million_operations_take_seconds():
    history = long_history(1_000_000, random.Random(6))
    began = time.process_time()
    assert check(history) == {}
    took_s = time.process_time() - began
    print(f"\n1,000,000 sends judged in {took_s:.1f} s")
