"""Goal: static members (KIP-345, 814) keep their place over restarts and fence their old selves."""

import pytest

from fastmq.errors import ErrorCode

from support.coordinator import Coordinator, subscription


def _static_pair(c: Coordinator) -> tuple[list[str], int]:
    """Two static members "i0" (the leader) and "i1", Stable."""
    first = c.answers[c.send_join(instance="i0")]
    c.send_sync(first.member_id, 1, instance="i0")
    token = c.send_join(instance="i1")
    again = c.answers[c.send_join(first.member_id, instance="i0")]
    ids = [again.member_id, c.answers[token].member_id]
    generation: int = again.generation_id
    waiting = c.send_sync(ids[1], generation, instance="i1")
    c.send_sync(ids[0], generation, {ids[0]: b"A", ids[1]: b"B"}, instance="i0")
    assert c.answers[waiting].assignment == b"B"
    return ids, generation


def test_a_static_member_needs_no_second_request() -> None:
    c = Coordinator()
    answer = c.answers[c.send_join(instance="host-1")]
    assert answer.error_code == 0
    assert answer.member_id == "host-1-id1"
    assert answer.members[0].group_instance_id == "host-1"


def test_a_restarted_follower_keeps_its_assignment_without_a_rebalance() -> None:
    c = Coordinator()
    ids, generation = _static_pair(c)
    answer = c.answers[c.send_join(instance="i1")]
    assert answer.error_code == 0
    assert (answer.generation_id, answer.leader) == (generation, ids[0])
    assert answer.member_id not in ids
    assert (answer.skip_assignment, answer.members) == (False, [])
    assert c.state() == "Stable"
    sync = c.answers[c.send_sync(answer.member_id, generation, instance="i1")]
    assert (sync.error_code, sync.assignment) == (0, b"B")


def test_a_restarted_leader_is_told_to_skip_the_assignment_from_version_9() -> None:
    c = Coordinator()
    ids, generation = _static_pair(c)
    answer = c.answers[c.send_join(instance="i0", version=9)]
    assert answer.leader == answer.member_id
    assert answer.skip_assignment
    assert {m.group_instance_id for m in answer.members} == {"i0", "i1"}
    assert answer.generation_id == generation
    assert c.heartbeat(ids[1], generation, instance="i1") == 0


def test_a_restarted_leader_of_an_older_client_is_not_told_that_it_leads() -> None:
    c = Coordinator()
    ids, _ = _static_pair(c)
    answer = c.answers[c.send_join(instance="i0", version=8)]
    assert answer.leader == ids[0]
    assert (answer.skip_assignment, answer.members) == (False, [])


def test_the_former_self_is_fenced_everywhere() -> None:
    c = Coordinator()
    ids, generation = _static_pair(c)
    c.send_join(instance="i1")
    old = ids[1]
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert c.heartbeat(old, generation, instance="i1") == fenced
    assert c.answers[c.send_sync(old, generation, instance="i1")].error_code == fenced
    assert c.answers[c.send_join(old, instance="i1")].error_code == fenced
    committed = c.commit({("t", 0): 1}, member_id=old, generation=generation, instance="i1")
    assert committed == [fenced]
    assert c.leave((old, "i1")).members[0].error_code == fenced
    # Without the instance id it is simply unknown.
    assert c.heartbeat(old, generation) == ErrorCode.UNKNOWN_MEMBER_ID


def test_requests_that_wait_for_the_former_self_are_fenced() -> None:
    c = Coordinator()
    ids, _ = _static_pair(c)
    waiting = c.send_join(ids[0], instance="i0")
    assert waiting not in c.answers
    c.send_join(instance="i0")
    assert c.answers[waiting].error_code == ErrorCode.FENCED_INSTANCE_ID
    assert c.answers[waiting].member_id == ids[0]


def test_a_replacement_between_join_and_sync_rebalances_and_fences_the_sync() -> None:
    c = Coordinator()
    ids, generation = _static_pair(c)
    tokens = [c.send_join(m, instance=f"i{n}") for n, m in enumerate(ids)]
    assert [c.answers[t].generation_id for t in tokens] == [generation + 1] * 2
    waiting = c.send_sync(ids[1], generation + 1, instance="i1")
    replaced = c.send_join(instance="i1")
    assert c.answers[waiting].error_code == ErrorCode.FENCED_INSTANCE_ID
    assert c.state() == "PreparingRebalance"
    c.send_join(ids[0], instance="i0")
    assert c.answers[replaced].generation_id == generation + 2


def test_a_replacement_that_changes_the_chosen_protocol_rebalances() -> None:
    c = Coordinator()
    both = {"range": subscription("t"), "sticky": subscription("t")}
    c.send_sync(c.answers[c.send_join(instance="i0", protocols=both)].member_id, 1)
    token = c.send_join(instance="i0", protocols={"sticky": subscription("t")})
    answer = c.answers[token]
    assert (answer.generation_id, answer.protocol_name) == (2, "sticky")


def test_time_outs_and_client_are_refreshed_by_a_replacement() -> None:
    c = Coordinator()
    _, generation = _static_pair(c)
    c.client_host = "/10.9.9.9"
    answer = c.answers[c.send_join(instance="i1", session_ms=30_000, client_id="new")]
    row = next(m for m in c.describe().members if m.group_instance_id == "i1")
    assert (row.client_id, row.client_host) == ("new", "/10.9.9.9")
    c.advance(29_999)
    assert c.heartbeat(answer.member_id, generation, instance="i1") != ErrorCode.UNKNOWN_MEMBER_ID
    c.restart()
    row = next(m for m in c.describe().members if m.group_instance_id == "i1")
    assert (row.client_id, row.client_host, row.member_id) == ("new", "/10.9.9.9", answer.member_id)


def test_a_refused_record_puts_the_former_self_back() -> None:
    c = Coordinator()
    ids, generation = _static_pair(c)
    before = c.describe()
    c.refuse = ErrorCode.NOT_ENOUGH_REPLICAS
    answer = c.answers[c.send_join(instance="i1", client_id="new", session_ms=30_000)]
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    c.refuse = None
    assert c.describe() == before
    assert c.heartbeat(ids[1], generation, instance="i1") == 0
    c.advance(10_000)
    assert c.state() == "Empty"


def test_static_members_survive_the_rebalance_timeout_but_not_their_session() -> None:
    c = Coordinator()
    first = c.answers[c.send_join(instance="i0", session_ms=60_000, rebalance_ms=5_000)]
    c.send_sync(first.member_id, 1, instance="i0")
    _, token = c.send_new_join(rebalance_ms=5_000)
    c.advance(5_000)
    answer = c.answers[token]
    assert {m.group_instance_id for m in answer.members} == {"i0", None}
    assert answer.leader == answer.member_id, "one that joined leads"
    c.send_sync(answer.member_id, answer.generation_id, {})
    # It has to send SyncGroup within the rebalance timeout like everybody.
    c.advance(5_000)
    assert [m.group_instance_id for m in c.describe().members] == [None]


def test_a_rebalance_waits_when_only_absent_static_members_are_left() -> None:
    c = Coordinator()
    first = c.answers[c.send_join(instance="i0", session_ms=60_000, rebalance_ms=5_000)]
    c.send_sync(first.member_id, 1, instance="i0")
    member_id, token = c.send_new_join(rebalance_ms=5_000)
    c.leave((member_id, None))
    assert c.answers[token].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    c.advance(20_000)
    assert c.state() == "PreparingRebalance"
    again = c.answers[c.send_join(first.member_id, instance="i0")]
    assert (again.error_code, again.generation_id) == (0, 2)


@pytest.mark.parametrize("name", ["i0", "i1"])
def test_an_administrator_removes_a_static_member_by_its_name(name: str) -> None:
    c = Coordinator()
    _, generation = _static_pair(c)
    answer = c.leave(("", name), ("", "nobody"), ("", None))
    codes = [member.error_code for member in answer.members]
    unknown = ErrorCode.UNKNOWN_MEMBER_ID
    assert codes == [0, unknown, unknown]
    assert [m.group_instance_id for m in answer.members] == [name, "nobody", None]
    assert name not in {m.group_instance_id for m in c.describe().members}
    assert c.state() == "PreparingRebalance"
    assert generation
