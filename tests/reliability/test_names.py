"""RELIABILITY S12: names cannot leave their place.

Names of topics become directories, and any name may reach the log, the metrics page and the output
of `log dump`. What clients may call things is sent here at its worst: paths, NUL, line feeds,
look-alikes, terminal escapes, too long, and very many.
"""

import json
import struct
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastmq.errors import ErrorCode
from fastmq.protocol import encode_request
from fastmq.protocol.messages.api_versions import ApiVersionsRequest
from fastmq.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastmq.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastmq.protocol.messages.delete_topics import DeleteTopicsRequest
from fastmq.protocol.messages.fetch import FetchRequest
from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastmq.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsEntry,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)
from fastmq.protocol.messages.init_producer_id import InitProducerIdRequest
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)

from support.broker import Broker
from support.raw import RawClient

pytestmark = pytest.mark.reliability

LONGEST = "t" * 249
ILLEGAL = [
    "",
    ".",
    "..",
    "../escaped",
    "a/../../escaped",
    "/tmp/escaped",
    "a/b",
    "a\\b",
    "a\0b",
    "\0",
    "a\nb",
    "a\rb",
    " ",
    "a b",
    "a\tb",
    "t" * 250,
    "t" * 32_000,
    "\u0430bc",  # Cyrillic
    "\uff41bc",  # full width
    "e\u0301vents",  # combining accent
    "a\u200bb",  # no width
    "\u202egpj",  # writes backwards
    "\u2024\u2024",  # one dot leaders
    "a\u2215b",  # division slash
    "\u0661",  # a digit, but not ASCII
    "$(id)",
    "a;b",
    "a%2fb",
    "~",
    "*",
    "a:b",
    "\U0001f600",
    "a-0\x85",
]
# Where any text is allowed.
ROGUE = [
    "../../escaped",
    "/etc/passwd",
    "a\n2026-01-01T00:00:00.000Z ERROR fastmq.server forged",
    'a"} 1\nforged_metric{b="c',
    "a\r\nb",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\u202eabc",
    "\u2028x",
    "a\0b",
    "x" * 249,
    "\\",
]
FORGED = ("forged", "\x1b", "\x9b", "\u202e", "\0", "\r", "\x07")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    overrides = {
        "fastmq.metrics.listener": "127.0.0.1:0",
        "group.min.session.timeout.ms": 100,
    }
    with Broker(tmp_path_factory.mktemp("names"), overrides=overrides) as broker:
        with RawClient(broker.bootstrap) as raw:
            # Waits for the offsets topic, whose files come after the start.
            raw.call(FindCoordinatorRequest(key="g", key_type=0), 2)
        yield broker


@pytest.fixture
def client(served):
    with RawClient(served.bootstrap) as raw:
        yield raw


def files_of(broker: Broker) -> set[str]:
    return {str(path.relative_to(broker.root)) for path in Path(broker.root).glob("**/*")}


def page_of(broker: Broker) -> str:
    address = json.loads(broker.ready_path.read_text())["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        return answer.read().decode()


def assert_log_is_not_forged(broker: Broker) -> None:
    for line in broker.log_text().split("\n"):
        assert not any(mark in line for mark in FORGED[1:]), repr(line)
        assert " ERROR " not in line[:40], line
        assert "Traceback" not in line, broker.log_tail()


@pytest.mark.parametrize("name", ILLEGAL, ids=lambda name: ascii(name)[:20])
def test_illegal_topic_names_make_nothing(served, client, name):
    before = files_of(served)
    invalid = ErrorCode.INVALID_TOPIC_EXCEPTION
    create = CreateTopicsRequest(
        topics=[CreatableTopic(name=name, num_partitions=1, replication_factor=1)],
        timeout_ms=5_000,
    )
    for version in (2, 7):
        assert client.call(create, version).topics[0].error_code == invalid
    ask = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=True)
    for version in (4, 8, 12):
        assert client.call(ask, version).topics[0].error_code == invalid
    grow = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=name, count=3)])
    assert client.call(grow, 2).results[0].error_code != 0
    delete = DeleteTopicsRequest(topic_names=[name], timeout_ms=5_000)
    assert client.call(delete, 5).responses[0].error_code != 0
    alter = IncrementalAlterConfigsRequest(
        resources=[
            IncrementalAlterConfigsResource(
                resource_type=2,
                resource_name=name,
                configs=[
                    IncrementalAlterConfigsEntry(name="retention.ms", config_operation=0, value="1")
                ],
            )
        ]
    )
    assert client.call(alter, 1).responses[0].error_code != 0
    commit = OffsetCommitRequest(
        group_id="names",
        topics=[
            OffsetCommitTopic(
                name=name,
                partitions=[OffsetCommitPartition(partition_index=0, committed_offset=1)],
            )
        ],
    )
    assert client.call(commit, 5).topics[0].partitions[0].error_code != 0
    assert files_of(served) == before
    assert_log_is_not_forged(served)


def test_the_longest_name_works_and_survives_a_restart_and_a_deletion(make_broker):
    broker = make_broker()
    with RawClient(broker.bootstrap) as raw:
        create = CreateTopicsRequest(
            topics=[CreatableTopic(name=LONGEST, num_partitions=2, replication_factor=1)]
        )
        assert raw.call(create, 7).topics[0].error_code == 0
    assert (Path(broker.data_dir) / f"{LONGEST}-1").is_dir()
    broker.stop()
    broker.start()
    with RawClient(broker.bootstrap) as raw:
        (topic,) = raw.call(MetadataRequest(topics=[MetadataRequestTopic(name=LONGEST)]), 8).topics
        assert (topic.error_code, len(topic.partitions)) == (0, 2)
        delete = DeleteTopicsRequest(topic_names=[LONGEST])
        assert raw.call(delete, 5).responses[0].error_code == 0
    assert not (Path(broker.data_dir) / f"{LONGEST}-1").exists()


@pytest.mark.parametrize("name", ROGUE, ids=lambda name: ascii(name)[:20])
def test_rogue_groups_clients_and_ids_stay_texts(served, name):
    before = files_of(served)
    with RawClient(served.bootstrap) as raw:
        versions = ApiVersionsRequest(client_software_name="a b", client_software_version=name)
        raw.call(versions, 3, client_id=name)
        join = JoinGroupRequest(
            group_id=name,
            session_timeout_ms=6_000,
            rebalance_timeout_ms=6_000,
            protocol_type="consumer",
            protocols=[JoinGroupProtocol(name=name, metadata=b"")],
        )
        member = raw.call(join, 3, client_id=name)
        assert member.error_code == 0
        find = FindCoordinatorRequest(key=name, key_type=0)
        assert raw.call(find, 2, client_id=name).error_code == 0
        transactional = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=1_000)
        assert raw.call(transactional, 2).error_code != 0
        raw.call(FetchRequest(rack_id=name, max_wait_ms=0), 11, client_id=name)
    for family in text_string_to_metric_families(page_of(served)):
        assert "forged" not in family.name
    assert files_of(served) - before == set()
    assert_log_is_not_forged(served)


def test_dump_log_shows_rogue_names_on_their_own_line(served):
    with RawClient(served.bootstrap) as raw:
        raw.call(MetadataRequest(topics=[MetadataRequestTopic(name="dumped")]), 9)
        for name in ROGUE:
            commit = OffsetCommitRequest(
                group_id=f"{name}-offsets",
                topics=[
                    OffsetCommitTopic(
                        name="dumped",
                        partitions=[
                            OffsetCommitPartition(
                                partition_index=0, committed_offset=0, committed_metadata=name
                            )
                        ],
                    )
                ],
            )
            assert raw.call(commit, 5).topics[0].partitions[0].error_code == 0
    logs = sorted(map(str, Path(served.data_dir).glob("__consumer_offsets-*")))
    for option in ([], ["--json"]):
        command = [sys.executable, "-m", "fastmq", "log", "dump", "--print-data", *option, *logs]
        out = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.decode()
        assert "dumped" in out
        for line in out.split("\n"):
            assert not line.startswith(("2026-01-01", "forged_metric"))
            assert not any(mark in line for mark in FORGED[1:]), repr(line)


@pytest.mark.parametrize(
    "count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)], ids=["10k", "100k"]
)
def test_made_up_client_ids_leave_no_trace(served, count):
    """The metrics page and the memory do not grow with names that clients make up."""
    template = encode_request(
        3,
        1,
        "client-000000",
        ApiVersionsRequest(client_software_name="n000000", client_software_version="v000000"),
    )
    template = struct.pack(">i", len(template)) + template
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(served.bootstrap)) for _ in range(10)]
        clients[0].sock.sendall(template)
        size = len(clients[0].receive_frame())
        page, rss = page_of(served), served.rss_bytes()
        for start in range(0, count, 2_000):
            for number, raw in enumerate(clients, start // 200):
                names = (b"%06d" % i for i in range(200 * number, 200 * number + 200))
                raw.sock.sendall(b"".join(template.replace(b"000000", name) for name in names))
            for raw in clients:
                raw.receive_exactly(200 * (size + 4))
        assert names_in(page_of(served)) == names_in(page)
        assert served.rss_bytes() - rss < 8 << 20


def names_in(page: str) -> set[str]:
    """What the samples are called; without logs and groups, which other tests have set going."""
    others = ("kafka_log_", "kafka_coordinator_")
    lines = page.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith(others)}
