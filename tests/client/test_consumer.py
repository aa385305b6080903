"""The consumer on all three fronts against a real broker."""

import threading
import time

import pytest
from confluent_kafka import Producer

import fastmq
from fastmq.errors import ClientClosed, ConfigError, ErrorCode, KafkaError

from support.consumer_fronts import FRONTS, create, fill, new_consumer, run_on, values

every_front = pytest.mark.parametrize("front", FRONTS)


# ---- reading -------------------------------------------------------------------------------------


@every_front
def test_records_come_in_order_with_everything_they_have(broker, front, t):
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    headers = [("a", b"1"), ("b", None)]
    producer.produce(t, b"one", key=b"k", headers=headers, timestamp=1_700_000_000_000)
    producer.produce(t, None, key=None)
    producer.flush()

    async def main():
        async with new_consumer(
            front, broker.bootstrap, t, group_id=t, auto_offset_reset="earliest"
        ) as consumer:
            first, second = await consumer.take(2)
            assert (first.topic, first.partition, first.offset) == (t, 0, 0)
            assert (first.key, first.value, first.headers) == (b"k", b"one", tuple(headers))
            assert (first.timestamp_ms, first.timestamp_type) == (1_700_000_000_000, "CreateTime")
            assert (second.offset, second.key, second.value, second.headers) == (1, None, None, ())

    run_on(front, main)


@every_front
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec(broker, front, codec, t):
    fill(broker, t, 3_000, **{"compression.type": codec})

    async def main():
        async with new_consumer(
            front, broker.bootstrap, t, group_id=t, auto_offset_reset="earliest"
        ) as consumer:
            assert values(await consumer.take(3_000)) == list(range(3_000))

    run_on(front, main)


@every_front
def test_assigned_partitions_begin_where_told(broker, front, t):
    create(broker, t, 2)
    fill(broker, t, 100, partitions=2)

    async def main():
        async with new_consumer(front, broker.bootstrap, auto_offset_reset="earliest") as consumer:
            await consumer.assign([(t, 0), (t, 1)])
            assert sorted(values(await consumer.take(100))) == list(range(100))
            assert await consumer.poll(0.05) is None
            await consumer.seek(t, 1, 48)
            assert values(await consumer.take(2)) == [97, 99]
            await consumer.seek_to_beginning((t, 0))
            assert values(await consumer.take(1)) == [0]
            assert await consumer.position(t, 0) == 1
            await consumer.seek_to_end((t, 0))
            assert await consumer.poll(0.1) is None
            assert await consumer.end_offsets() == {(t, 0): 50, (t, 1): 50}
            assert await consumer.beginning_offsets((t, 0)) == {(t, 0): 0}
            assert (await consumer.lag())[t, 1] == 0

    run_on(front, main)


@every_front
def test_times_find_offsets(broker, front, t):
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(10):
        producer.produce(t, b"%d" % n, timestamp=1_700_000_000_000 + n * 1000)
    producer.flush()

    async def main():
        async with new_consumer(front, broker.bootstrap, auto_offset_reset="earliest") as consumer:
            await consumer.assign([(t, 0)])
            found = await consumer.offsets_for_times({(t, 0): 1_700_000_003_500})
            assert found[t, 0].offset == 4
            await consumer.take(1)
            await consumer.seek_to_time(1_700_000_006_000)
            assert values(await consumer.take(1)) == [6]

    run_on(front, main)


@every_front
def test_a_new_group_may_begin_so_long_ago(broker, front, t):
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    now_ms = time.time_ns() // 1_000_000
    for n, hours in enumerate((3, 2, 1)):
        producer.produce(t, b"%d" % n, timestamp=now_ms - hours * 3_600_000)
    producer.flush()

    async def main():
        policy = "by_duration:PT2H30M"
        async with new_consumer(
            front, broker.bootstrap, t, group_id=t, auto_offset_reset=policy
        ) as consumer:
            assert values(await consumer.take(2)) == [1, 2]

    run_on(front, main)


@every_front
def test_paused_partitions_bring_nothing_until_they_are_resumed(broker, front, t):
    create(broker, t, 2)
    fill(broker, t, 20, partitions=2)

    async def main():
        async with new_consumer(front, broker.bootstrap, auto_offset_reset="earliest") as consumer:
            await consumer.assign([(t, 0), (t, 1)])
            await consumer.pause((t, 0))
            assert values(await consumer.take(10)) == list(range(1, 20, 2))
            assert await consumer.poll(0.1) is None
            await consumer.resume()
            assert values(await consumer.take(10)) == list(range(0, 20, 2))

    run_on(front, main)


@every_front
def test_a_pause_in_the_middle_of_a_batch_holds_at_once(broker, front, t):
    create(broker, t, 2)
    fill(broker, t, 40, partitions=2)

    async def main():
        options = {"group_id": t, "auto_offset_reset": "earliest", "enable_auto_commit": False}
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            first = await consumer.poll(20)
            paused, other = first.partition, 1 - first.partition
            await consumer.pause((t, paused))
            assert {r.partition for r in await consumer.take(20)} == {other}
            assert await consumer.poll(0.05) is None
            assert consumer.real.position(t, paused) == 1
            await consumer.commit()
            committed = await consumer.committed()
            assert (committed[t, paused].offset, committed[t, other].offset) == (1, 20)
            await consumer.resume((t, paused))
            assert [r.offset for r in await consumer.take(19)] == list(range(1, 20))
            await consumer.seek(t, paused, 5)
            await consumer.take(1)
            await consumer.pause((t, paused))
            await consumer.seek(t, paused, 9)
            await consumer.resume((t, paused))
            assert (await consumer.take(1))[0].offset == 9

    run_on(front, main)


@every_front
def test_a_poll_of_no_time_gets_what_is_there(broker, front, t):
    fill(broker, t, 10)

    async def main():
        async with new_consumer(
            front, broker.bootstrap, t, group_id=t, auto_offset_reset="earliest"
        ) as consumer:
            seen: list[int] = []
            deadline = time.monotonic() + 30
            while len(seen) < 10:
                record = await consumer.poll(0)
                if record is None:
                    await consumer.work(0.005)
                else:
                    seen.append(int(record.value))
                assert time.monotonic() < deadline
            assert seen == list(range(10))

    run_on(front, main)


@every_front
def test_batches_are_of_one_partition_and_can_be_committed(broker, front, t):
    create(broker, t, 3)
    fill(broker, t, 300, partitions=3)

    async def main():
        options = {"group_id": t, "auto_offset_reset": "earliest", "enable_auto_commit": False}
        seen = 0
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            while seen < 300:
                batch = await consumer.poll_batch(20)
                assert {(r.topic, r.partition) for r in batch} == {batch.name}
                await consumer.commit(batch)
                seen += len(batch)
            committed = await consumer.committed()
            assert {name: row.offset for name, row in committed.items()} == {
                (t, index): 100 for index in range(3)
            }
            assert await consumer.poll_batch(0.05) is None

    run_on(front, main)


@every_front
def test_new_records_arrive_at_once(broker, front, t):
    create(broker, t)

    async def main():
        async with new_consumer(front, broker.bootstrap, auto_offset_reset="latest") as consumer:
            await consumer.assign([(t, 0)])
            assert await consumer.poll(0.3) is None
            threading.Thread(target=fill, args=(broker, t, 1)).start()
            assert values(await consumer.take(1)) == [0]

    run_on(front, main)


@every_front
def test_deserializers_make_keys_and_values(broker, front, t):
    fill(broker, t, 5)

    async def main():
        async with new_consumer(
            front,
            broker.bootstrap,
            auto_offset_reset="earliest",
            key_deserializer=bytes.decode,
            value_deserializer=int,
        ) as consumer:
            await consumer.assign([(t, 0)])
            records = await consumer.take(5)
            assert [(r.key, r.value) for r in records] == [(f"k{n}", n) for n in range(5)]

    run_on(front, main)


@every_front
def test_what_no_deserializer_likes_is_told_until_the_program_seeks(broker, front, t):
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 50})
    for value in (b"0", b"1", b"two", b"3"):
        producer.produce(t, value)
    producer.flush()

    async def main():
        options = {"group_id": t, "auto_offset_reset": "earliest", "value_deserializer": int}
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            assert [r.value for r in await consumer.take(2)] == [0, 1]
            for _ in range(2):
                with pytest.raises(ValueError, match="two") as told:
                    await consumer.poll(20)
                assert f"seek({t!r}, 0, 3)" in told.value.__notes__[0]
            await consumer.commit()
            assert (await consumer.committed())[t, 0].offset == 2
            await consumer.seek(t, 0, 3)
            assert (await consumer.poll(20)).value == 3

    run_on(front, main)


# ---- errors --------------------------------------------------------------------------------------


@every_front
def test_without_a_reset_policy_the_program_is_told(broker, front, t):
    fill(broker, t, 5)

    async def main():
        async with new_consumer(
            front, broker.bootstrap, group_id=t, auto_offset_reset="none"
        ) as consumer:
            await consumer.assign([(t, 0)])
            with pytest.raises(KafkaError, match="auto_offset_reset"):
                await consumer.take(1)
            await consumer.seek(t, 0, 100)
            with pytest.raises(KafkaError) as told:
                await consumer.take(1)
            assert told.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
            await consumer.seek(t, 0, 3)
            assert values(await consumer.take(2)) == [3, 4]

    run_on(front, main)


@every_front
def test_deleted_records_are_skipped(broker, front, t):
    fill(broker, t, 10)
    with fastmq.Admin(broker.bootstrap) as admin:
        admin.delete_records({(t, 0): 7})

    async def main():
        async with new_consumer(front, broker.bootstrap, auto_offset_reset="earliest") as consumer:
            await consumer.assign([(t, 0)])
            assert values(await consumer.take(1)) == [7]
            await consumer.seek(t, 0, 2)
            assert values(await consumer.take(1)) == [7]

    run_on(front, main)


@every_front
def test_what_was_read_ahead_is_not_returned_after_the_end(broker, front, t):
    fill(broker, t, 10)

    async def main():
        async with new_consumer(
            front, broker.bootstrap, t, group_id=t, auto_offset_reset="earliest"
        ) as consumer:
            await consumer.take(1)
        with pytest.raises(ClientClosed):
            await consumer.poll(0)
        with pytest.raises(ClientClosed):
            await consumer.take(1)

    run_on(front, main)


@every_front
def test_misuse_says_what_to_do(broker, front, t):
    async def main():
        with pytest.raises(ConfigError, match="auto_offset_reset"):
            async with new_consumer(front, broker.bootstrap, auto_offset_rest="earliest"):
                pass
        for policy in (
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:1H",
            "first",
        ):
            with pytest.raises(ConfigError, match="PT1H"):
                async with new_consumer(front, broker.bootstrap, auto_offset_reset=policy):
                    pass
        with pytest.raises(ConfigError, match="third"):
            async with new_consumer(front, broker.bootstrap, session_timeout_ms=1000):
                pass
        async with new_consumer(front, broker.bootstrap) as consumer:
            with pytest.raises(ConfigError, match="group_id"):
                await consumer.subscribe(t)
            with pytest.raises(ValueError, match="assignment"):
                await consumer.seek(t, 0, 1)
            with pytest.raises(KafkaError, match="group_id"):
                await consumer.commit({(t, 0): 1})
        with pytest.raises(ClientClosed):
            await consumer.poll(1)

    run_on(front, main)


def test_two_members_with_one_instance_id_are_told(broker, t):
    create(broker, t)
    options = {"group_id": t, "group_instance_id": "same", "heartbeat_interval_ms": 30}
    with (
        fastmq.Consumer(broker.bootstrap, t, **options) as one,
        fastmq.Consumer(broker.bootstrap, t, **options) as two,
    ):
        deadline = time.monotonic() + 30
        with pytest.raises(KafkaError, match="same"):
            while time.monotonic() < deadline:
                one.poll(0.02)
                two.poll(0.02)


# ---- bounds and failures -------------------------------------------------------------------------


def test_a_consumer_that_stops_reading_holds_bounded_memory(broker, t):
    create(broker, t, 4)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for n in range(20_000):
        producer.produce(t, bytes(1000), partition=n % 4)
    producer.flush()
    limit = 1 << 20
    with fastmq.Consumer(
        broker.bootstrap,
        auto_offset_reset="earliest",
        prefetch_max_bytes=limit,
        max_partition_fetch_bytes=100_000,
    ) as consumer:
        consumer.assign([(t, index) for index in range(4)])
        assert consumer.poll(20) is not None
        fetcher = consumer._machine.fetcher
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert fetcher.buffered_bytes <= limit + 4 * 1_100_000
            time.sleep(0.02)
        assert 1 + sum(1 for _ in iter(lambda: consumer.poll(5), None)) == 20_000


def test_a_broker_that_is_killed_and_comes_back_is_read_on(make_broker, t):
    broker = make_broker()
    create(broker, t, 2)
    fill(broker, t, 1000, partitions=2)
    with fastmq.Consumer(
        broker.bootstrap, t, group_id=t, auto_offset_reset="earliest", heartbeat_interval_ms=50
    ) as consumer:
        seen = [int(r.value) for _, r in zip(range(500), consumer, strict=False)]
        broker.kill()
        broker.start()
        fill(broker, t, 200, partitions=2)
        deadline = time.monotonic() + 40
        while len(set(seen)) < 1000 or seen.count(1) < 2:
            record = consumer.poll(0.5)
            if record is not None:
                seen.append(int(record.value))
            assert time.monotonic() < deadline


def test_a_consumer_made_before_a_fork_refuses_in_the_child(broker, t):
    import os

    fill(broker, t, 9)
    with fastmq.Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([(t, 0)])
        assert consumer.poll(20) is not None
        child = os.fork()
        if child == 0:
            try:
                consumer.poll(0)
            except ClientClosed:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
