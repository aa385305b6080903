"""Goal: JoinGroup accepts, refuses and rebalances as Kafka's coordinator does."""

from typing import Any

import pytest

from fastmq.coordinator.group import GroupConfig, limits
from fastmq.coordinator.group import join as join_rules
from fastmq.errors import ErrorCode

from support.coordinator import Coordinator, subscription


@pytest.fixture
def c() -> Coordinator:
    return Coordinator()


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"group": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"session_ms": 5_999}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_ms": 1_800_001}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_ms": 6_000}, ErrorCode.MEMBER_ID_REQUIRED),
        ({"session_ms": 1_800_000}, ErrorCode.MEMBER_ID_REQUIRED),
        ({"protocols": {}}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_type": ""}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"member_id": "nobody"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": {str(n): b"" for n in range(101)}}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_first_request_of_a_group(c: Coordinator, how: dict[str, Any], code: ErrorCode) -> None:
    answer = c.answers[c.send_join(**how)]
    assert answer.error_code == code
    assert answer.generation_id == -1
    if code is not ErrorCode.MEMBER_ID_REQUIRED:
        assert c.list_groups() == []


def test_session_floor_is_a_setting() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=0, min_session_timeout_ms=100))
    assert c.answers[c.send_join(session_ms=100)].error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert c.answers[c.send_join(session_ms=99)].error_code == ErrorCode.INVALID_SESSION_TIMEOUT


@pytest.mark.parametrize("version", range(10))
def test_member_id_is_required_from_version_4(c: Coordinator, version: int) -> None:
    answer = c.answers[c.send_join(version=version)]
    assert answer.member_id == "client-id1"
    if version >= 4:
        assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
        answer = c.answers[c.send_join("client-id1", version=version)]
    assert answer.error_code == ErrorCode.NONE
    assert answer.generation_id == 1
    assert answer.leader == "client-id1"
    assert answer.protocol_name == "range"
    assert [member.member_id for member in answer.members] == ["client-id1"]


@pytest.mark.parametrize(("version", "name"), [(6, ""), (7, None)])
def test_refusals_name_no_protocol(c: Coordinator, version: int, name: str | None) -> None:
    assert c.answers[c.send_join("nobody", version=version)].protocol_name == name


def test_a_pending_member_id_expires_with_its_session_timeout(c: Coordinator) -> None:
    member_id = c.answers[c.send_join(session_ms=8_000)].member_id
    c.advance(7_999)
    assert c.list_groups() == ["g"]
    c.advance(1)
    assert c.list_groups() == [], "a group that nobody knows is forgotten"
    answer = c.answers[c.send_join(member_id)]
    assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_pending_member_holds_up_a_rebalance_until_it_expires(c: Coordinator) -> None:
    (leader,), generation = c.stable_group(1)
    pending = c.answers[c.send_join(session_ms=10_000)].member_id
    token = c.send_join(leader, session_ms=30_000)
    assert token not in c.answers
    c.advance(10_000)
    assert c.answers[token].generation_id == generation + 1
    assert c.answers[c.send_join(pending)].error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_an_instance_id_cannot_use_a_pending_member_id(c: Coordinator) -> None:
    pending = c.answers[c.send_join()].member_id
    answer = c.answers[c.send_join(pending, instance="i")]
    assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_pending_members_are_bounded(c: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_rules, "PENDING_MEMBERS_MAX", 3)
    codes = [c.answers[c.send_join()].error_code for _ in range(4)]
    assert codes == [ErrorCode.MEMBER_ID_REQUIRED] * 3 + [ErrorCode.GROUP_MAX_SIZE_REACHED]
    assert limits.PENDING_MEMBERS_MAX > 3


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocols": {"roundrobin": b""}}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocols": {"roundrobin": b"", "range": b""}}, ErrorCode.MEMBER_ID_REQUIRED),
    ],
)
def test_a_newcomer_must_share_a_protocol(
    c: Coordinator, how: dict[str, Any], code: ErrorCode
) -> None:
    c.stable_group(2)
    assert c.answers[c.send_join(**how)].error_code == code


def test_most_votes_choose_the_protocol(c: Coordinator) -> None:
    blob = subscription("t")
    offers = [["range", "sticky"], ["sticky", "range"], ["old", "sticky", "range"]]
    ids: list[str] = []
    for names in offers:
        member_id, token = c.send_new_join(protocols=dict.fromkeys(names, blob))
        tokens = [
            c.send_join(m, protocols=dict.fromkeys(offers[n], blob)) for n, m in enumerate(ids)
        ]
        ids.append(member_id)
    answers = [c.answers[t] for t in (*tokens, token)]
    assert {answer.protocol_name for answer in answers} == {"sticky"}
    leaders = [answer for answer in answers if answer.members]
    assert len(leaders) == 1
    assert leaders[0].member_id == leaders[0].leader == ids[0]
    assert [member.member_id for member in leaders[0].members] == ids


def test_group_max_size() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=0, max_size=2))
    ids, generation = c.stable_group(2)
    refused = c.answers[c.send_join()]
    assert refused.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert refused.member_id == ""
    # Members may come back, and the place of one that left is free.
    assert c.answers[c.send_join(ids[1])].generation_id == generation
    c.leave((ids[1], None))
    assert c.answers[c.send_join()].error_code == ErrorCode.MEMBER_ID_REQUIRED


def test_in_a_rebalance_only_those_who_came_back_count_for_the_size() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=0, max_size=2))
    ids, _ = c.stable_group(2)
    c.send_join(ids[0])  # the leader's rejoin starts a rebalance
    pending = c.answers[c.send_join()]
    assert pending.error_code == ErrorCode.MEMBER_ID_REQUIRED
    c.send_join(pending.member_id)
    late = c.answers[c.send_join(ids[1])]
    assert late.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED


def test_rejoin_of_a_follower_without_change_gets_the_generation_at_once(c: Coordinator) -> None:
    (leader, follower), generation = c.stable_group(2)
    answer = c.answers[c.send_join(follower)]
    assert (answer.error_code, answer.generation_id) == (0, generation)
    assert (answer.leader, answer.members) == (leader, [])
    assert c.state() == "Stable"


def test_rejoin_of_a_follower_with_other_metadata_rebalances(c: Coordinator) -> None:
    (leader, follower), generation = c.stable_group(2)
    token = c.send_join(follower, protocols={"range": subscription("t", "u")})
    assert token not in c.answers
    assert c.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    first = c.send_join(leader)
    assert c.answers[first].generation_id == c.answers[token].generation_id == generation + 1


def test_rejoin_of_the_leader_always_rebalances(c: Coordinator) -> None:
    (leader, follower), generation = c.stable_group(2)
    token = c.send_join(leader)
    assert c.state() == "PreparingRebalance"
    c.send_join(follower)
    assert c.answers[token].generation_id == generation + 1


def test_a_lost_join_answer_is_told_again_before_the_sync(c: Coordinator) -> None:
    member_id, token = c.send_new_join()
    first = c.answers[token]
    again = c.answers[c.send_join(member_id)]
    assert again == first
    assert c.state() == "CompletingRebalance"


def test_changed_metadata_before_the_sync_rebalances(c: Coordinator) -> None:
    member_id, _ = c.send_new_join()
    token = c.send_join(member_id, protocols={"range": subscription("u")})
    assert c.answers[token].generation_id == 2


def test_a_repeated_request_in_a_rebalance_replaces_the_first(c: Coordinator) -> None:
    (leader, follower), generation = c.stable_group(2)
    first = c.send_join(leader)
    second = c.send_join(leader)
    assert c.answers[first].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert second not in c.answers
    c.send_join(follower)
    assert c.answers[second].generation_id == generation + 1


def test_a_member_id_of_an_empty_group_is_unknown(c: Coordinator) -> None:
    (member_id,), _ = c.stable_group(1)
    c.leave((member_id, None))
    assert c.state() == "Empty"
    assert c.answers[c.send_join(member_id)].error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_an_empty_group_may_change_its_protocol_type(c: Coordinator) -> None:
    (member_id,), _ = c.stable_group(1)
    c.leave((member_id, None))
    _, token = c.send_new_join(protocol_type="connect", protocols={"compatible": b"x"})
    assert c.answers[token].protocol_type == "connect"


def test_version_0_takes_the_session_timeout_for_the_rebalance(c: Coordinator) -> None:
    one = c.answers[c.send_join(version=0, rebalance_ms=-1, session_ms=7_000)].member_id
    token = c.send_join(version=0, rebalance_ms=-1, session_ms=7_000)
    c.advance(6_999)
    assert token not in c.answers
    c.advance(1)
    assert [m.member_id for m in c.answers[token].members] == [c.answers[token].member_id]
    assert c.heartbeat(one, 1) == ErrorCode.UNKNOWN_MEMBER_ID
