"""Requests with known and unknown names, in every version, against a real broker.

One well-formed request per API and version, about things that exist and things that do not; the
answer must decode as that version and carry no error where none is due. What the answers mean is
tested elsewhere; this is about fields that a version lacks or adds.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fastmq.ids import UUID_ZERO
from fastmq.protocol import APIS, ApiKey
from fastmq.protocol.messages import (
    alter_configs,
    alter_partition_reassignments,
    api_versions,
    consumer_group_heartbeat,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_topic_partitions,
    elect_leaders,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_groups,
    list_offsets,
    list_partition_reassignments,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    sync_group,
    unregister_broker,
)
from fastmq.records import NewRecord, build_batch

from support.broker import Broker
from support.raw import RawClient

TOPIC, COMPACTED, GROUP = "events", "table", "readers"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("versions"), overrides={"num.partitions": 2}) as broker:
        with RawClient(broker.bootstrap) as client:
            topics = [
                create_topics.CreatableTopic(name=TOPIC, num_partitions=2, replication_factor=1),
                create_topics.CreatableTopic(
                    name=COMPACTED,
                    num_partitions=2,
                    replication_factor=1,
                    configs=[
                        create_topics.CreatableTopicConfig(name="cleanup.policy", value="compact")
                    ],
                ),
            ]
            made = client.call(create_topics.CreateTopicsRequest(topics=topics), 7)
            assert [t.error_code for t in made.topics] == [0, 0]
            client.call(find_coordinator.FindCoordinatorRequest(key=GROUP, key_type=0), 3)
        yield broker, {t.name: t.topic_id for t in made.topics}


def batch() -> bytearray:
    return build_batch([NewRecord(b"key", b"value", timestamp=1_700_000_000_000)])


Build = Callable[[int, dict[str, bytes]], Any]


def _metadata(v, ids):
    if v >= 12:
        asked = [
            metadata.MetadataRequestTopic(topic_id=ids[TOPIC], name=None),
            metadata.MetadataRequestTopic(topic_id=b"\7" * 16, name=None),
        ]
    else:
        asked = [metadata.MetadataRequestTopic(name=n) for n in (TOPIC, "bad/name")]
    return metadata.MetadataRequest(topics=asked, include_topic_authorized_operations=v >= 8)


def _produce(v, ids):
    def topic(name, key):
        named = {"topic_id": ids[name]} if v >= 13 else {"name": name}
        return produce.ProduceTopic(
            **named,
            partition_data=[produce.ProducePartition(index=i, records=batch()) for i in key],
        )

    topics = [topic(TOPIC, (0, 1)), topic(COMPACTED, (0, 7))]
    return produce.ProduceRequest(acks=-1, timeout_ms=5000, topic_data=topics)


def _fetch(v, ids):
    def topic(name):
        named = {"topic_id": ids[name]} if v >= 13 else {"topic": name}
        partitions = [
            fetch.FetchPartition(partition=i, fetch_offset=0, partition_max_bytes=1 << 20)
            for i in (0, 9)
        ]
        return fetch.FetchTopic(**named, partitions=partitions)

    return fetch.FetchRequest(max_wait_ms=10, min_bytes=1, topics=[topic(TOPIC)])


def _list_offsets(v, _ids):
    stamps = [-1, -2, 0] + [-3] * (v >= 7) + [-4] * (v >= 8) + [-5] * (v >= 9)
    return list_offsets.ListOffsetsRequest(
        replica_id=-1,
        topics=[
            list_offsets.ListOffsetsTopic(
                name=TOPIC,
                partitions=[list_offsets.ListOffsetsPartition(partition_index=0, timestamp=t)],
            )
            for t in stamps[:1]
        ]
        + [
            list_offsets.ListOffsetsTopic(
                name="no-such-topic",
                partitions=[list_offsets.ListOffsetsPartition(partition_index=i, timestamp=t)],
            )
            for i, t in enumerate(stamps)
        ],
    )


def _commit(v, ids):
    named = {"topic_id": ids[TOPIC]} if v >= 10 else {"name": TOPIC}
    missing = {"topic_id": b"\7" * 16} if v >= 10 else {"name": "no-such-topic"}
    return offset_commit.OffsetCommitRequest(
        group_id=GROUP,
        topics=[
            offset_commit.OffsetCommitTopic(
                **name,
                partitions=[
                    offset_commit.OffsetCommitPartition(
                        partition_index=i, committed_offset=5, committed_metadata="m"
                    )
                    for i in (0, 99)
                ],
            )
            for name in (named, missing)
        ],
    )


def _offset_fetch(v, ids):
    if v < 8:
        topics = [offset_fetch.OffsetFetchTopic(name=TOPIC, partition_indexes=[0, 5])]
        return offset_fetch.OffsetFetchRequest(group_id=GROUP, topics=topics)
    named = {"topic_id": ids[TOPIC]} if v >= 10 else {"name": TOPIC}
    missing = {"topic_id": b"\7" * 16} if v >= 10 else {"name": "no-such-topic"}
    groups = [
        offset_fetch.OffsetFetchGroup(
            group_id=name,
            topics=[
                offset_fetch.OffsetFetchGroupTopic(**t, partition_indexes=[0])
                for t in (named, missing)
            ],
        )
        for name in (GROUP, "nobody")
    ]
    groups.append(offset_fetch.OffsetFetchGroup(group_id=GROUP, topics=None))
    return offset_fetch.OffsetFetchRequest(groups=groups)


def _find_coordinator(v, _ids):
    if v >= 4:
        return find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=["a", "b"])
    return find_coordinator.FindCoordinatorRequest(key="a", key_type=0)


def _join(v, _ids):
    return join_group.JoinGroupRequest(
        group_id=f"joined-{v}",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000 if v >= 1 else -1,
        protocol_type="consumer",
        protocols=[join_group.JoinGroupProtocol(name="range", metadata=b"\0\1")],
    )


def _leave(v, _ids):
    if v >= 3:
        members = [leave_group.LeaveGroupMember(member_id="nobody")]
        return leave_group.LeaveGroupRequest(group_id=GROUP, members=members)
    return leave_group.LeaveGroupRequest(group_id=GROUP, member_id="nobody")


def _sync(v, _ids):
    return sync_group.SyncGroupRequest(group_id=GROUP, generation_id=1, member_id="nobody")


def _create(v, _ids):
    topics = [
        create_topics.CreatableTopic(name=f"made-{v}", num_partitions=1, replication_factor=1),
        create_topics.CreatableTopic(name="bad/name", num_partitions=1, replication_factor=1),
    ]
    return create_topics.CreateTopicsRequest(topics=topics)


def _delete(v, ids):
    if v >= 6:
        topics = [
            delete_topics.DeleteTopicState(name="no-such-topic"),
            delete_topics.DeleteTopicState(name=None, topic_id=b"\7" * 16),
            delete_topics.DeleteTopicState(name=None, topic_id=UUID_ZERO),
        ]
        return delete_topics.DeleteTopicsRequest(topics=topics)
    return delete_topics.DeleteTopicsRequest(topic_names=["no-such-topic"])


def _delete_records(v, _ids):
    partitions = [
        delete_records.DeleteRecordsPartition(partition_index=i, offset=0) for i in (0, 9)
    ]
    topics = [
        delete_records.DeleteRecordsTopic(name=n, partitions=partitions) for n in (TOPIC, "no")
    ]
    return delete_records.DeleteRecordsRequest(topics=topics)


def _epochs(v, _ids):
    part = offset_for_leader_epoch.OffsetForLeaderEpochPartition
    topic = offset_for_leader_epoch.OffsetForLeaderEpochTopic
    return offset_for_leader_epoch.OffsetForLeaderEpochRequest(
        topics=[topic(topic=TOPIC, partitions=[part(partition=0, leader_epoch=e)]) for e in (0, 9)]
    )


def _describe_configs(v, _ids):
    resource = describe_configs.DescribeConfigsResource
    resources = [
        resource(resource_type=kind, resource_name=name, configuration_keys=None)
        for kind, name in ((2, TOPIC), (2, "no-such-topic"), (4, "1"), (4, ""), (9, "x"))
    ]
    return describe_configs.DescribeConfigsRequest(
        resources=resources, include_synonyms=v >= 1, include_documentation=v >= 3
    )


def _alter(v, _ids):
    entry = alter_configs.AlterConfigsEntry(name="retention.ms", value="1000000")
    resource = alter_configs.AlterConfigsResource
    return alter_configs.AlterConfigsRequest(
        resources=[
            resource(resource_type=2, resource_name=n, configs=[entry]) for n in (TOPIC, "no")
        ]
    )


def _increment(v, _ids):
    module = incremental_alter_configs
    entry = module.IncrementalAlterConfigsEntry(
        name="retention.ms", config_operation=0, value="1000000"
    )
    resources = [
        module.IncrementalAlterConfigsResource(resource_type=2, resource_name=n, configs=[entry])
        for n in (TOPIC, "no")
    ]
    return module.IncrementalAlterConfigsRequest(resources=resources)


def _partitions(v, _ids):
    topics = [create_partitions.CreatePartitionsTopic(name=n, count=1, assignments=None)
              for n in (TOPIC, "no")]  # fmt: skip
    return create_partitions.CreatePartitionsRequest(topics=topics, timeout_ms=1000)


def _topic_partitions(v, _ids):
    topic = describe_topic_partitions.DescribeTopicPartitionsRequestTopic
    return describe_topic_partitions.DescribeTopicPartitionsRequest(
        topics=[topic(name=TOPIC), topic(name="no-such-topic")], response_partition_limit=1
    )


def _log_dirs(v, _ids):
    topic = describe_log_dirs.DescribeLogDirsTopic(topic=TOPIC, partitions=[0, 1])
    return describe_log_dirs.DescribeLogDirsRequest(topics=[topic])


def _move(v, _ids):
    messages = alter_partition_reassignments
    parts = [
        messages.ReassignablePartition(partition_index=0, replicas=[1]),
        messages.ReassignablePartition(partition_index=1, replicas=[77]),
        messages.ReassignablePartition(partition_index=7, replicas=None),
    ]
    return messages.AlterPartitionReassignmentsRequest(
        topics=[messages.ReassignableTopic(name=TOPIC, partitions=parts)]
    )


BUILD: dict[int, Build] = {
    ApiKey.API_VERSIONS: lambda v, _: api_versions.ApiVersionsRequest(
        **({"client_software_name": "test", "client_software_version": "1.0"} if v >= 3 else {})
    ),
    ApiKey.METADATA: _metadata,
    ApiKey.PRODUCE: _produce,
    ApiKey.FETCH: _fetch,
    ApiKey.LIST_OFFSETS: _list_offsets,
    ApiKey.OFFSET_COMMIT: _commit,
    ApiKey.OFFSET_FETCH: _offset_fetch,
    ApiKey.FIND_COORDINATOR: _find_coordinator,
    ApiKey.JOIN_GROUP: _join,
    ApiKey.HEARTBEAT: lambda v, _: heartbeat.HeartbeatRequest(
        group_id=GROUP, generation_id=1, member_id="nobody"
    ),
    ApiKey.LEAVE_GROUP: _leave,
    ApiKey.SYNC_GROUP: _sync,
    ApiKey.DESCRIBE_GROUPS: lambda v, _: describe_groups.DescribeGroupsRequest(
        groups=[GROUP, "nobody"], include_authorized_operations=v >= 3
    ),
    ApiKey.LIST_GROUPS: lambda v, _: list_groups.ListGroupsRequest(),
    ApiKey.CREATE_TOPICS: _create,
    ApiKey.DELETE_TOPICS: _delete,
    ApiKey.DELETE_RECORDS: _delete_records,
    ApiKey.INIT_PRODUCER_ID: lambda v, _: init_producer_id.InitProducerIdRequest(
        transactional_id=None
    ),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: _epochs,
    ApiKey.DESCRIBE_CONFIGS: _describe_configs,
    ApiKey.ALTER_CONFIGS: _alter,
    ApiKey.DESCRIBE_LOG_DIRS: _log_dirs,
    ApiKey.CREATE_PARTITIONS: _partitions,
    ApiKey.DELETE_GROUPS: lambda v, _: delete_groups.DeleteGroupsRequest(groups_names=["nobody"]),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: _increment,
    ApiKey.OFFSET_DELETE: lambda v, _: offset_delete.OffsetDeleteRequest(
        group_id=GROUP,
        topics=[
            offset_delete.OffsetDeleteTopic(
                name=TOPIC,
                partitions=[offset_delete.OffsetDeletePartition(partition_index=1)],
            )
        ],
    ),
    ApiKey.DESCRIBE_CLUSTER: lambda v, _: describe_cluster.DescribeClusterRequest(
        include_cluster_authorized_operations=True
    ),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: _topic_partitions,
    ApiKey.ELECT_LEADERS: lambda v, _: elect_leaders.ElectLeadersRequest(
        election_type=0,
        topic_partitions=[elect_leaders.ElectLeadersTopic(topic=TOPIC, partitions=[0, 7])],
    ),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: lambda v, _: (
        consumer_group_heartbeat.ConsumerGroupHeartbeatRequest(group_id=GROUP, member_id="m")
    ),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: _move,
    ApiKey.UNREGISTER_BROKER: lambda v, _: unregister_broker.UnregisterBrokerRequest(broker_id=7),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: lambda v, _: (
        list_partition_reassignments.ListPartitionReassignmentsRequest(topics=None)
    ),
}


def test_every_advertised_api_is_tested_here(served):
    broker, _ = served
    with RawClient(broker.bootstrap) as client:
        answer = client.call(api_versions.ApiVersionsRequest(), 0)
    assert {row.api_key for row in answer.api_keys} == {int(key) for key in BUILD}


@pytest.mark.parametrize(
    ("key", "version"),
    [(k, v) for k in BUILD for v in range(APIS[k].min_version, APIS[k].max_version + 1)],
    ids=lambda value: value.name if isinstance(value, ApiKey) else str(value),
)
def test_answers_in_the_version_that_was_asked(served, key, version):
    broker, ids = served
    with RawClient(broker.bootstrap, timeout_s=5) as client:
        response = client.call(BUILD[key](version, ids), version)
        # The connection is still good: nothing of the answer is missing or left over.
        again = client.call(api_versions.ApiVersionsRequest(), 0)
    assert again.error_code == 0
    assert getattr(response, "error_code", 0) in _EXPECTED.get(key, {0}), response
    assert "-1" not in str(_codes(response)), response


_EXPECTED = {
    ApiKey.CONSUMER_GROUP_HEARTBEAT: {35},
    ApiKey.JOIN_GROUP: {0, 79},
    ApiKey.HEARTBEAT: {25},
    ApiKey.SYNC_GROUP: {25},
    ApiKey.LEAVE_GROUP: {0, 25},
    ApiKey.UNREGISTER_BROKER: {102},
}


def _codes(message: Any) -> list[int]:
    """All error codes in an answer, however deep."""
    found = []
    for field in message.__fields__:
        value = getattr(message, field.name)
        if field.name == "error_code":
            found.append(value)
        elif isinstance(value, list):
            found += [
                code for item in value if hasattr(item, "__fields__") for code in _codes(item)
            ]
    return found
