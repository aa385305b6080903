"""What tools ask about groups: DescribeGroups, ListGroups.

Source: KIP-518, 848, 1043; protocol guide, DescribeGroups 0-6, ListGroups 0-5.
"""

from collections.abc import Iterable

from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from fastmq.protocol.messages.list_groups import ListedGroup, ListGroupsRequest

__all__ = ["GROUP_TYPE", "describe", "describe_unknown", "list_groups"]

GROUP_TYPE = "classic"

# First version that has an error for a group that does not exist.
_NOT_FOUND_FROM = 6


def describe(group: ClassicGroup) -> DescribedGroup:
    """Describe a group; metadata and assignments are shown only while they are settled."""
    stable = group.state is GroupState.STABLE
    protocol = group.protocol_name if stable else None
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=protocol or "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata(protocol) if stable else b"",
                member_assignment=member.assignment if stable else b"",
            )
            for member in group.members.values()
        ],
    )


def describe_unknown(group_id: str, version: int) -> DescribedGroup:
    """Describe a group that does not exist: old versions show it as Dead, without an error."""
    group = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
    if version >= _NOT_FOUND_FROM:
        group.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        group.error_message = f"Group {group_id} not found."
    return group


def list_groups(groups: Iterable[ClassicGroup], request: ListGroupsRequest) -> list[ListedGroup]:
    """List the groups that pass the filters; names in filters are compared without case."""
    states = {name.casefold() for name in request.states_filter}
    types = {name.casefold() for name in request.types_filter}
    if types and GROUP_TYPE not in types:
        return []
    return [
        ListedGroup(
            group_id=group.group_id,
            protocol_type=group.protocol_type or "",
            group_state=group.state.value,
            group_type=GROUP_TYPE,
        )
        for group in groups
        if not states or group.state.value.casefold() in states
    ]
