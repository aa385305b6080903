"""`Admin` against a real broker: the same scenarios over the blocking front, trio and asyncio.

A scenario is a coroutine that gets an object whose methods are coroutines. For the blocking front
these return at once, so that the scenario runs to its end in one step, without any loop.
"""

import inspect
import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest

import fastmq
import fastmq.aio
from fastmq.client.admin.steps import Ask, Pause, run_steps
from fastmq.client.core import ClientCore
from fastmq.client.options import ClientOptions, read_options
from fastmq.errors import (
    ClientClosed,
    ConfigError,
    ErrorCode,
    KafkaError,
    RequestTimedOut,
    SomeFailed,
)
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch

from support import apache_kafka
from support.broker import Broker
from support.raw import RawClient


@pytest.fixture(
    scope="module",
    params=["fastmq", pytest.param("kafka", marks=[pytest.mark.slow, pytest.mark.interop])],
)
def shared(request, tmp_path_factory):
    """One broker for all; the long suites run everything against Apache Kafka, too."""
    root = tmp_path_factory.mktemp("admin")
    if request.param == "fastmq":
        with Broker(root) as broker:
            yield broker
        return
    if why := apache_kafka.missing():
        pytest.skip(why)
    with apache_kafka.ApacheKafka(root) as kafka:
        yield kafka


class Waiting:
    """The blocking client with coroutines for methods, which never wait."""

    def __init__(self, admin):
        self._admin = admin

    def __getattr__(self, name):
        method = getattr(self._admin, name)

        async def call(*args, **kwargs):
            return method(*args, **kwargs)

        return call


@pytest.fixture(params=["blocking", "trio", "asyncio"])
def run(request, shared):
    """Run a scenario with an open Admin; topic and group names carry the front's name."""

    def blocking(scenario):
        with (
            fastmq.Admin(shared.bootstrap, default_api_timeout_ms=20_000) as admin,
            pytest.raises(StopIteration),
        ):
            scenario(Waiting(admin), request.param).send(None)

    def on_loop(scenario):
        async def main():
            with anyio.fail_after(60):
                async with fastmq.aio.Admin(
                    shared.bootstrap, default_api_timeout_ms=20_000
                ) as admin:
                    await scenario(admin, request.param)

        anyio.run(main, backend=request.param)

    return blocking if request.param == "blocking" else on_loop


async def refused(awaitable, code):
    with pytest.raises(KafkaError) as caught:
        await awaitable
    assert caught.value.code == code, caught.value
    return str(caught.value)


async def until(ask, holds):
    """Ask until the answer holds: a cluster tells of changes before all of it knows them."""
    for _ in range(100):
        try:
            answer = await ask()
            if holds(answer):
                return answer
        except KafkaError as error:
            answer = error
        time.sleep(0.05)  # noqa: ASYNC251 - bounded; there is nobody whom it could hold up
    pytest.fail(f"not in time; in the end: {answer}")


def produce(bootstrap, topic, times, partition=0):
    """One batch per time, so that each can be found by it."""
    with RawClient(bootstrap) as client:
        for time_ms in times:
            batch = build_batch([NewRecord(None, b"x", (), time_ms)])
            part = ProducePartition(index=partition, records=batch)
            request = ProduceRequest(
                acks=-1,
                timeout_ms=5000,
                topic_data=[ProduceTopic(name=topic, partition_data=[part])],
            )
            # Kafka answers that a topic is made before its leader knows it.
            for _ in range(100):
                response = client.call(request, 9)
                if response.responses[0].partition_responses[0].error_code not in (3, 6):
                    break
                time.sleep(0.05)
            assert response.responses[0].partition_responses[0].error_code == 0


def test_topics_from_making_to_deleting(run):
    async def scenario(admin, name):
        created = await admin.create_topic(name, 3, config={"retention.ms": 60_000})
        assert (created.name, created.partitions, created.existed) == (name, 3, False)
        await until(admin.list_topics, lambda names: name in names)
        (topic,) = await until(lambda: admin.describe_topics(name), bool)
        assert [part.partition for part in topic.partitions] == [0, 1, 2]
        assert topic.topic_id == created.topic_id
        assert not topic.partitions[0].is_under_replicated

        text = await refused(admin.create_topic(name), ErrorCode.TOPIC_ALREADY_EXISTS)
        assert name in text
        again = await admin.create_topic(name, if_not_exists=True)
        assert again.existed

        await admin.add_partitions(name, 5)
        await until(lambda: admin.describe_topics([name]), lambda t: len(t[0].partitions) == 5)
        await refused(admin.add_partitions(name, 4), ErrorCode.INVALID_PARTITIONS)

        await admin.delete_topics(name)
        await until(admin.list_topics, lambda names: name not in names)
        await refused(admin.delete_topics(name), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        await admin.delete_topics(name, if_exists=True)

    run(scenario)


def test_asking_for_a_topic_does_not_make_it(run):
    async def scenario(admin, name):
        missing = f"{name}-missing"
        code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await refused(admin.describe_topics(missing), code)
        await refused(admin.topic_offsets(missing, "latest"), code)
        await refused(admin.delete_records({(missing, 0): 1}), code)
        await refused(admin.topic_config(missing), code)
        assert missing not in await admin.list_topics()

    run(scenario)


def test_of_several_things_those_refused_are_named_and_the_others_done(run):
    async def scenario(admin, name):
        topics = [fastmq.NewTopic(t, 1) for t in (f"{name}-good", "not good", "/", "..")]
        with pytest.raises(SomeFailed) as caught:
            await admin.create_topics(topics)
        assert set(caught.value.errors) == {"not good", "/", ".."}
        await until(admin.list_topics, lambda names: f"{name}-good" in names)

    run(scenario)


def test_settings(run):
    async def scenario(admin, name):
        topic = f"{name}-settings"
        await admin.create_topic(topic, 1)
        await admin.alter_topic_config(
            topic, {"retention.ms": 5000}, append={"cleanup.policy": "compact"}
        )
        found = await until(
            lambda: admin.topic_config(topic), lambda f: f["retention.ms"].value == "5000"
        )
        assert not found["retention.ms"].is_default
        assert found["cleanup.policy"].value == "delete,compact"
        assert found["segment.bytes"].is_default
        await admin.alter_topic_config(topic, delete=["retention.ms", "cleanup.policy"])
        found = await until(
            lambda: admin.topic_config(topic, ["retention.ms"], documentation=True),
            lambda f: f["retention.ms"].source.name != "TOPIC",
        )
        (only,) = found.values()
        assert only.documentation
        text = await refused(
            admin.alter_topic_config(topic, {"retention.mss": 1}), ErrorCode.INVALID_CONFIG
        )
        assert "retention.ms" in text

        (node,) = (await admin.describe_cluster()).brokers
        await admin.alter_broker_config(None, {"log.retention.ms": 777_000})
        for ask in (admin.broker_config, lambda: admin.broker_config(node.node_id)):
            await until(
                ask, lambda f: "log.retention.ms" in f and f["log.retention.ms"].value == "777000"
            )
        await admin.alter_broker_config(None, delete=["log.retention.ms"])

    run(scenario)


def test_offsets_by_time_and_deleted_records(run, shared):
    async def scenario(admin, name):
        topic = f"{name}-times"
        await admin.create_topic(topic, 2)
        noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
        noon_ms = int(noon.timestamp() * 1000)
        produce(shared.bootstrap, topic, [noon_ms, noon_ms + 1000, noon_ms + 2000])
        ends = await until(lambda: admin.topic_offsets(topic, "latest"), lambda f: len(f) == 2)
        assert {name.partition: found.offset for name, found in ends.items()} == {0: 3, 1: 0}
        first = fastmq.TopicPartition(topic, 0)
        found = await admin.list_offsets({first: noon + timedelta(seconds=1)})
        assert (found[first].offset, found[first].timestamp) == (1, noon_ms + 1000)
        found = await admin.list_offsets({(topic, 0): noon_ms + 5000, (topic, 1): "earliest"})
        assert [f.offset for f in found.values()] == [-1, 0]
        assert (await admin.list_offsets({first: "max-timestamp"}))[first].offset == 2

        assert await admin.delete_records({first: 2}) == {first: 2}
        assert (await admin.list_offsets({first: "earliest"}))[first].offset == 2
        await refused(admin.delete_records({first: 99}), ErrorCode.OFFSET_OUT_OF_RANGE)
        assert await admin.delete_records({first: -1}) == {first: 3}

    run(scenario)


def test_offsets_of_a_group(run, shared):
    async def scenario(admin, name):
        topic, group = f"{name}-read", f"{name}-readers"
        await admin.create_topic(topic, 2)
        produce(shared.bootstrap, topic, range(1000, 1010))
        first, second = fastmq.TopicPartition(topic, 0), fastmq.TopicPartition(topic, 1)
        await admin.alter_offsets(group, {first: 4})
        (listed,) = [g for g in await admin.list_groups() if g.group == group]
        assert listed.state == "Empty"
        assert group not in [g.group for g in await admin.list_groups(states=["Stable"])]
        (part,) = await admin.group_lag(group)
        assert (part.committed, part.start, part.end, part.lag) == (4, 0, 10, 6)

        planned = await admin.reset_offsets(group, [topic], to="latest", execute=False)
        assert [(m.partition, m.before, m.after) for m in planned] == [(0, 4, 10), (1, None, 0)]
        assert list(await admin.committed_offsets(group)) == [first]
        await admin.reset_offsets(group, [topic], to="latest")
        committed = await admin.committed_offsets(group)
        assert {n: c.offset for n, c in committed.items()} == {first: 10, second: 0}
        for expected, options in (
            (7, {"shift": -3}),
            (0, {"shift": -100}),
            (10, {"offset": 10_000}),
            (5, {"to": 1005}),
            (10, {"to": 99_000}),
            (2, {"explicit": {first: 2}}),
            (0, {"to": "earliest", "partitions": [first]}),
        ):
            moves = await admin.reset_offsets(group, **options)
            assert moves[0].after == expected, options

        await admin.delete_offsets(group, [first])
        assert list(await admin.committed_offsets(group)) == [second]
        await admin.delete_groups(group)
        await refused(admin.delete_groups(group), ErrorCode.GROUP_ID_NOT_FOUND)
        await refused(admin.group_lag(group), ErrorCode.GROUP_ID_NOT_FOUND)
        assert await admin.committed_offsets(group) == {}

    run(scenario)


def test_a_group_with_members(run, shared):
    confluent = pytest.importorskip("confluent_kafka")

    async def scenario(admin, name):
        topic, group = f"{name}-members", f"{name}-with-members"
        await admin.create_topic(topic, 2)
        consumer = confluent.Consumer(
            {
                "bootstrap.servers": shared.bootstrap,
                "group.id": group,
                "client.id": "somebody",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([topic])
        for _ in range(200):
            consumer.poll(0.05)
            if consumer.assignment():
                break
        else:
            pytest.fail("no assignment")
        try:
            (described,) = await admin.describe_groups(group)
            assert described.state == "Stable"
            (member,) = described.members
            assert member.client_id == "somebody"
            assert member.partitions == ((topic, 0), (topic, 1))
            lag = await admin.group_lag(group)
            assert [(p.committed, p.member_id) for p in lag] == [(None, member.member_id)] * 2
            text = await refused(
                admin.alter_offsets(group, {(topic, 0): 0}), ErrorCode.UNKNOWN_MEMBER_ID
            )
            assert "stop its consumers" in text
            await refused(admin.delete_groups(group), ErrorCode.NON_EMPTY_GROUP)
            await refused(
                admin.delete_offsets(group, [(topic, 0)]), ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            )
            await refused(admin.remove_members(group, ["nobody"]), ErrorCode.UNKNOWN_MEMBER_ID)
            assert await admin.remove_members(group) == [member.member_id]
        finally:
            consumer.close()
        await admin.delete_groups(group)

    run(scenario)


def test_cluster_and_disks(run, shared):
    async def scenario(admin, name):
        topic = f"{name}-disk"
        await admin.create_topic(topic, 1)
        produce(shared.bootstrap, topic, [1])
        cluster = await admin.describe_cluster()
        assert [(b.host, b.port) for b in cluster.brokers] == [("127.0.0.1", shared.port)]
        assert cluster.controller_id == cluster.brokers[0].node_id
        (directory,) = await admin.describe_log_dirs()
        assert directory.path == str(shared.data_dir)
        assert directory.error == ""
        assert directory.usable_bytes > 0
        assert [r.size > 0 for r in directory.replicas if r.topic == topic] == [True]

    run(scenario)


def test_moves_elections_and_brokers_that_leave(run):
    async def scenario(admin, topic):
        await admin.create_topic(topic, partitions=2)
        (node,) = (await admin.describe_cluster(fenced=True)).brokers
        assert not node.is_fenced
        await admin.reassign({(topic, 0): [node.node_id]})
        assert await admin.list_reassignments() == {}
        assert await admin.list_reassignments([(topic, 1)]) == {}
        assert await admin.elect_leaders() == {}
        code = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        await refused(admin.reassign({(topic, 0): None}), code)
        code = ErrorCode.INVALID_REPLICA_ASSIGNMENT
        assert "77" in await refused(admin.reassign({(topic, 1): [77]}), code)
        await refused(admin.unregister_broker(77), ErrorCode.BROKER_ID_NOT_REGISTERED)

    run(scenario)


def test_a_broker_that_is_not_there_ends_with_the_reason():
    with (
        fastmq.Admin("127.0.0.1:1", default_api_timeout_ms=300) as admin,
        pytest.raises(KafkaError, match="ECONNREFUSED|refused"),
    ):
        admin.list_topics()
    with pytest.raises(ClientClosed):
        admin.list_topics()


def test_errors_leave_the_async_front_as_they_are(shared):
    async def main():
        async with fastmq.aio.Admin(shared.bootstrap) as admin:
            await admin.describe_topics("no-such-topic")

    for backend in ("trio", "asyncio"):
        with pytest.raises(KafkaError) as caught:
            anyio.run(main, backend=backend)
        assert caught.value.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_cancelling_a_call_leaves_the_client_usable(shared, backend):
    async def main():
        async with fastmq.aio.Admin(shared.bootstrap) as admin:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await admin.list_topics()
            assert scope.cancelled_caught
            assert isinstance(await admin.list_topics(), list)
        with pytest.raises(ClientClosed):
            await admin.list_topics()

    anyio.run(main, backend=backend)


def test_what_cannot_be_is_refused_before_anything_is_sent():
    with pytest.raises(ConfigError, match="did you mean client_id"):
        fastmq.Admin("127.0.0.1:1", client_ids="x")
    with fastmq.Admin("127.0.0.1:1") as admin:
        with pytest.raises(ValueError, match="no position"):
            admin.list_offsets({("t", 0): "newest"})
        with pytest.raises(ValueError, match="time zone"):
            admin.list_offsets({("t", 0): datetime(2024, 1, 1)})  # noqa: DTZ001


def test_both_fronts_have_the_same_methods():
    def methods(kind):
        return {
            name: str(inspect.signature(method))
            for name, method in vars(kind).items()
            if inspect.isfunction(method) and not name.startswith("_") and name != "close"
        }

    assert methods(fastmq.Admin) == methods(fastmq.aio.Admin)


# ---- the runner of steps, without a broker -------------------------------------------------------


class FakeCore:
    """Collects what is sent and the timers; time stands still until told."""

    def __init__(self):
        options = read_options(ClientOptions, "nowhere", {})
        self.real = ClientCore(options, now_ms=0, choose=lambda _: 0)
        self.options = options
        self.now_ms = 0
        self.is_closed = False
        self.sent = []
        self.timers = []

    def send(self, target, request, on_done, *, timeout_ms, error_of):
        self.sent.append((target, on_done, timeout_ms))

    def call_at(self, when_ms, fn):
        self.timers.append((when_ms, fn))

    def backoff_ms(self, attempts):
        return 100 * attempts


def test_steps_get_their_answers_in_order_and_pauses_end_with_time():
    def steps():
        first = yield [Ask("a", None), Ask("b", None)]
        assert first == ["answer a", "answer b"]
        yield Pause(1, KafkaError(1, "not reached"))
        with pytest.raises(KafkaError, match="broken"):
            yield [Ask("c", None)]
        yield Pause(1000, KafkaError(9, "the last word"))

    core, results = FakeCore(), []
    run_steps(core, steps(), results.append, timeout_ms=5000)
    (_, done_a, _), (_, done_b, _) = core.sent
    done_b("answer b")
    done_a("answer a")
    (when_ms, resume) = core.timers.pop()
    assert when_ms == 100
    core.now_ms = 100
    resume()
    (_, done_c, left_ms) = core.sent[2]
    assert left_ms == 4900
    done_c(KafkaError(7, "broken"))
    assert [error.code for error in results] == [9]
    assert not core.timers


def test_the_first_failed_answer_is_the_operations_error():
    def steps():
        yield [Ask("a", None), Ask("b", None)]

    core, results = FakeCore(), []
    run_steps(core, steps(), results.append)
    core.sent[1][1](RequestTimedOut("too late"))
    assert not results
    core.sent[0][1]("fine")
    assert [type(error) for error in results] == [RequestTimedOut]
