"""Goal: tools see groups as Kafka shows them; refusals have the shape of their API."""

import pytest

from fastmq.coordinator.group import error_response
from fastmq.errors import ErrorCode
from fastmq.protocol import encode
from fastmq.protocol.api import APIS, ApiKey, request_class

from support.coordinator import Coordinator, subscription


def test_describe_shows_assignments_only_while_they_hold() -> None:
    c = Coordinator()
    ids, _ = c.stable_group(2)
    group = c.describe()
    assert (group.group_state, group.protocol_type) == ("Stable", "consumer")
    assert group.protocol_data == "range"
    assert [m.member_assignment for m in group.members] == [f"a:{m}".encode() for m in ids]
    assert {m.member_metadata for m in group.members} == {subscription("t")}
    c.send_join(ids[0])
    group = c.describe()
    assert (group.group_state, group.protocol_data) == ("PreparingRebalance", "")
    assert {m.member_assignment for m in group.members} == {b""}
    assert [m.client_host for m in group.members] == ["/10.0.0.1"] * 2


def test_describe_of_a_group_that_does_not_exist() -> None:
    c = Coordinator()
    old, new = c.describe("no", 5), c.describe("no", 6)
    assert (old.error_code, old.group_state) == (0, "Dead")
    assert (new.error_code, new.group_state) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead")
    assert new.error_message


@pytest.mark.parametrize(
    ("states", "types", "found"),
    [
        ((), (), ["empty", "stable"]),
        (("stable",), (), ["stable"]),
        (("EMPTY", "Stable"), ("Classic",), ["empty", "stable"]),
        (("Dead",), (), []),
        (("no such state",), (), []),
        ((), ("consumer",), []),
        ((), ("classic", "share"), ["empty", "stable"]),
    ],
)
def test_list_groups_filters_without_case(
    states: tuple[str, ...], types: tuple[str, ...], found: list[str]
) -> None:
    c = Coordinator()
    c.commit({("t", 0): 1}, group="empty")
    c.stable_group(1, group="stable")
    assert sorted(c.list_groups(states=states, types=types)) == found


_GROUP_APIS = [
    ApiKey.JOIN_GROUP,
    ApiKey.SYNC_GROUP,
    ApiKey.HEARTBEAT,
    ApiKey.LEAVE_GROUP,
    ApiKey.OFFSET_COMMIT,
    ApiKey.OFFSET_FETCH,
    ApiKey.OFFSET_DELETE,
    ApiKey.DESCRIBE_GROUPS,
    ApiKey.LIST_GROUPS,
    ApiKey.DELETE_GROUPS,
]


@pytest.mark.parametrize("key", _GROUP_APIS)
def test_every_group_api_has_an_error_answer_in_every_version(key: ApiKey) -> None:
    api = APIS[key]
    for version in range(api.min_version, api.max_version + 1):
        answer = error_response(request_class(key)(), version, ErrorCode.NOT_COORDINATOR)
        assert encode(answer, version)  # type: ignore[arg-type]


def test_requests_to_others_have_no_error_answer_here() -> None:
    with pytest.raises(TypeError):
        error_response(request_class(ApiKey.METADATA)(), 0, ErrorCode.NOT_COORDINATOR)


@pytest.mark.parametrize("version", range(10))
def test_every_join_answer_can_be_encoded_in_its_version(version: int) -> None:
    c = Coordinator()
    first = c.send_join(version=version)
    member_id = c.answers[first].member_id
    if version >= 4:
        c.send_join(member_id, version=version)
    c.send_join("nobody", version=version)
    c.send_join(member_id, protocol_type="other", version=version)
    if version >= 5:
        c.leave((member_id, None))
        c.send_join(instance="i", version=version)
        c.send_join(instance="i", version=version)
    assert not c.open_tokens
    for answer in c.answers.values():
        if type(answer).__name__ == "JoinGroupResponse":
            assert encode(answer, version)
