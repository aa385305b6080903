"""Goal: the join phase waits as long as Kafka's, and ends with the right members."""

from fastmq.coordinator.group import GroupConfig
from fastmq.errors import ErrorCode

from support.coordinator import Coordinator


def test_the_initial_delay_is_waited_out_once_when_nobody_else_comes() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=3_000))
    _, token = c.send_new_join()
    c.advance(2_999)
    assert token not in c.answers
    c.advance(1)
    assert c.answers[token].generation_id == 1


def test_the_initial_delay_is_extended_while_members_arrive() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=3_000))
    tokens = [c.send_new_join()[1]]
    c.advance(2_000)
    tokens.append(c.send_new_join()[1])
    c.advance(1_000)
    assert not any(token in c.answers for token in tokens), "extended to 6 s"
    c.advance(2_999)
    assert not any(token in c.answers for token in tokens)
    c.advance(1)
    assert [c.answers[token].generation_id for token in tokens] == [1, 1]


def test_the_initial_delay_ends_with_the_rebalance_timeout() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=3_000))
    tokens = [c.send_new_join(rebalance_ms=8_000)[1]]
    for _ in range(4):
        c.advance(1_900)
        tokens.append(c.send_new_join(rebalance_ms=8_000)[1])
    c.advance(8_000 - 4 * 1_900)
    assert {c.answers[token].generation_id for token in tokens} == {1}


def test_only_a_group_that_was_empty_is_delayed() -> None:
    c = Coordinator(GroupConfig(initial_rebalance_delay_ms=3_000))
    member_id, token = c.send_new_join()
    c.advance(3_000)
    generation = c.answers[token].generation_id
    c.send_sync(member_id, generation, {member_id: b"a"})
    _, second = c.send_new_join()
    c.send_join(member_id)
    assert c.answers[second].generation_id == generation + 1


def test_dynamic_members_that_miss_the_rebalance_timeout_are_removed() -> None:
    c = Coordinator()
    (leader, late), generation = c.stable_group(2, rebalance_ms=20_000)
    token = c.send_join(leader, rebalance_ms=20_000)
    for _ in range(4):
        c.advance(4_999)
        assert c.heartbeat(late, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert token not in c.answers
    c.advance(4)
    assert [m.member_id for m in c.answers[token].members] == [leader]
    assert c.heartbeat(late, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_another_joined_member_leads_when_the_leader_does_not_come() -> None:
    c = Coordinator()
    (leader, follower), generation = c.stable_group(2, rebalance_ms=7_000)
    _, newcomer = c.send_new_join(rebalance_ms=7_000)
    token = c.send_join(follower, rebalance_ms=7_000)
    c.advance(7_000)
    answer = c.answers[token]
    assert (answer.generation_id, answer.leader) == (generation + 1, follower)
    assert len(answer.members) == 2
    assert c.answers[newcomer].members == []
    assert c.heartbeat(leader, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_longest_rebalance_timeout_counts() -> None:
    c = Coordinator()
    first, token = c.send_new_join(rebalance_ms=40_000, session_ms=60_000)
    c.send_sync(first, 1, {first: b""})
    _, token = c.send_new_join(rebalance_ms=1_000)
    c.advance(39_999)
    assert token not in c.answers
    c.advance(1)
    assert c.answers[token].error_code == 0


def test_members_that_do_not_sync_are_removed_after_the_rebalance_timeout() -> None:
    c = Coordinator()
    ids, generation = c.stable_group(3, rebalance_ms=5_000, session_ms=20_000)
    tokens = [c.send_join(m, rebalance_ms=5_000, session_ms=20_000) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    waiting = c.send_sync(ids[1], generation)
    c.advance(4_999)
    assert waiting not in c.answers
    c.advance(1)
    assert c.answers[waiting].error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert [m.member_id for m in c.describe().members] == [ids[1]]
    assert c.heartbeat(ids[0], generation) == ErrorCode.UNKNOWN_MEMBER_ID
    assert c.answers[c.send_join(ids[1])].leader == ids[1]


def test_a_follower_that_never_syncs_is_removed_from_a_stable_group() -> None:
    c = Coordinator()
    ids, generation = c.stable_group(2, rebalance_ms=5_000)
    tokens = [c.send_join(m, rebalance_ms=5_000) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    c.send_sync(ids[0], generation, dict.fromkeys(ids, b"a"))
    assert c.state() == "Stable"
    c.advance(5_000)
    assert c.heartbeat(ids[1], generation) == ErrorCode.UNKNOWN_MEMBER_ID
    assert c.heartbeat(ids[0], generation) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_silent_member_is_removed_and_the_rest_rebalance() -> None:
    c = Coordinator()
    (leader, silent), generation = c.stable_group(2, session_ms=10_000)
    c.advance(9_999)
    assert c.heartbeat(leader, generation) == 0
    c.advance(1)
    assert c.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS
    assert c.heartbeat(silent, generation) == ErrorCode.UNKNOWN_MEMBER_ID
    answer = c.answers[c.send_join(leader)]
    assert (answer.generation_id, len(answer.members)) == (generation + 1, 1)


def test_a_group_is_empty_when_its_last_member_is_gone() -> None:
    c = Coordinator()
    _, generation = c.stable_group(1)
    c.advance(10_000)
    assert c.state() == "Empty"
    _, token = c.send_new_join()
    assert c.answers[token].generation_id == generation + 2, "the Empty generation counts"


def test_waiting_members_do_not_lose_their_session() -> None:
    c = Coordinator()
    (leader, follower), generation = c.stable_group(2, session_ms=6_000, rebalance_ms=30_000)
    token = c.send_join(leader, session_ms=6_000, rebalance_ms=30_000)
    for _ in range(4):
        c.advance(5_000)
        c.heartbeat(follower, generation)
    c.send_join(follower, session_ms=6_000, rebalance_ms=30_000)
    assert c.answers[token].generation_id == generation + 1
    c.advance(5_999)
    assert c.heartbeat(leader, generation + 1) == 0, "the session counts from the answer"


def test_a_new_member_that_gave_up_is_forgotten_after_five_minutes() -> None:
    c = Coordinator()
    (leader,), generation = c.stable_group(1, session_ms=400_000, rebalance_ms=900_000)
    _, token = c.send_new_join(session_ms=10_000)
    c.advance(299_999)
    assert token not in c.answers
    c.advance(1)
    assert c.answers[token].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert [m.member_id for m in c.describe().members] == [leader]
    assert c.heartbeat(leader, generation) == ErrorCode.REBALANCE_IN_PROGRESS
