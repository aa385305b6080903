"""Goal: commits, fetches, deletions and expiry of offsets follow Kafka's rules."""

from typing import Any

import pytest

from fastmq.coordinator.group import (
    GroupConfig,
    error_response,
    offset_requests,
    single_group,
    single_group_response,
)
from fastmq.coordinator.group.records import decode_key
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_fetch import (
    OffsetFetchGroupResponse,
    OffsetFetchRequest,
    OffsetFetchTopic,
)

from support.coordinator import Coordinator, subscription

HOUR = 3_600_000
WEEK = 7 * 24 * HOUR
T0 = {("t", 0): 7}


@pytest.fixture
def c() -> Coordinator:
    return Coordinator()


# OffsetCommit.


def test_a_commit_from_outside_makes_a_group(c: Coordinator) -> None:
    assert c.commit(T0) == [0]
    assert c.fetch() == T0
    assert c.state() == "Empty"
    assert c.describe().protocol_type == ""
    c.restart()
    assert c.fetch() == T0


def test_a_commit_with_a_generation_needs_a_group(c: Coordinator) -> None:
    how: dict[str, Any] = {"member_id": "m", "generation": 1}
    assert c.commit(T0, version=8, **how) == [ErrorCode.ILLEGAL_GENERATION]
    assert c.commit(T0, version=9, **how) == [ErrorCode.GROUP_ID_NOT_FOUND]
    assert c.list_groups() == []


def test_who_may_commit(c: Coordinator) -> None:
    ids, generation = c.stable_group(2)
    member: dict[str, Any] = {"member_id": ids[0]}
    assert c.commit(T0, generation=generation, **member) == [0]
    assert c.commit(T0) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert c.commit(T0, generation=generation) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert c.commit(T0, generation=-1, **member) == [ErrorCode.ILLEGAL_GENERATION]
    for wrong in (generation - 1, generation + 1):
        assert c.commit(T0, generation=wrong, **member) == [ErrorCode.ILLEGAL_GENERATION]
    c.send_join(ids[0])
    assert c.state() == "PreparingRebalance"
    assert c.commit(T0, generation=generation, member_id=ids[1]) == [0]
    c.send_join(ids[1])
    assert c.state() == "CompletingRebalance"
    codes = c.commit(T0, generation=generation + 1, member_id=ids[1])
    assert codes == [ErrorCode.REBALANCE_IN_PROGRESS]


def test_a_commit_counts_as_a_sign_of_life(c: Coordinator) -> None:
    (member,), generation = c.stable_group(1, session_ms=10_000)
    for _ in range(5):
        c.advance(9_000)
        assert c.commit(T0, generation=generation, member_id=member) == [0]
    assert c.heartbeat(member, generation) == 0


def test_large_metadata_is_refused_per_partition(c: Coordinator) -> None:
    assert c.commit(T0, metadata="x" * 4096) == [0]
    assert c.commit({("t", 1): 1}, metadata="x" * 4097) == [ErrorCode.OFFSET_METADATA_TOO_LARGE]
    assert c.commit({("t", 2): 1}, metadata=None) == [0]
    assert c.fetch({"t": [0, 1, 2]}) == {("t", 0): 7, ("t", 1): -1, ("t", 2): 1}


def test_offsets_of_a_group_are_bounded(c: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_requests, "OFFSETS_PER_GROUP_MAX", 2)
    codes = c.commit({("t", n): n for n in range(3)})
    assert codes == [0, 0, ErrorCode.INVALID_COMMIT_OFFSET_SIZE]


def test_a_refused_commit_changes_nothing(c: Coordinator) -> None:
    c.commit(T0)
    c.refuse = ErrorCode.MESSAGE_TOO_LARGE
    assert c.commit({("t", 0): 8}) == [ErrorCode.INVALID_COMMIT_OFFSET_SIZE]
    c.refuse = ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert c.commit({("t", 0): 8}) == [ErrorCode.NOT_COORDINATOR]
    c.refuse = None
    assert c.fetch() == T0


def test_topic_ids_and_epochs_are_kept_and_repeated(c: Coordinator) -> None:
    request = OffsetCommitRequest(
        group_id="g",
        topics=[
            OffsetCommitTopic(
                name="t",
                topic_id=b"i" * 16,
                partitions=[
                    OffsetCommitPartition(
                        partition_index=3,
                        committed_offset=9,
                        committed_leader_epoch=4,
                        committed_metadata="note",
                    )
                ],
            )
        ],
    )
    answer = c.ask(c.shard.commit_offsets, request, 10)
    assert (answer.topics[0].topic_id, answer.topics[0].name) == (b"i" * 16, "t")
    c.restart()
    group = single_group(
        OffsetFetchRequest(group_id="g", topics=[OffsetFetchTopic(name="t", partition_indexes=[3])])
    )
    row = c.ask(c.shard.fetch_offsets, group, 9).topics[0].partitions[0]
    assert (row.committed_offset, row.committed_leader_epoch, row.metadata) == (9, 4, "note")


# OffsetFetch.


def test_fetch_of_unknown_things_is_minus_one_without_error(c: Coordinator) -> None:
    assert c.fetch({"t": [0]}, group="none") == {("t", 0): -1}
    assert c.fetch(group="none") == {}
    c.commit(T0)
    row = (
        c.ask(
            c.shard.fetch_offsets,
            single_group(
                OffsetFetchRequest(
                    group_id="g", topics=[OffsetFetchTopic(name="t", partition_indexes=[5])]
                )
            ),
            9,
        )
        .topics[0]
        .partitions[0]
    )
    assert (row.committed_offset, row.committed_leader_epoch, row.metadata) == (-1, -1, "")
    assert row.error_code == 0


@pytest.mark.parametrize("version", range(1, 8))
def test_the_form_for_one_group_carries_errors_where_its_version_has_them(version: int) -> None:
    request = OffsetFetchRequest(
        group_id="g", topics=[OffsetFetchTopic(name="t", partition_indexes=[0, 1])]
    )
    lost = ErrorCode.NOT_COORDINATOR
    answer = single_group_response(request, OffsetFetchGroupResponse(error_code=lost), version)
    assert answer.error_code == (lost if version >= 2 else 0)
    rows = answer.topics[0].partitions
    assert [(row.partition_index, row.error_code) for row in rows] == [(0, lost), (1, lost)]
    assert error_response(request, version, lost) == answer


def test_all_topics_may_be_asked_for_in_the_form_for_one_group(c: Coordinator) -> None:
    c.commit({("a", 0): 1, ("b", 2): 3})
    request = OffsetFetchRequest(group_id="g", topics=None)
    part = c.ask(c.shard.fetch_offsets, single_group(request), 7)
    answer = single_group_response(request, part, 7)
    assert {t.name: t.partitions[0].committed_offset for t in answer.topics} == {"a": 1, "b": 3}


# OffsetDelete.


def test_offsets_of_subscribed_topics_cannot_be_deleted(c: Coordinator) -> None:
    ids, generation = c.stable_group(2, protocols={"range": subscription("t", "u")})
    offsets = {("t", 0): 1, ("old", 0): 2}
    c.commit(offsets, generation=generation, member_id=ids[0])
    answer = c.delete_offsets(("t", 0), ("old", 0), ("never", 0))
    codes = [topic.partitions[0].error_code for topic in answer.topics]
    assert codes == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, 0, 0]
    assert c.fetch() == {("t", 0): 1}
    c.restart()
    assert c.fetch() == {("t", 0): 1}


def test_delete_offsets_per_kind_of_group(c: Coordinator) -> None:
    assert c.delete_offsets(("t", 0)).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    c.stable_group(1, group="k", protocol_type="connect", protocols={"range": b"?"})
    assert c.delete_offsets(("t", 0), group="k").error_code == ErrorCode.NON_EMPTY_GROUP
    c.commit(T0, group="simple")
    assert c.delete_offsets(("t", 0), group="simple").topics[0].partitions[0].error_code == 0
    assert c.list_groups() == ["k"], "with its last offset, a simple group is gone"


@pytest.mark.parametrize(
    "blob",
    [b"", b"\0", b"\0\0\0\0\0\x05", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\1\0\4ab", b"\xff" * 9],
)
def test_an_unreadable_subscription_protects_all_topics(c: Coordinator, blob: bytes) -> None:
    ids, generation = c.stable_group(1, protocols={"range": blob})
    c.commit(T0, generation=generation, member_id=ids[0])
    answer = c.delete_offsets(("t", 0))
    assert answer.topics[0].partitions[0].error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    c.advance(1)
    assert c.fetch() == T0


# Expiry.


def _expiring(**how: int) -> Coordinator:
    return Coordinator(GroupConfig(initial_rebalance_delay_ms=0, **how))


def test_offsets_of_a_simple_consumer_expire_per_partition() -> None:
    c = _expiring()
    c.commit({("t", 0): 1})
    c.advance(HOUR)
    c.commit({("t", 1): 2})
    c.advance(WEEK - HOUR + 600_000)
    assert c.fetch() == {("t", 1): 2}
    c.advance(HOUR)
    assert c.list_groups() == []
    c.restart()
    assert c.list_groups() == []


def test_offsets_of_a_group_expire_from_when_it_became_empty() -> None:
    c = _expiring()
    (member,), generation = c.stable_group(1, session_ms=1_800_000)
    c.commit(T0, generation=generation, member_id=member)
    for _ in range(9 * 72):
        c.advance(HOUR // 3)
        assert c.heartbeat(member, generation) == 0
    assert c.fetch() == T0, "a group that lives keeps what it subscribes to"
    c.leave((member, None))
    c.restart()
    c.advance(WEEK - 1)
    assert c.fetch() == T0
    c.advance(600_000)
    assert c.fetch() == {}
    assert c.list_groups() == []
    assert all(record.value is None for record in c.log[-2:])


def test_offsets_of_topics_no_longer_subscribed_expire() -> None:
    c = _expiring(offsets_retention_ms=HOUR)
    (member,), generation = c.stable_group(1, session_ms=1_800_000)
    c.commit({("t", 0): 1, ("old", 0): 2}, generation=generation, member_id=member)
    for _ in range(4):
        c.advance(HOUR // 3)
        c.heartbeat(member, generation)
    assert c.fetch() == {("t", 0): 1}


def test_offsets_of_other_protocols_stay_while_there_are_members() -> None:
    c = _expiring(offsets_retention_ms=HOUR)
    how = {"protocol_type": "connect", "protocols": {"range": b"?"}, "session_ms": 1_800_000}
    member, _ = c.send_new_join(**how)
    c.send_sync(member, 1, {}, protocol_type="connect")
    c.commit(T0, generation=1, member_id=member)
    for _ in range(9):
        c.advance(HOUR // 3)
        c.heartbeat(member, 1)
    assert c.fetch() == T0


def test_a_retention_time_of_the_client_is_honoured() -> None:
    c = _expiring()
    c.commit(T0, retention_ms=HOUR, version=4)
    c.restart()
    c.advance(HOUR - 1)
    assert c.fetch() == T0
    c.advance(600_000)
    assert c.fetch() == {}


def test_expiry_comes_in_batches_of_bounded_size() -> None:
    c = _expiring()
    for n in range(5):
        c.commit({("t", n * 1000 + k): 1 for k in range(1000)}, group=f"g{n % 2}")
    sizes = []
    c.advance(WEEK - 1)
    while c.list_groups():
        due = c.shard.next_deadline()
        assert due is not None
        c.now_ms = max(due, c.now_ms)
        before = len(c.log)
        c.run(c.shard.on_timer(c.now_ms))
        sizes.append(len(c.log) - before)
    assert sum(sizes) >= 5_000
    assert max(sizes) <= 1_001


def test_a_log_that_refuses_tombstones_does_not_keep_the_timer_busy() -> None:
    c = _expiring()
    for n in range(3):
        c.commit({("t", n * 1000 + k): 1 for k in range(1000)})
    c.refuse = ErrorCode.KAFKA_STORAGE_ERROR
    c.advance(WEEK + HOUR)
    assert len(c.fetch()) == 3_000
    c.refuse = None
    c.advance(HOUR)
    assert c.fetch() == {}


# Deletion of topics.


def test_offsets_of_deleted_topics_are_forgotten(c: Coordinator) -> None:
    ids, generation = c.stable_group(1)
    c.commit({("t", 0): 1, ("u", 0): 2}, member_id=ids[0], generation=generation)
    c.commit({("t", 0): 3, ("t", 1): 4}, group="simple")
    c.run(c.shard.forget_topics(["t", "never"], c.now_ms))
    for _ in range(2):
        assert c.fetch() == {("u", 0): 2}
        assert c.list_groups() == ["g"], "with its last offset, a simple group is gone"
        c.restart()


def test_many_offsets_of_deleted_topics_are_forgotten_in_steps(c: Coordinator) -> None:
    for n in range(3):
        c.commit({("t", n * 1000 + k): 1 for k in range(1000)})
    c.commit({("u", 0): 1})
    before = len(c.log)
    c.run(c.shard.forget_topics(["t"], c.now_ms))
    assert len(c.log) == before + 1000
    left = sorted(c.fetch())
    replaced = left[0]
    # The topic was created again, and a consumer was faster than the tombstones.
    c.commit({replaced: 77})
    c.advance(0)
    assert c.fetch() == {replaced: 77, ("u", 0): 1}
    c.restart()
    assert c.fetch() == {replaced: 77, ("u", 0): 1}


# Deletion of groups.


def test_delete_group(c: Coordinator) -> None:
    assert c.delete_group() == ErrorCode.GROUP_ID_NOT_FOUND
    (member,), generation = c.stable_group(1)
    c.commit(T0, generation=generation, member_id=member)
    assert c.delete_group() == ErrorCode.NON_EMPTY_GROUP
    c.leave((member, None))
    assert c.delete_group() == 0
    assert c.list_groups() == []
    assert c.fetch() == {}
    c.restart()
    assert c.list_groups() == []
    live = {key for record in c.log if (key := decode_key(record.key)) and record.value is None}
    assert {decode_key(record.key) for record in c.log} == live, "every key has its tombstone"


def test_delete_group_with_a_pending_member_only(c: Coordinator) -> None:
    pending = c.answers[c.send_join()].member_id
    assert c.delete_group() == 0
    assert c.log == []
    assert c.answers[c.send_join(pending)].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert c.shard.next_deadline() is not None
    c.advance(60_000)


def test_a_refused_deletion_keeps_the_group(c: Coordinator) -> None:
    c.commit(T0)
    c.refuse = ErrorCode.NOT_ENOUGH_REPLICAS
    assert c.delete_group() == ErrorCode.COORDINATOR_NOT_AVAILABLE
    c.refuse = None
    assert c.fetch() == T0


def test_metrics_walk_over_what_is_committed(c: Coordinator) -> None:
    c.stable_group(2, group="live")
    c.commit({("t", 0): 1, ("u", 1): 2}, group="simple")
    assert sorted(c.shard.committed_offsets()) == [("simple", "t", 0, 1), ("simple", "u", 1, 2)]
    assert c.shard.group_counts() == {"Stable": 1, "Empty": 1}
    assert c.shard.member_count() == 2
