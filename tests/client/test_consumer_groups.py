"""Groups of consumers, on all three fronts against a real broker: who has what."""

import re
import time
from typing import Any

import pytest
from confluent_kafka import Consumer as OtherConsumer

from fastmq.errors import CommitFailed

from support.consumer_fronts import FRONTS, create, fill, new_consumer, run_on, values

every_front = pytest.mark.parametrize("front", FRONTS)


@every_front
def test_a_group_goes_on_where_it_stopped(broker, front, t):
    fill(broker, t, 100)
    options = {"group_id": t, "auto_offset_reset": "earliest"}

    async def main():
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            assert values(await consumer.take(40)) == list(range(40))
        # The loop was done with 40 records when it ended.
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            assert values(await consumer.take(10)) == list(range(40, 50))

    run_on(front, main)


@every_front
def test_a_record_that_was_worked_on_when_it_failed_comes_again(broker, front, t):
    fill(broker, t, 10)
    options = {"group_id": t, "auto_offset_reset": "earliest"}

    async def main():
        with pytest.raises(ZeroDivisionError):
            async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
                await consumer.take(3)
                raise ZeroDivisionError
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            assert values(await consumer.take(1)) == [0]

    run_on(front, main)


@every_front
def test_what_is_done_is_committed_now_and_then(broker, front, t):
    create(broker, t, 2)
    fill(broker, t, 20, partitions=2)
    options = {"group_id": t, "auto_offset_reset": "earliest", "auto_commit_interval_ms": 30}

    async def main():
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            await consumer.take(20)
            deadline = time.monotonic() + 20
            while True:
                committed = await consumer.committed()
                assert await consumer.poll(0.02) is None
                if len(committed) == 2 and {r.offset for r in committed.values()} == {10}:
                    break
                assert time.monotonic() < deadline

    run_on(front, main)


@every_front
@pytest.mark.parametrize("strategy", ["range", "roundrobin", "sticky", "cooperative-sticky"])
def test_members_share_partitions_and_take_over(broker, front, strategy, t):
    create(broker, t, 6)
    options = {
        "group_id": t,
        "auto_offset_reset": "earliest",
        "partition_assignment_strategy": strategy,
        "heartbeat_interval_ms": 30,
    }
    told: list[tuple[str, int]] = []

    def watch(kind: str) -> Any:
        return lambda _consumer, names: told.append((kind, len(names)))

    async def main():
        async with new_consumer(
            front,
            broker.bootstrap,
            t,
            on_assigned=watch("assigned"),
            on_revoked=watch("revoked"),
            **options,
        ) as one:
            await until(one, lambda: len(one.real.assignment()) == 6)
            async with new_consumer(front, broker.bootstrap, t, **options) as two:
                deadline = time.monotonic() + 30
                while len(one.real.assignment()) != 3 or len(two.real.assignment()) != 3:
                    await one.poll(0.02)
                    await two.poll(0.02)
                    assert time.monotonic() < deadline
                assert not set(one.real.assignment()) & set(two.real.assignment())
            await until(one, lambda: len(one.real.assignment()) == 6)
            fill(broker, t, 60, partitions=6)
            assert sorted(values(await one.take(60))) == list(range(60))

    run_on(front, main)
    assert told[0] == ("assigned", 6)
    # Only the cooperative one kept what stayed.
    assert ("revoked", 3 if strategy == "cooperative-sticky" else 6) in told


@every_front
def test_who_leaves_is_told_what_it_gives_up_and_can_commit(broker, front, t):
    create(broker, t, 2)
    fill(broker, t, 20, partitions=2)
    told = []

    def commit(consumer: Any, names: Any) -> Any:
        told.append(names)
        return consumer.commit(dict.fromkeys(names, 7))

    async def main():
        options = {"group_id": t, "auto_offset_reset": "earliest", "enable_auto_commit": False}
        async with new_consumer(front, broker.bootstrap, t, on_revoked=commit, **options) as one:
            await one.take(1)
            await one.unsubscribe()
            assert told == [[(t, 0), (t, 1)]]
            assert {row.offset for row in (await one.committed()).values()} == {7}
            await one.subscribe(t)
            assert {r.offset for r in await one.take(6)} == {7, 8, 9}
        assert len(told) == 2
        with pytest.raises(ZeroDivisionError):
            async with new_consumer(
                front, broker.bootstrap, t, on_revoked=commit, **options
            ) as one:
                await one.take(1)
                raise ZeroDivisionError
        assert len(told) == 2

    run_on(front, main)


async def until(consumer: Any, condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        await consumer.poll(0.02)
        assert time.monotonic() < deadline


@every_front
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_group_with_librdkafka_members(broker, front, strategy, t):
    create(broker, t, 4)
    other = OtherConsumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": t,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": strategy,
            "heartbeat.interval.ms": 30,
        }
    )
    other.subscribe([t])

    async def main():
        async with new_consumer(
            front,
            broker.bootstrap,
            t,
            group_id=t,
            auto_offset_reset="earliest",
            partition_assignment_strategy=strategy,
            heartbeat_interval_ms=30,
        ) as ours:
            deadline = time.monotonic() + 60
            while len(ours.real.assignment()) != 2 or len(other.assignment()) != 2:
                await ours.poll(0.02)
                other.poll(0.02)
                assert time.monotonic() < deadline
            fill(broker, t, 40, partitions=4)
            seen: list[int] = []
            while len(seen) < 40:
                record = await ours.poll(0.02)
                if record is not None:
                    seen.append(int(record.value))
                message = other.poll(0.02)
                if message is not None and not message.error():
                    seen.append(int(message.value()))
                assert time.monotonic() < deadline
            assert sorted(seen) == list(range(40))
        other.close()

    run_on(front, main)


@every_front
def test_a_pattern_takes_new_topics_in(broker, front, t):
    create(broker, t + "-one")
    fill(broker, t + "-one", 1)

    async def main():
        async with new_consumer(
            front,
            broker.bootstrap,
            group_id=t,
            auto_offset_reset="earliest",
            metadata_max_age_ms=100,
            heartbeat_interval_ms=30,
        ) as consumer:
            await consumer.subscribe(pattern=re.escape(t) + "-.*")
            assert (await consumer.take(1))[0].topic == t + "-one"
            create(broker, t + "-two")
            fill(broker, t + "-two", 1)
            assert (await consumer.take(1))[0].topic == t + "-two"
            await consumer.unsubscribe()
            assert await consumer.assignment() == []

    run_on(front, main)


@every_front
def test_long_work_does_not_cost_the_membership(broker, front, t):
    """Heartbeats go on; only max_poll_interval_ms ends the patience, and says so."""
    fill(broker, t, 2)
    options = {
        "group_id": t,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": 300,
        "heartbeat_interval_ms": 50,
        "enable_auto_commit": False,
    }

    async def main():
        async with new_consumer(front, broker.bootstrap, t, **options) as consumer:
            await consumer.take(1)
            await consumer.work(1)  # longer than the session
            await consumer.commit()
            assert (await consumer.committed())[t, 0].offset == 1

        lost = []
        async with new_consumer(
            front,
            broker.bootstrap,
            t,
            max_poll_interval_ms=400,
            on_lost=lambda _consumer, names: lost.extend(names),
            **options,
        ) as consumer:
            (record,) = await consumer.take(1)
            await consumer.work(1.2)
            with pytest.raises(CommitFailed, match="max_poll_interval_ms=400"):
                await consumer.commit(record)
            # The next poll comes back to the group, and the record comes again.
            assert values(await consumer.take(1)) == [1]
            assert lost == [(t, 0)]

    run_on(front, main)


@every_front
def test_static_members_come_back_without_a_rebalance(broker, front, t):
    create(broker, t, 2)
    options = {"group_id": t, "auto_offset_reset": "earliest", "heartbeat_interval_ms": 30}
    told = []

    async def main():
        async with new_consumer(
            front,
            broker.bootstrap,
            t,
            group_instance_id="a",
            on_revoked=lambda _consumer, names: told.append(names),
            **options,
        ) as one:
            await until(one, lambda: len(one.real.assignment()) == 2)
            for _ in range(2):
                async with new_consumer(
                    front, broker.bootstrap, t, group_instance_id="b", **options
                ) as two:
                    deadline = time.monotonic() + 30
                    while len(one.real.assignment()) != 1 or len(two.real.assignment()) != 1:
                        await one.poll(0.02)
                        await two.poll(0.02)
                        assert time.monotonic() < deadline
            assert len(told) == 1

    run_on(front, main)
