"""Consumer groups: list, describe, delete, remove members. Pure.

Source: KIP-345, 518, 848, 1043.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from fastmq.client.admin.refusals import moved, raise_failures, refusal
from fastmq.client.admin.results import GroupDescription, GroupListing, GroupMember
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.admin.topics import metadata_of
from fastmq.client.calls import Coordinator, CoordinatorKind, Node, Request
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.protocol import ApiKey
from fastmq.protocol.consumer_protocol import ConsumerProtocolAssignment, decode_consumer
from fastmq.protocol.messages.delete_groups import DeleteGroupsRequest
from fastmq.protocol.messages.describe_groups import DescribedGroup, DescribeGroupsRequest
from fastmq.protocol.messages.leave_group import LeaveGroupMember, LeaveGroupRequest
from fastmq.protocol.messages.list_groups import ListGroupsRequest

__all__ = ["coordinator", "delete_groups", "describe_groups", "list_groups", "remove_members"]

_CONSUMER = "consumer"
_DEAD = "Dead"
_STATES_FROM = 4
_TYPES_FROM = 5
_LEAVE_SEVERAL_FROM = 3


def coordinator(group: str) -> Coordinator:
    """The target of requests about a group."""
    return Coordinator(CoordinatorKind.GROUP, group)


def list_groups(states: Iterable[str], types: Iterable[str]) -> Steps[list[GroupListing]]:
    """List the groups of all brokers, sorted by name."""
    message = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
    low = _TYPES_FROM if message.types_filter else _STATES_FROM if message.states_filter else 0
    request = Request(ApiKey.LIST_GROUPS, lambda _: message, low=low)
    cluster = yield from metadata_of([])
    nodes = [row.node_id for row in cluster.brokers]
    responses = yield [
        Ask(Node(node_id), request, lambda r: moved([r.error_code])) for node_id in nodes
    ]
    listings = []
    for node_id, response in zip(nodes, responses, strict=True):
        if response.error_code:
            raise refusal(response.error_code, f"groups of broker {node_id}")
        listings += [
            GroupListing(row.group_id, row.group_state, row.group_type, row.protocol_type, node_id)
            for row in response.groups
        ]
    return sorted(listings, key=lambda listing: listing.group)


def describe_groups(names: Sequence[str]) -> Steps[list[GroupDescription]]:
    """Describe groups, in the order asked for."""
    wanted = list(dict.fromkeys(names))
    responses = yield [
        Ask(
            coordinator(name),
            DescribeGroupsRequest(groups=[name]),
            lambda r: moved([g.error_code for g in r.groups]),
        )
        for name in wanted
    ]
    failures: dict[str, KafkaError] = {}
    described = []
    for name, response in zip(wanted, responses, strict=True):
        (row,) = response.groups
        # Before version 6 a group that does not exist is dead, and no error.
        code = row.error_code or (
            ErrorCode.GROUP_ID_NOT_FOUND if row.group_state == _DEAD else ErrorCode.NONE
        )
        if code:
            failures[name] = refusal(code, f"group {name}")
        else:
            described.append(_description(row))
    raise_failures(failures)
    return described


def _description(row: DescribedGroup) -> GroupDescription:
    members = [
        GroupMember(
            member.member_id,
            member.group_instance_id,
            member.client_id,
            member.client_host,
            _assigned(row.protocol_type, member.member_assignment),
        )
        for member in row.members
    ]
    return GroupDescription(
        row.group_id, row.group_state, row.protocol_type, row.protocol_data, tuple(members)
    )


def _assigned(protocol_type: str, data: bytes) -> tuple[TopicPartition, ...]:
    """What a member has; nothing when its assignor writes something that only it can read."""
    if protocol_type != _CONSUMER or not data:
        return ()
    try:
        assignment = decode_consumer(ConsumerProtocolAssignment, data)
    except ProtocolError:
        return ()
    return tuple(
        sorted(
            TopicPartition(row.topic, index)
            for row in assignment.assigned_partitions
            for index in row.partitions
        )
    )


def delete_groups(names: Sequence[str], *, if_exists: bool) -> Steps[None]:
    """Delete groups, and with them their offsets."""
    wanted = list(dict.fromkeys(names))
    responses = yield [
        Ask(
            coordinator(name),
            DeleteGroupsRequest(groups_names=[name]),
            lambda r: moved([g.error_code for g in r.results]),
        )
        for name in wanted
    ]
    failures = {}
    for name, response in zip(wanted, responses, strict=True):
        (row,) = response.results
        missing = row.error_code == ErrorCode.GROUP_ID_NOT_FOUND and if_exists
        if row.error_code and not missing:
            failures[name] = refusal(row.error_code, f"group {name}")
    raise_failures(failures)


def remove_members(group: str, members: Iterable[str] | None, *, reason: str) -> Steps[list[str]]:
    """Remove members by member or instance id (None: all of them); return the ids removed."""
    (described,) = yield from describe_groups([group])
    known: dict[str, GroupMember] = {m.member_id: m for m in described.members}
    known |= {m.instance_id: m for m in described.members if m.instance_id is not None}
    wanted = [m.member_id for m in described.members] if members is None else list(members)
    if not wanted:
        return []
    missing: dict[Any, KafkaError] = {
        one: KafkaError(
            ErrorCode.UNKNOWN_MEMBER_ID, f"group {group}: there is no member {one}; has it left?"
        )
        for one in wanted
        if one not in known
    }
    raise_failures(missing)
    rows = [
        LeaveGroupMember(
            member_id="" if known[one].instance_id is not None else known[one].member_id,
            group_instance_id=known[one].instance_id,
            reason=reason,
        )
        for one in wanted
    ]
    message = LeaveGroupRequest(group_id=group, members=rows)
    request = Request(ApiKey.LEAVE_GROUP, lambda _: message, low=_LEAVE_SEVERAL_FROM)
    (response,) = yield [Ask(coordinator(group), request, lambda r: moved([r.error_code]))]
    if response.error_code:
        raise refusal(response.error_code, f"group {group}")
    failures = {
        one: refusal(row.error_code, f"group {group}, member {one}")
        for one, row in zip(wanted, response.members, strict=True)
        if row.error_code
    }
    raise_failures(failures)
    return wanted
