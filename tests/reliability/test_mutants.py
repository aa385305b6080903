"""A checker is worth what it catches: broken brokers must be found, right ones must not.

Each case runs one short scenario twice, against a mutant (`support.mutants`) and against a broker
that is in order, and has `support.history` judge what the clients saw.
"""

import os
import shutil
import time
from pathlib import Path

import pytest

from fastmq._native.core import crc32c
from fastmq._native.syscalls import VOLATILE_FILESYSTEMS, filesystem_type
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.sync_group import SyncGroupAssignment, SyncGroupRequest

from support.history import FAIL, OK, Commit, Generation, check
from support.mutants import Mutant, build_shim, cut_power
from support.observed import TOPIC, Observed
from support.raw import RawClient

pytestmark = pytest.mark.reliability


@pytest.fixture
def start(tmp_path):
    """Start brokers with a mutation; they are killed, whatever state they are in."""
    started = []

    def make(mutation: str, **options) -> Observed:
        broker = Mutant(tmp_path / f"mutant-{len(started)}", mutation, **options)
        started.append(broker)
        broker.start()
        return Observed(broker)

    yield make
    for broker in started:
        if broker.process is not None:
            broker.kill()


def produce_and_restart(seen: Observed) -> None:
    """An idempotent producer that is answered, loses sight of a broker that is killed, retries."""
    seen.create_topic()
    for number in range(20):
        seen.send(1, b"a%d" % number, producer=(7, number))
    seen.broker.kill()
    seen.broker.start()
    # As if the last answer had been lost on its way.
    seen.send(1, b"a19", producer=(7, 19), repeats=True)
    for number in range(20, 25):
        seen.send(1, b"a%d" % number, producer=(7, number))
    time.sleep(1.0)  # for what is written late
    seen.read_all(2)


@pytest.mark.parametrize(
    ("mutation", "anomalies"),
    [
        ("ack before append", {"lost-write", "unseen", "inconsistent-offsets", "duplicate"}),
        pytest.param("forget producers at restart", {"duplicate"}, marks=pytest.mark.slow),
        pytest.param("sequences not checked", {"duplicate"}, marks=pytest.mark.slow),
        pytest.param("high watermark off by one", {"unseen"}, marks=pytest.mark.slow),
        ("none", set()),
    ],
)
def test_a_restart_under_a_producer(start, mutation, anomalies):
    seen = start(mutation)
    produce_and_restart(seen)
    found = check(seen.history)
    if anomalies:
        assert set(found) & anomalies, found
    else:
        assert found == {}


def rot(directory: Path, value: bytes, *, repair: bool) -> None:
    """Flip a bit of a stored value; with `repair`, as if nobody checked the batch's CRC."""
    (path,) = directory.glob(f"{TOPIC}-0/*.log")
    data = bytearray(path.read_bytes())
    at = data.index(value)
    data[at] ^= 1
    if repair:
        base = end = 0
        while end <= at:
            base = end
            end += int.from_bytes(data[base + 8 : base + 12], "big") + 12
        crc = crc32c(bytes(data[base + 21 : end]))
        data[base + 17 : base + 21] = crc.to_bytes(4, "big")
    with path.open("r+b") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        # Bits rot on the disk, and are found where they are read from it.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("repair", [True, False], ids=["CRC check off", "none"])
def test_bit_rot(start, repair):
    seen = start("none", dev=False)
    seen.create_topic()
    for number in range(12):
        seen.send(1, b"value-%02d" % number + bytes(20_000))
    rot(Path(seen.broker.data_dir), b"value-00", repair=repair)
    if filesystem_type(seen.broker.data_dir) in VOLATILE_FILESYSTEMS:
        pytest.skip("the file system of the temporary directory keeps every file in memory")
    seen.read_all(2)
    found = check(seen.history)
    # The right broker cannot bring the value back, but it delivers no wrong one.
    assert ("phantom" in found) == repair, found
    assert "unseen" in found or "lost-write" in found


@pytest.mark.parametrize("lies", [True, False], ids=["fsync skipped", "none"])
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the shim")
def test_power_cut(start, tmp_path, lies):
    notes = tmp_path / "synced"
    env = {"LD_PRELOAD": str(build_shim(tmp_path)), "SHIM_NOTES": str(notes)}
    if lies:
        env["SHIM_LIES"] = "1"
    seen = start("none", dev=False, env=env, overrides={"fastmq.flush": "ack"})
    seen.create_topic()
    for number in range(30):
        seen.send(1, b"a%d" % number)
    lost = cut_power(seen.broker, notes)
    seen.broker.start()
    for number in range(30, 35):
        seen.send(1, b"a%d" % number)
    seen.read_all(2)
    found = check(seen.history)
    if lies:
        assert lost > 0
        assert set(found) & {"lost-write", "unseen", "inconsistent-offsets"}, found
    else:
        assert found == {}


def join(client: RawClient, name: str, member: str = "") -> tuple[str, int]:
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=200,
        rebalance_timeout_ms=200,
        member_id=member,
        protocol_type="consumer",
        protocols=[JoinGroupProtocol(name="range", metadata=b"")],
    )
    answer = client.call(request, 3, client_id=name)
    assert answer.error_code == 0
    sync = SyncGroupRequest(
        group_id="g",
        generation_id=answer.generation_id,
        member_id=answer.member_id,
        assignments=[SyncGroupAssignment(member_id=answer.member_id, assignment=b"")],
    )
    assert client.call(sync, 2).error_code == 0
    return answer.member_id, answer.generation_id


def commit(seen: Observed, client: RawClient, member: str, generation: int, offset: int) -> None:
    partition = OffsetCommitPartition(partition_index=0, committed_offset=offset)
    request = OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=generation,
        member_id=member,
        topics=[OffsetCommitTopic(name=TOPIC, partitions=[partition])],
    )
    began = time.monotonic()
    code = client.call(request, 6).topics[0].partitions[0].error_code
    done = time.monotonic()
    outcome = FAIL if code else OK
    seen.history.append(Commit("g", TOPIC, offset, generation, began, done, outcome))


@pytest.mark.parametrize("mutation", ["stale generation accepted", "none"])
def test_a_member_that_was_thrown_out_commits(start, mutation):
    seen = start(mutation, overrides={"group.min.session.timeout.ms": 100})
    seen.create_topic()
    with RawClient(seen.broker.bootstrap) as old, RawClient(seen.broker.bootstrap) as new:
        member, generation = join(old, "old")
        commit(seen, old, member, generation, 3)
        # Waits until the session of the other has run out.
        successor, later = join(new, "new")
        assert later > generation
        seen.history.append(Generation("g", later, time.monotonic()))
        commit(seen, new, successor, later, 10)
        commit(seen, old, member, generation, 4)
    found = check(seen.history)
    assert set(found) == ({"stale-commit"} if mutation != "none" else set()), found
