"""The driver of coordinator shards, with a scripted shard and partition: who is answered when."""

from typing import Any

import pytest
import trio

from fastmq.coordinator.effects import Effects, Record, Reply
from fastmq.errors import ErrorCode, KafkaError
from fastmq.server.clock import Clock
from fastmq.server.coordinators import CoordinatorDriver, ShardState, next_offset


class Shard:
    """Remembers what was replayed; its operations are what a test hands in."""

    def __init__(self) -> None:
        self.replayed: list[tuple[bytes, bytes | None]] = []
        self.deadline: int | None = None
        self.timer_effects = Effects()
        self.put_off: list[Reply] = []

    def replay(self, key, value):
        self.replayed.append((key, value))

    def on_loaded(self, _now_ms):
        return Effects()

    def next_deadline(self):
        return self.deadline

    def on_timer(self, now_ms):
        self.deadline = None
        return self.timer_effects

    def resign(self, code):
        return Effects(replies=[Reply(r.token, r.refusal(code), r.refusal) for r in self.put_off])


class Log:
    """A partition that takes or refuses appends as told."""

    topic, index, dir_id, path = "__consumer_offsets", 0, 0, ""

    def __init__(self) -> None:
        self.appends: list[tuple[int, list[Record]]] = []
        self.code = 0

    def append(self, batch, *, trusted, wait_token, now_ms):
        assert trusted
        if not self.code:
            self.appends.append((wait_token, batch))
        return self.code, 0, -1, None


class Asker:
    def __init__(self, answers: list[Any], name: str) -> None:
        self.answers, self.name = answers, name

    def reply(self, response):
        self.answers.append((self.name, response))


@pytest.fixture
async def made():
    log, shard = Log(), Shard()
    driver = CoordinatorDriver(
        clock=Clock(wall_s=0.0),
        make_shard=lambda _: shard,
        build_batch=lambda records, _now: records,
        iter_records=lambda _: (),
    )
    driver.add_partition(log, is_empty=True)
    (runner,) = driver.runners()
    return driver, runner, log, shard, []


def step(answers, name, *keys, rollback=None):
    reply = Reply(Asker(answers, name), "done", lambda code: code.name)
    return lambda _shard, _now: Effects([Record(key, b"v") for key in keys], [reply], rollback)


async def test_answers_wait_for_the_commit_of_all_that_was_applied_before(made):
    driver, runner, log, shard, answers = made
    runner.step(step(answers, "write", b"a"))
    runner.step(step(answers, "read"))
    assert shard.replayed == [(b"a", b"v")]
    assert answers == []
    driver.on_appended(log.appends[0][0], 0)
    assert answers == [("write", "done"), ("read", "done")]
    runner.step(step(answers, "later"))
    assert answers[-1] == ("later", "done")


async def test_refused_append_is_told_and_rolled_back_and_the_shard_goes_on(made):
    _, runner, log, shard, answers = made
    rolled_back = []

    def rollback(now_ms):
        rolled_back.append(now_ms)
        return Effects()

    log.code = ErrorCode.NOT_ENOUGH_REPLICAS
    runner.step(step(answers, "write", b"a", rollback=rollback))
    assert answers == [("write", "NOT_ENOUGH_REPLICAS")]
    assert len(rolled_back) == 1
    assert shard.replayed == []
    log.code = 0
    runner.step(step(answers, "write again", b"b"))
    assert shard.replayed == [(b"b", b"v")]


async def test_gathered_commits_share_an_append_and_come_before_what_follows(made):
    driver, runner, log, _, answers = made
    for name in ("one", "two"):
        runner.step(step(answers, name, name.encode()), gather=True)
    assert log.appends == []
    driver.flush()
    assert [len(batch) for _, batch in log.appends] == [2]
    runner.step(step(answers, "three", b"three"), gather=True)
    runner.step(step(answers, "join", b"four"))
    assert [[r.key for r in batch] for _, batch in log.appends[1:]] == [[b"three"], [b"four"]]
    for token, _ in log.appends:
        driver.on_appended(token, 0)
    assert [name for name, _ in answers] == ["one", "two", "three", "join"]
    assert runner.is_settled


async def test_lost_append_refuses_everybody_and_gives_the_shard_up(made):
    driver, runner, log, shard, answers = made
    shard.put_off.append(Reply(Asker(answers, "waiting join"), "never", lambda code: code.name))
    runner.step(step(answers, "write", b"a"))
    runner.step(step(answers, "read"))
    driver.on_appended(log.appends[0][0], ErrorCode.KAFKA_STORAGE_ERROR)
    assert answers == [
        ("write", "KAFKA_STORAGE_ERROR"),
        ("read", "KAFKA_STORAGE_ERROR"),
        ("waiting join", "KAFKA_STORAGE_ERROR"),
    ]
    assert runner.state is ShardState.LOST
    with pytest.raises(KafkaError, match="NOT_COORDINATOR"):
        driver.runner_for("any")


async def test_shard_that_fails_is_loaded_anew(made):
    driver, runner, log, shard, answers = made

    def fail(_key, _value):
        raise RuntimeError("a bug")

    shard.replay = fail
    log.log_start = log.log_end = lambda: 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        runner.step(step(answers, "write", b"a"))
        assert answers == [("write", "UNKNOWN_SERVER_ERROR")]
        with pytest.raises(KafkaError, match="LOAD_IN_PROGRESS"):
            driver.runner_for("any")
        del shard.replay
        with trio.fail_after(5):
            while runner.state is not ShardState.ACTIVE:  # noqa: ASYNC110 - no event for it
                await trio.sleep(0.01)
        # The event of the append before the failure is nobody's any more.
        driver.on_appended(log.appends[0][0], 0)
        runner.step(step(answers, "again", b"b"))
        driver.on_appended(log.appends[1][0], 0)
        assert answers[-1] == ("again", "done")
        nursery.cancel_scope.cancel()


async def test_timer_runs_at_the_deadline(made, autojump_clock):
    driver, runner, _, shard, answers = made
    driver_clock = Clock(wall_s=0.0)
    driver._clock = driver_clock
    shard.timer_effects = step(answers, "timer")(None, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)

        def arm(_shard, now_ms):
            shard.deadline = now_ms + 5_000
            return Effects()

        runner.step(arm)
        await trio.sleep(4.9)
        assert answers == []
        await trio.sleep(0.2)
        assert answers == [("timer", "done")]
        nursery.cancel_scope.cancel()


def test_next_offset_is_after_the_last_whole_batch():
    from fastmq.records import NewRecord, build_batch

    batches = b"".join(
        bytes(build_batch([NewRecord(b"k", b"v")] * count, base_offset=base))
        for base, count in ((10, 3), (13, 2))
    )
    assert next_offset(batches) == 15


class Stuck(Log):
    """A partition whose last records do not get committed."""

    def log_start(self):
        return 0

    def log_end(self):
        return 5

    def read(self, _offset, _max_bytes):
        return b""


class Short(Stuck):
    """A partition that has everything."""

    index = 1

    def log_end(self):
        return 0


async def test_a_shard_whose_log_gets_no_further_keeps_no_other_from_loading(made):
    driver, _, _, _, _ = made
    driver.drop_partition(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        driver.add_partition(Stuck(), is_empty=False)
        driver.add_partition(Short(), is_empty=False)
        stuck, short = driver.runners()
        with trio.fail_after(10):
            while short.state is not ShardState.ACTIVE:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)
        assert stuck.state is ShardState.LOADING
        driver.drop_partition(0)
        nursery.cancel_scope.cancel()
