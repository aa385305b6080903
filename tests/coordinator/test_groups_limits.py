"""Goal: no client makes a group, a record or the coordinator's memory grow without end."""

import pytest

from fastmq.coordinator.group import join as join_rules
from fastmq.coordinator.group import shard as shard_rules
from fastmq.coordinator.group import sync as sync_rules
from fastmq.errors import ErrorCode

from support.coordinator import Coordinator, subscription


@pytest.fixture
def c() -> Coordinator:
    return Coordinator()


@pytest.mark.parametrize("size", [32_767, 32_768])
def test_group_ids_fit_the_records_of_the_log(c: Coordinator, size: int) -> None:
    group = "\u00e4" * (size // 2) + "x" * (size % 2)
    fits = size <= 32_767
    committed = c.commit({("t", 0): 1}, group=group, version=9)
    assert committed == [0 if fits else ErrorCode.INVALID_GROUP_ID]
    joined = c.answers[c.send_join(group=group)].error_code
    assert joined == (ErrorCode.MEMBER_ID_REQUIRED if fits else ErrorCode.INVALID_GROUP_ID)
    c.restart()
    assert c.list_groups() == ([group] if fits else [])


@pytest.mark.parametrize("name", ["..", "a/b", "nul\0", "line\nbreak", "\u202eodd", " "])
def test_any_name_is_only_a_name(c: Coordinator, name: str) -> None:
    c.client_id = name
    ids, generation = c.stable_group(2, group=name)
    who = {"group": name, "member_id": ids[0], "generation": generation}
    assert c.commit({("t", 0): 1}, **who) == [0]  # type: ignore[arg-type]
    c.restart()
    assert c.fetch(group=name) == {("t", 0): 1}
    assert {m.client_id for m in c.describe(name).members} == {name}


def test_a_long_client_id_is_cut_in_the_member_id(c: Coordinator) -> None:
    c.client_id = "x" * 32_767
    (member_id,), _ = c.stable_group(1)
    assert len(member_id) < 300
    c.restart()
    assert c.describe().members[0].client_id == c.client_id


@pytest.mark.parametrize(
    "how",
    [
        {"instance": "i" * 1_025},
        {"protocol_type": "p" * 1_025},
        {"protocols": {"p" * 1_025: b""}},
        {"protocols": {"a": bytes(600_000), "b": bytes(600_000)}},
    ],
)
def test_large_names_and_metadata_are_refused(c: Coordinator, how: dict[str, object]) -> None:
    answer = c.answers[c.send_join(**how)]  # type: ignore[arg-type]
    assert answer.error_code == ErrorCode.INVALID_REQUEST


def test_the_metadata_of_a_group_is_bounded(
    c: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_rules, "GROUP_BYTES_MAX", 30)
    ids, generation = c.stable_group(3, protocols={"range": bytes(12)})
    refused = c.answers[c.send_join(protocols={"range": bytes(12)})]
    assert refused.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    again = c.answers[c.send_join(ids[1], protocols={"range": bytes(12)})]
    assert again.generation_id == generation, "members may come back"
    c.leave((ids[2], None))
    assert c.answers[c.send_join()].error_code == ErrorCode.MEMBER_ID_REQUIRED


def test_too_large_assignments_are_given_to_nobody(
    c: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, _ = c.stable_group(2)
    tokens = [c.send_join(m) for m in ids]
    generation = c.answers[tokens[0]].generation_id
    waiting = c.send_sync(ids[1], generation)
    monkeypatch.setattr(sync_rules, "GROUP_BYTES_MAX", 2 * len(subscription("t")) + 10)
    before = len(c.log)
    leading = c.send_sync(ids[0], generation, dict.fromkeys(ids, b"123456"))
    codes = {c.answers[t].error_code for t in (waiting, leading)}
    assert codes == {ErrorCode.UNKNOWN_SERVER_ERROR}
    assert len(c.log) == before
    assert c.state() == "PreparingRebalance"


def test_groups_are_bounded(c: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_rules, "GROUPS_PER_SHARD_MAX", 2)
    c.commit({("t", 0): 1}, group="a")
    c.send_join(group="b")
    unavailable = ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert c.answers[c.send_join(group="c")].error_code == unavailable
    assert c.commit({("t", 0): 1}, group="c") == [unavailable]
    assert c.commit({("t", 0): 2}, group="a") == [0]
