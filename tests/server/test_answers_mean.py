"""What the answers of single APIs mean, against a real broker process."""

import gzip
import struct
import time
from contextlib import suppress

import pytest

from fastmq.errors import ErrorCode
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.alter_configs import (
    AlterConfigsEntry,
    AlterConfigsRequest,
    AlterConfigsResource,
)
from fastmq.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from fastmq.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicAssignment,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from fastmq.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastmq.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastmq.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from fastmq.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from fastmq.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsCursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestTopic,
)
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastmq.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsEntry,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)
from fastmq.protocol.messages.init_producer_id import InitProducerIdRequest
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchTopic
from fastmq.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochPartition,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochTopic,
)
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import NewRecord, build_batch, read_batches

from support.broker import Broker
from support.raw import RawClient

NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("meaning"), overrides={"num.partitions": 2}) as broker:
        yield broker


@pytest.fixture
def client(broker):
    with RawClient(broker.bootstrap) as client:
        yield client


def create(client, name, partitions=1, **configs):
    topic = CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=1,
        configs=[
            CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()
        ],
    )
    (made,) = client.call(CreateTopicsRequest(topics=[topic]), 7).topics
    assert made.error_code == 0, made
    return made


def produce(client, topic, batch, version=9, acks=-1, index=0):
    request = ProduceRequest(
        acks=acks,
        timeout_ms=5000,
        topic_data=[
            ProduceTopic(name=topic, partition_data=[ProducePartition(index=index, records=batch)])
        ],
    )
    if acks == 0:
        client.send(request, version)
        return None
    (answer,) = client.call(request, version).responses
    return answer.partition_responses[0]


def fetch(client, topic, offset=0, index=0, version=12):
    request = FetchRequest(
        max_wait_ms=100,
        min_bytes=1,
        topics=[
            FetchTopic(
                topic=topic,
                partitions=[
                    FetchPartition(
                        partition=index, fetch_offset=offset, partition_max_bytes=1 << 20
                    )
                ],
            )
        ],
    )
    return client.call(request, version).responses[0].partitions[0]


def records(*rows):
    return build_batch([NewRecord(key, value, timestamp=at) for key, value, at in rows])


def list_offsets(client, topic, timestamp, version=9, epoch=-1, isolation=0):
    partition = ListOffsetsPartition(
        partition_index=0, timestamp=timestamp, current_leader_epoch=epoch
    )
    request = ListOffsetsRequest(
        replica_id=-1,
        isolation_level=isolation,
        topics=[ListOffsetsTopic(name=topic, partitions=[partition])],
    )
    return client.call(request, version).topics[0].partitions[0]


class TestNegotiation:
    def test_newer_api_versions_gets_version_0_with_error_35_and_all_ranges(self, client):
        header = struct.pack(">hhih", ApiKey.API_VERSIONS, 99, 7, 1) + b"x" + b"\0junk"
        client.sock.sendall(struct.pack(">i", len(header)) + header)
        frame = client.receive_frame()
        correlation_id, code, count = struct.unpack_from(">ihi", frame)
        rows = [struct.unpack_from(">hhh", frame, 10 + 6 * i) for i in range(count)]
        assert (correlation_id, code) == (7, ErrorCode.UNSUPPORTED_VERSION)
        assert len(frame) == 10 + 6 * count
        assert (ApiKey.API_VERSIONS, 0, 4) in rows
        # librdkafka compresses only for brokers that claim to know the old versions.
        assert (ApiKey.PRODUCE, 0, 13) in rows

    @pytest.mark.parametrize(("key", "version"), [(29, 1), (3, 99), (0, 2), (999, 0), (-1, 0)])
    def test_unknown_key_or_version_closes(self, client, key, version):
        frame = struct.pack(">hhih", key, version, 1, -1)
        client.sock.sendall(struct.pack(">i", len(frame)) + frame)
        assert client.is_closed()

    def test_malformed_body_closes(self, client):
        frame = struct.pack(">hhih", ApiKey.METADATA, 1, 1, -1) + struct.pack(">i", 1 << 30)
        client.sock.sendall(struct.pack(">i", len(frame)) + frame)
        assert client.is_closed()


class TestMetadata:
    def names(self, client, topics, version, **more):
        return {
            t.name: t for t in client.call(MetadataRequest(topics=topics, **more), version).topics
        }

    def test_null_and_empty_lists(self, client):
        create(client, "listed")
        assert "listed" in self.names(client, [], 0)
        assert "listed" in self.names(client, None, 1)
        assert self.names(client, [], 1) == {}

    def test_auto_created_topic_has_its_leader_in_the_first_answer(self, client):
        topic = self.names(client, [MetadataRequestTopic(name="auto")], 4)["auto"]
        assert topic.error_code == 0
        assert [p.leader_id for p in topic.partitions] == [1, 1]

    def test_nothing_is_created_when_the_request_forbids_it(self, client):
        asked = [MetadataRequestTopic(name="not-made")]
        topic = self.names(client, asked, 4, allow_auto_topic_creation=False)["not-made"]
        assert topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    @pytest.mark.parametrize("name", ["..", "a/b", "x" * 250, "", "\u0430", "a\nb"])
    def test_names_that_are_no_topic_names(self, client, name):
        (topic,) = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=name)]), 9).topics
        assert topic.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION

    def test_unknown_id_is_echoed_without_a_name(self, client):
        asked = [MetadataRequestTopic(topic_id=b"\5" * 16, name=None)]
        (topic,) = client.call(MetadataRequest(topics=asked), 12).topics
        assert (topic.error_code, topic.name) == (ErrorCode.UNKNOWN_TOPIC_ID, None)
        assert topic.topic_id == b"\5" * 16

    def test_offsets_topic_is_marked_internal(self, client):
        client.call(FindCoordinatorRequest(key="g", key_type=0), 2)
        topic = self.names(client, None, 9)["__consumer_offsets"]
        assert topic.is_internal
        assert len(topic.partitions) == 50

    def test_described_partitions_come_in_pages(self, client):
        create(client, "paged-a", 3)
        create(client, "paged-b", 2)
        asked = [DescribeTopicPartitionsRequestTopic(name=n) for n in ("paged-b", "paged-a")]
        cursor, seen = None, []
        while True:
            answer = client.call(
                DescribeTopicPartitionsRequest(
                    topics=asked, response_partition_limit=2, cursor=cursor
                ),
                0,
            )
            seen += [(t.name, p.partition_index) for t in answer.topics for p in t.partitions]
            if answer.next_cursor is None:
                break
            cursor = DescribeTopicPartitionsCursor(
                topic_name=answer.next_cursor.topic_name,
                partition_index=answer.next_cursor.partition_index,
            )
        assert seen == [
            ("paged-a", 0),
            ("paged-a", 1),
            ("paged-a", 2),
            ("paged-b", 0),
            ("paged-b", 1),
        ]


class TestTopics:
    def codes(self, client, *topics, **more):
        request = CreateTopicsRequest(topics=list(topics), **more)
        return [t.error_code for t in client.call(request, 7).topics]

    def test_each_topic_of_a_request_succeeds_or_fails_alone(self, client):
        def topic(name, partitions=1, factor=1, **more):
            return CreatableTopic(
                name=name, num_partitions=partitions, replication_factor=factor, **more
            )

        create(client, "dot.ted")
        assert self.codes(
            client,
            topic("alone-1"),
            topic("dot.ted"),
            topic("dot_ted"),
            topic("none", partitions=0),
            topic("many", factor=3),
            topic("twice"),
            topic("twice"),
            topic("strange", configs=[CreatableTopicConfig(name="no.such.key", value="1")]),
            topic(
                "elsewhere",
                partitions=-1,
                factor=-1,
                assignments=[CreatableTopicAssignment(partition_index=0, broker_ids=[99])],
            ),
        ) == [
            ErrorCode.NONE,
            ErrorCode.TOPIC_ALREADY_EXISTS,
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            ErrorCode.INVALID_PARTITIONS,
            ErrorCode.INVALID_REPLICATION_FACTOR,
            ErrorCode.INVALID_REQUEST,
            ErrorCode.INVALID_REQUEST,
            ErrorCode.INVALID_CONFIG,
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        ]

    def test_validate_only_creates_nothing(self, client):
        topic = CreatableTopic(name="only-checked", num_partitions=-1, replication_factor=-1)
        request = CreateTopicsRequest(topics=[topic], validate_only=True)
        (checked,) = client.call(request, 7).topics
        assert (checked.error_code, checked.num_partitions) == (0, 2)
        answer = client.call(MetadataRequest(topics=None), 9)
        assert "only-checked" not in {t.name for t in answer.topics}

    def test_answer_has_the_full_effective_settings(self, client):
        made = create(client, "with-settings", retention_ms="12345")
        configs = {c.name: c for c in made.configs}
        assert configs["retention.ms"].value == "12345"
        assert configs["retention.ms"].config_source == 1
        assert configs["segment.bytes"].config_source == 5
        assert len(configs) > 25

    def test_deleted_topic_is_gone_with_its_files_and_a_new_one_has_another_id(
        self, broker, client
    ):
        first = create(client, "short-lived", 2)
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=None, topic_id=first.topic_id)])
        (deleted,) = client.call(request, 6).responses
        assert (deleted.error_code, deleted.name) == (0, "short-lived")
        second = create(client, "short-lived", 2)
        assert second.topic_id != first.topic_id
        deadline = time.monotonic() + 10
        while list(broker.data_dir.glob("short-lived-*-delete")):
            assert time.monotonic() < deadline, "the files of a deleted topic stay"
            time.sleep(0.05)

    def test_topics_of_the_broker_itself_are_out_of_reach(self, client):
        client.call(FindCoordinatorRequest(key="g", key_type=0), 2)
        name = "__consumer_offsets"
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)])
        assert client.call(request, 6).responses[0].error_code == 17
        grown = CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=name, count=99, assignments=None)], timeout_ms=1000
        )
        assert client.call(grown, 3).results[0].error_code == 17
        made = CreatableTopic(name="__transaction_state", num_partitions=1, replication_factor=1)
        assert self.codes(client, made) == [17]

    def test_partitions_can_only_be_added(self, client):
        create(client, "growing", 2)

        def grow(count):
            topics = [CreatePartitionsTopic(name="growing", count=count, assignments=None)]
            request = CreatePartitionsRequest(topics=topics, timeout_ms=1000)
            return client.call(request, 3).results[0].error_code

        assert grow(2) == ErrorCode.INVALID_PARTITIONS
        assert grow(1) == ErrorCode.INVALID_PARTITIONS
        assert grow(4) == 0
        assert produce(client, "growing", records((b"k", b"v", NOW_MS)), index=3).error_code == 0


class TestOffsets:
    def test_by_time_finds_the_record_inside_its_batch(self, client):
        create(client, "timed")
        produce(
            client, "timed", records((None, b"0", 1000), (None, b"1", 5000), (None, b"2", 3000))
        )
        produce(client, "timed", records((None, b"3", 4000), (None, b"4", 9000)))

        def found(timestamp):
            answer = list_offsets(client, "timed", timestamp)
            assert answer.error_code == 0
            return answer.offset, answer.timestamp, answer.leader_epoch

        assert found(0) == (0, 1000, 0)
        assert found(1001) == (1, 5000, 0)
        assert found(5001) == (4, 9000, 0)
        assert found(9001) == (-1, -1, -1)
        assert found(-1)[:2] == (5, -1)
        assert found(-2)[:2] == (0, -1)
        assert found(-3)[:2] == (4, 9000)
        assert found(-4)[:2] == (0, -1)
        assert found(-5) == (-1, -1, -1)

    def test_special_positions_need_their_version(self, client):
        create(client, "versions")
        answer = list_offsets(client, "versions", -3, version=6)
        assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION

    def test_epochs_are_fenced(self, client):
        create(client, "fenced")
        assert list_offsets(client, "fenced", -1, epoch=0).error_code == 0
        newer = list_offsets(client, "fenced", -1, epoch=1)
        assert newer.error_code == ErrorCode.UNKNOWN_LEADER_EPOCH

    def test_epoch_ends(self, client):
        create(client, "epochs")
        produce(client, "epochs", records((None, b"0", NOW_MS)))

        def end(epoch):
            partition = OffsetForLeaderEpochPartition(partition=0, leader_epoch=epoch)
            topic = OffsetForLeaderEpochTopic(topic="epochs", partitions=[partition])
            answer = client.call(OffsetForLeaderEpochRequest(topics=[topic]), 4)
            found = answer.topics[0].partitions[0]
            return found.error_code, found.leader_epoch, found.end_offset

        assert end(0) == (0, 0, 1)
        assert end(5) == (0, -1, -1)

    def test_deleted_records_are_gone_also_for_searches_by_time(self, client):
        create(client, "cut")
        produce(client, "cut", records(*((None, b"%d" % i, 1000 + i) for i in range(10))))

        def delete(offset):
            partition = DeleteRecordsPartition(partition_index=0, offset=offset)
            topics = [DeleteRecordsTopic(name="cut", partitions=[partition])]
            answer = client.call(DeleteRecordsRequest(topics=topics, timeout_ms=1000), 2)
            found = answer.topics[0].partitions[0]
            return found.error_code, found.low_watermark

        assert delete(4) == (0, 4)
        assert delete(11) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
        assert list_offsets(client, "cut", -2).offset == 4
        assert list_offsets(client, "cut", 0).offset == 4
        assert fetch(client, "cut", 3).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert delete(-1) == (0, 10)

    def test_compacted_topics_keep_their_records(self, client):
        create(client, "compacted-only", cleanup_policy="compact")
        partition = DeleteRecordsPartition(partition_index=0, offset=0)
        topics = [DeleteRecordsTopic(name="compacted-only", partitions=[partition])]
        answer = client.call(DeleteRecordsRequest(topics=topics, timeout_ms=1000), 2)
        assert answer.topics[0].partitions[0].error_code == ErrorCode.POLICY_VIOLATION


class TestProduce:
    def test_compacted_topic_needs_keys(self, client):
        create(client, "keyed", cleanup_policy="compact")
        refused = produce(client, "keyed", records((b"k", b"1", NOW_MS), (None, b"2", NOW_MS)))
        assert refused.error_code == ErrorCode.INVALID_RECORD
        assert refused.error_message
        assert produce(client, "keyed", records((b"k", b"1", NOW_MS))).base_offset == 0

    def test_batches_are_compressed_as_the_topic_says(self, client):
        create(client, "zipped", compression_type="gzip")
        value = b"a long value that compresses well " * 20
        assert produce(client, "zipped", records((b"k", value, NOW_MS))).error_code == 0
        (batch,) = read_batches(fetch(client, "zipped").records)
        assert batch.header.codec == 1
        assert batch.crc_ok()
        assert value in gzip.decompress(bytes(batch.payload))

    def test_damaged_batch_is_refused_on_the_slow_path_too(self, client):
        create(client, "checked", cleanup_policy="compact")
        batch = records((b"k", b"v", NOW_MS))
        batch[-1] ^= 1
        assert produce(client, "checked", batch).error_code == ErrorCode.CORRUPT_MESSAGE

    def test_clients_do_not_write_to_internal_topics(self, client):
        client.call(FindCoordinatorRequest(key="g", key_type=0), 2)
        refused = produce(client, "__consumer_offsets", records((b"k", b"v", NOW_MS)))
        assert refused.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION

    def test_without_acks_nothing_is_answered_and_an_error_closes(self, client):
        create(client, "unanswered", cleanup_policy="compact")
        produce(client, "unanswered", records((b"k", b"v", NOW_MS)), acks=0)
        # The next answer on the connection is that of the next request.
        assert fetch(client, "unanswered").high_watermark == 1
        produce(client, "unanswered", records((None, b"v", NOW_MS)), acks=0)
        assert client.is_closed()


class TestProducerIds:
    def test_ids_are_distinct_and_epochs_go_up(self, client):
        def init(producer_id=-1, epoch=-1):
            request = InitProducerIdRequest(
                transactional_id=None, producer_id=producer_id, producer_epoch=epoch
            )
            answer = client.call(request, 4)
            assert answer.error_code == 0
            return answer.producer_id, answer.producer_epoch

        first, second = init(), init()
        assert first[0] != second[0]
        assert first[1] == second[1] == 0
        assert init(*first) == (first[0], 1)
        # The epochs are used up, or the id is none of ours: a new one.
        assert init(first[0], 32_767)[1] == 0
        assert init(1 << 40, 3)[1] == 0

    @pytest.mark.parametrize("version", [0, 5])
    def test_transactional_id_gets_a_final_error(self, client, version):
        answer = client.call(InitProducerIdRequest(transactional_id="t"), version)
        code = ErrorCode(answer.error_code)
        assert code is ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert not code.retriable

    def test_transaction_coordinator_is_refused_with_a_message(self, client):
        old = client.call(FindCoordinatorRequest(key="t", key_type=1), 2)
        assert "no transactions" in old.error_message
        new = client.call(FindCoordinatorRequest(key_type=1, coordinator_keys=["t"]), 4)
        assert not ErrorCode(new.coordinators[0].error_code).retriable


class TestSettings:
    def describe(self, client, kind, name, keys=None):
        resource = DescribeConfigsResource(
            resource_type=kind, resource_name=name, configuration_keys=keys
        )
        request = DescribeConfigsRequest(resources=[resource], include_synonyms=True)
        (result,) = client.call(request, 4).results
        assert result.error_code == 0, result
        return {c.name: c for c in result.configs}

    def change(self, client, kind, name, *changes, **more):
        entries = [
            IncrementalAlterConfigsEntry(name=key, config_operation=op, value=value)
            for key, op, value in changes
        ]
        resource = IncrementalAlterConfigsResource(
            resource_type=kind, resource_name=name, configs=entries
        )
        request = IncrementalAlterConfigsRequest(resources=[resource], **more)
        return client.call(request, 1).responses[0]

    def test_set_append_subtract_and_delete_one_key(self, client):
        create(client, "tuned", retention_ms="1000")
        assert self.change(client, 2, "tuned", ("cleanup.policy", 2, "compact")).error_code == 0
        found = self.describe(client, 2, "tuned")
        assert found["cleanup.policy"].value == "delete,compact"
        assert found["retention.ms"].config_source == 1
        self.change(client, 2, "tuned", ("cleanup.policy", 3, "delete"), ("retention.ms", 1, None))
        found = self.describe(client, 2, "tuned")
        assert found["cleanup.policy"].value == "compact"
        assert found["retention.ms"].value == "604800000"
        assert found["retention.ms"].config_source == 5
        # Compaction takes effect at once: a record without a key is refused.
        assert produce(client, "tuned", records((None, b"v", NOW_MS))).error_code == 87

    def test_wrong_changes_are_refused_with_a_message(self, client):
        create(client, "wrong")
        refused = self.change(client, 2, "wrong", ("retention.mss", 0, "1"))
        assert refused.error_code == ErrorCode.INVALID_CONFIG
        assert "retention.ms" in refused.error_message
        assert self.change(client, 2, "wrong", ("retention.ms", 9, "1")).error_code == 42
        assert self.change(client, 2, "no-such", ("retention.ms", 0, "1")).error_code == 3
        checked = self.change(client, 2, "wrong", ("retention.ms", 0, "7"), validate_only=True)
        assert checked.error_code == 0
        assert self.describe(client, 2, "wrong")["retention.ms"].value == "604800000"

    def test_changes_at_the_same_time_both_count(self, broker, client):
        create(client, "busy")
        others = [RawClient(broker.bootstrap) for _ in range(8)]
        keys = ["retention.ms", "retention.bytes", "segment.ms", "segment.bytes"] * 2
        sent = []
        for number, (one, key) in enumerate(zip(others, keys, strict=True)):
            entry = IncrementalAlterConfigsEntry(
                name=key, config_operation=0, value=str(2_000_000 + number)
            )
            resource = IncrementalAlterConfigsResource(
                resource_type=2, resource_name="busy", configs=[entry]
            )
            sent.append(one.send(IncrementalAlterConfigsRequest(resources=[resource]), 1))
        for one, correlation_id in zip(others, sent, strict=True):
            answer = one.receive(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, correlation_id)
            assert answer.responses[0].error_code == 0
            one.sock.close()
        found = self.describe(client, 2, "busy")
        assert [found[key].config_source for key in keys] == [1] * 8

    def test_plain_alter_replaces_everything(self, client):
        create(client, "replaced", retention_ms="1000", segment_bytes="2097152")
        entry = AlterConfigsEntry(name="retention.ms", value="5")
        resource = AlterConfigsResource(resource_type=2, resource_name="replaced", configs=[entry])
        answer = client.call(AlterConfigsRequest(resources=[resource]), 2)
        assert answer.responses[0].error_code == 0
        found = self.describe(client, 2, "replaced")
        assert found["retention.ms"].value == "5"
        assert found["segment.bytes"].config_source == 5

    def test_broker_settings_change_the_defaults_of_topics(self, client):
        create(client, "follows")
        name = "log.retention.ms"
        assert self.change(client, 4, "", (name, 0, "777000")).error_code == 0
        try:
            found = self.describe(client, 2, "follows", ["retention.ms"])
            assert list(found) == ["retention.ms"]
            assert (found["retention.ms"].value, found["retention.ms"].config_source) == (
                "777000",
                3,
            )
            assert self.describe(client, 4, "1")[name].config_source == 3
        finally:
            assert self.change(client, 4, "", (name, 1, None)).error_code == 0
        assert self.change(client, 4, "1", ("log.dirs", 0, "/x")).error_code == 40

    def test_tools_find_what_they_read_of_a_broker(self, client):
        found = self.describe(client, 4, "1")
        assert found["num.partitions"].value == "2"
        assert found["num.partitions"].config_source == 4
        assert found["inter.broker.protocol.version"].value
        assert found["log.dirs"].value


class TestGroupsAcrossRestarts:
    def commit(self, client, offset):
        partition = OffsetCommitPartition(
            partition_index=0, committed_offset=offset, committed_metadata=""
        )
        request = OffsetCommitRequest(
            group_id="lasting", topics=[OffsetCommitTopic(name="read", partitions=[partition])]
        )
        answer = client.call(request, 8)
        return answer.topics[0].partitions[0].error_code

    def committed(self, client):
        topics = [OffsetFetchTopic(name="read", partition_indexes=[0])]
        request = OffsetFetchRequest(group_id="lasting", topics=topics)
        deadline = time.monotonic() + 5
        while True:
            answer = client.call(request, 7)
            if answer.error_code != ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                return answer.topics[0].partitions[0].committed_offset
            assert time.monotonic() < deadline

    @pytest.mark.parametrize("end", ["stop", "kill"])
    def test_committed_offsets_survive(self, make_broker, end):
        broker = make_broker(dev=False)
        with RawClient(broker.bootstrap) as client:
            create(client, "read")
            client.call(FindCoordinatorRequest(key="lasting", key_type=0), 2)
            assert self.commit(client, 41) == 0
            assert self.commit(client, 42) == 0
        getattr(broker, end)()
        broker.start()
        with RawClient(broker.bootstrap) as client:
            assert self.committed(client) == 42


class TestLimits:
    def test_connections_beyond_the_limits_are_closed(self, make_broker):
        broker = make_broker(overrides={"max.connections": 6, "max.connections.per.ip": 4})
        clients = [RawClient(broker.bootstrap) for _ in range(4)]
        for one in clients:
            one.call(MetadataRequest(topics=[]), 9)
        with RawClient(broker.bootstrap) as refused:
            assert refused.is_closed()
        clients.pop().sock.close()
        deadline = time.monotonic() + 5
        served = False
        while not served:
            assert time.monotonic() < deadline, "the closed connection still counts"
            with RawClient(broker.bootstrap) as again, suppress(EOFError, OSError):
                again.call(MetadataRequest(topics=[]), 9)
                served = True
        for one in clients:
            one.sock.close()
        assert "max.connections.per.ip" in broker.log_text()


def test_log_directories_are_described(broker, client):
    create(client, "sized")
    produce(client, "sized", records((b"k", b"v" * 100, NOW_MS)))
    (directory,) = client.call(DescribeLogDirsRequest(topics=None), 4).results
    assert directory.log_dir == str(broker.data_dir)
    assert directory.total_bytes > directory.usable_bytes > 0
    sizes = {t.name: t.partitions[0].partition_size for t in directory.topics}
    assert sizes["sized"] > 100
