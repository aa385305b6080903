"""RELIABILITY S2: no frame crashes, hangs or balloons the broker, over real sockets.

Every served API in every version, each field at its edges, each byte changed, every cut
(`support.grammar`), thrown by two processes over many connections at a broker process, beside an
honest load. The seed is printed; FUZZ_SEED and FUZZ_COUNT choose others. FUZZ_REPLAY=file sends the
requests of a file (hex, one a line) instead: what a failure prints is such a file.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from fastmq.protocol import request_class
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic

from support.fuzzing import VALUES, Report, attack, replay
from support.grammar import segments
from support.messages import plausible
from support.raw import RawClient
from support.records import create_topic
from support.wire import Honest, batch

pytestmark = pytest.mark.reliability

HONEST = "honest"
SEED = int(os.environ.get("FUZZ_SEED", "1"))
COUNT = int(os.environ.get("FUZZ_COUNT", "12000"))
WORKERS = 2
MIB = 1 << 20
# State that the inputs make on purpose (groups, topics up to the limit), and buffers.
GROWTH_BYTES_MAX = 96 * MIB
HANG_MS = 1000.0


def topic_id_of(bootstrap: str, name: str) -> bytes:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name)])
    with RawClient(bootstrap) as client:
        (topic,) = client.call(request, 12).topics
    assert topic.error_code == 0
    return topic.topic_id


def throw(port: int, topic_id: bytes, count: int) -> Report:
    total = Report()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        futures = [
            pool.submit(attack, port, topic_id, SEED, count // WORKERS, shard, WORKERS)
            for shard in range(WORKERS)
        ]
        for future in futures:
            total.add(future.result(1200))
    return total


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "count", [COUNT, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=["quick", "1M"]
)
def test_faulty_requests_are_answered_or_refused(make_broker, count, tmp_path):
    broker = make_broker(
        overrides={
            "fastmq.topics.max": 300,
            "fastmq.partitions.max": 600,
            "offsets.topic.num.partitions": 10,
            "group.min.session.timeout.ms": 100,
            "group.max.session.timeout.ms": 1_000,
        }
    )
    create_topic(broker, HONEST, 1)
    create_topic(broker, "events", 2)
    topic_id = topic_id_of(broker.bootstrap, "events")
    before = broker.rss_bytes()
    began = time.monotonic()
    with Honest(broker.port, HONEST, rate=100) as honest:
        if "FUZZ_REPLAY" in os.environ:
            lines = Path(os.environ["FUZZ_REPLAY"]).read_text().split()
            report = replay(broker.port, map(bytes.fromhex, lines))
        else:
            report = throw(broker.port, topic_id, count)
    took_s = time.monotonic() - began
    grown = broker.rss_bytes() - before
    failures = [line for line in broker.log_text().splitlines() if "Traceback" in line]
    worst_ms = max(honest.latencies_ms)
    print(
        f"\nseed {SEED}: {dict(report.counts)} in {took_s:.0f} s; slowest session"
        f" {report.slowest_s:.2f} s, slowest honest request {worst_ms:.0f} ms of"
        f" {len(honest.latencies_ms)}; RSS {grown / MIB:+.1f} MiB"
    )
    kept = tmp_path / "problems"
    kept.write_text("\n".join(frame for _, frame in report.problems) + "\n")
    assert not report.problems, f"FUZZ_REPLAY={kept}: " + "\n".join(
        f"{what}: {frame[:400]}" for what, frame in report.problems[:10]
    )
    assert not failures, broker.log_tail(60)
    assert not honest.errors, honest.errors[:3]
    assert grown <= GROWTH_BYTES_MAX
    assert worst_ms <= HANG_MS
    assert report.counts["answered"] > count // 10
    assert report.counts["closed"] > count // 10


@pytest.mark.parametrize(("key", "version"), [(0, 9), (1, 17), (1, 4), (3, 12)])
def test_what_was_asked_before_a_malformed_request_is_answered(make_broker, key, version):
    broker = make_broker()
    create_topic(broker, "events", 1)
    values = {**VALUES, "records": batch(b"x")}
    topic_id = topic_id_of(broker.bootstrap, "events")
    message = plausible(request_class(key), version, topic_id, values)
    good = b"".join(part.data for part in segments(message, version))
    for bad in (good[:-10], good[:20], b"\0\3", b""):
        report = replay(broker.port, [good] * 5 + [bad])
        assert not report.problems
        assert report.counts["answered"] == 5
        assert report.counts["closed"] == 1
