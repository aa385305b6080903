"""The same Produce and Fetch requests through C and through Python give the same bytes.

Two topics with names of one length get the same requests at (almost) the same time; the second has
the flags that send Produce and Fetch to Python. Answers are compared byte for byte after the name,
and so are the log files.
"""

import struct
import threading
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmq._native import core
from fastmq.config import load_broker_config
from fastmq.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch
from fastmq.server import running_topics
from fastmq.server.broker import run_broker

from support.raw import RawClient

FAST, SLOW = "fast", "slow"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A broker in a thread of this process, whose topic `slow` goes through Python."""
    root = tmp_path_factory.mktemp("paths")
    original = running_topics.native_config
    flags_of = {SLOW: core.SLOW_PRODUCE | core.SLOW_FETCH}

    def with_flags(broker, topic, factor, *, flags=0, **more):
        slow = flags_of[SLOW] if topic.overrides.get("retention.ms") == "4242" else 0
        return original(broker, topic, factor, flags=flags | slow, **more)

    running_topics.native_config = with_flags
    config = load_broker_config(
        overrides=[f"log.dirs={root}", "listeners=PLAINTEXT://127.0.0.1:0"], dev=True
    )
    ready = threading.Event()
    found = {}

    async def main():
        found["token"] = trio.lowlevel.current_trio_token()
        found["stop"] = trio.Event()

        def announce(announcement):
            found["address"] = announcement.listeners[0][1]
            ready.set()

        await run_broker(config, announce=announce, stop=found["stop"])

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    yield found["address"], root
    found["token"].run_sync_soon(found["stop"].set)
    thread.join(20)
    running_topics.native_config = original
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(served):
    with RawClient(served[0]) as client:
        for name, retention in ((FAST, None), (SLOW, "4242")):
            create(client, name, retention)
        yield client


def create(client, name, retention):
    from fastmq.protocol.messages.create_topics import CreatableTopicConfig

    configs = [] if retention is None else [CreatableTopicConfig(name="retention.ms", value="4242")]
    topic = CreatableTopic(name=name, num_partitions=2, replication_factor=1, configs=configs)
    (made,) = client.call(CreateTopicsRequest(topics=[topic]), 7).topics
    assert made.error_code == 0


def answer_bytes(client, request, version, name):
    client.send(request, version)
    frame = client.receive_frame()
    correlation_id = frame[:4]
    assert struct.unpack(">i", correlation_id)
    return frame[4:].replace(name.encode(), b"????")


def logs(root: Path, name: str) -> dict[str, bytes]:
    return {
        f"{directory.name[-1]}/{file.name}": file.read_bytes()
        for directory in root.glob(f"{name}-?")
        for file in directory.iterdir()
        if file.suffix == ".log"
    }


@st.composite
def batches(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.none() | st.binary(max_size=8),
                st.none() | st.binary(max_size=40),
                st.integers(0, 1_700_000_000_000),
            ),
            min_size=1,
            max_size=5,
        )
    )
    codec = draw(st.sampled_from([0, 1, 2, 3, 4]))
    batch = build_batch([NewRecord(k, v, timestamp=t) for k, v, t in rows], codec=codec)
    damage = draw(st.none() | st.tuples(st.integers(0, len(batch) - 1), st.integers(1, 255)))
    if damage is not None:
        batch[damage[0]] ^= damage[1]
    return draw(st.sampled_from([bytes(batch), bytes(batch), bytes(batch) * 2, b"", b"junk"]))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    version=st.integers(3, 12),
    acks=st.sampled_from([-1, 1, 7]),
    data=st.lists(st.tuples(st.integers(0, 2), batches()), min_size=1, max_size=3),
    fetch_version=st.integers(4, 12),
    offset=st.integers(-1, 30),
    sizes=st.tuples(st.integers(0, 400), st.integers(-1, 400)),
    isolation=st.integers(0, 1),
)
def test_answers_and_logs_are_equal(
    served, client, version, acks, data, fetch_version, offset, sizes, isolation
):
    answers, fetched = [], []
    for name in (FAST, SLOW):
        partitions = [ProducePartition(index=index, records=batch) for index, batch in data]
        request = ProduceRequest(
            acks=acks,
            timeout_ms=5000,
            topic_data=[ProduceTopic(name=name, partition_data=partitions)],
        )
        answers.append(answer_bytes(client, request, version, name))
    assert answers[0] == answers[1]
    for name in (FAST, SLOW):
        partitions = [
            FetchPartition(partition=i, fetch_offset=offset, partition_max_bytes=sizes[0])
            for i in (0, 1, 2)
        ]
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=1,
            max_bytes=sizes[1],
            isolation_level=isolation,
            topics=[FetchTopic(topic=name, partitions=partitions)],
        )
        fetched.append(answer_bytes(client, request, fetch_version, name))
    assert fetched[0] == fetched[1]
    assert logs(served[1], FAST) == logs(served[1], SLOW)
