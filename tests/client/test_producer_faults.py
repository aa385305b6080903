"""An idempotent producer on bad days: nothing lost, nothing twice, order kept.

Records are numbered and keyed; each key's numbers must lie in its partition in order, each once.
Cuts fall anywhere in requests and answers; kills take the broker's process and all connections. The
full-size runs (`slow`) are those of the project's reliability figures.
"""

import threading

import pytest

from fastmq.errors import ErrorCode, KafkaError
from fastmq.testing import Broker as InProcessBroker

from support.fronts import FRONTS, new_producer, run, stored
from support.proxy import CuttingProxy
from support.records import create_topic

KEYS = 7
PARTITIONS = 3

every_front = pytest.mark.parametrize("front", FRONTS)


def check_log(broker, topic, count, acknowledged):
    """Every number once, in order per key, at the offset that its delivery told."""
    seen = {}
    last_of_key = {}
    for partition in range(PARTITIONS):
        for record in stored(f"127.0.0.1:{broker.port}", topic, partition):
            number = int(record.value.split(b":")[0])
            assert number not in seen, f"record {number} is there twice"
            seen[number] = (partition, record.offset)
            assert number > last_of_key.get(record.key, -1), f"key {record.key} is out of order"
            last_of_key[record.key] = number
    assert len(seen) == count, f"{count - len(seen)} records are lost"
    for number, place in acknowledged.items():
        assert seen[number] == place, f"record {number} is not where its delivery says"


async def produce_numbered(producer, topic, count, at):
    """Produce; `at` maps numbers to functions to call then. Returns the places by number."""
    deliveries = []
    for n in range(count):
        if n in at:
            at[n]()
        value = b"%d:" % n + b"x" * (n % 300)
        deliveries.append(await producer.send(topic, value, b"key %d" % (n % KEYS)))
    await producer.flush()
    places = {}
    for n, delivery in enumerate(deliveries):
        found = await producer.done(delivery)
        # -1: a repeated batch whose place the broker does not remember.
        if found.offset >= 0:
            places[n] = (found.partition, found.offset)
    return places


def survive_cuts(make_broker, front, count, seed):
    with CuttingProxy(cut_after=(2_000, 400_000), seed=seed) as proxy:
        overrides = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        broker = make_broker(overrides=overrides)
        proxy.target = ("127.0.0.1", broker.port)
        proxy.cut_after, cuts = None, proxy.cut_after
        create_topic(broker, "cut", PARTITIONS)
        proxy.cut_after = cuts

        async def main():
            options = {
                "linger_ms": 1,
                "batch_size": 4_000,
                "retry_backoff_ms": 5,
                "retry_backoff_max_ms": 50,
                "reconnect_backoff_ms": 5,
                "reconnect_backoff_max_ms": 50,
            }
            async with new_producer(front, f"127.0.0.1:{proxy.port}", **options) as producer:
                return await produce_numbered(producer, "cut", count, {})

        acknowledged = run(front, main)
        assert proxy.cuts > count // 5000, "the test cut nothing"
        check_log(broker, "cut", count, acknowledged)


def survive_kills(make_broker, front, count, kills):
    broker = make_broker()
    create_topic(broker, "killed", PARTITIONS)
    threads = []

    def restart():
        broker.kill()
        broker.start()

    def restart_soon():
        if threads:
            threads[-1].join(60)
        threads.append(threading.Thread(target=restart))
        threads[-1].start()

    async def main():
        options = {"linger_ms": 1, "batch_size": 16_000, "buffer_memory": 1 << 20}
        async with new_producer(front, broker.bootstrap, **options) as producer:
            at = {count * (n + 1) // (kills + 1): restart_soon for n in range(kills)}
            return await produce_numbered(producer, "killed", count, at)

    try:
        acknowledged = run(front, main)
    finally:
        for thread in threads:
            thread.join(60)
    check_log(broker, "killed", count, acknowledged)


@every_front
def test_connections_are_cut(make_broker, front):
    survive_cuts(make_broker, front, 15_000, seed=1)


@every_front
def test_the_broker_is_killed(make_broker, front):
    survive_kills(make_broker, front, 10_000, kills=1)


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.timeout(300)
def test_connections_are_cut_while_400000_records_pass(make_broker):
    survive_cuts(make_broker, "blocking", 400_000, seed=7)


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.timeout(300)
def test_the_broker_is_killed_while_1000000_records_pass(make_broker):
    survive_kills(make_broker, "blocking", 1_000_000, kills=6)


@pytest.fixture(scope="module")
def faulty():
    with InProcessBroker(in_process=True) as broker:
        yield broker
        broker.faults.clear()


@every_front
@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.CORRUPT_MESSAGE,
        # The producer state of the broker does not fit: the epoch is raised (KIP-360).
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
    ],
)
def test_errors_that_may_pass_are_retried_in_order(faulty, front, code):
    topic = f"retried-{front}-{int(code)}"
    fault = faulty.faults.error("Produce", code, topic=topic, nth=3, times=2)

    async def main():
        options = {"linger_ms": 0, "batch_size": 300, "retry_backoff_ms": 1}
        async with new_producer(front, faulty.bootstrap_servers, **options) as producer:
            deliveries = [await producer.send(topic, b"%d" % n) for n in range(300)]
            return [(await producer.done(d)).offset for d in deliveries]

    assert run(front, main) == list(range(300))
    assert fault.hits == 2
    found = [int(r.value) for r in stored(faulty.bootstrap_servers, topic)]
    assert found == list(range(300))


@every_front
def test_a_final_error_fails_its_batch_and_no_other(faulty, front):
    topic = f"refused-{front}"
    faulty.faults.error("Produce", ErrorCode.INVALID_RECORD, topic=topic, nth=2, times=1)

    async def main():
        options = {"linger_ms": 0, "batch_size": 300, "retry_backoff_ms": 1}
        failed, kept = [], []
        async with new_producer(front, faulty.bootstrap_servers, **options) as producer:
            deliveries = [await producer.send(topic, b"%d" % n) for n in range(300)]
            await producer.flush()
            for n, delivery in enumerate(deliveries):
                error = delivery.exception()
                (kept if error is None else failed).append(n)
                assert error is None or error.code == ErrorCode.INVALID_RECORD
        return failed, kept

    failed, kept = run(front, main)
    assert failed
    assert failed == list(range(failed[0], failed[-1] + 1))  # one batch
    assert [int(r.value) for r in stored(faulty.bootstrap_servers, topic)] == kept


@every_front
def test_an_answer_that_is_lost_leads_to_no_second_copy(faulty, front):
    topic = f"dropped-{front}"
    fault = faulty.faults.drop("Produce", after_execution=True, topic=topic, nth=2, times=2)

    async def main():
        options = {"linger_ms": 0, "batch_size": 300, "retry_backoff_ms": 1}
        async with new_producer(front, faulty.bootstrap_servers, **options) as producer:
            deliveries = [await producer.send(topic, b"%d" % n) for n in range(300)]
            return [(await producer.done(d)).offset for d in deliveries]

    assert run(front, main) == list(range(300))
    assert fault.hits == 2
    found = [int(r.value) for r in stored(faulty.bootstrap_servers, topic)]
    assert found == list(range(300))


@every_front
def test_no_producer_id_ends_the_producer_with_the_reason(faulty, front):
    fault = faulty.faults.error("InitProducerId", ErrorCode.CLUSTER_AUTHORIZATION_FAILED)

    async def main():
        async with new_producer(front, faulty.bootstrap_servers) as producer:
            delivery = await producer.send(f"nobody-{front}", b"")
            with pytest.raises(KafkaError, match="producer id") as caught:
                await producer.done(delivery)
            assert caught.value.code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            with pytest.raises(KafkaError, match="cannot go on"):
                await producer.send(f"nobody-{front}", b"")

    try:
        run(front, main)
    finally:
        fault.remove()
