"""Apache Kafka's own command-line tools against our cluster: all that docs/FROM-KAFKA.md lists.

Each is run by its class, as its script does. What is not supported must end with an error that says
so, not wait.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import Producer as ConfluentProducer

from fastmq import Admin, NewTopic, Producer

from support import apache_kafka
from support.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.interop]

TOOLS = "org.apache.kafka.tools."
RECORDS = 50


class Tool(NamedTuple):
    """A tool, its arguments, and what it says when it has worked, or with an error `code`."""

    name: str
    args: str
    says: tuple[str, ...] = ()
    code: int = 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if why := apache_kafka.missing():
        pytest.skip(why)
    with Cluster(tmp_path_factory.mktemp("tools"), 3) as made:
        with Admin(made.bootstrap) as admin:
            admin.create_topics([NewTopic("t", partitions=2, replication_factor=3)])
        with Producer(made.bootstrap) as producer:
            for number in range(RECORDS):
                producer.produce("t", f"v{number}", key=f"k{number}", partition=number % 2)
        yield made


def run(cluster, tool):
    name = tool.name if tool.name.startswith("kafka.") else TOOLS + tool.name
    args = tool.args if "SERVER" in tool.args else f"{tool.args} --bootstrap-server SERVER"
    done = apache_kafka.tool(name, *args.replace("SERVER", cluster.bootstrap).split())
    said = done.stdout + done.stderr
    assert done.returncode == tool.code, f"{tool}: {done.returncode}\n{said[-2000:]}"
    for words in tool.says:
        assert words in said, f"{tool}: no {words!r} in\n{said[-2000:]}"


def run_in_order(cluster, row):
    for tool in row:
        run(cluster, tool)


GROUP, CONFIG = "consumer.group.ConsumerGroupCommand", "kafka.admin.ConfigCommand"
CONSUME = f"--topic t --from-beginning --group g --timeout-ms 30000 --max-messages {RECORDS}"
# Rows run side by side: a JVM takes a second to start.
ROWS = (
    (
        Tool("consumer.ConsoleConsumer", CONSUME, ("v49", f"Processed a total of {RECORDS}")),
        Tool(GROUP, "--describe --group g", ("no active members", "25")),
        Tool(GROUP, "--group g --reset-offsets --shift-by -3 --topic t --execute", ("22",)),
        Tool(GROUP, "--delete-offsets --group g --topic t", ("Successful",)),
        Tool(GROUP, "--delete --group g", ("was successful",)),
    ),
    (
        Tool("TopicCommand", "--create --topic made --partitions 2", ("Created topic made",)),
        Tool("TopicCommand", "--alter --topic made --partitions 3"),
        Tool(CONFIG, "--alter --entity-type topics --entity-name made --add-config retention.ms=9"),
        Tool("TopicCommand", "--describe --topic made", ("PartitionCount: 3", "retention.ms=9")),
        Tool("TopicCommand", "--delete --topic made"),
    ),
    (
        Tool("LogDirsCommand", "--describe --topic-list t", ('"offsetLag":0',)),
        Tool("GetOffsetShell", "--topic t", ("t:0:25", "t:1:25")),
        Tool("LeaderElectionCommand", "--election-type preferred --all-topic-partitions"),
        Tool("GroupsCommand", "--list", ("GROUP",)),
        Tool("ClusterTool", "list-endpoints", ("unfenced",)),
        Tool(
            "ProducerPerformance",
            "--topic perf --num-records 500 --record-size 100 --throughput -1",
            ("500 records sent",),
        ),
        Tool(
            "EndToEndLatency",
            "--topic e2e --num-records 50 --producer-acks all --record-size 100",
            ("Avg latency",),
        ),
    ),
    (
        Tool(
            "MetadataQuorumCommand",
            "--bootstrap-server SERVER describe --status",
            ("not support DESCRIBE_QUORUM",),
            1,
        ),
        Tool(
            "TransactionsCommand",
            "--bootstrap-server SERVER list",
            ("not support LIST_TRANSACTIONS",),
            1,
        ),
        Tool("AclCommand", "--list", ("not support DESCRIBE_ACLS",), 1),
        Tool("ClientMetricsCommand", "--list", ("not support LIST_CONFIG_RESOURCES",), 1),
        Tool(CONFIG, "--describe --entity-type users", ("not support DESCRIBE_CLIENT_QUOTAS",), 1),
        Tool(
            "consumer.ConsoleConsumer",
            "--topic t --group new --command-property group.protocol=consumer",
            ("Set group.protocol=classic",),
        ),
    ),
)


@pytest.mark.timeout(180)
def test_kafkas_tools_work_or_say_what_is_missing(cluster):
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run_in_order, cluster, row) for row in ROWS]:
            done.result()


def test_kafkas_tool_deletes_records_and_reads_our_log(cluster, tmp_path):
    upto = tmp_path / "upto.json"
    part = {"topic": "t", "partition": 1, "offset": 5}
    upto.write_text(json.dumps({"partitions": [part], "version": 1}))
    run(cluster, Tool("DeleteRecordsCommand", f"--offset-json-file {upto}", ("watermark: 5",)))
    (log,) = cluster.data_dir.glob("broker_1/t-0/*.log")
    dumped = apache_kafka.tool(TOOLS + "DumpLogSegments", "--files", str(log), "--print-data-log")
    assert "payload: v48" in dumped.stdout


def test_what_is_not_supported_ends_librdkafka_instead_of_waiting(cluster):
    where = {"bootstrap.servers": cluster.bootstrap}
    consumer = Consumer({**where, "group.id": "new", "group.protocol": "consumer"})
    consumer.subscribe(["t"])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.error().code() == KafkaError._FATAL
    producer = ConfluentProducer({**where, "transactional.id": "x"})
    with pytest.raises(KafkaException) as caught:
        producer.init_transactions(30)
    assert caught.value.args[0].fatal()
