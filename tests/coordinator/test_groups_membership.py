"""Goal: SyncGroup, Heartbeat and LeaveGroup answer per state as Kafka's coordinator does."""

from typing import Any

import pytest

from fastmq.errors import ErrorCode

from support.coordinator import Coordinator


@pytest.fixture
def c() -> Coordinator:
    return Coordinator()


# SyncGroup.


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"group": "other"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member_id": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"instance": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"generation": 99}, ErrorCode.ILLEGAL_GENERATION),
        ({"protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_name": "sticky"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_type": None, "protocol_name": None}, ErrorCode.NONE),
        ({}, ErrorCode.NONE),
    ],
)
def test_sync_checks(c: Coordinator, how: dict[str, Any], code: ErrorCode) -> None:
    (member_id,), generation = c.stable_group(1)
    how = {"member_id": member_id, "generation": generation, **how}
    assert c.answers[c.send_sync(**how)].error_code == code


def test_followers_wait_for_the_leader_and_all_get_their_part(c: Coordinator) -> None:
    ids, generation = c.stable_group(3)
    tokens = [c.send_join(m) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    one = c.send_sync(ids[1], generation)
    assert one not in c.answers
    lead = c.send_sync(ids[0], generation, {ids[0]: b"0", ids[1]: b"1"})
    assert [c.answers[t].assignment for t in (lead, one)] == [b"0", b"1"]
    assert c.answers[one].protocol_type == "consumer"
    assert c.answers[one].protocol_name == "range"
    # Whom the leader left out gets empty bytes, and so does who comes after it.
    assert c.answers[c.send_sync(ids[2], generation)].assignment == b""


def test_a_repeated_sync_replaces_the_first(c: Coordinator) -> None:
    ids, _ = c.stable_group(2)
    tokens = [c.send_join(m) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    first = c.send_sync(ids[1], generation)
    second = c.send_sync(ids[1], generation)
    assert c.answers[first].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    c.send_sync(ids[0], generation, {ids[1]: b"x"})
    assert c.answers[second].assignment == b"x"


def test_sync_in_a_rebalance_is_told_to_join(c: Coordinator) -> None:
    ids, generation = c.stable_group(2)
    c.send_join(ids[0])
    answer = c.answers[c.send_sync(ids[1], generation)]
    assert answer.error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_join_during_the_sync_sends_the_waiting_back_to_join(c: Coordinator) -> None:
    ids, _ = c.stable_group(2)
    tokens = [c.send_join(m) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    waiting = c.send_sync(ids[1], generation)
    c.send_new_join()
    assert c.answers[waiting].error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_refused_assignment_is_given_to_nobody_and_rebalances(c: Coordinator) -> None:
    ids, _ = c.stable_group(2)
    tokens = [c.send_join(m) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    waiting = c.send_sync(ids[1], generation)
    c.refuse = ErrorCode.NOT_ENOUGH_REPLICAS
    lead = c.send_sync(ids[0], generation, dict.fromkeys(ids, b"x"))
    c.refuse = None
    for token in (waiting, lead):
        assert c.answers[token].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert c.answers[token].assignment == b""
    assert c.state() == "PreparingRebalance"
    tokens = [c.send_join(m) for m in ids]
    assert {c.answers[t].generation_id for t in tokens} == {generation + 1}


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_errors_of_the_log_are_translated(
    c: Coordinator, refused: ErrorCode, told: ErrorCode
) -> None:
    member_id, _ = c.send_new_join()
    c.refuse = refused
    assert c.answers[c.send_sync(member_id, 1, {})].error_code == told


# Heartbeat.


def test_heartbeat_per_state(c: Coordinator) -> None:
    assert c.heartbeat("m", 1, group="") == ErrorCode.INVALID_GROUP_ID
    assert c.heartbeat("m", 1) == ErrorCode.UNKNOWN_MEMBER_ID
    member_id, token = c.send_new_join()
    assert c.state() == "CompletingRebalance"
    assert c.heartbeat(member_id, 1) == ErrorCode.NONE
    c.send_sync(member_id, 1, {})
    assert c.state() == "Stable"
    assert c.heartbeat(member_id, 1) == ErrorCode.NONE
    assert c.heartbeat(member_id, 0) == ErrorCode.ILLEGAL_GENERATION
    assert c.heartbeat(member_id, 2) == ErrorCode.ILLEGAL_GENERATION
    assert c.heartbeat("nobody", 1) == ErrorCode.UNKNOWN_MEMBER_ID
    c.send_new_join()
    assert c.state() == "PreparingRebalance"
    assert c.heartbeat(member_id, 1) == ErrorCode.REBALANCE_IN_PROGRESS
    assert token in c.answers


# LeaveGroup.


@pytest.mark.parametrize("version", range(6))
def test_leave_answers_per_member_from_version_3(c: Coordinator, version: int) -> None:
    ids, _ = c.stable_group(2)
    good = c.leave((ids[1], None), version=version)
    bad = c.leave((ids[1], None), version=version)
    if version >= 3:
        assert (good.error_code, bad.error_code) == (0, 0)
        assert [m.error_code for m in good.members] == [0]
        assert [(m.member_id, m.error_code) for m in bad.members] == [
            (ids[1], ErrorCode.UNKNOWN_MEMBER_ID)
        ]
    else:
        assert (good.error_code, bad.error_code) == (0, ErrorCode.UNKNOWN_MEMBER_ID)
        assert good.members == []


def test_leave_of_a_group_that_does_not_exist(c: Coordinator) -> None:
    answer = c.leave(("a", None), ("b", "i"), group="none")
    assert [m.error_code for m in answer.members] == [ErrorCode.UNKNOWN_MEMBER_ID] * 2
    assert c.leave(("a", None), group="none", version=0).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert c.leave(("a", None), group="", version=0).error_code == ErrorCode.INVALID_GROUP_ID


def test_a_batch_of_leaves_rebalances_once(c: Coordinator) -> None:
    ids, generation = c.stable_group(3)
    c.leave((ids[1], None), (ids[2], None))
    assert c.heartbeat(ids[0], generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert c.answers[c.send_join(ids[0])].generation_id == generation + 1


def test_the_next_in_line_leads_when_the_leader_leaves(c: Coordinator) -> None:
    ids, _ = c.stable_group(3)
    c.leave((ids[0], None))
    tokens = [c.send_join(m) for m in ids[1:]]
    assert {c.answers[t].leader for t in tokens} == {ids[1]}


def test_a_pending_member_may_leave(c: Coordinator) -> None:
    member_id = c.answers[c.send_join()].member_id
    assert c.leave((member_id, None)).members[0].error_code == 0
    assert c.list_groups() == []


def test_leave_answers_what_the_member_waits_for(c: Coordinator) -> None:
    ids, _ = c.stable_group(2)
    joining = c.send_join(ids[0])
    c.leave((ids[0], None))
    assert c.answers[joining].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    c.send_join(ids[1])
    second, token = c.send_new_join()
    c.send_join(ids[1])
    generation = c.answers[token].generation_id
    syncing = c.send_sync(second, generation)
    c.leave((second, None))
    assert c.answers[syncing].error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_last_leave_makes_the_group_empty_in_the_log_too(c: Coordinator) -> None:
    (member_id,), generation = c.stable_group(1)
    c.leave((member_id, None))
    c.restart()
    assert c.state() == "Empty"
    _, token = c.send_new_join()
    assert c.answers[token].generation_id == generation + 2


# Restart.


def test_resign_refuses_all_that_wait(c: Coordinator) -> None:
    ids, _ = c.stable_group(2)
    joining = c.send_join(ids[0])
    c.restart()
    assert c.answers[joining].error_code == ErrorCode.NOT_COORDINATOR


def test_members_have_a_full_session_after_a_restart(c: Coordinator) -> None:
    (member_id,), generation = c.stable_group(1, session_ms=10_000)
    c.advance(9_000)
    c.restart()
    c.advance(9_999)
    assert c.heartbeat(member_id, generation) == 0
    c.advance(10_000)
    assert c.heartbeat(member_id, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_members_that_do_not_come_back_after_a_restart_are_removed(c: Coordinator) -> None:
    c.stable_group(2, session_ms=10_000)
    c.restart()
    c.advance(10_000)
    assert c.state() == "Empty"


def test_a_rebalance_that_a_restart_cut_off_starts_over(c: Coordinator) -> None:
    ids, generation = c.stable_group(2)
    tokens = [c.send_join(m) for m in ids]
    assert {c.answers[t].generation_id for t in tokens} == {generation + 1}
    c.restart()
    assert c.state() == "Stable"
    assert c.heartbeat(ids[0], generation + 1) == ErrorCode.ILLEGAL_GENERATION
    answer = c.answers[c.send_sync(ids[0], generation + 1, {})]
    assert answer.error_code == ErrorCode.ILLEGAL_GENERATION
