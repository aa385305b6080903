"""A driver for group coordinator shards with a list for a log and numbers for tokens."""

from collections.abc import Callable
from itertools import count
from typing import Any

from fastmq.coordinator.effects import Call, Effects, Record, Reply
from fastmq.coordinator.group import GroupConfig, GroupCoordinatorShard
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.leave_group import LeaveGroupMember, LeaveGroupRequest
from fastmq.protocol.messages.list_groups import ListGroupsRequest
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_delete import (
    OffsetDeletePartition,
    OffsetDeleteRequest,
    OffsetDeleteTopic,
)
from fastmq.protocol.messages.offset_fetch import OffsetFetchGroup, OffsetFetchGroupTopic
from fastmq.protocol.messages.sync_group import SyncGroupAssignment, SyncGroupRequest

__all__ = ["Coordinator", "subscription"]

START_MS = 1_700_000_000_000

# Any: the fields of an answer are what a test is about; each test knows its message.
Answer = Any


def subscription(*topics: str) -> bytes:
    """Encode a version 0 subscription of the consumer protocol."""
    names = b"".join(len(t).to_bytes(2, "big") + t.encode() for t in topics)
    return b"\0\0" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"


class Coordinator:
    """One shard, its log, the clock, and the answers by token.

    `refuse` makes the log refuse appends with that code.
    """

    def __init__(self, config: GroupConfig | None = None) -> None:
        self.config = config or GroupConfig(initial_rebalance_delay_ms=0)
        self.now_ms = START_MS
        self.log: list[Record] = []
        self.answers: dict[int, Answer] = {}
        self.refuse: ErrorCode | None = None
        self.client_id = "client"
        self.client_host = "/10.0.0.1"
        self._tokens = count(1)
        self._ids = count(1)
        self.open_tokens: set[int] = set()
        self.shard = self._new_shard()
        self.run(self.shard.on_loaded(self.now_ms))

    def _new_shard(self) -> GroupCoordinatorShard:
        return GroupCoordinatorShard(self.config, lambda: f"id{next(self._ids)}")

    # The driver's duties.

    def run(self, effects: Effects) -> None:
        """Append, replay, answer."""
        while True:
            code = self.refuse if effects.records else None
            if code is None:
                for record in effects.records:
                    self.log.append(record)
                    self.shard.replay(record.key, record.value)
            for reply in effects.replies:
                self._answer(reply, code)
            if code is None or effects.rollback is None:
                return
            effects = effects.rollback(self.now_ms)

    def _answer(self, reply: Reply, code: ErrorCode | None) -> None:
        token = reply.token
        assert isinstance(token, int)
        assert token in self.open_tokens, "a request was answered twice"
        self.open_tokens.remove(token)
        self.answers[token] = reply.response if code is None else reply.refusal(code)

    def advance(self, by_ms: int) -> None:
        """Let time pass, running every timer at its own time."""
        end_ms = self.now_ms + by_ms
        for _ in range(100_000):
            due_ms = self.shard.next_deadline()
            if due_ms is None or due_ms > end_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            self.run(self.shard.on_timer(self.now_ms))
        else:
            raise AssertionError("a timer is due for ever")
        self.now_ms = end_ms

    def restart(self, code: ErrorCode = ErrorCode.NOT_LEADER_OR_FOLLOWER) -> None:
        """Resign, and replay the log into a new shard."""
        for reply in self.shard.resign(code).replies:
            self._answer(reply, None)
        assert not self.open_tokens, "a request got no answer"
        self.shard = self._new_shard()
        for record in self.log:
            self.shard.replay(record.key, record.value)
        self.run(self.shard.on_loaded(self.now_ms))

    # Requests: `send_*` return a token, the others an answer that must be there.

    def send(
        self, operation: Callable[..., Effects], request: object, version: int, client_id: str = ""
    ) -> int:
        """Run an operation of the shard and return its token."""
        token = next(self._tokens)
        self.open_tokens.add(token)
        call = Call(token, version, client_id or self.client_id, self.client_host)
        self.run(operation(call, request, self.now_ms))
        return token

    def ask(self, operation: Callable[..., Effects], request: object, version: int) -> Answer:
        """Run an operation that must be answered at once."""
        return self.answers[self.send(operation, request, version)]

    def send_join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        version: int = 9,
        instance: str | None = None,
        protocols: dict[str, bytes] | None = None,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        client_id: str = "",
    ) -> int:
        """Send JoinGroup."""
        rows = protocols if protocols is not None else {"range": subscription("t")}
        request = JoinGroupRequest(
            group_id=group,
            member_id=member_id,
            group_instance_id=instance,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            protocol_type=protocol_type,
            protocols=[JoinGroupProtocol(name=k, metadata=v) for k, v in rows.items()],
        )
        return self.send(self.shard.join_group, request, version, client_id)

    def send_new_join(self, **how: Any) -> tuple[str, int]:
        """Send JoinGroup twice, as a dynamic member has to; return its id and the token."""
        first = self.answers[self.send_join(**how)]
        assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
        return first.member_id, self.send_join(first.member_id, **how)

    def send_sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        version: int = 5,
        instance: str | None = None,
        protocol_type: str | None = "consumer",
        protocol_name: str | None = "range",
    ) -> int:
        """Send SyncGroup."""
        request = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocol_name=protocol_name,
            assignments=[
                SyncGroupAssignment(member_id=k, assignment=v)
                for k, v in (assignments or {}).items()
            ],
        )
        return self.send(self.shard.sync_group, request, version)

    def heartbeat(
        self, member_id: str, generation: int, *, group: str = "g", instance: str | None = None
    ) -> int:
        """Send Heartbeat and return the error code."""
        request = HeartbeatRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
        )
        code: int = self.ask(self.shard.heartbeat, request, 4).error_code
        return code

    def leave(
        self,
        *members: tuple[str, str | None],
        group: str = "g",
        version: int = 5,
    ) -> Answer:
        """Send LeaveGroup for (member id, instance id) pairs."""
        if version >= 3:
            rows = [LeaveGroupMember(member_id=m, group_instance_id=i) for m, i in members]
            request = LeaveGroupRequest(group_id=group, members=rows)
        else:
            request = LeaveGroupRequest(group_id=group, member_id=members[0][0])
        return self.ask(self.shard.leave_group, request, version)

    def commit(
        self,
        offsets: dict[tuple[str, int], int],
        *,
        group: str = "g",
        member_id: str = "",
        generation: int = -1,
        instance: str | None = None,
        metadata: str | None = "",
        retention_ms: int = -1,
        version: int = 9,
    ) -> list[int]:
        """Send OffsetCommit and return the error codes."""
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=[
                OffsetCommitTopic(
                    name=topic,
                    partitions=[
                        OffsetCommitPartition(
                            partition_index=partition,
                            committed_offset=offset,
                            committed_metadata=metadata,
                        )
                    ],
                )
                for (topic, partition), offset in offsets.items()
            ],
        )
        answer = self.ask(self.shard.commit_offsets, request, version)
        return [row.error_code for topic in answer.topics for row in topic.partitions]

    def fetch(
        self, wanted: dict[str, list[int]] | None = None, *, group: str = "g"
    ) -> dict[tuple[str, int], int]:
        """Fetch offsets, all when nothing is named; -1 for none."""
        topics = None
        if wanted is not None:
            topics = [OffsetFetchGroupTopic(name=t, partition_indexes=p) for t, p in wanted.items()]
        request = OffsetFetchGroup(group_id=group, topics=topics)
        answer = self.ask(self.shard.fetch_offsets, request, 9)
        assert answer.error_code == 0
        return {
            (topic.name, row.partition_index): row.committed_offset
            for topic in answer.topics
            for row in topic.partitions
        }

    def delete_offsets(self, *wanted: tuple[str, int], group: str = "g") -> Answer:
        """Send OffsetDelete."""
        request = OffsetDeleteRequest(
            group_id=group,
            topics=[
                OffsetDeleteTopic(name=t, partitions=[OffsetDeletePartition(partition_index=p)])
                for t, p in wanted
            ],
        )
        return self.ask(self.shard.delete_offsets, request, 0)

    def describe(self, group: str = "g", version: int = 5) -> Answer:
        """Describe one group."""
        return self.ask(self.shard.describe_group, group, version)

    def state(self, group: str = "g") -> str:
        """Return the name of the group's state."""
        name: str = self.describe(group).group_state
        return name

    def list_groups(
        self, *, states: tuple[str, ...] = (), types: tuple[str, ...] = ()
    ) -> list[str]:
        """List the ids of groups."""
        request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
        answer = self.ask(self.shard.list_groups, request, 5)
        return [row.group_id for row in answer.groups]

    def delete_group(self, group: str = "g") -> int:
        """Delete one group and return the error code."""
        code: int = self.ask(self.shard.delete_group, group, 2).error_code
        return code

    # Whole conversations.

    def stable_group(self, size: int = 2, **how: Any) -> tuple[list[str], int]:
        """Bring a group of dynamic members to Stable; the leader comes first.

        Each member `m` is assigned the bytes `a:<m>`.
        """
        ids: list[str] = []
        for _ in range(size):
            member_id, token = self.send_new_join(**how)
            ids.append(member_id)
            tokens = [self.send_join(m, **how) for m in ids[:-1]]
            answers = [self.answers[t] for t in (*tokens, token)]
        generation = answers[0].generation_id
        leader = answers[0].leader
        ids.sort(key=lambda m: m != leader)
        said: Any = {"group": how.get("group", "g"), "protocol_type": None, "protocol_name": None}
        waiting = [self.send_sync(m, generation, **said) for m in ids[1:]]
        given = {m: f"a:{m}".encode() for m in ids}
        waiting.append(self.send_sync(leader, generation, given, **said))
        assert all(self.answers[t].error_code == 0 for t in waiting)
        return ids, generation
