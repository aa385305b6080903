"""The broker process from outside: start, ready file, refusals, stop, restart."""

import json
import re
import subprocess
import sys
import time

import pytest

from fastmq.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.protocol.messages.metadata import MetadataRequest
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch

from support.broker import Broker, BrokerDied
from support.raw import RawClient

# Names of modules that a broker has no use for until somebody asks for what they do.
_LATE = ("rich", "prometheus_client", "anyio", "zstandard", "httpx", "cramjam")


def create(client, *names, partitions=1):
    topics = [
        CreatableTopic(name=n, num_partitions=partitions, replication_factor=1) for n in names
    ]
    response = client.call(CreateTopicsRequest(topics=topics), 7)
    assert [t.error_code for t in response.topics] == [0] * len(names)


def topics_of(client):
    response = client.call(MetadataRequest(topics=None), 12)
    return {t.name: t for t in response.topics}


def test_ready_file_tells_where_it_listens_and_goes_at_the_stop(make_broker):
    broker = make_broker()
    ready = json.loads(broker.ready_path.read_text())
    assert ready["listeners"] == {"PLAINTEXT": broker.bootstrap}
    assert ready["pid"] == broker.pid
    broker.stop()
    assert not broker.ready_path.exists()
    broker.start()


def test_banner_shows_address_data_and_a_command_to_try(broker):
    deadline = time.monotonic() + 10
    while (text := broker.log_text()).count("\n") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)  # it is printed when the ready file is written, not before
    assert f"listening on {broker.bootstrap}" in text
    assert f"data in {broker.data_dir}\n" in text
    assert f"fastmq produce greetings -b {broker.bootstrap}" in text


def test_topics_and_settings_survive_a_clean_and_an_unclean_stop(make_broker):
    broker = make_broker()
    with RawClient(broker.bootstrap) as client:
        create(client, "kept", partitions=3)
        before = topics_of(client)["kept"]
    broker.stop()
    broker.start()
    with RawClient(broker.bootstrap) as client:
        after = topics_of(client)["kept"]
        assert after == before
    broker.kill()
    broker.start()
    with RawClient(broker.bootstrap) as client:
        after = topics_of(client)["kept"]
    assert after.topic_id == before.topic_id
    # A new epoch marks that the end of the log may have been lost.
    assert [p.leader_epoch for p in after.partitions] == [1, 1, 1]


def test_second_broker_on_the_same_directory_is_refused(make_broker, broker, tmp_path):
    second = Broker(tmp_path / "second", data_dir=broker.data_dir)
    with pytest.raises(BrokerDied, match=r"ended with 4[\s\S]*in use by another broker"):
        second.start()


def test_taken_port_is_refused_with_a_hint(broker, tmp_path):
    second = Broker(tmp_path / "second", port=broker.port)
    with pytest.raises(BrokerDied, match=r"ended with 3[\s\S]*port is taken"):
        second.start()
    # What was started before the listeners has been stopped: the directory is free again.
    second = Broker(tmp_path / "third", data_dir=second.data_dir)
    with second:
        assert second.is_running()


def test_unknown_setting_is_refused_with_the_nearest_one(tmp_path):
    broker = Broker(tmp_path / "b", overrides={"num.partition": 3})
    with pytest.raises(BrokerDied, match=r"ended with 2[\s\S]*num\.partitions"):
        broker.start()


def test_two_listeners_answer_with_their_own_advertised_address(make_broker):
    broker = make_broker(
        args=[
            "--override",
            "listeners=INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
            "--override",
            "advertised.listeners=INSIDE://127.0.0.1:0,OUTSIDE://mq.example.org:9999",
            "--override",
            "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        ],
    )
    ready = json.loads(broker.ready_path.read_text())
    told = {}
    for name, address in ready["listeners"].items():
        with RawClient(address) as client:
            (node,) = client.call(MetadataRequest(topics=[]), 9).brokers
            told[name] = f"{node.host}:{node.port}"
    assert told == {"INSIDE": ready["listeners"]["INSIDE"], "OUTSIDE": "mq.example.org:9999"}


def test_start_imports_nothing_that_is_not_needed():
    code = (
        "import sys, json, trio, fastmq.cli.serve, fastmq.server.broker as b\n"
        "from pathlib import Path\n"
        "from fastmq.config import load_broker_config\n"
        "from support.raw import RawClient\n"
        "from fastmq.protocol.messages.metadata import MetadataRequest\n"
        "import tempfile\n"
        "def ask(address):\n"
        "    with RawClient(address) as client:\n"
        "        return client.call(MetadataRequest(topics=None), 12).cluster_id\n"
        "async def main(root):\n"
        "    config = load_broker_config(overrides=[f'log.dirs={root}',"
        " 'listeners=PLAINTEXT://127.0.0.1:0'], dev=True)\n"
        "    stop = trio.Event()\n"
        "    where = []\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        def announce(a):\n"
        "            where.append(a.listeners[0][1]); ready.set()\n"
        "        ready = trio.Event()\n"
        "        async def serve():\n"
        "            await b.run_broker(config, announce=announce, stop=stop)\n"
        "        nursery.start_soon(serve)\n"
        "        await ready.wait()\n"
        "        assert await trio.to_thread.run_sync(ask, where[0])\n"
        "        print(json.dumps(sorted(sys.modules)))\n"
        "        stop.set()\n"
        "with tempfile.TemporaryDirectory() as root: trio.run(main, root)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout))
    assert "trio" in modules
    assert not [name for name in _LATE if name in modules]


def test_log_lines_are_json_when_asked(make_broker):
    broker = make_broker(args=["--log-format", "json"])
    broker.stop()
    lines = [line for line in broker.log_text().splitlines() if line.startswith("{")]
    assert any(json.loads(line)["message"].endswith("stopping") for line in lines)
    broker.start()


def test_interrupt_stops_cleanly_too(make_broker):
    import signal

    broker = make_broker()
    broker.process.send_signal(signal.SIGINT)
    assert broker.process.wait(10) == 0
    assert re.search("SIGINT: stopping", broker.log_text())
    broker.process = None
    broker.start()


def test_nested_reactor_serves_and_stops_as_the_thread_does(make_broker):
    broker = make_broker(overrides={"fastmq.reactor": "nested"}, dev=False)
    with RawClient(broker.bootstrap) as client:
        create(client, "nested")
        batch = build_batch([NewRecord(b"k", b"v", timestamp=1)])
        data = ProduceTopic(
            name="nested", partition_data=[ProducePartition(index=0, records=batch)]
        )
        made = client.call(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data]), 9)
        assert made.responses[0].partition_responses[0].error_code == 0
        wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
        fetch = FetchRequest(
            max_wait_ms=300, min_bytes=1, topics=[FetchTopic(topic="nested", partitions=[wanted])]
        )
        (found,) = client.call(fetch, 12).responses[0].partitions
        assert found.high_watermark == 1
        # Nothing to read: answered when the time is over, by a timer of the reactor.
        wanted.fetch_offset = 1
        began = time.monotonic()
        (found,) = client.call(fetch, 12).responses[0].partitions
        assert not len(found.records)
        assert 0.25 < time.monotonic() - began < 3
