"""The state of one classic group, and the questions and changes that need nothing else.

States and what leads out of them:

=====================  ===========================================================================
Empty                  no members; offsets may exist. A join -> PreparingRebalance
PreparingRebalance     members send JoinGroup. All known members joined, or the rebalance timeout
                       passed (the missing are removed) -> CompletingRebalance, or Empty
CompletingRebalance    a generation exists and its leader computes the assignment. The leader's
                       SyncGroup is committed -> Stable. Join, leave, expiry -> PreparingRebalance
Stable                 members have assignments. Join, leave, expiry -> PreparingRebalance
Dead                   the group was deleted; nothing leads out
=====================  ===========================================================================

Durable is what `replay` sets: generation, protocol, leader, members and their assignments, the
time of the last change between Empty and Stable. A rebalance in progress is not durable: after a
restart the group is Stable in its last committed generation, and members that know a later one
are told ILLEGAL_GENERATION and join again. The generation is therefore advanced in memory when
members have joined and becomes durable with the leader's assignment; no assignment is ever handed
out for a generation that is not in the log.

The rules for requests and timers are in `rebalance`, `join`, `sync` and `membership`.

Source: protocol guide, group membership; KIP-62, 134, 345, 394.
"""

from enum import Enum

from fastmq.coordinator.effects import Call
from fastmq.coordinator.group.consumer_protocol import PROTOCOL_TYPE, subscribed_topics
from fastmq.coordinator.group.member import Member, Protocols
from fastmq.errors import ErrorCode
from fastmq.protocol.records import GroupMetadataMember, GroupMetadataValue

__all__ = ["ClassicGroup", "GroupState"]


class GroupState(Enum):
    """States of a classic group, by the names that clients see."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class ClassicGroup:
    """One group. Its owner is the shard; rules change it through the methods here.

    Attributes:
        group_id: its name.
        state: see the module's table.
        generation: of the last completed join phase, 0 before the first.
        protocol_type: of its members; None until a member joined (a group that only commits
            offsets never has one).
        protocol_name: chosen for the current generation; None when Empty.
        leader_id: the member that computes assignments.
        state_timestamp_ms: when the state last became Empty or Stable durably; -1 if never.
        members: by member id, in the order they joined.
        static_members: member id by group instance id.
        pending_members: member ids given out by MEMBER_ID_REQUIRED and not used yet.
        pending_sync: members of this generation that have not sent SyncGroup yet.
        was_empty: the rebalance in progress started from Empty.
        new_member_added: a member came since the initial rebalance delay was last extended.
        initial_delay_ms: the part of the initial rebalance delay that runs now.
        initial_remaining_ms: how much longer the initial delay may be extended.
        metadata_bytes: size of what the members offer, all protocols together.
        in_log: the log has metadata of the group, so removing it takes a tombstone.
    """

    __slots__ = (
        "_awaiting_join",
        "_subscribed",
        "_subscribed_known",
        "_support",
        "generation",
        "group_id",
        "in_log",
        "initial_delay_ms",
        "initial_remaining_ms",
        "leader_id",
        "members",
        "metadata_bytes",
        "new_member_added",
        "pending_members",
        "pending_sync",
        "protocol_name",
        "protocol_type",
        "state",
        "state_timestamp_ms",
        "static_members",
        "was_empty",
    )

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader_id: str | None = None
        self.state_timestamp_ms = -1
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        self.pending_members: set[str] = set()
        self.pending_sync: set[str] = set()
        self.was_empty = False
        self.new_member_added = False
        self.initial_delay_ms = 0
        self.initial_remaining_ms = 0
        self.metadata_bytes = 0
        self.in_log = False
        self._support: dict[str, int] = {}
        self._awaiting_join = 0
        self._subscribed: frozenset[str] | None = None
        self._subscribed_known = False

    # Questions.

    @property
    def awaiting_join(self) -> int:
        """How many members wait for the end of the rebalance."""
        return self._awaiting_join

    def all_members_joined(self) -> bool:
        """Whether the rebalance needs to wait for nobody."""
        return self._awaiting_join == len(self.members) and not self.pending_members

    def rebalance_timeout_ms(self) -> int:
        """How long a rebalance waits: the longest that any member asked for."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member with these protocols could be in the group."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and bool(protocols)
        if protocol_type != self.protocol_type:
            return False
        count = len(self.members)
        return any(self._support.get(name, 0) == count for name, _ in protocols)

    def select_protocol(self) -> str:
        """Choose a protocol all members offer: each votes for the first such in its list."""
        count = len(self.members)
        candidates = {name for name, support in self._support.items() if support == count}
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = next(name for name, _ in member.protocols if name in candidates)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    def check_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Return why this identity is no member of the group, NONE if it is one."""
        if instance_id is not None:
            owner = self.static_members.get(instance_id)
            if owner is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if owner != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    def subscribed_topics(self) -> frozenset[str] | None:
        """The topics its consumers subscribe to; None when that is not known.

        Known are those of groups with the consumer protocol whose subscriptions can all be read;
        an Empty group has none.
        """
        if not self._subscribed_known:
            self._subscribed = self._compute_subscribed()
            self._subscribed_known = True
        return self._subscribed

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether offsets of the topic may be in use; yes, if a consumer group hides it."""
        topics = self.subscribed_topics()
        if topics is None:
            return self.protocol_type == PROTOCOL_TYPE
        return topic in topics

    def _compute_subscribed(self) -> frozenset[str] | None:
        if self.protocol_type != PROTOCOL_TYPE:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            subscription = subscribed_topics(member.metadata(self.protocol_name))
            if subscription is None:
                return None
            topics |= subscription
        return frozenset(topics)

    # Changes of the members.

    def add_member(self, member: Member, protocol_type: str, call: Call) -> None:
        """Take in a member that waits in the rebalance with `call`."""
        if not self.members:
            self.protocol_type = protocol_type
        member.join = call
        member.is_new = True
        self._awaiting_join += 1
        self._insert(member)

    def update_member(self, member: Member, call: Call | None, protocols: Protocols) -> None:
        """Replace what the member offers; with `call`, it waits in the rebalance from now on."""
        self._count_protocols(member, -1)
        member.protocols = protocols
        self._count_protocols(member, 1)
        self.set_join(member, call)

    def set_join(self, member: Member, call: Call | None) -> None:
        """Note the JoinGroup that the member waits with, None when it has been answered."""
        self._awaiting_join += (call is not None) - (member.join is not None)
        member.join = call

    def remove_member(self, member_id: str) -> Member:
        """Take out a member, whose requests have been answered."""
        member = self.members.pop(member_id)
        assert member.join is None, "a waiting JoinGroup would get no answer"
        assert member.sync is None, "a waiting SyncGroup would get no answer"
        self._count_protocols(member, -1)
        if member.group_instance_id is not None:
            self.static_members.pop(member.group_instance_id, None)
        self.pending_sync.discard(member_id)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def rename_static_member(self, member: Member, member_id: str) -> None:
        """Give a static member another member id: its former owner is fenced from now on."""
        assert member.group_instance_id is not None, "only static members can be replaced"
        old_id = member.member_id
        # The place in the order of joining is kept.
        self.members = {
            (member_id if key == old_id else key): value for key, value in self.members.items()
        }
        member.member_id = member_id
        self.static_members[member.group_instance_id] = member_id
        if self.leader_id == old_id:
            self.leader_id = member_id
        if old_id in self.pending_sync:
            self.pending_sync.remove(old_id)
            self.pending_sync.add(member_id)

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader is one that joined; False when nobody did."""
        leader = self.members.get(self.leader_id) if self.leader_id is not None else None
        if leader is not None and leader.join is not None:
            return True
        for member in self.members.values():
            if member.join is not None:
                self.leader_id = member.member_id
                return True
        return False

    def next_generation(self) -> None:
        """Begin a generation of the present members, or be Empty."""
        self.generation = self.generation + 1 if self.generation < 2**31 - 1 else 1
        self.pending_sync.clear()
        if self.members:
            self.protocol_name = self.select_protocol()
            self.state = GroupState.COMPLETING_REBALANCE
        else:
            self.protocol_name = None
            self.leader_id = None
            self.state = GroupState.EMPTY
        self._subscribed_known = False

    def _insert(self, member: Member) -> None:
        self.members[member.member_id] = member
        if member.group_instance_id is not None:
            self.static_members[member.group_instance_id] = member.member_id
        self.pending_members.discard(member.member_id)
        self._count_protocols(member, 1)
        if self.leader_id is None:
            self.leader_id = member.member_id

    def _count_protocols(self, member: Member, by: int) -> None:
        self.metadata_bytes += by * sum(len(metadata) for _, metadata in member.protocols)
        # A set: a protocol that a member names twice still counts once.
        for name in {name for name, _ in member.protocols}:
            count = self._support.get(name, 0) + by
            if count:
                self._support[name] = count
            else:
                del self._support[name]

    # The log.

    def to_value(self, assignments: dict[str, bytes], now_ms: int) -> GroupMetadataValue:
        """Build the record of the group with the given assignments, b"" for whom it lacks one."""
        return GroupMetadataValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=self.protocol_name,
            leader=self.leader_id,
            current_state_timestamp=now_ms,
            members=[
                GroupMetadataMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.metadata(self.protocol_name),
                    assignment=assignments.get(member.member_id, b""),
                )
                for member in self.members.values()
            ],
        )

    def replay(self, value: GroupMetadataValue) -> None:
        """Become what the record says.

        Members that are in memory already keep all protocols they offer, and what they wait for.
        """
        known = self.members
        self.members = {}
        self.static_members = {}
        self._support = {}
        self.metadata_bytes = 0
        self.protocol_type = value.protocol_type or None
        self.protocol_name = value.protocol
        self.generation = value.generation
        self.state_timestamp_ms = value.current_state_timestamp
        for row in value.members:
            member = known.pop(row.member_id, None) or _member_from(row, value.protocol)
            member.assignment = row.assignment
            self._insert(member)
        assert not any(member.join or member.sync for member in known.values())
        self.leader_id = value.leader if self.members else None
        self.state = GroupState.STABLE if self.members else GroupState.EMPTY
        self.in_log = True
        self._subscribed_known = False


def _member_from(row: GroupMetadataMember, protocol: str | None) -> Member:
    return Member(
        member_id=row.member_id,
        group_instance_id=row.group_instance_id,
        client_id=row.client_id,
        client_host=row.client_host,
        session_timeout_ms=row.session_timeout,
        # Records of version 0 lack it; Kafka takes the session timeout then.
        rebalance_timeout_ms=row.rebalance_timeout
        if row.rebalance_timeout >= 0
        else row.session_timeout,
        protocols=[(protocol or "", row.subscription)],
    )
