"""`fastmq autoscale` as a process: workers come and go, and end in order."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from fastmq.testing import Broker

# Says that it lives, and ends gracefully unless it is told to be stubborn.
WORKER = """
import os, pathlib, signal, sys, time
mark = pathlib.Path(sys.argv[1]) / f"{os.environ['FASTMQ_WORKER']}.{os.getpid()}"
def end(*_):
    mark.rename(mark.with_suffix(mark.suffix + ".ended"))
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else end)
signal.signal(signal.SIGINT, signal.SIG_IGN)
mark.touch()
if "crash" in sys.argv:
    sys.exit(3)
time.sleep(100)
"""


class LagPage:
    """Tells of a lag that the test decides about."""

    def __init__(self):
        self.status = 200
        self.looks = 0
        self.page = lag_page(0, 0, 0)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.path = self.path
                outer.looks += 1
                body = json.dumps(outer.page).encode()
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def lag_page(lag, wanted, lagging, partitions=8):
    return {
        "lag": lag,
        "wanted_consumers": wanted,
        "wanted_partitions": wanted,
        "lagging_partitions": lagging,
        "topics": [{"topic": "t", "lag": lag, "partition_count": partitions}],
    }


@pytest.fixture
def page():
    made = LagPage()
    yield made
    made.close()


class Scaler:
    """The command, its workers' marks and what it told."""

    def __init__(self, tmp_path, url, *args, worker=(), command=None):
        where = ["--url", url] if url.startswith("http") else ["--bootstrap", url]
        self.marks = tmp_path / "marks"
        self.marks.mkdir()
        script = tmp_path / "worker.py"
        script.write_text(WORKER)
        run = command or [sys.executable, str(script), str(self.marks), *worker]
        self.out = tmp_path / "out"
        fast = ["--interval", "0.05", "--up-after", "0", "--down-after", "0.2", "--cool-down", "0"]
        main = "import sys; from fastmq.cli import main; sys.exit(main())"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", main, "autoscale", "--group", "g", *where),
                    *(*fast, "--json", *args, "--", *run),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def running(self):
        return sorted(p.name.split(".")[0] for p in self.marks.iterdir() if p.suffix != ".ended")

    def events(self):
        lines = self.out.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, condition, timeout_s=30.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (self.running(), self.out.read_text())
            assert self.process.poll() is None, self.out.read_text()
            time.sleep(0.01)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def make_scaler(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(url, *args, **options):
            scaler = Scaler(tmp_path, url, *args, **options)
            stack.callback(lambda: scaler.process.poll() is None and scaler.process.kill())
            return scaler

        yield make


def test_workers_follow_the_lag_and_end_in_order(page, make_scaler):
    scaler = make_scaler(page.url, "--min", "1", "--max", "4")
    scaler.wait_for(lambda: scaler.running() == ["0"])
    page.page = lag_page(1000, 8, 3)
    scaler.wait_for(lambda: scaler.running() == ["0", "1", "2"])
    page.page = lag_page(1000, 8, 8)
    scaler.wait_for(lambda: scaler.running() == ["0", "1", "2", "3"])
    assert page.path == "/groups/g/lag"
    page.page = lag_page(0, 0, 0)
    scaler.wait_for(lambda: scaler.running() == ["0"])
    assert scaler.end() == 0
    assert scaler.running() == []
    counts = [event["consumers"] for event in scaler.events() if event["event"] == "scaled"]
    assert counts[0] == 1
    assert counts[-3:] == [3, 2, 1]
    assert max(counts) == 4


def test_an_interrupt_ends_them_too(page, make_scaler):
    scaler = make_scaler(page.url, "--min", "2")
    scaler.wait_for(lambda: len(scaler.running()) == 2)
    assert scaler.end(signal.SIGINT) == 0
    assert scaler.running() == []


def test_who_does_not_end_is_killed(page, make_scaler):
    scaler = make_scaler(page.url, "--stop-timeout", "0.2", worker=["stubborn"])
    scaler.wait_for(lambda: scaler.running() == ["0"])
    pid = int(next(scaler.marks.iterdir()).suffix[1:])
    assert scaler.end() == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_broker_that_does_not_answer_changes_nothing(page, make_scaler):
    page.page = lag_page(1000, 2, 2)
    scaler = make_scaler(page.url)
    scaler.wait_for(lambda: len(scaler.running()) == 2)
    page.status = 500
    scaler.wait_for(lambda: any(e["event"] == "lag unknown" for e in scaler.events()))
    page.page = {"odd": 1}
    page.status = 200
    # At 20 looks a second longer than --down-after: nothing must happen.
    enough = page.looks + 10
    scaler.wait_for(lambda: page.looks >= enough)
    assert len(scaler.running()) == 2
    page.page = lag_page(1000, 2, 2)
    scaler.wait_for(lambda: any(e["event"] == "lag known" for e in scaler.events()))
    assert scaler.end() == 0
    assert [e["event"] for e in scaler.events()].count("lag unknown") == 1


def test_who_ends_by_himself_is_started_again_ever_later(page, make_scaler):
    scaler = make_scaler(page.url, worker=["crash"])
    scaler.wait_for(lambda: sum(e["event"] == "worker ended" for e in scaler.events()) >= 2)
    ended = [e for e in scaler.events() if e["event"] == "worker ended"]
    assert ended[0]["code"] == 3
    assert scaler.end() == 0


def test_a_command_that_does_not_exist_is_told(page, make_scaler):
    scaler = make_scaler(page.url, command=["/no/such/program"])
    scaler.wait_for(lambda: any(e["event"] == "worker ended" for e in scaler.events()))
    assert scaler.end() == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--min", "3", "--max", "2"], "do not fit together"),
        (["--url", "ftp://x"], "write http://HOST:PORT"),
        (["--target", "0"], "positive"),
        (["--interval", "0"], "positive"),
    ],
)
def test_a_wrong_command_line_is_told(page, make_scaler, args, told):
    scaler = make_scaler(page.url, *args)
    assert scaler.process.wait(30) == 2
    assert told in scaler.out.read_text()


def test_the_lag_is_asked_of_the_broker_where_there_is_no_page(make_scaler):
    with Broker(in_process=True) as broker:
        topic = broker.create_topic(partitions=2)
        topic.produce_many([(None, b"x")] * 5)
        scaler = make_scaler(broker.bootstrap_servers, "--min", "0", "--max", "4")
        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"})
        consumer.commit(offsets=[TopicPartition(topic.name, 0, 2)], asynchronous=False)
        consumer.close()
        scaler.wait_for(lambda: scaler.running() == ["0"])
        broker.stop()
        scaler.wait_for(lambda: any(e["event"] == "lag unknown" for e in scaler.events()))
        assert scaler.running() == ["0"]
        assert scaler.end() == 0


CONSUMER = """
import signal, sys, time
from confluent_kafka import Consumer
bootstrap, group, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group,
    "auto.offset.reset": "earliest", "enable.auto.commit": False,
    "topic.metadata.refresh.interval.ms": 500})
consumer.subscribe([topic])
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
while not ended:
    message = consumer.poll(0.1)
    if message is not None and not message.error():
        time.sleep(0.02)
        consumer.commit(message=message, asynchronous=False)
consumer.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["page", "client"])
def test_real_consumers_are_scaled_by_a_real_broker(tmp_path, make_scaler, source):
    """Four partitions, twenty milliseconds a record: one consumer is not enough, four are."""
    script = tmp_path / "consumer.py"
    script.write_text(CONSUMER)
    config = {
        "fastmq.metrics.listener": "127.0.0.1:0",
        "fastmq.lag.interval.ms": 200,
        "fastmq.lag.target.ms": 5000,
    }
    with Broker(config=config) as broker:
        topic = broker.create_topic(partitions=4)
        for partition in range(4):
            topic.produce_many([(None, b"x")] * 400, partition=partition)
        group = broker.group()
        command = [sys.executable, str(script), broker.bootstrap_servers, str(group), str(topic)]
        scaler = make_scaler(
            broker.metrics_url if source == "page" else broker.bootstrap_servers,
            "--interval",
            "0.2",
            "--target",
            "5",
            "--group",
            str(group),
            "--max",
            "8",
            "--up-after",
            "1",
            "--down-after",
            "4",
            "--cool-down",
            "3",
            command=command,
        )
        group.wait_for_members(4, timeout=60)
        group.wait_for_lag(topic, timeout=60)
        scaler.wait_for(lambda: group.member_count() == 1, timeout_s=90)
        assert scaler.end() == 0
        group.wait_for_members(0)
        counts = [e["consumers"] for e in scaler.events() if e["event"] == "scaled"]
        # Up, then down: no flapping, and never more than partitions.
        top = counts.index(max(counts))
        assert counts[top] == 4
        assert counts == sorted(counts[: top + 1]) + sorted(counts[top + 1 :], reverse=True)
        assert len(topic.records()) == 1600


@pytest.mark.slow
def test_partitions_are_added_where_they_are_too_few(tmp_path, page, make_scaler):
    with Broker() as broker:
        topic = broker.create_topic("t", partitions=2)
        page.page = lag_page(1000, 4, 2, partitions=2)
        scaler = make_scaler(
            page.url, "--add-partitions", "--bootstrap", broker.bootstrap_servers, "--max", "4"
        )
        scaler.wait_for(lambda: topic.partition_count() == 4)
        assert scaler.end() == 0
        assert Path(scaler.out).read_text().count("partitions added") >= 1
