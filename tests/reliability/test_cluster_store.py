"""Trouble with etcd, and clocks that jump, under a cluster that is at work.

R19: the loss of a member is not noticed; without etcd records go on, nobody is elected, and it
recovers alone; a watch that is cut and compacted away begins anew.
R20: the wall clock of each broker may jump; leases and time-outs do not ask it.
"""

import contextlib
import json
import random
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from fastmq.errors import ErrorCode
from fastmq.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest

from support.blackbox import SESSION_MS, BlackBox, cannot_run, figure, fresh_seed
from support.log_workload import LogWorkload, longest_waits
from support.netns import both_ways
from support.raw import RawClient

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DONE = {ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS}
ASK_AGAIN = {ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NOT_CONTROLLER}
pytestmark = [
    pytest.mark.reliability,
    pytest.mark.slow,
]


@pytest.fixture(autouse=True, scope="module")
def means():
    """Tried when a test is about to run, so that those who only collect do not pay for it."""
    missing = cannot_run()
    if missing:
        pytest.skip(missing)


def create(box, name, at=None):
    """Ask a broker for a topic, again as clients do where it cannot tell what became of it."""
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=3)
    request = CreateTopicsRequest(topics=[topic], timeout_ms=5_000)

    def is_there():
        with contextlib.suppress(OSError, EOFError):
            address = box.brokers[at or 1].bootstrap
            with RawClient(address, timeout_s=20.0) as client:
                (made,) = client.call(request, 5).topics
            code = ErrorCode(made.error_code)
            assert code in {*DONE, *ASK_AGAIN}, (code, made.error_message)
            return code in DONE
        return False

    box.wait(is_there, f"{name} is made")


def compact(box):
    """Let etcd forget all revisions but the last."""
    endpoint = box.etcd.endpoints[0]

    def post(path, body):
        request = urllib.request.Request(endpoint + path, data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())

    revision = post("/v3/maintenance/status", {})["header"]["revision"]
    post("/v3/kv/compaction", {"revision": revision, "physical": True})


def lose_the_leader(box, rng):
    member = box.etcd.leader()
    box.etcd.signal(member, signal.SIGKILL)
    time.sleep(rng.uniform(0.5, 2.0))
    create(box, f"made-{time.monotonic_ns()}")
    box.etcd.start(member)
    box.etcd.wait(member)


def pause_a_member(box, rng):
    member = rng.randrange(3)
    box.etcd.signal(member, signal.SIGSTOP)
    try:
        time.sleep(rng.uniform(0.5, 2.0) * SESSION_MS / 1000)
        create(box, f"made-{time.monotonic_ns()}")
    finally:
        box.etcd.signal(member, signal.SIGCONT)


def compact_a_cut_watch(box, rng):
    """A broker misses changes, and finds the history of them gone."""
    one = rng.choice(sorted(box.brokers))
    name = f"missed-{time.monotonic_ns()}"
    with box.cut_off(both_ways([box.broker_host(one)], box.store_hosts)):
        create(box, name, at=next(node for node in box.brokers if node != one))
        compact(box)
        time.sleep(rng.uniform(0.1, 2.0))
    box.wait(lambda: box.standings(name, [one]), f"broker {one} hears of {name}", 20.0)


def lose_all(box, rng, outage_s, workload):
    """Nobody answers; records and groups go on, and nobody is elected."""
    del rng
    create(box, "warm")
    before = box.standings(workload.topic)
    for member in range(3):
        box.etcd.signal(member, signal.SIGKILL)
    ends = time.monotonic() + outage_s
    while time.monotonic() < ends:
        workload.wait_progress()
        time.sleep(0.5)
    if outage_s > SESSION_MS / 1000:
        # All leases have run out: only what all in-sync replicas take is still acknowledged.
        leader = box.leader_of("warm")
        assert box.produce(leader, "warm", 0, acks=1) is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert box.produce(leader, "warm", 0, acks=-1) is ErrorCode.NONE
    for node_id in box.brokers:
        rows = box.standings(workload.topic, [node_id])
        assert [row[:2] for row in rows] == [row[:2] for row in before], "an election"
    for member in range(3):
        box.etcd.start(member)
    began = time.monotonic()
    for member in range(3):
        box.etcd.wait(member)
    create(box, f"after-{time.monotonic_ns()}")
    print(f"    etcd gone for {outage_s} s; back to work {time.monotonic() - began:.1f} s after")


@pytest.mark.timeout(1800)
def test_etcd_may_be_in_any_trouble(tmp_path):
    seed = fresh_seed()
    rng = random.Random(seed)
    moments = []
    with BlackBox(tmp_path) as box:
        workload = LogWorkload(box.bootstrap, seed=seed)
        workload.create()
        workload.start()
        workload.wait_progress(60)
        for _ in range(figure("STORE_ROUNDS", 1)):
            for trouble in (lose_the_leader, pause_a_member, compact_a_cut_watch):
                moments.append(time.monotonic())
                trouble(box, rng)
                workload.wait_progress()
            moments.append(time.monotonic())
            lose_all(box, rng, figure("STORE_OUTAGE_S", 6), workload)
        box.wait_in_sync(workload.topic)
        waits = longest_waits(workload.judged(), moments)
        print(
            f"\netcd in trouble, seed {seed}: {workload.acknowledged:,} acknowledged, longest wait"
            f" of a partition {max(waits):.2f} s"
        )


JUMPS = {1: ["+1h", "-1h"], 2: ["+10y", "-10y"], 3: ["+200s", "-200s"]}


@contextlib.contextmanager
def faketime_removed(box):
    """What libfaketime leaves in memory of brokers that are killed."""
    pids = [broker.pid for broker in box.brokers.values()]
    try:
        yield
    finally:
        for pid in pids:
            for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not here: apt install faketime")
@pytest.mark.timeout(900)
def test_the_wall_clocks_of_brokers_may_jump(tmp_path):
    seed = fresh_seed()
    rng = random.Random(seed)
    clocks = {node_id: tmp_path / f"clock-{node_id}" for node_id in JUMPS}
    for clock in clocks.values():
        clock.write_text("+0")
    envs = [
        {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        for clock in clocks.values()
    ]
    # Long enough for a machine that has other work: that a session ends is not what is looked for.
    session = {"broker.session.timeout.ms": 10_000}
    with BlackBox(tmp_path, envs=envs, overrides=session) as box, faketime_removed(box):
        workload = LogWorkload(box.bootstrap, seed=seed)
        # Kafka's rules that do ask the wall clock, by what they are made for.
        workload.create(**{"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)})
        workload.start()
        workload.wait_progress(60)
        before = box.standings(workload.topic)
        for _ in range(figure("JUMP_ROUNDS", 2)):
            for node_id, clock in clocks.items():
                clock.write_text(rng.choice(JUMPS[node_id]))
            workload.wait_progress()
            for _ in range(5):  # a clock that cannot make up its mind
                clocks[3].write_text(rng.choice(JUMPS[3]))
                time.sleep(0.2)
        after = box.standings(workload.topic)
        assert [row[:2] for row in after] == [row[:2] for row in before], "an election"
        workload.judged()
        print(f"\nclocks jump, seed {seed}: {workload.acknowledged:,} acknowledged, no election")
