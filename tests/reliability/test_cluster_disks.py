"""A cluster whose brokers have disks of their own, which lose power or hang.

R6: all brokers lose power at once. What was acknowledged under `fastmq.flush=ack` is there; without
it, what is lost is the end of the log, and young.
R7: the last replica in sync loses power, and the others come back first.
R12: a broker whose disk gets full holds up what it leads, and nothing else, until there is room.
R13: a broker whose disk hangs gives up its place, and the cluster goes on without it.
"""

import contextlib
import random
import time
import uuid
from pathlib import Path

import pytest

from fastmq.errors import ErrorCode

from support.blackbox import BlackBox, cannot_run, figure, fresh_seed
from support.history import OK, Poll, Send
from support.log_workload import LogWorkload
from support.mounts import LoopFS, TmpFS, cannot_mount, run
from support.nemesis import Nemesis

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.slow,
]


@pytest.fixture(autouse=True, scope="module")
def means():
    """Tried when a test is about to run, so that those who only collect do not pay for it."""
    missing = cannot_run() or cannot_mount()
    if missing:
        pytest.skip(missing)


# What may be lost without fsync: `fastmq.flush.interval.ms` (10 ms) and the time that a sync takes;
# with room for a machine that has other work.
YOUNG_S = 10.0


class Machine(LoopFS):
    """The disk of a broker, and the boot id of the machine that it is in."""

    def __init__(self, root, megabytes):
        super().__init__(root, megabytes)
        self.boot_id_path = root / "boot-id"
        self._name_boot()

    def _name_boot(self):
        self.boot_id_path.write_text(f"{uuid.uuid4()}\n")

    def cut_power(self):
        """All that was not synced is gone, and whoever looks later sees that it was another run."""
        super().cut_power()
        self._name_boot()


@contextlib.contextmanager
def cluster_on_disks(tmp_path, **options):
    """A cluster and the machine of each of its brokers."""
    shim = tmp_path / "boot_id.so"
    source = Path(__file__).parents[1] / "support" / "boot_id.c"
    run("cc", "-shared", "-fPIC", "-o", shim, source, "-ldl")
    with contextlib.ExitStack() as stack:
        disks = {}
        for node_id in (1, 2, 3):
            root = tmp_path / f"disk-{node_id}"
            root.mkdir()
            disks[node_id] = stack.enter_context(Machine(root, 512))
        data_dirs = [disk.path / "data" for disk in disks.values()]
        envs = [
            {"LD_PRELOAD": str(shim), "FAKE_BOOT_ID_FILE": str(disk.boot_id_path)}
            for disk in disks.values()
        ]
        box = BlackBox(tmp_path, data_dirs=data_dirs, envs=envs, **options)
        yield stack.enter_context(box), disks


def cut_power(box, disks, nodes):
    """These machines stop at one moment, and what was not synced is gone."""
    for node_id in nodes:
        box.brokers[node_id].pause()  # a machine without power answers nobody
    for node_id in nodes:
        disks[node_id].cut_power()
    moment = time.monotonic()
    for node_id in nodes:
        box.brokers[node_id].kill()
        disks[node_id].remount()
    return moment


def start(box, nodes):
    for node_id in nodes:
        box.brokers[node_id].spawn()
    for node_id in nodes:
        box.brokers[node_id].wait_ready(60)


def lost_age_s(history, moments):
    """How old the oldest record was that a power cut took, and how many it took."""
    final = {
        value
        for op in history
        if isinstance(op, Poll) and op.is_final
        for _, _, value in op.records
    }
    oldest, count = 0.0, 0
    for moment in moments:
        acknowledged = [
            op
            for op in history
            if isinstance(op, Send) and op.outcome == OK and op.ended < moment
            if not any(other < moment and op.ended < other for other in moments)
        ]
        kept = {}
        for op in acknowledged:
            if op.value in final:
                kept[op.partition] = max(kept.get(op.partition, -1), op.offset)
        lost = [op for op in acknowledged if op.value not in final]
        holes = [op for op in lost if op.offset < kept.get(op.partition, -1)]
        assert not holes, f"lost before what is there: {holes[:3]}"
        count += len(lost)
        oldest = max([oldest, *(moment - op.ended for op in lost)])
    return oldest, count


@pytest.mark.timeout(900)
def test_power_loss_of_all_brokers_takes_nothing_that_was_synced(tmp_path):
    seed = fresh_seed()
    rng = random.Random(seed)
    moments = []
    with cluster_on_disks(tmp_path) as (box, disks):
        synced = LogWorkload(box.bootstrap, "synced", 3, seed=seed, rate=150)
        synced.create(**{"fastmq.flush": "ack"})
        cached = LogWorkload(
            *(box.bootstrap, "cached", 3),
            seed=seed,
            idempotent=False,
            assigned=0,
            grouped=0,
        )
        cached.create()
        for workload in (synced, cached):
            workload.start()
            workload.wait_progress(60)
        for _ in range(figure("POWER_CUTS", 1)):
            time.sleep(rng.uniform(0.5, 2.0))
            moments.append(cut_power(box, disks, [1, 2, 3]))
            start(box, [1, 2, 3])
            for workload in (synced, cached):
                workload.wait_progress()
                box.wait_in_sync(workload.topic)
        synced.judged()
        age_s, count = lost_age_s(cached.stop(), moments)
        print(
            f"\npower loss of all brokers x {len(moments)}, seed {seed}: flush=ack"
            f" {synced.acknowledged:,} acknowledged, 0 lost; without {cached.acknowledged:,}"
            f" acknowledged, {count} lost, the oldest {age_s * 1000:.0f} ms before the cut"
        )
        assert age_s < YOUNG_S


@pytest.mark.timeout(900)
def test_the_last_replica_in_sync_overwrites_nothing(tmp_path):
    """KIP-966's last replica standing, with what is not synced at stake."""
    seed = fresh_seed()
    rng = random.Random(seed)
    with cluster_on_disks(tmp_path) as (box, disks):
        workload = LogWorkload(box.bootstrap, "last", 1, seed=seed)
        workload.create()
        workload.start()
        workload.wait_progress(60)
        for _ in range(figure("LAST_REPLICAS", 1)):
            leader = box.leader_of("last")
            others = [node_id for node_id in box.brokers if node_id != leader]
            rng.shuffle(others)
            for node_id in others:
                box.brokers[node_id].kill()
            box.wait(
                lambda last=leader: (
                    (rows := box.standings("last", [last])) and rows[0].in_sync == (last,)
                ),
                "alone in sync",
            )
            cut_power(box, disks, [leader])
            start(box, others)
            time.sleep(rng.uniform(0.0, 2.0))
            start(box, [leader])
            workload.wait_progress()
            box.wait_in_sync("last")
        workload.judged()
        print(f"\nlast replica, seed {seed}: {workload.acknowledged:,} acknowledged, 0 lost")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flush", ["ack", "replicated"])
def test_a_broker_whose_disk_hangs_gives_up_its_place(tmp_path, flush):
    """With `ack` a broker that only leads hangs in syncs alone, and could go on telling that it is
    well. Otherwise its reactor hangs in a write; and who follows too, hangs in those.
    """
    partitions, grouped = (1, 0) if flush == "ack" else (3, 2)
    seed = fresh_seed()
    with cluster_on_disks(tmp_path, overrides={"fastmq.flush": flush}) as (box, disks):
        workload = LogWorkload(
            box.bootstrap, "hanging", partitions, grouped=grouped, seed=seed, rate=100
        )
        workload.create()
        workload.start()
        workload.wait_progress(60)
        leader = box.leader_of("hanging")
        others = set(box.brokers) - {leader}
        with disks[leader].frozen():
            began = time.monotonic()
            box.wait(
                lambda: (
                    (rows := box.standings("hanging", others))
                    and all(leader not in (row.leader, *row.in_sync) for row in rows)
                ),
                "the others lead without it",
            )
            took = time.monotonic() - began
            progress = workload.wait_progress()
        box.wait_in_sync("hanging")
        workload.judged()
        print(
            f"\na disk hangs (flush={flush}), seed {seed}: others lead after {took:.1f} s, progress"
            f" {progress:.1f} s later; {workload.acknowledged:,} acknowledged, 0 lost"
        )


@pytest.mark.timeout(300)
def test_a_broker_whose_disk_is_full_holds_up_only_what_it_leads(tmp_path):
    seed = fresh_seed()
    with contextlib.ExitStack() as stack:
        (tmp_path / "small").mkdir()
        small = stack.enter_context(TmpFS(tmp_path / "small", 64))
        places = [tmp_path / "data-1", small.path / "data", tmp_path / "data-3"]
        box = stack.enter_context(BlackBox(tmp_path, data_dirs=places))
        # A refused batch lets librdkafka begin a new epoch, in which it sends again what had no
        # answer in the old one, twice if need be: it must not give up waiting for the others.
        workload = LogWorkload(
            *(box.bootstrap, "full", 3),
            seed=seed,
            rate=100,
            grouped=0,
            request_timeout_ms=20_000,
        )
        workload.create()
        probe = LogWorkload(box.bootstrap, "probe", 3, senders=0)
        probe.create()
        workload.start()
        workload.wait_progress(60)
        filler = small.path / "filler"
        with filler.open("wb", 0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        leaders = [row.leader for row in box.standings("full")]
        elsewhere = {partition for partition, leader in enumerate(leaders) if leader != 2}
        assert elsewhere, leaders
        full = [row.leader for row in box.standings("probe")].index(2)
        box.wait(
            lambda: box.produce(2, "probe", full, acks=1) is ErrorCode.KAFKA_STORAGE_ERROR,
            "the full broker says so",
        )
        box.wait(
            lambda: (
                (rows := box.standings("full", [1]))
                and all(2 not in rows[partition].in_sync for partition in elsewhere)
            ),
            "what it follows goes on without it",
        )
        took = workload.wait_progress(partitions=elsewhere)
        filler.unlink()
        workload.wait_progress()
        box.wait_in_sync("full")
        workload.judged()
        print(
            f"\na full disk, seed {seed}: the others go on after {took:.1f} s;"
            f" {workload.acknowledged:,} acknowledged, 0 lost"
        )


@pytest.mark.timeout(3600)
@pytest.mark.skipif(figure("SPELLS", 0) == 0, reason="only in longer runs: make rel-disks")
@pytest.mark.parametrize("flush", ["ack", "replicated"])
def test_one_machine_without_power_among_other_faults(tmp_path, flush):
    """Others are killed, paused and cut off meanwhile; min.insync.replicas keeps a copy."""
    seed = fresh_seed()
    rng = random.Random(seed)
    with cluster_on_disks(tmp_path, overrides={"fastmq.flush": flush}) as (box, disks):
        workload = LogWorkload(box.bootstrap, "spells", 3, seed=seed)
        workload.create()
        workload.start()
        workload.wait_progress(60)
        nemesis = Nemesis(box, rng)

        def power(stack):
            node_id = nemesis.one()
            cut_power(box, disks, [node_id])
            stack.callback(box.brokers[node_id].spawn)

        nemesis.faults = {"power": power, **nemesis.faults}
        for _ in range(figure("SPELLS", 0)):
            nemesis.spell()
            workload.wait_progress()
            box.wait_in_sync("spells")  # another may lose power only then
        workload.judged()
        print(
            f"\nspells, flush={flush}, seed {seed}: {workload.acknowledged:,} acknowledged, 0 lost"
        )
