"""Disks that lose power, get full or hang, under a real broker. The mounts need root.

R5: what was acknowledged under `fastmq.flush=ack` survives a power cut.
R12: on a full disk produce is refused with a retriable error, reads go on, and room heals it.
R13: a hanging disk makes nothing acknowledged that is not there, is survived, and does not stop the
    directories beside it.
"""

import contextlib
import random
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from support.broker import Broker, BrokerDied
from support.mounts import LoopFS, TmpFS, cannot_mount
from support.records import Acks, NumberedProducer, create_topic, read_all

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.skipif(cannot_mount() is not None, reason=str(cannot_mount())),
]

TOPIC = "disk"
PARTITIONS = 3


PLAIN = {"enable.idempotence": False, "delivery.timeout.ms": 1500}
ROUND = 1_000_000  # numbers of one round begin at a multiple of it


def broker_on(root, data_dir, *, floor_bytes=0):
    """A broker with its data on a disk of ours, and few partitions of its own."""
    return Broker(
        root / "broker",
        data_dir=data_dir,
        dev=False,
        overrides={
            "offsets.topic.num.partitions": 1,
            "fastmq.free.space.floor.bytes": floor_bytes,
            "fastmq.free.space.check.interval.ms": 100,
        },
    )


def cut_once(broker: Broker, disk: LoopFS, topic: str, moment_s: float) -> Acks:
    """Produce at full rate, cut the power at a moment, come back, and find what was promised."""
    create_topic(broker, topic, PARTITIONS)
    producer = NumberedProducer(broker, topic, PARTITIONS, **PLAIN)
    end = time.monotonic() + moment_s
    while time.monotonic() < end:
        producer.send(200)
        producer.poll(0)
    # A machine without power answers nobody. The ioctl alone would let the broker run on for a
    # moment in which a sync that it interrupts may end as if it had succeeded.
    broker.pause()
    disk.cut_power()
    broker.kill()
    disk.remount()
    broker.start()
    producer.flush(5)
    check_topic(broker, topic, producer.acks)
    return producer.acks


def check_topic(broker: Broker, topic: str, acks: Acks) -> None:
    found = read_all(broker, topic, PARTITIONS)
    lost = acks.lost(found)
    assert not lost, f"{topic}: {len(lost)} of {acks.count} acknowledged lost: {lost[:5]}"
    for partition, rows in found.items():
        assert [o for o, _ in rows] == list(range(len(rows))), f"{topic}-{partition}: a hole"


def power_cuts(tmp_path, cuts: int, seed: int) -> None:
    rng = random.Random(seed)
    # Room for what a cut's producer sends at most; the file under the disk is sparse.
    with (
        LoopFS(tmp_path, 256 + 100 * cuts) as disk,
        broker_on(tmp_path, disk.path / "data") as broker,
    ):
        topics = {f"cut-{cut}": rng.uniform(0.05, 0.6) for cut in range(cuts)}
        acks = {topic: cut_once(broker, disk, topic, at) for topic, at in topics.items()}
        for topic, acknowledged in acks.items():
            check_topic(broker, topic, acknowledged)
    total = sum(a.count for a in acks.values())
    print(f"\npower cuts: {cuts}, seed {seed}, {total:,} acknowledged, 0 lost")
    assert total > 0


@pytest.mark.timeout(120)
def test_a_power_cut_loses_nothing_acknowledged(tmp_path):
    power_cuts(tmp_path, cuts=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_20_power_cuts_lose_nothing_acknowledged(tmp_path):
    power_cuts(tmp_path, cuts=20, seed=time.time_ns() % 100_000)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("floor_bytes", [0, 8 << 20], ids=["no-floor", "floor"])
def test_a_full_disk_refuses_produce_serves_fetch_and_heals(tmp_path, floor_bytes):
    acks = Acks()
    with (
        TmpFS(tmp_path, 64) as disk,
        broker_on(tmp_path, disk.path / "data", floor_bytes=floor_bytes) as broker,
    ):
        create_topic(broker, TOPIC, PARTITIONS)
        for number in range(3):
            fill_and_heal(broker, disk, acks, number * ROUND)
        assert not acks.lost(read_all(broker, TOPIC, PARTITIONS))
        broker.stop()
        broker.start()
        assert not acks.lost(read_all(broker, TOPIC, PARTITIONS))


@pytest.mark.parametrize("is_new", [True, False], ids=["a new directory", "a killed broker's"])
def test_a_start_without_a_free_byte_says_so_and_works_later(tmp_path, is_new):
    with TmpFS(tmp_path, 16) as disk:
        broker = Broker(tmp_path / "broker", data_dir=disk.path / "data", dev=False)
        (disk.path / "data").mkdir()
        if not is_new:
            broker.start()
            broker.kill()
            for reserve in (disk.path / "data").glob("*-reserve"):
                reserve.unlink()
        filler = disk.path / "filler"
        with filler.open("wb", 0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))
        with pytest.raises(
            BrokerDied, match="the disk is full; the broker starts again when"
        ) as told:
            broker.start()
        assert "Traceback" not in str(told.value)
        filler.unlink()
        with broker:
            assert broker.is_running()


def fill_and_heal(broker: Broker, disk: TmpFS, acks: Acks, number: int) -> None:
    """Fill the disk under a producer, look at what still works, and make room again."""
    producer = NumberedProducer(broker, TOPIC, PARTITIONS, acks, **PLAIN)
    producer.number = number
    producer.send(300)
    assert producer.flush(10) == 0
    accepted, refused = acks.count, len(acks.errors)

    filler = disk.path / "filler"
    fill(filler)
    time.sleep(0.5)  # the floor is checked every 100 ms
    producer.send(300)  # more than the last page of each file still takes
    producer.flush(10)
    assert len(acks.errors) > refused, "a full disk took everything"
    assert all(error.retriable() or error.code() < 0 for error in acks.errors)
    assert not acks.lost(read_all(broker, TOPIC, PARTITIONS))
    AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=5)

    filler.unlink()
    deadline = time.monotonic() + 20
    while acks.count <= accepted and time.monotonic() < deadline:
        producer.send(10)
        producer.flush(3)
    assert acks.count > accepted, "there is room again and produce goes on failing"


def fill(path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 16))


@pytest.mark.timeout(120)
def test_a_hanging_disk_acknowledges_nothing_and_everything_goes_on_after_it(tmp_path):
    """Every write hangs, as under fsfreeze; the broker must neither lie nor give up."""
    with LoopFS(tmp_path, 128) as disk, broker_on(tmp_path, disk.path / "data") as broker:
        create_topic(broker, TOPIC, PARTITIONS)
        assert produce_one(broker, 0, wait_s=10.0) is not None
        with disk.frozen():
            stuck = [produce_one(broker, partition, wait_s=1.0) for partition in range(PARTITIONS)]
        assert stuck == [None] * PARTITIONS, "acknowledged on a disk that takes nothing"
        for partition in range(PARTITIONS):
            assert produce_one(broker, partition, wait_s=20.0) is not None
        broker.kill()
        broker.start()
        found = read_all(broker, TOPIC, PARTITIONS)
        assert all(rows for rows in found.values())


@pytest.mark.timeout(120)
def test_one_hanging_directory_does_not_stop_the_others(tmp_path):
    """Produce to the directory that hangs, then to the one beside it, several times."""
    good = tmp_path / "good"
    good.mkdir()
    with (
        LoopFS(tmp_path, 128) as disk,
        broker_on(tmp_path, f"{good},{disk.path / 'data'}") as broker,
    ):
        create_topic(broker, TOPIC, 6)
        on_good = sorted(int(p.name.rpartition("-")[2]) for p in good.glob(f"{TOPIC}-*"))
        hanging = sorted(set(range(6)) - set(on_good))
        assert on_good, "no partition on the good disk"
        assert hanging, "no partition on the other disk"
        with disk.frozen():
            stuck = produce_one(broker, hanging[0], wait_s=1.0)
            for _ in range(5):
                took = produce_one(broker, on_good[0], wait_s=10.0)
                assert took is not None, "the good directory waits for the hanging one"
            AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=5)
        assert stuck is None, "acknowledged on a disk that takes nothing"
        assert produce_one(broker, hanging[0], wait_s=20.0) is not None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-another"])
def test_a_new_file_on_a_hanging_disk_stops_only_who_waits_for_it(tmp_path, beside):
    """The first file of a partition, and a roll, while the disk hangs: neither may be made by the
    thread that serves everybody. What needs no disk goes on, with one log directory too.
    """
    good = tmp_path / "good"
    good.mkdir()
    big = b"0:" + bytes(600_000)  # the second one does not fit into the segment
    with (
        LoopFS(tmp_path, 128) as disk,
        broker_on(tmp_path, f"{good},{disk.path / 'data'}" if beside else disk.path / "data") as b,
    ):
        create_topic(b, TOPIC, 8, {"segment.bytes": str(1 << 20)})
        where = disk.path / "data"
        hanging = sorted(int(p.name.rpartition("-")[2]) for p in where.glob(f"{TOPIC}-*"))
        full, fresh = hanging[:2]
        on_good = sorted(set(range(8)) - set(hanging))
        for partition in [full, *on_good[:1]]:
            assert produce_one(b, partition, wait_s=20.0, value=big) is not None
        commit(b, full)
        with disk.frozen():
            assert produce_one(b, fresh, wait_s=1.0) is None, "acknowledged without a disk"
            assert produce_one(b, full, wait_s=1.0, value=big) is None, "acknowledged"
            what_needs_no_disk(b, full)
            for partition in on_good[:1]:
                assert produce_one(b, partition, wait_s=20.0, value=big) is not None, "it waits"
        for partition in (full, fresh):
            assert produce_one(b, partition, wait_s=30.0, value=big) is not None
        b.kill()
        b.start()
        found = read_all(b, TOPIC, 8)
        for partition in (full, fresh):
            assert [o for o, _ in found[partition]] == list(range(len(found[partition])))
            assert found[partition]


def commit(broker: Broker, partition: int) -> None:
    """Commit offset 1 of a partition for the group `group`."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "group"})
    consumer.commit(offsets=[TopicPartition(TOPIC, partition, 1)], asynchronous=False)
    consumer.close()


def what_needs_no_disk(broker: Broker, partition: int) -> None:
    """Metadata, committed offsets, and records that are in memory."""
    AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10)
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "group",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    place = TopicPartition(TOPIC, partition, 0)
    assert consumer.committed([place], timeout=10)[0].offset == 1
    consumer.assign([place])
    message = consumer.poll(10)
    assert message is not None, "no record"
    assert message.error() is None, message.error()
    consumer.close()


def produce_one(
    broker: Broker, partition: int, wait_s: float, value: bytes = b"0:x"
) -> float | None:
    """Seconds until a record was acknowledged; None when that took longer than `wait_s`."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "log_level": 2})
    began = time.monotonic()
    failures = []
    producer.produce(
        TOPIC, value, partition=partition, on_delivery=lambda e, _m: e and failures.append(e)
    )
    left = producer.flush(wait_s)
    took = time.monotonic() - began
    producer.purge()
    return took if left == 0 and not failures else None
