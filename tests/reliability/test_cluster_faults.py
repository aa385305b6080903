"""What a cluster promises while its brokers are killed, paused, cut off and restarted.

Three brokers and three etcd members on hosts of their own, acks=all, min.insync.replicas 2, under
the log workload of Jepsen's Kafka tests; `support.history` judges what the clients saw, and each
test ends with everything healed and demands progress (R21). R2, R3, R4.
"""

import random
import statistics
import time

import pytest

from support.blackbox import BlackBox, cannot_run
from support.history import check
from support.log_workload import LogWorkload, longest_waits

MISSING = cannot_run()
pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def judged(workload, box, told):
    """Everything is well again: demand progress, then judge the history."""
    took = workload.wait_progress()
    box.wait_in_sync(workload.topic)
    history = workload.stop()
    found = check(history)
    assert not found, {name: (len(rows), rows[:3]) for name, rows in found.items()}
    print(f"\n{told}: {workload.acknowledged:,} acknowledged, progress {took:.1f} s after the end")
    return history


def failover(tmp_path, kills, seed):
    rng = random.Random(seed)
    with BlackBox(tmp_path) as box:
        workload = LogWorkload(box.bootstrap, seed=seed)
        workload.create()
        workload.start()
        workload.wait_progress(60)
        moments = []
        for _ in range(kills):
            time.sleep(rng.uniform(0.2, 1.0))
            leader = box.leader_of(workload.topic, rng.randrange(workload.partitions))
            moments.append(time.monotonic())
            box.brokers[leader].kill()
            box.wait(
                lambda dead=leader: all(
                    row.leader not in (-1, dead)
                    for row in box.standings(workload.topic, set(box.brokers) - {dead})
                ),
                "others lead",
            )
            workload.wait_progress(60)
            box.brokers[leader].start()
            box.wait_in_sync(workload.topic)
        history = judged(workload, box, f"kill -9 of {kills} leaders, seed {seed}")
        waits = longest_waits(history, moments)
        print(f"    wait per kill: {[round(wait, 2) for wait in waits]} s")
        assert not workload.unanswered, workload.unanswered[:3]
        assert statistics.median(waits) <= 3.0 * 2
        assert max(waits) <= 6.0 * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_leader_is_followed_in_seconds(tmp_path):
    failover(tmp_path, kills=3, seed=time.time_ns() % 100_000)
