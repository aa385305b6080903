"""`produce`, `consume`, `perf` and `demo` against a real broker."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fastmq as package
from fastmq.client.fronts.admin import Admin

PACKAGE_PARENT = str(Path(package.__file__).resolve().parent.parent)


@pytest.fixture
def topic(request, served):
    """A new topic of three partitions."""
    name = request.node.name.replace("[", "-").replace("]", "")[:200]
    with Admin(served.bootstrap) as admin:
        admin.create_topic(name, 3)
    return name


def spawn(served, *args, **options):
    """A command in a process of its own."""
    env = {
        **os.environ,
        "PYTHONPATH": PACKAGE_PARENT,
        "FASTMQ_BOOTSTRAP_SERVERS": served.bootstrap,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "fastmq", *args],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_lines_in_lines_out(fastmq, topic):
    sent = fastmq("produce", topic, stdin="".join(f"{n}\n" for n in range(1000)))
    assert sent.err == "1000 records delivered\n"
    read = fastmq("consume", topic, "--exit")
    assert sorted(map(int, read.out.split())) == list(range(1000))
    assert read.err == "1000 records\n"


def test_keys_headers_null_and_where_they_went(fastmq, topic):
    sent = fastmq(
        "produce", topic, "-K", ":", "-Z", "-H", "h=1", "-p", 2, "--json", stdin="a:1\nb:\nc\n"
    )
    rows = [json.loads(line) for line in sent.out.splitlines()]
    assert [(row["partition"], row["offset"]) for row in rows] == [(2, 0), (2, 1), (2, 2)]
    read = fastmq("consume", topic, "-e", "-f", r"%k=%s %h %p/%o\n", "-Z", "NULL")
    assert read.out.splitlines() == ["a=1 h=1 2/0", "b=NULL h=1 2/1", "NULL=c h=1 2/2"]
    assert fastmq("consume", topic, "-e", "-K", "|").out == "a|1\nb|\n|c\n"
    assert fastmq("consume", topic, "-e", "-D", ",", "--show-value", "hex").out == "31,,63,"


def test_json_survives_the_round_trip(fastmq, topic, tmp_path):
    lines = [
        {"key": "k", "value": "ünïcode", "headers": {"a": "b"}, "timestamp": 1_700_000_000_000},
        {"value": {"base64": "/w=="}, "partition": 1},
        {"key": None, "value": None},
    ]
    file = tmp_path / "records.json"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    fastmq("produce", topic, file, "--input", "json", "--same-partition")
    first = fastmq("consume", topic, "-e", "--json").out
    fastmq("produce", f"{topic}-copy", "--input", "json", stdin=first)
    second = fastmq("consume", f"{topic}-copy", "-e", "--json").out
    keys = ("key", "value", "headers", "timestamp")

    def content(text):
        rows = [json.loads(line) for line in text.splitlines()]
        return sorted(json.dumps([row.get(key) for key in keys]) for row in rows)

    assert len(content(first)) == 3
    (at,) = [
        row["partition"] for row in map(json.loads, first.splitlines()) if "base64" in str(row)
    ]
    assert at == 1
    assert content(first) == content(second)
    assert "value" not in json.loads(fastmq("consume", topic, "-e", "--meta").out.splitlines()[0])


def test_files_as_records_and_as_lines(fastmq, topic, tmp_path):
    (tmp_path / "a").write_bytes(b"one\ntwo\n")
    (tmp_path / "b").write_bytes(b"three")
    fastmq("produce", topic, tmp_path / "a", tmp_path / "b", "--whole-files", "-p", 0)
    assert fastmq("consume", f"{topic}:0", "-e", "-D", "|").out == "one\ntwo\n|three|"
    fastmq("produce", topic, tmp_path / "a", tmp_path / "b", "-p", 1, "-z", "zstd")
    assert fastmq("consume", topic, "-p", 1, "-e").out == "one\ntwo\nthree\n"


def test_counts_rates_and_tee(fastmq, topic):
    began = time.monotonic()
    lines = "".join(f"{n}\n" for n in range(100))
    sent = fastmq("produce", topic, "--rate", 100, "-n", 21, "--tee", "--acks", 1, stdin=lines)
    assert time.monotonic() - began >= 0.2
    assert sent.err == "21 records delivered\n"
    assert sent.out.splitlines() == [str(n) for n in range(21)]


def test_places_to_begin_and_end(fastmq, topic):
    fastmq("produce", topic, "-p", 0, stdin="".join(f"{n}\n" for n in range(10)))

    def read(*options):
        return fastmq("consume", f"{topic}:0", *options).out.split()

    assert read("-e", "-o", "-3") == ["7", "8", "9"]
    assert read("-e", "-o", 8) == ["8", "9"]
    assert read("-o", "2..5") == ["2", "3", "4"]
    assert read("-o", "2..-6") == ["2", "3"]
    assert read("-e", "-o", "end") == []
    assert read("-e", "-o", "@-1h") == [str(n) for n in range(10)]
    assert read("-e", "-o", "@now") == []
    assert read("-o", "beginning", "-c", 2) == ["0", "1"]
    fastmq("consume", f"{topic}:0", "-o", "nowhere", code=2)
    fastmq("consume", f"{topic}:0", "-o", "stored", "-e", code=2)


def test_a_group_keeps_what_was_printed(fastmq, topic):
    fastmq("produce", topic, "-p", 0, stdin="".join(f"{n}\n" for n in range(10)))
    group = f"{topic}-group"
    assert fastmq("consume", topic, "-g", group, "-c", 4).out.split() == ["0", "1", "2", "3"]
    (shown,) = fastmq("group", "describe", group, "--json").json
    assert shown["lag"] == 6
    assert fastmq("consume", topic, "-g", group, "-e").out.split() == [str(n) for n in range(4, 10)]
    assert fastmq("consume", topic, "-g", group, "-e").out == ""
    looked = f"{topic}-looked"
    assert fastmq("consume", topic, "-g", looked, "-e", "--no-commit").out.split()
    (shown,) = fastmq("group", "describe", looked, "--json").json
    assert shown["partitions"] == []
    fastmq("consume", topic, "-g", group, "-o", 5, "-e", code=2)


def test_topics_by_pattern(fastmq, topic):
    fastmq("produce", topic, stdin="x\n")
    assert fastmq("consume", "--regex", f"{topic[:-1]}.", "-e", "-f", "%t").out == topic
    fastmq("consume", "--regex", "no-such-.*", "-e", code=2)
    fastmq("consume", "--regex", "(", "-e", code=2)


def test_nothing_for_too_long_has_a_code_of_its_own(fastmq, topic):
    fastmq("consume", topic, "--idle-timeout", "200ms", code=4)


def test_failures_of_produce(fastmq, topic, call):
    failed = fastmq("produce", topic, "-p", 99, stdin="x\n", code=1)
    assert "there is no 99" in failed.err
    assert "1 of 1 records were not delivered" in failed.err
    assert "line 1 is no JSON" in fastmq("produce", topic, "-i", "json", stdin="?\n", code=2).err
    fastmq("produce", topic, "-D", "", stdin="x\n", code=2)
    fastmq("produce", topic, "--whole-files", code=2)
    fastmq("consume", "no-such-topic", "-e", code=1)
    call("produce", topic, "-b", "127.0.0.1:1", stdin="x\n", code=3)
    call("consume", topic, "-b", "127.0.0.1:1", code=3)


def test_following_and_ctrl_c(served, topic, fastmq):
    """What comes later is printed at once; Ctrl-C ends with 130, and the offsets are kept."""
    group = f"{topic}-group"
    process = spawn(served, "consume", topic, "-g", group, "-o", "beginning")
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        for text in ("one", "two"):
            fastmq("produce", topic, "-p", 1, stdin=text + "\n")
            assert process.stdout.readline() == text.encode() + b"\n"
        # It commits now and then, of what it has printed.
        deadline = time.monotonic() + 30
        while fastmq("group", "describe", group, "--json").json[0]["lag"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        fastmq("produce", topic, "-p", 1, stdin="three\n")
        assert process.stdout.readline() == b"three\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        guard.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    # Ctrl-C may come between printing the last one and noting that.
    assert b"3 records" in err or b"2 records" in err
    (shown,) = fastmq("group", "describe", group, "--json").json
    assert shown["lag"] <= 1


def test_input_that_trickles_is_sent_as_it_comes(served, topic, fastmq):
    process = spawn(served, "produce", topic, "-p", "0")
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        process.stdin.write(b"early\n")
        process.stdin.flush()
        assert fastmq("consume", topic, "-c", 1).out == "early\n"
        assert process.poll() is None
        process.communicate(timeout=30)
    finally:
        guard.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 0


def test_perf(fastmq, topic):
    found = fastmq("perf", "produce", "-n", 2000, "-s", 100, "--json").json
    assert (found["records"], found["bytes"], found["failed"]) == (2000, 200_000, 0)
    assert found["latency_ms"]["p50"] > 0
    assert fastmq("perf", "consume", "-n", 2000, "-s", 100, "--json").json["records"] == 2000
    fastmq("perf", "produce", topic, "-d", "100ms", "--rate", 100, "--keys", 3)
    text = fastmq("perf", "latency", "-n", 50, "--rate", 500).out
    assert "p99.9" in text
    assert "#" in text
    assert not [name for name in fastmq("topic", "list", "--names").out.split() if "perf-" in name]
    fastmq("topic", "create", "nothing-in-it")
    assert "is empty" in fastmq("perf", "consume", "nothing-in-it", code=1).err


def test_the_demo_cleans_up_when_it_is_ended(home, tmp_path):
    env = {**os.environ, "PYTHONPATH": PACKAGE_PARENT, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmq", "demo", "-d", "100s"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        assert b"broker on" in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=50)
    finally:
        guard.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 143
    assert not list(tmp_path.glob("fastmq-demo*"))


def test_the_demo_cleans_up(home, tmp_path):
    env = {**os.environ, "PYTHONPATH": PACKAGE_PARENT, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "fastmq", "demo", "-d", "1s", "--rate", "500", "--json"],
        env=env,
        capture_output=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["produced"] == found["consumed"] > 100
    assert not list(tmp_path.glob("fastmq-demo*"))
